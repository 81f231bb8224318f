"""heddle apply"""

from __future__ import annotations

import argparse
import sys
from contextlib import closing
from pathlib import Path

from heddle.agent.client import agent_pid
from heddle.cli.options import add_timeout, describe, require_root
from heddle.cli.progress import Progress
from heddle.cli.waiting import applied, wait_for


def configure(parser: argparse.ArgumentParser) -> None:
    describe(
        parser,
        "Change intent to what a topology file says: print the plan (+ new, ~ changed,\n"
        "- removed), make it so, and wait until the agent has. What left the file is removed;\n"
        "what another file made is left alone. Doing it again changes nothing. Machines keep\n"
        "running or stopped as they are: `heddle up` boots those of a file.",
        ("heddle apply lab.yaml --dry-run", "print the plan only"),
        ("heddle apply lab.yaml", "make it so"),
    )
    parser.add_argument("file", metavar="FILE", type=Path, help="topology file (YAML)")
    parser.add_argument("--dry-run", action="store_true", help="print the plan, change nothing")
    add_timeout(parser, 60, "the agent has carried it out")


def run(arguments: argparse.Namespace) -> int:
    require_root("heddle apply")
    from heddle.cli.change import commit, print_plan, wanted_by
    from heddle.intent.topology import load_topology
    from heddle.store.open import open_store

    topology = load_topology(arguments.file)
    for warning in topology.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    with closing(open_store()) as store:
        if arguments.dry_run:
            print_plan(wanted_by(topology, store, running=False).plan)
            return 0
        wanted, revision = commit(store, lambda: wanted_by(topology, store, running=False))
    print_plan(wanted.plan)
    if agent_pid() is None:
        print("no agent runs: stored, and carried out when one starts (`heddle agent --detach`)")
        return 0
    with Progress() as progress:
        wait_for(applied(revision), progress, arguments.timeout)
    return 0
