"""Checks hosts, the underlay, and foreign members of networks. What the store
must tell, such as which hosts there are, is checked in expand_hosts.py."""

from __future__ import annotations

import re

from heddle.intent.addresses import Address
from heddle.intent.check_context import Context
from heddle.intent.check_places import place_problem
from heddle.intent.problems import KeyPath, suggestion
from heddle.intent.schema import NetworkSpec
from heddle.intent.schema_hosts import ForeignSpec, HostSpec

# As heddle.paths has it: a host's name is that of a folder.
_HOST_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_-]{0,61}[A-Za-z0-9])?")


def check_hosts(context: Context) -> None:
    vteps: dict[Address, str] = {}
    for name, host in context.spec.hosts.items():
        path = ("hosts", name)
        if not _HOST_NAME.fullmatch(name):
            what = f'"{name}" is no usable name; use letters, digits, - and _, at most 63'
            context.problems.add(path, f"{what}, the first and last no - or _")
        _check_vtep(context, host, vteps.setdefault(host.vtep, name) if host.vtep else name, path)
        _check_relay(context, host, path)
    _check_families(context)
    for name, machine in context.spec.machines.items():
        if machine.host is not None:
            _check_place(context, machine.host, ("machines", name, "host"))


def _check_vtep(context: Context, host: HostSpec, holder: str, path: KeyPath) -> None:
    cidr = context.spec.underlay.cidr
    if host.vtep is None:
        if host.foreign:
            what = 'is foreign, so key "vtep" must say its address; for example'
            context.problems.add(path, f'{what} "vtep: 192.0.2.1"')
        return
    what = ""
    if host.vtep.is_multicast or host.vtep.is_unspecified or host.vtep.is_loopback:
        what = f"{host.vtep} is no address of a host; give the one that others reach it by"
    elif holder != path[1]:
        what = f'{host.vtep} is the VTEP of host "{holder}" too; give each its own'
    elif cidr is not None and host.vtep not in cidr:
        what = f"{host.vtep} is outside the underlay's {cidr}; choose one of it"
    if what:
        context.problems.add((*path, "vtep"), what)


def _check_relay(context: Context, host: HostSpec, path: KeyPath) -> None:
    if host.relay is None:
        return
    relay = context.spec.hosts.get(host.relay)
    if host.relay == path[1]:
        what = "a host can't be its own relay; name another"
    elif relay is None and ("hosts", host.relay) not in context.broken:
        what = f'host "{host.relay}" is not in the file; {suggestion(host.relay, _own(context))}'
    elif relay is not None and relay.foreign:
        what = f'host "{host.relay}" is foreign, and relays nothing; name a heddle host'
    else:
        return
    context.problems.add((*path, "relay"), what)


def _check_families(context: Context) -> None:
    versions = {host.vtep.version for host in context.spec.hosts.values() if host.vtep}
    if len(versions) > 1:
        what = "some VTEPs are IPv4 and some IPv6; envelopes need one of them, the same everywhere"
        context.problems.add(("hosts",), what)
    groups = {one.flood.version for one in context.spec.networks.values() if one.flood}
    if len(versions) == 1 and groups - versions:
        for name, network in context.spec.networks.items():
            if network.flood and network.flood.version not in versions:
                what = f"{network.flood} is of another address family than the VTEPs"
                context.problems.add(("networks", name, "flood"), f"{what}; use one family")


def _check_place(context: Context, name: str, path: KeyPath) -> None:
    """The host of a machine. A file that names no hosts may name any there is."""
    hosts = context.spec.hosts
    if name in hosts and hosts[name].foreign:
        what = f'host "{name}" is foreign; name a heddle host'
        context.problems.add(path, what)
    elif hosts and name not in hosts and ("hosts", name) not in context.broken:
        what = f'host "{name}" is not in the file; {suggestion(name, _own(context))}'
        context.problems.add(path, what)


def _own(context: Context) -> list[str]:
    return [name for name, host in context.spec.hosts.items() if not host.foreign]


def check_overlay(context: Context, network: NetworkSpec, path: KeyPath) -> None:
    """What a network says of the underlay."""
    if network.flood is not None and not network.flood.is_multicast:
        what = f"{network.flood} is no multicast group; use one such as 239.0.0.1"
        context.problems.add((*path, "flood"), what)
    for name, member in network.foreign.items():
        member_path = (*path, "foreign", name)
        host = context.spec.hosts.get(name)
        if ("hosts", name) not in context.broken and (host is None or not host.foreign):
            what = f'"{name}" is no foreign host; add "{name}: {{foreign: true, vtep: ...}}"'
            context.problems.add(member_path, f"{what} to hosts")
        _check_behind(context, network, member, member_path)


def _check_behind(
    context: Context, network: NetworkSpec, member: ForeignSpec, path: KeyPath
) -> None:
    """The machines behind a foreign VTEP have MACs and addresses as any other."""
    name, switch = str(path[1]), path[-1]
    for mac, address in member.macs.items():
        owner = f'MAC {mac} behind host "{switch}"'
        if other := context.claim(name, mac, owner):
            what = f'{mac} is the MAC of {other} in network "{name}" too; give each its own'
            context.problems.add((*path, "macs", mac), what)
        if address is None:
            continue
        problem = place_problem(name, network, address)
        if problem is None and (other := context.claim(name, address, owner)):
            problem = f"{address} is taken by {other}; correct one of them"
        if problem is not None:
            context.problems.add((*path, "macs", mac), problem)
