"""heddle lab"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from heddle.cli.options import add_action, add_json, add_timeout, become, describe, require_root
from heddle.cli.progress import Progress
from heddle.cli.table import render, render_json
from heddle.errors import OperationError, RequestError
from heddle.lab import cuts, hosts
from heddle.lab.build import destroy, space_of
from heddle.lab.cuts import EVERYTHING, Cut
from heddle.lab.folder import UNDERLAY, LabFolder, find_lab, labs, locked, plan_of
from heddle.lab.plan import lab_name


def configure(parser: argparse.ArgumentParser) -> None:
    describe(
        parser,
        "Make the hosts of a topology file on this machine: each is a set of namespaces with an\n"
        "agent of its own, and libvirt where there are VMs, joined by an underlay and a real etcd.",
        ("heddle lab up examples/three-hosts.yaml", "all hosts and machines of the file"),
        ("heddle lab exec h1 -- heddle show", "any command on a host"),
        ("heddle lab exec h1 -- tcpdump -ni eth0", "what h1 sends into the underlay"),
        ("heddle lab cut h1 h2", "h1 and h2 cannot reach each other"),
        ("heddle lab cut h1", "nothing reaches h1, nor etcd"),
        ("heddle lab heal", "all cables carry again"),
        ("heddle lab down", "take everything away again"),
    )
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    _configure_up(
        add_action(
            actions,
            "up",
            "make a lab, or change it to what its file says",
            ("heddle lab up examples/three-hosts.yaml", "named after its file: three-hosts"),
            ("heddle lab up examples/three-hosts.yaml --etcd-servers 3", "with three etcd servers"),
        )
    )
    down = add_action(
        actions,
        "down",
        "end and remove all of a lab",
        ("heddle lab down", "the only one there is"),
        ("heddle lab down three-hosts", "one of several"),
    )
    down.add_argument("lab", metavar="FILE|NAME", nargs="?", help="default: the only one there is")
    down.set_defaults(act=_down)
    listing = add_action(
        actions,
        "list",
        "the labs of this machine",
        ("heddle lab list", "with their hosts"),
        ("heddle lab list --json", "for programs"),
    )
    add_json(listing)
    listing.set_defaults(act=_list)
    cut = add_action(
        actions,
        "cut",
        "lose all that is sent between two hosts, or by one",
        ("heddle lab cut h1 h2", "h1 and h2 cannot reach each other"),
        ("heddle lab cut h1 h2 --one-way", "what h1 sends does not reach h2"),
        ("heddle lab cut h1", "nothing reaches h1, nor etcd"),
    )
    cut.add_argument("hosts", metavar="HOST", nargs="+", help="two hosts, or one to cut off")
    cut.add_argument(
        "--one-way", action="store_true", help="only what the first sends to the second"
    )
    cut.set_defaults(act=_cut)
    heal = add_action(
        actions,
        "heal",
        "undo cuts: all, of a host, or between two",
        ("heddle lab heal", "all cables carry again"),
        ("heddle lab heal h1 h2", "the one between h1 and h2"),
    )
    heal.add_argument("hosts", metavar="HOST", nargs="*", help="default: all")
    heal.set_defaults(act=_heal)
    execute = add_action(
        actions,
        "exec",
        "run a command on a host",
        ("heddle lab exec h1 -- heddle show", "what h1 knows"),
        ("heddle lab exec h1 -- tcpdump -ni eth0", "what h1 sends into the underlay"),
    )
    execute.add_argument("host", metavar="HOST")
    # Not "+": that would take away the "--" of a `heddle exec` in the command as well.
    execute.add_argument(
        "command", metavar="COMMAND", nargs=argparse.REMAINDER, help="what to run there"
    )
    execute.usage = "heddle lab exec [-h] [--name NAME] HOST -- COMMAND ..."
    execute.set_defaults(act=_exec)
    for action in (cut, heal, execute):
        action.add_argument("--name", metavar="NAME", help="which lab, when there are several")


def _configure_up(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", type=Path, help="topology file (YAML)")
    parser.add_argument("--name", metavar="NAME", help="of the lab (default: the file's)")
    parser.add_argument(
        "--etcd-servers", type=int, default=1, metavar="N", help="1, 3, 5 or 7 (default: 1)"
    )
    add_timeout(parser, 300, "every port is ready")
    parser.set_defaults(act=_up)


def run(arguments: argparse.Namespace) -> int:
    require_root("heddle lab")
    act = arguments.act
    code: int = act(arguments)
    return code


def _up(arguments: argparse.Namespace) -> int:
    from heddle.cli.lab_up import bring_up

    name = arguments.name or lab_name(arguments.file)
    with Progress() as progress:
        table = bring_up(arguments.file, name, arguments.etcd_servers, arguments.timeout, progress)
    print("\n" + table)
    return 0


def _down(arguments: argparse.Namespace) -> int:
    lab = find_lab(arguments.lab)
    with Progress() as progress, locked(lab.name):
        destroy(lab, progress.say)
    print(f"lab {lab.name} is gone")
    return 0


# ---- faults ------------------------------------------------------------------


def _cut(arguments: argparse.Namespace) -> int:
    lab = _with_hosts(arguments, (1, 2))
    if len(arguments.hosts) == 1 and arguments.one_way:
        raise RequestError("--one-way is about two hosts: which sends, and which is not to hear")
    one, other = (*arguments.hosts, EVERYTHING)[:2]
    with locked(lab.name):
        underlay = space_of(lab, UNDERLAY)
        there = cuts.read_cuts(underlay)
        cuts.write_cuts(underlay, there | cuts.between(one, other, one_way=arguments.one_way))
    return 0


def _heal(arguments: argparse.Namespace) -> int:
    lab = _with_hosts(arguments, (0, 1, 2))
    with locked(lab.name):
        underlay = space_of(lab, UNDERLAY)
        there = cuts.read_cuts(underlay)
        cuts.write_cuts(underlay, {cut for cut in there if not cut.touches(arguments.hosts)})
    return 0


def _with_hosts(arguments: argparse.Namespace, counts: tuple[int, ...]) -> LabFolder:
    """The lab, which has these hosts."""
    lab = find_lab(arguments.name)
    plan = plan_of(lab)
    if len(arguments.hosts) not in counts or len(set(arguments.hosts)) < len(arguments.hosts):
        raise RequestError("name one host, or two different ones")
    for host in arguments.hosts:
        plan.host(host)
    return lab


# ---- looking, and doing --------------------------------------------------------


def _list(arguments: argparse.Namespace) -> int:
    found = [_described(lab) for lab in labs()]
    if arguments.json:
        print(render_json(found))
    elif found:
        rows = [list(each.values()) for each in found]
        print(render(list(found[0]), rows))
    else:
        print("no lab is up")
    return 0


def _described(lab: LabFolder) -> dict[str, object]:
    plan = lab.plan()
    if plan is None:
        return dict.fromkeys(("lab", "file", "hosts", "agents", "cut"), None) | {"lab": lab.name}
    running = [h.name for h in plan.own_hosts() if hosts.agent_status(lab, h.name) is not None]
    return {
        "lab": lab.name,
        "file": plan.file,
        "hosts": [host.name for host in plan.hosts],
        "agents": running,
        "cut": _cuts_of(lab),
    }


def _cuts_of(lab: LabFolder) -> list[str]:
    try:
        there = cuts.read_cuts(space_of(lab, UNDERLAY))
    except OperationError:
        return []  # half made
    return [_in_words(cut, there) for cut in sorted(there) if _is_told(cut, there)]


def _is_told(cut: Cut, there: set[Cut]) -> bool:
    """Of two opposite ones the first by name."""
    return cut.sender < cut.receiver or Cut(cut.receiver, cut.sender) not in there


def _in_words(cut: Cut, there: set[Cut]) -> str:
    if EVERYTHING in cut:
        return max(cut)
    arrow = "-" if Cut(cut.receiver, cut.sender) in there else ">"
    return f"{cut.sender}{arrow}{cut.receiver}"


def _exec(arguments: argparse.Namespace) -> int:
    words = arguments.command
    command = words[1:] if words[:1] == ["--"] else words
    if not command:
        raise RequestError("what shall run there? heddle lab exec HOST -- COMMAND ...")
    lab = find_lab(arguments.name)
    host = plan_of(lab).host(arguments.host).name
    os.environ.update(hosts.environment(lab, host))
    become(space_of(lab, host).entering(command), "util-linux")
