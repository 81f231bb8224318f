"""The memory of a machine in a file: saved on one host, restored on this or another."""

from __future__ import annotations

from pathlib import Path

import libvirt

from heddle.compiler.state import MachineSpec
from heddle.errors import HypervisorError
from heddle.hypervisor.domain import moved_xml


def save(domain: libvirt.virDomain, spec: MachineSpec) -> None:
    """Write the memory of a running machine to ``spec.saved``, and end it. It takes
    a second per some 100 MB. HypervisorError when the file can't be written."""
    file = Path(spec.saved)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise HypervisorError(
            f"machine {spec.name} can't be saved in {file}: {error.strerror}: choose another file"
        ) from error
    domain.save(str(file))


def restore(
    connection: libvirt.virConnect, domain: libvirt.virDomain, spec: MachineSpec, host: str
) -> None:
    """Start a machine from its saved memory. The file serves once and is removed: what
    it says of the machine's disk is true no more. HypervisorError when it is not here."""
    file = Path(spec.saved)
    if not file.exists():
        raise HypervisorError(
            f"machine {spec.name} is saved in {file}, which is not on host {host}: "
            f"copy it there, or run heddle vm destroy {spec.name} to forget it"
        )
    saved = connection.saveImageGetXMLDesc(str(file), libvirt.VIR_DOMAIN_XML_SECURE)
    definition = domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
    flags = libvirt.VIR_DOMAIN_SAVE_RUNNING
    connection.restoreFlags(str(file), moved_xml(saved, definition), flags)
    file.unlink()
