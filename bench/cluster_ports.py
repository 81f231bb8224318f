"""``python -m bench.cluster_ports PORTS``, on a host of a lab: an operator who
makes ports, and the VMs behind them.

Loads so many ports, and a container on the other host; says "loaded". Then, for
each line that it reads, commits one port more and says after how many
milliseconds the first datagram for it came out of its TAP.
"""

from __future__ import annotations

import sys
import time
from contextlib import closing

from bench.guests import Guest
from bench.ports import Plan
from heddle.agent.client import AgentClient
from heddle.intent.model import Kind, Machine, Port
from heddle.intent.names import object_id
from heddle.store.interface import Transaction
from heddle.store.open import open_store

SENDER, SENDER_HOST = "ports-sender", "h2"
_PROJECT = "bench"


def main(ports: int) -> int:
    plan = Plan(ports)
    with closing(open_store()) as store:
        revision = store.commit(Transaction(put=[*plan.resources, *_sender(plan)]))
        with AgentClient() as agent:
            while (agent.request("status")["revision"] or 0) < revision:
                time.sleep(0.05)
        print("loaded", flush=True)
        for number, _ in enumerate(sys.stdin):
            machine, port, _gateway = plan.another(number)
            store.commit(Transaction(put=(machine,)))
            began = time.monotonic()
            store.commit(Transaction(put=(port.model_copy(update={"port_security": False}),)))
            with Guest(port) as guest:
                guest.await_datagram()
            print(port.fixed_ips[0].ip, (time.monotonic() - began) * 1000, flush=True)
    return 0


def _sender(plan: Plan) -> tuple[Machine, Port]:
    """A container on the other host, in a network that a router joins to that of
    the ports to come."""
    _, template, _ = plan.another_in(1)
    machine_id = object_id(_PROJECT, Kind.MACHINE, SENDER)
    machine = Machine(
        id=machine_id, name=SENDER, machine_kind="container", host=SENDER_HOST, running=True
    )
    identity = {"id": object_id(_PROJECT, Kind.PORT, SENDER), "name": SENDER}
    changes = {"machine_id": machine_id, "host": SENDER_HOST, "port_security": False, **identity}
    return machine, template.model_copy(update=changes)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
