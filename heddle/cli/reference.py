"""docs/commands.md, made from the parsers:

    python -m heddle.cli.reference > docs/commands.md

A test keeps the page equal to this.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from heddle.cli.main import COMMANDS, command_parser

_WIDTH = 96

_HEAD = """\
# Commands

`heddle COMMAND --help` prints what stands here. This page is made by
`python -m heddle.cli.reference > docs/commands.md`; a test keeps it equal.

- **Exit codes**: 0 done, 1 it failed, 2 the request was wrong, 130 interrupted. `heddle exec` ends
  with the exit code of the command it ran.
- **Output**: results go to standard output; progress, warnings and errors to standard error. On a
  terminal, progress is one line that rewrites itself; elsewhere it is plain lines. An error is one
  line that says what to do.
- **`--json`**: every command that reads prints JSON with it, for programs.
- **Root**: needed by all but `show`, `vm list` and `doctor`; these two need to be able to read the
  store, which is root's.
- **`HEDDLE_ROOT`** moves `/var/lib/heddle`, `/run/heddle` and `/etc/heddle` below another folder,
  **`HEDDLE_HOST`** gives the host another name than that of the machine. With both, several hosts
  live on one machine.
"""

_NOTES = {
    "lab": """\
See [lab.md](lab.md).""",
    "up": """\
Does in one go what `heddle agent --detach`, `heddle apply FILE` and `heddle vm start NAME` do. What
is wrong with the file is said before anything is done. An agent that `heddle up` starts by itself
ends with the last object (see `heddle down`); one that you started does not.""",
    "apply": """\
Without an agent, intent is stored and carried out when one starts.""",
    "down": """\
Data plane and machines do not depend on the agent, so stopping the agent alone takes nothing away:
only removing objects does. `heddle down` starts an agent when none runs, to clean up. Then

- without FILE, everything that files made is removed, and the agent stopped;
- with FILE, what it made is removed. When nothing is left, an agent that `heddle up` had started is
  stopped as well; one started as `heddle agent` stays.

With the agent go the pinned program and maps, and the libvirt daemons, if heddle started them. The
hosts of a cluster stay what they are, and their agents go on.""",
    "show": """\
States of ports: `active` (in place and plugged in), `down` (its machine is off), `error` (with what
failed; the agent keeps trying). States of machines: `running`, `booting`, `stopped`, `error`; a
machine is `ready` when it has booted and its NICs have their addresses. `heddle show agent` has
what was repaired and when, and what is pending. The agent is `running`, `stopped`, or `dead`: it
ended without a word.

`connections` of a port are those that it opened, and how many it may have open now: as many as the
flow table has left free, and no more than `connections` of its NIC. `behind` a port without port
security says how many MACs and addresses of others are known there, and how many can be;
`announced` of another one, how many addresses of its `allowed_address_pairs`: beyond that the
oldest make room. `heddle show` and `heddle doctor` name the ports whose connections, guests or
announced addresses are as many as there is room for, and full tables. What counts packets and
connections is for root; other users see `-` there.

`heddle show paths` is explained in [paths.md](paths.md).

`heddle show flows` has each connection once, with packets and bytes of the opener and, behind the
`+`, of the other side, and the rules by which each end lets it pass. Where both ends keep no state
(a stateless group, no port security), each direction stands for itself and is `untracked`. An end
at another host is `other host`: that one knows the port and its rules. On a terminal it shows the
busiest that fit.""",
    "trace": """\
The packet is the first one that the machine would send: for an address of its own subnet it goes to
the MAC that ARP would tell, else to that of the gateway or of a route that the guest was given by
DHCP. For an address of its own subnet that nobody has, it is the ARP request or neighbour
solicitation. Multicast and broadcast go to the MACs that stand for them. The stages are those of
the data plane, in order (ARCHITECTURE.md); a stage that the packet does not reach is left out.
`policy` names the rule by which each end lets the packet pass, and the state of its connection, if
one is known; a reply and an ICMP error of a known connection need no rule.
A packet to a port at another host ends at the envelope: the report names the host, its underlay
address, the VNI and a relay on the way. The receiver's rules are asked there.
A dropped packet is no failure of the command: the exit code is 0.""",
    "drops": """\
Counters are kept per port whose rules or limits the packet broke: that of the receiver for reasons
in TO_VM, else of the sender. Events are sampled, so that a flood can't hide the rest. The reasons
are explained in [drops.md](drops.md).""",
    "top": """\
`from vm` is what the machine sent, `to vm` what it was sent. Without a terminal, tables follow each
other.""",
    "leaks": """\
What it looks for, and how, is in [leaks.md](leaks.md). A capture on a busy host may miss frames,
and then says how many.""",
    "agent": """\
There is one agent per host; a second one says so and ends. It logs to standard error, when detached
to `/var/lib/heddle/agent.log`. Traffic, ARP, DHCP and router advertisements go on while it is dead,
and it finds everything in place when it is back: it writes only what differs.""",
}


def page() -> str:
    """The text of docs/commands.md."""
    return _HEAD + "".join(_section(name) for name in COMMANDS)


def _section(name: str) -> str:
    texts = "".join(f"\n```text\n{text}```\n" for text in _help_texts(command_parser(name)))
    note = _NOTES.get(name)
    return f"\n## heddle {name}\n{texts}" + (f"\n{note}\n" if note else "")


def _help_texts(parser: argparse.ArgumentParser) -> Iterator[str]:
    """The help of a command, and of each of its actions."""
    parser.formatter_class = _formatter
    yield parser.format_help()
    for action in parser._actions:  # argparse has no other way to ask for them
        if isinstance(action, argparse._SubParsersAction):
            for sub in action.choices.values():
                yield from _help_texts(sub)


def _formatter(prog: str) -> argparse.HelpFormatter:
    return argparse.RawDescriptionHelpFormatter(prog, width=_WIDTH)


if __name__ == "__main__":
    print(page(), end="")
