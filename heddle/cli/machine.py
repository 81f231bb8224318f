"""A stored machine, as the hypervisor wants it named."""

from __future__ import annotations

from dataclasses import dataclass

from heddle.cli.view import View
from heddle.errors import RequestError
from heddle.paths import host_name


@dataclass(frozen=True, slots=True)
class StoredMachine:
    """What heddle.hypervisor needs to find a machine."""

    id: str
    name: str
    machine_kind: str
    running: bool = False
    saved: str = ""
    host: str = ""


def find_machine(name: str, *, only_vm: bool = False, here: bool = False) -> StoredMachine:
    """A machine by name or id. RequestError when it must be a VM and is none, or must be
    on this host and is on another."""
    item = View().find("machine", name)
    if only_vm and item["machine_kind"] != "vm":
        raise RequestError(
            f"machine {item['name']} is a {item['machine_kind']}, no VM; it lives as long as "
            "it stands in its topology file"
        )
    if here and host_name() not in (item["host"], item["migrating_to"]):
        raise RequestError(f"machine {item['name']} is on host {item['host']}: run it there")
    return StoredMachine(*(item[field] for field in StoredMachine.__slots__))
