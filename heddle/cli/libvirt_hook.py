"""heddle libvirt-hook"""

from __future__ import annotations

import argparse
import sys
import time
from contextlib import closing

from heddle.cli.options import describe
from heddle.errors import AgentError, HeddleError, OperationError

_PREPARE_SECONDS = 60.0
_LOOK_SECONDS = 0.1
_AGENT_SECONDS = 5.0
_PREPARED = ("offered", "loaded", "active")


def configure(parser: argparse.ArgumentParser) -> None:
    describe(
        parser,
        "Called by libvirt as its hook /etc/libvirt/hooks/qemu. Before a VM of heddle's comes to\n"
        "this host by `virsh migrate`, it lets the agent prepare for it, and tells libvirt of the\n"
        "files that the VM has here. Of everything else it says nothing.",
        ("heddle libvirt-hook vm0 migrate begin -", "what libvirt calls, with XML as input"),
    )
    parser.add_argument("name", metavar="VM")
    parser.add_argument("operation", metavar="OPERATION")
    parser.add_argument("rest", metavar="ARGUMENT", nargs="*")


def run(arguments: argparse.Namespace) -> int:
    if arguments.operation != "migrate":
        return 0
    xml = sys.stdin.read()
    from heddle.hypervisor.domain import moved_xml, read_mark
    from heddle.store.open import has_store

    mark = read_mark(xml)
    if mark is not None and has_store():  # without one, there is no agent that could prepare
        if _awaited(mark.id):
            return 0
        definition = _prepared(mark.id)
        if definition:
            print(moved_xml(xml, definition))
    return 0


def _awaited(machine_id: str) -> bool:
    """Whether this host's agent is prepared already: heddle itself moves the machine,
    also when the store can't be reached just now."""
    from heddle.agent.client import AgentClient

    try:
        with AgentClient() as client:
            told = next(client.stream("facts", time.monotonic() + _AGENT_SECONDS))
    except (AgentError, TimeoutError, StopIteration):
        return False
    facts = {(kind, name): fact for kind, name, fact in told["facts"]}
    fact = facts.get(("migration", machine_id)) or {}
    return fact.get("state") in _PREPARED


def _prepared(machine_id: str) -> str:
    """What the machine will be here, once all is ready for it; "" when heddle itself
    moves it, and has seen to that. OperationError when it can't come."""
    from heddle.cli.migrate import begin
    from heddle.paths import host_name
    from heddle.store.open import open_store

    host = host_name()
    with closing(open_store()) as store:
        try:
            begin(store, machine_id, host)
        except HeddleError as error:
            if f"on its way to host {host}" in str(error):
                return ""
            raise
        deadline = time.monotonic() + _PREPARE_SECONDS
        while time.monotonic() < deadline:
            fact = store.statuses(host).get(("migration", machine_id), {})
            if fact.get("state") in _PREPARED:
                return str(fact.get("definition", ""))
            if fact.get("state") == "refused":
                raise OperationError(str(fact.get("error")))
            time.sleep(_LOOK_SECONDS)
    raise OperationError(f"host {host} is not prepared after {_PREPARE_SECONDS:.0f} s")
