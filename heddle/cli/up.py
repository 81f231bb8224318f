"""heddle up"""

from __future__ import annotations

import argparse
import sys
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from heddle.agent.client import agent_pid
from heddle.agent.daemon import start_detached
from heddle.cli.options import add_timeout, describe, require_root
from heddle.cli.progress import Progress
from heddle.cli.table import render
from heddle.cli.view import View, addresses, view_with_active
from heddle.cli.waiting import ready, wait_for

if TYPE_CHECKING:
    from heddle.cli.change import Wanted


def configure(parser: argparse.ArgumentParser) -> None:
    describe(
        parser,
        "Make a topology file real: start the agent if none runs, apply the file, boot its\n"
        "machines, wait until every port is ready, and print a table of them.",
        ("heddle up examples/two-subnets.yaml", "two VMs in two subnets, and a router"),
        ("heddle up lab.yaml --timeout 600", "with guests that boot slowly"),
    )
    parser.add_argument("file", metavar="FILE", type=Path, help="topology file (YAML)")
    add_timeout(parser, 180, "every port is ready")


def run(arguments: argparse.Namespace) -> int:
    require_root("heddle up")
    from heddle.cli.change import commit, print_plan, wanted_by
    from heddle.intent.model import Kind
    from heddle.intent.topology import load_topology
    from heddle.store.open import open_store

    topology = load_topology(arguments.file)
    for warning in topology.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    with Progress() as progress, closing(open_store()) as store:
        # What is wrong, or missing here, is said before anything is done.
        _prepare(wanted_by(topology, store, running=True))
        if agent_pid() is None:
            progress.say("starting the agent")
            start_detached(on_demand=True)
        wanted, revision = commit(store, lambda: wanted_by(topology, store, running=True))
        progress.clear()
        print_plan(wanted.plan)
        machines, ports = wanted.names(Kind.MACHINE), wanted.names(Kind.PORT)
        hosts = wanted.hosts
        missing = ready(revision, machines, ports, hosts)
        wait_for(missing, progress, arguments.timeout, hosts=hosts)
    print("\n" + _table(view_with_active(ports), set(ports)))
    return 0


def _prepare(wanted: Wanted) -> None:
    """Get ready for virtual machines. Lines of their own, as they stay true."""
    from heddle.intent.model import Machine

    images = {
        item.image
        for item in wanted.objects
        if isinstance(item, Machine) and item.machine_kind == "vm"
    }
    if images:
        from heddle.hypervisor.machines import prepare

        prepare(images, partial(print, file=sys.stderr, flush=True))


def _table(view: View, ports: set[str]) -> str:
    """The ports that are ready now, in the order of their machines."""
    chosen = [port for port in view.of_kind("port") if port["id"] in ports]
    chosen.sort(key=lambda port: (view.names.by_id[port["id"]].machine, port["nic"]))
    rows = []
    for port in chosen:
        name = view.names.by_id[port["id"]]
        state = view.status(port).get("state", "unknown")
        rows.append((name.label, name.network, addresses(port), name.device, state))
    return render(("port", "network", "addresses", "device", "state"), rows)
