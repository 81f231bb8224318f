"""Checks machines and their NICs."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from heddle.intent.addresses import Address, eui64
from heddle.intent.check_context import Context
from heddle.intent.check_places import place_problem
from heddle.intent.model import Kind
from heddle.intent.names import PROJECT, derived_mac, nic_names, object_id
from heddle.intent.problems import KeyPath, suggestion
from heddle.intent.schema import BUILT_IN_IMAGE, MachineSpec, NicSpec, SubnetSpec

_VM_ONLY = ("image", "cpus", "memory", "pin")


def check_machines(context: Context) -> None:
    for name, machine in context.spec.machines.items():
        path = ("machines", name)
        _check_image(context, machine, path)
        _check_own_macs(context, machine, path)
        port_names = nic_names(name, (nic.network for nic in machine.nics))
        for index, (port_name, nic) in enumerate(zip(port_names, machine.nics, strict=True)):
            owner = f'NIC {index} of machine "{name}"'
            _check_nic(context, nic, port_name, owner, (*path, "nics", index))


def _check_own_macs(context: Context, machine: MachineSpec, path: KeyPath) -> None:
    macs = [nic.mac for nic in machine.nics]
    for index, mac in enumerate(macs):
        if mac is not None and mac in macs[:index]:
            what = f"{mac} is the MAC of another NIC of this machine; give each its own"
            context.problems.add((*path, "nics", index, "mac"), what)


def _check_image(context: Context, machine: MachineSpec, path: KeyPath) -> None:
    if machine.kind == "container":
        for key in _VM_ONLY:
            if key in machine.model_fields_set:
                what = "has no effect: a container shares its host's file system, CPUs and memory"
                context.warn((*path, key), f"{what}; remove it, or use kind: vm")
        return
    if machine.image == BUILT_IN_IMAGE:
        return
    file = context.folder / machine.image
    if not _is_file(file):
        what = f'"{machine.image}" is neither a file nor built in; {_image_hint(machine.image)}'
        context.problems.add((*path, "image"), what)
    elif not os.access(file, os.R_OK):
        what = f'"{machine.image}" can\'t be read; make it readable, or run as root'
        context.problems.add((*path, "image"), what)


def _is_file(path: Path) -> bool:
    with contextlib.suppress(OSError):  # such as a name that is too long
        return path.is_file()
    return False


def _image_hint(image: str) -> str:
    if "/" in image or "." in image:
        return "give the path of a qcow2 or raw file; it starts at the topology file"
    return suggestion(image, [BUILT_IN_IMAGE])


def _check_nic(context: Context, nic: NicSpec, port_name: str, owner: str, path: KeyPath) -> None:
    network = context.network(nic.network, (*path, "network"))
    if network is None:
        return
    if nic.mac is not None and (other := context.claim(nic.network, nic.mac, owner)):
        what = f'{nic.mac} is the MAC of {other} in network "{nic.network}" too'
        context.problems.add((*path, "mac"), f"{what}; give each its own")
    mac = nic.mac or derived_mac("port", object_id(PROJECT, Kind.PORT, port_name))
    for address in nic.address:
        problem = (
            place_problem(nic.network, network, address)
            or _owner_problem(context, nic, address, owner)
            or _slaac_problem(network.subnet_of(address), address, mac)
        )
        if problem is not None:
            context.problems.add((*path, "address"), problem)


def _owner_problem(context: Context, nic: NicSpec, address: Address, owner: str) -> str | None:
    if nic.address.count(address) > 1:
        return f"{address} is given twice; keep one"
    other = context.claim(nic.network, address, owner)
    return f"{address} is taken by {other}; choose another, or leave it out" if other else None


def _slaac_problem(subnet: SubnetSpec | None, address: Address, mac: str) -> str | None:
    prefix = subnet.slaac_prefix if subnet else None
    if subnet is None or prefix is None or address == eui64(prefix, mac):
        return None
    return (
        f"{address}: guests of {prefix} form their own address ({subnet.mode}), here "
        f"{eui64(prefix, mac)}; leave it out, or make the subnet "
        f'{{cidr: "{prefix}", ipv6_mode: dhcpv6-stateful}}'
    )
