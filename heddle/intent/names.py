"""Names, ids and MACs that follow from intent alone (design, section 8)."""

from __future__ import annotations

import hashlib
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # read commands want names without the cost of pydantic
    from heddle.intent.model import Kind

NAMESPACE = uuid.UUID("6f1d7c58-0f4e-5a3c-9f0b-68656464006c")
PROJECT = "default"
PROJECT_ORIGIN = "project"
"""Owner of what belongs to no file: the project's own security group."""
DEFAULT_GROUP = "default"
"""The project's own security group, for ports that name none."""
SHAPER = "heddle-shape"
"""The link into which the data plane sends what must be shaped, per host, ..."""
SHAPED = "heddle-shaped"
"""... and its peer, at which that comes out again."""
TUNNEL = "heddle-vxlan"
"""The device through which frames go to other hosts, and come from them."""
VM_MAC_PREFIX = bytes.fromhex("fa163e")


def object_id(project_id: str, kind: Kind, name: str) -> str:
    """The id of an object from a file: the same on every day and host."""
    return str(uuid.uuid5(NAMESPACE, f"{project_id}/{kind.value}/{name}"))


def derived_mac(*parts: str) -> str:
    """A stable MAC under fa:16:3e for a port or a router interface."""
    digest = hashlib.sha256("/".join(parts).encode()).digest()
    return (VM_MAC_PREFIX + digest[:3]).hex(":")


def tap_name(port_id: str) -> str:
    """The TAP of a VM's port, as Nova expects it."""
    return "tap" + port_id[:11]


def veth_name(port_id: str) -> str:
    """The host end of a container port's veth."""
    return "hdl" + port_id[:11]


def namespace_name(machine_name: str) -> str:
    """The network namespace of a container."""
    return "heddle-" + machine_name


def port_alias(port_id: str) -> str:
    """The mark in ``ifalias`` by which the applier knows a link as its own."""
    return f"heddle:port:{port_id}"


def tunnel_alias(host: str) -> str:
    """The mark in ``ifalias`` of a host's tunnel."""
    return f"heddle:tunnel:{host}"


def nic_names(machine_name: str, networks: Iterable[str]) -> Iterator[str]:
    """Names of the ports of a machine's NICs, given their networks in order.

    ``vm0/web``, and ``vm0/web/2`` for a second NIC in the same network: so a
    NIC keeps its identity, and its MAC, when the file loses another before it.
    """
    seen: Counter[str] = Counter()
    for network in networks:
        seen[network] += 1
        repeat = f"/{seen[network]}" if seen[network] > 1 else ""
        yield f"{machine_name}/{network}{repeat}"


def subnet_name(network_name: str, cidr: str) -> str:
    """A subnet's name; the file gives it none."""
    return f"{network_name}/{cidr}"
