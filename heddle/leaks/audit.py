"""All checks of the catalogue on the host on which this runs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from ipaddress import ip_address
from typing import Any

from heddle.datapath.loader import Datapath
from heddle.datapath.trace import trace
from heddle.intent.model import PROBE_VNI
from heddle.leaks.answers import find_in_answers
from heddle.leaks.capture import Capture, Captured
from heddle.leaks.catalogue import Leak
from heddle.leaks.frames import Wire, judge_on_wire, judge_to_guest
from heddle.leaks.guests import Guests, read_guests
from heddle.leaks.mtu import find_in_mtu, find_in_paths
from heddle.leaks.physical import HostLinks, Physical, read_links, read_physical
from heddle.leaks.state import find_in_state

Item = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Report:
    """What was found, and how much was captured."""

    leaks: Sequence[Leak]
    frames: int
    missed: int  # frames that passed faster than they were looked at


def audit(
    objects: Sequence[Item], host: str, datapath: Datapath, paths: Item, seconds: float
) -> Report:
    """Look for every leak; ``paths`` is the fact of this host's paths. Captures for so
    many seconds."""
    capture = Capture()
    try:
        host_links = read_links()
        guests, physical = read_guests(objects, host), read_physical(host_links, objects)
        leaks = [
            *find_in_answers(guests, physical, partial(trace, datapath)),
            *find_in_mtu(guests, host_links, datapath),
            *find_in_paths(objects, host, paths),
            *find_in_state(host_links, {program.id for program in datapath.programs}),
        ]
        judge = partial(_judge, guests, physical, _wire(objects, guests, physical), host_links)
        for frame in capture.frames(seconds):
            leaks += judge(frame)
        return Report(_each_once(leaks), capture.seen, capture.missed())
    finally:
        capture.close()


def _judge(
    guests: Guests, physical: Physical, wire: Wire, host_links: HostLinks, frame: Captured
) -> Iterator[Leak]:
    port = guests.ports.get(frame.device)
    if port is not None:
        if frame.leaves:
            yield from judge_to_guest(frame.data, port, physical)
    elif frame.device in host_links.outside:
        yield from judge_on_wire(frame.data, frame.device, wire, leaves=frame.leaves)


def _wire(objects: Sequence[Item], guests: Guests, physical: Physical) -> Wire:
    hosts = [item for item in objects if item["kind"] == "host" and item["vtep"]]
    ports = {item["udp_port"] for item in hosts}
    vteps = {ip_address(item["vtep"]).packed: item["udp_port"] for item in hosts}
    groups = [item["flood_group"] for item in objects if item.get("flood_group")]
    vteps.update((ip_address(group).packed, next(iter(ports), 0)) for group in groups)
    return Wire.of(guests, physical, vteps, PROBE_VNI)


def _each_once(leaks: Iterable[Leak]) -> list[Leak]:
    """The first of each name and place: a capture may see one many times."""
    found: dict[tuple[str, str], Leak] = {}
    for leak in leaks:
        found.setdefault((leak.name, leak.where), leak)
    return list(found.values())
