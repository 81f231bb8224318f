"""Heddle itself as a contender: the real command, agent and data plane."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import private
from bench.commands import BenchError, run
from bench.peers import Pair
from heddle.agent.client import AgentClient
from heddle.agent.daemon import start_detached
from heddle.intent.model import AnyResource
from heddle.intent.names import namespace_name, tap_name
from heddle.store.interface import Transaction
from heddle.store.sqlite import SqliteStore

HEDDLE = Path(sys.executable).with_name("heddle")

LOAD_PATIENCE = 60.0  # seconds

SENDER, RECEIVER = "sender", "receiver"
SENDER_IP, RECEIVER_IP = "10.83.1.2", "10.83.2.2"

# Two machines in two subnets, a router between them.
_TOPOLOGY = """\
version: 1
networks:
  left: {{cidr: 10.83.1.0/24}}
  right: {{cidr: 10.83.2.0/24}}
routers:
  main: {{networks: [left, right]}}
machines:
  {sender}: {{kind: {kind}, nics: [{{network: left, address: {sender_ip}}}]}}
  {receiver}: {{kind: {kind}, nics: [{{network: right, address: {receiver_ip}}}]}}
"""


def heddle(*arguments: str) -> str:
    return run(str(HEDDLE), *arguments)


def load(store: SqliteStore, resources: Iterable[AnyResource]) -> float:
    """Seconds from the commit of objects until the agent has carried them out."""
    revision = store.commit(Transaction(put=resources))
    start = time.monotonic()
    with AgentClient() as agent:
        while (status := agent.request("status"))["revision"] != revision:
            if time.monotonic() - start > LOAD_PATIENCE:
                raise BenchError(f"not loaded after {LOAD_PATIENCE:.0f} s")
            time.sleep(0.02)
    seconds = time.monotonic() - start
    if status["pending"] or status["errors"]:
        raise BenchError(f"the agent could not load all: {status['pending'] or status['errors']}")
    return seconds


def container_pair() -> Pair:
    """Two running containers."""
    heddle("up", str(_topology_file("container")))
    namespaces = (namespace_name(SENDER), namespace_name(RECEIVER))
    return Pair("heddle", *namespaces, private.HOST_NAMESPACE, SENDER_IP, RECEIVER_IP).check()


def boot_vms() -> None:
    """Two running VMs with the built-in guest, called SENDER and RECEIVER."""
    private.borrow_images()
    heddle("up", str(_topology_file("vm")))


@dataclass(frozen=True, slots=True)
class StoppedVms:
    """The TAPs of two VMs that do not run, and how the first reaches the second."""

    sender_tap: str
    receiver_tap: str
    sender_mac: str
    gateway_mac: str


def stopped_vms() -> StoppedVms:
    start_detached()
    heddle("apply", str(_topology_file("vm")))
    ports = {port["name"].split("/")[0]: port for port in _shown("port")}
    sender = ports[SENDER]
    interfaces = _shown("router")[0]["interfaces"]
    gateways = {interface["network_id"]: interface["mac"] for interface in interfaces}
    return StoppedVms(
        tap_name(sender["id"]),
        tap_name(ports[RECEIVER]["id"]),
        sender["mac"],
        gateways[sender["network_id"]],
    )


def _shown(kind: str) -> list[dict[str, Any]]:
    objects: list[dict[str, Any]] = json.loads(heddle("show", kind, "--json"))
    return objects


def _topology_file(kind: str) -> Path:
    addresses = {"sender_ip": SENDER_IP, "receiver_ip": RECEIVER_IP}
    file = private.ROOT / "bench.yaml"
    text = _TOPOLOGY.format(kind=kind, sender=SENDER, receiver=RECEIVER, **addresses)
    file.write_text(text, encoding="utf-8")
    return file
