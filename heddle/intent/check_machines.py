"""Checks machines and their NICs."""

from __future__ import annotations

import os

from heddle.intent.addresses import Address, eui64, unusable_meaning, usable_range
from heddle.intent.check_context import Context
from heddle.intent.model import Kind
from heddle.intent.names import PROJECT, derived_mac, nic_names, object_id
from heddle.intent.problems import KeyPath, suggestion
from heddle.intent.schema import BUILT_IN_IMAGE, MachineSpec, NetworkSpec, NicSpec, SubnetSpec

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
    if not file.is_file():
        what = f'"{machine.image}" is neither a file nor built in; {_image_hint(machine.image)}'
        context.problems.add((*path, "image"), what)
    elif not os.access(file, os.R_OK):
        what = f'"{machine.image}" can\'t be read; make it readable, or run as root'
        context.problems.add((*path, "image"), what)


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
            _place_problem(nic, network, address)
            or _owner_problem(context, nic, address, owner)
            or _slaac_problem(network.subnet_of(address), address, mac)
        )
        if problem is not None:
            context.problems.add((*path, "address"), problem)


def _place_problem(nic: NicSpec, network: NetworkSpec, address: Address) -> str | None:
    """Is it an address that a guest of this network can have?"""
    subnet = network.subnet_of(address)
    if subnet is None:
        return _outside(nic.network, network, address) if network.cidr else None
    meaning = unusable_meaning(subnet.cidr, address)
    if address == subnet.gateway_ip:
        meaning = "the gateway address"
    if meaning is None:
        return None
    choice = usable_range(subnet.cidr, subnet.gateway_ip)
    return f"{address} is {meaning} of {subnet.cidr}; choose another from {choice}"


def _outside(name: str, network: NetworkSpec, address: Address) -> str:
    same_family = [item for item in network.cidr if item.cidr.version == address.version]
    prefixes = ", ".join(str(item.cidr) for item in same_family or network.cidr)
    what = f'{address} is outside network "{name}" ({prefixes})'
    if not same_family:
        return f"{what}; remove it, or give the network an IPv{address.version} subnet"
    return f"{what}; choose one from {usable_range(same_family[0].cidr, same_family[0].gateway_ip)}"


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
