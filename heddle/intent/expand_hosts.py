"""Where machines run, and the objects that a file's hosts stand for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from typing import NamedTuple

from heddle.intent.allocate import natural_order
from heddle.intent.hosts import assign_host_numbers, envelope_bytes, host_id
from heddle.intent.model import Detour, ForeignMac, ForeignMember, Host, Kind, Machine
from heddle.intent.names import PROJECT, object_id
from heddle.intent.problems import Problems, suggestion
from heddle.intent.schema import MTU, MTU_OVER_IPV6, NetworkSpec, TopologySpec
from heddle.intent.stored import Stored, stored_of
from heddle.intent.topology import Topology


class Placement(NamedTuple):
    """Fields of a machine, and of its ports, that say where it is."""

    host: str
    home: str
    migrating_to: str = ""
    moved_from: str = ""


@dataclass(slots=True)
class _Load:
    """What a host has to carry."""

    memory: int = 0  # bytes, of VMs
    machines: int = 0

    def add(self, machine_kind: str, memory: int) -> None:
        self.memory += memory if machine_kind == "vm" else 0
        self.machines += 1


def known_hosts(stored: Stored, host: str) -> list[str]:
    """Hosts whose agents have registered them, or this one when none has."""
    found = [one.name for one in stored_of(stored, Host).values() if not one.foreign]
    return sorted(found, key=natural_order) or [host]


def check_known(topology: Topology, stored: Stored, host: str) -> None:
    """TopologyError when the file names hosts that are not there, contradicts what
    they say of themselves, or has networks that don't fit the underlay."""
    problems = Problems(topology.source)
    known = known_hosts(stored, host)
    for name, spec in topology.spec.hosts.items():
        if not spec.foreign:
            _check_known(problems, ("hosts", name), name, known)
            registered = stored_of(stored, Host).get(host_id(name))
            if registered and spec.vtep and str(spec.vtep) != registered.vtep:
                what = f"{spec.vtep}, but its agent says {registered.vtep or 'none'}"
                problems.add(("hosts", name, "vtep"), f"{what}; correct it here or in heddle.toml")
    for name, machine in topology.spec.machines.items():
        if machine.host is not None and machine.host not in topology.spec.hosts:
            _check_known(problems, ("machines", name, "host"), machine.host, known)
    _check_fit(problems, topology.spec, stored)
    _check_underlay(problems, topology.spec, stored)
    problems.raise_if_any()


def _check_underlay(problems: Problems, spec: TopologySpec, stored: Stored) -> None:
    """Foreign VTEPs and multicast groups against what the agents use."""
    agents = [one for one in stored_of(stored, Host).values() if one.vtep and not one.foreign]
    foreign = {name: host.vtep for name, host in spec.hosts.items() if host.foreign}
    if not agents:
        return
    version = ip_address(agents[0].vtep).version
    groups = {name: network.flood for name, network in spec.networks.items()}
    for section, key, addresses in (("hosts", "vtep", foreign), ("networks", "flood", groups)):
        for name, address in addresses.items():
            if address is not None and address.version != version:
                what = f"{address} is IPv{address.version}, the VTEPs of the agents IPv{version}"
                problems.add((section, name, key), f"{what}; use that")
    udp_port = agents[0].udp_port
    if foreign and spec.underlay.udp_port != udp_port:
        what = f"{spec.underlay.udp_port}, but the agents use {udp_port}; give that"
        problems.add(("underlay", "udp_port"), what)


def _check_known(problems: Problems, path: tuple[str, ...], name: str, known: list[str]) -> None:
    if name not in known:
        what = f'host "{name}" is not known; {suggestion(name, known)}'
        problems.add(path, f"{what}, or start its agent with the same store first")


def _check_fit(problems: Problems, spec: TopologySpec, stored: Stored) -> None:
    if spec.underlay.mtu is None:
        return
    vtep = _some_vtep(spec, stored)
    room = spec.underlay.mtu - envelope_bytes(vtep)
    for name, network in spec.networks.items():
        mtu = mtu_of(network, spec, stored)
        if mtu > room:
            what = f"{mtu} and {envelope_bytes(vtep)} for the envelope exceed the underlay's MTU"
            problems.add(
                ("networks", name, "mtu"), f"{what} of {spec.underlay.mtu}; give {room} or less"
            )


def mtu_of(network: NetworkSpec, spec: TopologySpec, stored: Stored) -> int:
    if network.mtu is not None:
        return network.mtu
    return MTU_OVER_IPV6 if ":" in _some_vtep(spec, stored) else MTU


def _some_vtep(spec: TopologySpec, stored: Stored) -> str:
    """An address of the underlay, "" when none is known: all are of one family."""
    stored_hosts = stored_of(stored, Host).values()
    found = [one.vtep for one in stored_hosts if one.vtep]
    found += [str(one.vtep) for one in spec.hosts.values() if one.vtep]
    found += [str(spec.underlay.cidr)] if spec.underlay.cidr else []
    return found[0] if found else ""


# ---- machines ----------------------------------------------------------------


def placements(topology: Topology, stored: Stored, host: str, origin: str) -> dict[str, Placement]:
    """Where each machine of the file is to be. A machine stays where it is unless
    the file names another host than it did. One that no host is named for goes to
    that with the least memory given to VMs, then the fewest machines, then the
    first by name. TopologyError when a machine that shall move is migrating."""
    spec = topology.spec
    known = known_hosts(stored, host)
    problems = Problems(topology.source)
    existing = stored_of(stored, Machine)
    found: dict[str, Placement] = {}
    for name, machine in spec.machines.items():
        old = existing.get(object_id(PROJECT, Kind.MACHINE, name))
        place = _settled(machine.host, old, known)
        if old and old.migrating_to and (place is None or place.host != old.host):
            what = f"is on its way to {old.migrating_to}; apply again when it is there"
            problems.add(("machines", name, "host"), what)
        if place is not None:
            found[name] = place
    problems.raise_if_any()
    candidates = [name for name in known if name in spec.hosts] or known
    return found | _spread(spec, existing, found, candidates, origin)


def _settled(named: str | None, old: Machine | None, known: list[str]) -> Placement | None:
    """None: anywhere."""
    if old is not None and old.host in known and named in (None, old.home or old.host):
        return Placement(old.host, named or "", old.migrating_to, old.moved_from)
    return Placement(named, named) if named is not None else None


def _spread(
    spec: TopologySpec,
    existing: Mapping[str, Machine],
    found: Mapping[str, Placement],
    candidates: list[str],
    origin: str,
) -> dict[str, Placement]:
    loads = {name: _Load() for name in candidates}
    for old in existing.values():
        if old.origin != origin and old.host in loads:
            loads[old.host].add(old.machine_kind, old.memory)
    for name, place in found.items():
        if place.host in loads:
            loads[place.host].add(spec.machines[name].kind, spec.machines[name].memory)
    placed: dict[str, Placement] = {}
    for name in sorted(spec.machines.keys() - found.keys(), key=natural_order):
        chosen = min(loads, key=lambda one: (loads[one].memory, loads[one].machines))
        loads[chosen].add(spec.machines[name].kind, spec.machines[name].memory)
        placed[name] = Placement(chosen, "")
    return placed


# ---- objects -----------------------------------------------------------------


def expand_hosts(spec: TopologySpec, stored: Stored, origin: str) -> list[Host]:
    """Foreign VTEPs: all others register themselves."""
    foreign = {name: host for name, host in spec.hosts.items() if host.foreign}
    numbers = assign_host_numbers(stored, list(foreign))
    return [
        Host(
            id=host_id(name),
            name=name,
            origin=origin,
            number=numbers[name],
            vtep=str(host.vtep),
            udp_port=spec.underlay.udp_port,
            foreign=True,
        )
        for name, host in foreign.items()
    ]


def expand_detours(spec: TopologySpec, origin: str) -> list[Detour]:
    return [
        Detour(
            id=object_id(PROJECT, Kind.DETOUR, name),
            name=name,
            origin=origin,
            host=name,
            relay=host.relay,
        )
        for name, host in spec.hosts.items()
        if host.relay is not None
    ]


def foreign_members(network: NetworkSpec) -> Iterator[ForeignMember]:
    for name, member in network.foreign.items():
        macs = (
            ForeignMac(mac=mac, address=str(address) if address else None)
            for mac, address in member.macs.items()
        )
        yield ForeignMember(host=name, learn=member.learn, macs=tuple(macs))
