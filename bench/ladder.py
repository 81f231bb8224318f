"""Containers behind TAPs: guests whose CPUs are not emulated.

Each has a TAP as its network card, and a relay (meters/relay.c) stands for QEMU.
So two guests on two hosts can be joined in the ways in which VMs can.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from bench import peers, private
from bench.cluster_lab import HOSTS, KERNEL_HOSTS, vtep_of
from bench.commands import BenchError, run
from bench.meters import start_meter
from bench.peers import DEVICE, MTU, Pair, netns_path
from bench.product import heddle
from heddle.intent.names import tap_name

CPUS = (0, 1)  # of the sender and its relay, of the receiver and its relay
_UDP_PORT = "9999"

_MACHINES = """\
version: 1
networks:
  ladder-left: {cidr: 10.86.1.0/24}
  ladder-right: {cidr: 10.86.2.0/24}
routers:
  ladder: {networks: [ladder-left, ladder-right]}
machines:
  ladder-0: {host: h1, nics: [{network: ladder-left, address: 10.86.1.2}]}
  ladder-1: {host: h2, nics: [{network: ladder-right, address: 10.86.2.2}]}
"""


@dataclass(frozen=True, slots=True)
class _Guest:
    namespace: str
    host: str
    outer: dict[str, str]  # where its relay takes the frames


@contextlib.contextmanager
def through_sockets() -> Iterator[Pair]:
    """Frames of the MTU as datagrams between UDP sockets, as two QEMUs would join
    their guests by themselves; no offloads, so the guests cut and sum up."""
    guests = []
    for number, host in enumerate(KERNEL_HOSTS):
        name = f"socket-{number}"
        _add_guest(name, f"02:00:00:00:86:0{number}", f"10.86.3.{2 + number}/24")
        local, remote = vtep_of(host), vtep_of(KERNEL_HOSTS[1 - number])
        sockets = {"outer_tap": "", "local_ip": local, "remote_ip": remote, "udp_port": _UDP_PORT}
        guests.append(_Guest(name, host, sockets))
    with _relays(guests):
        names = (guests[0].namespace, guests[1].namespace)
        yield Pair("UDP sockets of QEMU's kind", *names, "", "10.86.3.2", "10.86.3.3").check()


@contextlib.contextmanager
def through_heddle() -> Iterator[Pair]:
    """Large packets from TAP to TAP, through the overlay and its router."""
    file = private.ROOT / "ladder.yaml"
    file.write_text(_MACHINES, encoding="utf-8")
    _on_host(HOSTS[0], "apply", str(file))
    guests = []
    for number, host in enumerate(HOSTS):
        port = _port_of(host, f"ladder-{number}")
        name, subnet = f"tap-{number}", f"10.86.{number + 1}"
        _add_guest(name, port["mac"], f"{subnet}.2/24", header=True)
        run("ip", "-n", name, "route", "add", "default", "via", f"{subnet}.1")
        guests.append(_Guest(name, host, {"outer_tap": tap_name(port["id"])}))
    with _relays(guests):
        names = (guests[0].namespace, guests[1].namespace)
        yield Pair("heddle, large packets", *names, "", "10.86.1.2", "10.86.2.2").check()


def _on_host(host: str, *arguments: str) -> str:
    return heddle("lab", "exec", host, "--", "heddle", *arguments)


def _port_of(host: str, machine: str) -> dict[str, Any]:
    ports = json.loads(_on_host(host, "show", "port", "--json"))
    return next(port for port in ports if port["name"].startswith(f"{machine}/"))


def _add_guest(namespace: str, mac: str, address: str, *, header: bool = False) -> None:
    peers.add_namespace(namespace)
    flags = ["vnet_hdr"] if header else []
    run("ip", "-n", namespace, "tuntap", "add", "dev", DEVICE, "mode", "tap", *flags)
    run("ip", "-n", namespace, "link", "set", DEVICE, "address", mac, "mtu", str(MTU), "up")
    run("ip", "-n", namespace, "address", "add", address, "dev", DEVICE)


@contextlib.contextmanager
def _relays(guests: list[_Guest]) -> Iterator[None]:
    """A relay for each guest while the block runs."""
    with contextlib.ExitStack() as stack:
        for cpu, guest in zip(CPUS, guests, strict=True):
            relay = start_meter(
                "relay",
                inner_netns=netns_path(guest.namespace),
                inner_tap=DEVICE,
                outer_netns=netns_path(guest.host),
                cpu=cpu,
                **guest.outer,
            )
            stack.callback(_end, relay)
            assert relay.stdout is not None
            if relay.stdout.readline() != "up\n":
                raise BenchError(f"the relay of {guest.namespace} does not start")
        yield


def _end(relay: subprocess.Popen[str]) -> None:
    relay.kill()
    relay.wait()
