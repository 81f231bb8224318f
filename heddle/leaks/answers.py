"""Leaks in what the data plane itself says to guests: questions are put to the
live program as `heddle trace` does, and nothing is sent or changed."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterable, Iterator
from ipaddress import ip_address
from typing import NamedTuple

from heddle.datapath.frames import (
    Probe,
    Protocol,
    arp_request,
    neighbor_solicitation,
    probe_frame,
)
from heddle.datapath.trace import Trace
from heddle.errors import KernelError
from heddle.leaks.catalogue import Leak
from heddle.leaks.guests import GuestNetwork, GuestPort, Guests
from heddle.leaks.physical import Physical
from heddle.leaks.questions import (
    dhcp4_discover,
    dhcp6_solicit,
    offered_mtu,
    reported_mtu,
    router_solicitation,
)

Ask = Callable[[bytes, int], Trace]  # frame, ifindex
_TTL = 64
_HEADERS = {4: 20 + 8, 6: 40 + 8}  # IP and ICMP


class Question(NamedTuple):
    """A frame of a guest, and the leak that a wrong answer would be."""

    leak: str
    topic: str
    frame: bytes


def find_in_answers(guests: Guests, physical: Physical, ask: Ask) -> Iterator[Leak]:
    """For every port of the host that has its device."""
    for port in guests.ports.values():
        with contextlib.suppress(OSError, KernelError):  # the device is being made or removed
            index = socket.if_nametoindex(port.device)
            for question in _questions(port):
                yield from _examine(port, physical, question, ask(question.frame, index))
            yield from _examine_routing(port, guests, physical, ask, index)


def _questions(port: GuestPort) -> Iterator[Question]:
    yield Question("dhcp-answer", "DHCP", dhcp4_discover(port.mac))
    yield Question("dhcp-answer", "DHCPv6", dhcp6_solicit(port.mac))
    yield Question("ra-answer", "router advertisement", router_solicitation(port.mac))
    for address, gateway in port.fixed:
        if ip_address(address).version == 4:
            yield Question("arp-answer", "ARP", arp_request(port.mac, address, gateway))
        else:
            frame = neighbor_solicitation(port.mac, address, gateway)
            yield Question("arp-answer", "neighbour discovery", frame)


def _examine(
    port: GuestPort, physical: Physical, question: Question, result: Trace
) -> Iterator[Leak]:
    """What is wrong with the answer to one question; nothing when there is none."""
    if not result.redirected:
        return
    known = port.network.macs | port.network.addresses
    seen = physical.seen_in(result.frame_out, known)
    if seen:
        yield Leak(question.leak, port.label, f"{question.topic} shows {seen}")
    mtu = offered_mtu(result.frame_out)
    if mtu is not None and mtu != port.network.mtu:
        detail = f"{question.topic} says {mtu}, network {port.network.name} has {port.network.mtu}"
        yield Leak("mtu", port.label, detail)


# ---- routing -------------------------------------------------------------------


def _examine_routing(
    port: GuestPort, guests: Guests, physical: Physical, ask: Ask, index: int
) -> Iterator[Leak]:
    """Pings to all that there is in other networks: to one address of each."""
    for network in guests.networks.values():
        if network is port.network:
            continue
        for version in (4, 6):
            way = _way(port, network.addresses, version)
            if way is not None:
                yield from examine_hops(port, ask(probe_frame(way), index), index)
                for error in _errors(port, way, ask, index):
                    yield from _examine_error(port, network, physical, error, way.destination)


def examine_hops(port: GuestPort, result: Trace, index: int) -> Iterator[Leak]:
    """Whether a packet that was routed lost one of its TTL per router."""
    if not result.hops or not result.redirected or result.to_ifindex == index:
        return  # not routed, dropped, or answered
    lost = time_to_live(result.frame_in) - time_to_live(result.frame_out)
    if lost != result.hops:
        yield Leak("ttl", port.label, f"{lost} of TTL lost behind {result.hops} routers")


def _errors(port: GuestPort, way: Probe, ask: Ask, index: int) -> Iterator[bytes]:
    """ICMP errors about a ping: time exceeded, and too big for both networks."""
    large = bytes(max(port.network.mtu, 1280) + 1 - _HEADERS[ip_address(way.source).version])
    for probe in (_replaced(way, ttl=1), _replaced(way, payload=large)):
        result = ask(probe_frame(probe), index)
        if result.redirected and result.to_ifindex == index:
            yield result.frame_out


def _examine_error(
    port: GuestPort, network: GuestNetwork, physical: Physical, error: bytes, destination: str
) -> Iterator[Leak]:
    # It quotes the packet, whose addresses the guest has chosen itself.
    known = port.network.macs | port.network.addresses | {ip_address(destination).packed}
    seen = physical.seen_in(error, known)
    if seen:
        yield Leak("icmp-error", port.label, f"an error about {destination} shows {seen}")
    mtu = reported_mtu(error)
    if mtu not in (None, port.network.mtu, network.mtu):
        detail = f"an error about {destination} says {mtu}, which is no MTU of a network there"
        yield Leak("mtu", port.label, detail)


def _way(port: GuestPort, addresses: Iterable[bytes], version: int) -> Probe | None:
    """A ping to one of the addresses, by way of the port's gateway."""
    own = next((a for a, _ in port.fixed if ip_address(a).version == version), None)
    targets = sorted(a for a in addresses if len(a) == (4 if version == 4 else 16))
    router = next(iter(sorted(port.network.routers)), None)
    if own is None or not targets or router is None:
        return None
    return Probe(port.mac, router, own, str(ip_address(targets[-1])))


def _replaced(probe: Probe, *, ttl: int = _TTL, payload: bytes | None = None) -> Probe:
    body = probe.payload if payload is None else payload
    return Probe(
        probe.source_mac,
        probe.destination_mac,
        probe.source,
        probe.destination,
        Protocol.ICMP,
        ttl=ttl,
        payload=body,
    )


def time_to_live(frame: bytes) -> int:
    """TTL or hop limit of an untagged IP frame."""
    return frame[22] if frame[12:14] == b"\x08\x00" else frame[21]
