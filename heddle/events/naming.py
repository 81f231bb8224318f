"""What an operator calls a device of the data plane: machine and NIC.

Works from stored objects as plain dicts, without the intent model, since
commands that only read use it.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from heddle.intent.names import tap_name, veth_name


@dataclass(frozen=True, slots=True)
class PortName:
    """One port, in an operator's words."""

    port_id: str
    label: str  # machine:nic
    machine: str
    nic: int
    network: str
    device: str
    guarded: bool = True  # False: port security is off
    security_groups: tuple[str, ...] = ()


class PortNames:
    """Finds a port by device or ifindex."""

    def __init__(self, objects: Iterable[Mapping[str, Any]]) -> None:
        by_id = {item["id"]: item for item in objects}
        self.by_id = {
            item["id"]: _name_port(item, by_id) for item in by_id.values() if item["kind"] == "port"
        }
        self.by_device = {port.device: port for port in self.by_id.values()}

    def of_ifindex(self, ifindex: int) -> PortName | None:
        """The port behind a device of this network namespace."""
        return self.by_device.get(device_name(ifindex))

    def label(self, ifindex: int) -> str:
        """``vm0:0``; a device that is no port by its own name, or number."""
        port = self.of_ifindex(ifindex)
        return port.label if port else device_name(ifindex) or f"device {ifindex}"

    def groups(self, ifindex: int) -> tuple[str, ...]:
        """Names of the security groups of the port behind a device."""
        port = self.of_ifindex(ifindex)
        return port.security_groups if port else ()


def device_name(ifindex: int) -> str:
    """A device of this network namespace; empty when it is gone."""
    with contextlib.suppress(OSError):
        return socket.if_indextoname(ifindex)
    return ""


def _name_port(port: Mapping[str, Any], by_id: Mapping[str, Mapping[str, Any]]) -> PortName:
    machine = by_id.get(port["machine_id"], {})
    network = by_id.get(port["network_id"], {})
    device = tap_name if machine.get("machine_kind") == "vm" else veth_name
    name = machine.get("name", port["machine_id"])
    return PortName(
        port_id=port["id"],
        label=f"{name}:{port['nic']}",
        machine=name,
        nic=port["nic"],
        network=network.get("name", port["network_id"]),
        device=device(port["id"]),
        guarded=port.get("port_security", True),
        security_groups=tuple(
            by_id.get(group, {}).get("name", group) for group in port.get("security_group_ids", ())
        ),
    )
