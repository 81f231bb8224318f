"""Random intent with a foreign VTEP, and the machines behind it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from foreign_wire import FOREIGN_HOST, FOREIGN_VTEP, VTEP
from hypothesis import strategies as st
from model_board import HOST
from reference.connections import BEHIND
from topologies import topologies

from heddle.intent.model import (
    AnyResource,
    FixedIp,
    ForeignMac,
    ForeignMember,
    Host,
    Network,
    Port,
    QosPolicy,
    Router,
    Subnet,
)

MACHINES = 2  # in a network


class ForeignIntent(NamedTuple):
    objects: list[AnyResource]
    behind: list[Port]


@st.composite
def foreign_topologies(draw: st.DrawFn) -> ForeignIntent:
    """Members of networks that have ports here: others are of no interest. One router
    at most, so that there is one way (see ``Traffic``)."""
    objects = [_unshaped(each) for each in draw(topologies()) if not _is_second_router(each)]
    used = {each.network_id for each in objects if isinstance(each, Port)}
    behind: list[Port] = []
    for place, network in enumerate(objects):
        if isinstance(network, Network) and network.id in used and draw(st.integers(0, 3)):
            machines = list(_machines(objects, network))
            objects[place] = network.model_copy(
                update={"foreign_members": (_member(draw, machines),)}
            )
            behind += machines
    return ForeignIntent([*objects, *_hosts()], behind)


def _is_second_router(resource: AnyResource) -> bool:
    return isinstance(resource, Router) and resource.number > 1


def _unshaped(resource: AnyResource) -> AnyResource:
    """A test run has no field for what leaves the shaper towards another host."""
    if isinstance(resource, QosPolicy):
        return resource.model_copy(update={"bandwidth_from_vm": None})
    return resource


def _hosts() -> Iterator[Host]:
    yield Host(id="host1", name=HOST, number=1, vtep=VTEP)
    yield Host(id="host2", name=FOREIGN_HOST, number=2, vtep=FOREIGN_VTEP, foreign=True)


def _machines(objects: list[AnyResource], network: Network) -> Iterator[Port]:
    subnets = [s for s in objects if isinstance(s, Subnet) and s.network_id == network.id]
    for number in range(MACHINES):
        yield Port(
            id=f"behind {network.id} {number}",
            name="",
            network_id=network.id,
            mac=f"02:00:00:{network.vni >> 8:02x}:{network.vni & 255:02x}:{number:02x}",
            fixed_ips=tuple(
                FixedIp(subnet_id=subnet.id, ip=_address(subnet, number)) for subnet in subnets
            ),
            machine_id=BEHIND,
            host=FOREIGN_HOST,
            port_security=False,
        )


def _address(subnet: Subnet, number: int) -> str:
    start = subnet.cidr.partition("/")[0]
    return f"{start}{200 + number}" if ":" in start else f"{start[:-1]}{200 + number}"


def _member(draw: st.DrawFn, machines: list[Port]) -> ForeignMember:
    """The first machine may be named, with its address or without."""
    named = machines[0]
    address = draw(st.sampled_from((named.fixed_ips[0].ip, None)))
    macs = (ForeignMac(mac=named.mac, address=address),) if draw(st.booleans()) else ()
    return ForeignMember(host=FOREIGN_HOST, learn=bool(draw(st.integers(0, 2))), macs=macs)
