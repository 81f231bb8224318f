"""Which addresses of a network a machine can have, inside heddle or behind a foreign VTEP."""

from __future__ import annotations

from heddle.intent.addresses import Address, unusable_meaning, usable_range
from heddle.intent.schema import NetworkSpec


def place_problem(name: str, network: NetworkSpec, address: Address) -> str | None:
    """Why a guest of the named network can't have the address, if so."""
    subnet = network.subnet_of(address)
    if subnet is None:
        return _outside(name, network, address) if network.cidr else None
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
