"""The memory of a machine in a file: saved on one host, restored on this or another.

Its connections lie in a second file beside it: a security group that would not
let a peer begin anew must know them when the machine goes on.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import tempfile
import zlib
from contextlib import closing
from pathlib import Path

import libvirt

from heddle.compiler.state import MachineSpec
from heddle.datapath.loader import Datapath
from heddle.datapath.moving import Arrival, Departure, ends_of
from heddle.errors import HeddleError, HypervisorError
from heddle.hypervisor.domain import moved_xml

log = logging.getLogger(__name__)


def save(domain: libvirt.virDomain, spec: MachineSpec, host: str) -> None:
    """Write the memory of a running machine to ``spec.saved`` and its connections
    beside it, and end it. It takes a second per some 100 MB. HypervisorError when
    the file of its memory can't be written."""
    file = Path(spec.saved)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise HypervisorError(
            f"machine {spec.name} can't be saved in {file}: {error.strerror}: choose another file"
        ) from error
    domain.save(str(file))
    try:  # now that nothing of them changes any more
        _write_connections(spec, host)
    except (HeddleError, OSError) as error:
        log.warning("machine %s is saved without its connections: %s", spec.name, error)


def connections_file(spec: MachineSpec) -> Path:
    """Where the connections of a saved machine lie."""
    return Path(f"{spec.saved}.connections")


def restore(
    connection: libvirt.virConnect, domain: libvirt.virDomain, spec: MachineSpec, host: str
) -> None:
    """Start a machine from its saved memory. The files serve once and are removed: what
    they say of the machine's disk is true no more. HypervisorError when it is not here."""
    file = Path(spec.saved)
    if not file.exists():
        raise HypervisorError(
            f"machine {spec.name} is saved in {file}, which is not on host {host}: "
            f"copy it there, or run heddle vm destroy {spec.name} to forget it"
        )
    saved = connection.saveImageGetXMLDesc(str(file), libvirt.VIR_DOMAIN_XML_SECURE)
    definition = domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
    flags = libvirt.VIR_DOMAIN_SAVE_RUNNING
    try:
        _read_connections(spec, host)
    except (HeddleError, OSError, ValueError, KeyError, zlib.error) as error:
        log.warning("machine %s goes on without its connections: %s", spec.name, error)
    connection.restoreFlags(str(file), moved_xml(saved, definition), flags)
    file.unlink()
    connections_file(spec).unlink(missing_ok=True)


def _write_connections(spec: MachineSpec, host: str) -> None:
    """A line that says when, and compressed records (heddle.datapath.moving)."""
    with closing(Datapath.open(host)) as datapath:
        ends = ends_of(datapath, _ifindexes(spec))
        records = Departure(datapath, ends).bulk()
    file = connections_file(spec)
    told = json.dumps({"saved_at": clock_of(file.parent), "ends": len(ends)})
    file.touch(mode=0o600)
    file.write_bytes(told.encode() + b"\n" + zlib.compress(records, level=1))


def _read_connections(spec: MachineSpec, host: str) -> None:
    """Make those that have not timed out meanwhile, before the machine goes on."""
    file = connections_file(spec)
    if not file.exists():
        return
    told, _, compressed = file.read_bytes().partition(b"\n")
    saved = json.loads(told)
    with closing(Datapath.open(host)) as datapath:
        ends = ends_of(datapath, _ifindexes(spec))
        if len(ends) != saved["ends"]:
            raise HypervisorError(f"it had {saved['ends']} NICs, and has {len(ends)}")
        with closing(Arrival(datapath, ends)) as arrival:
            away = max(clock_of(file.parent) - saved["saved_at"], 0.0)
            lost = arrival.adopt(zlib.decompress(compressed), away_seconds=away)
    if lost:
        log.warning(
            "machine %s goes on without %d of its connections, such as %s: the flow table is full",
            spec.name,
            len(lost),
            lost[0],
        )


def clock_of(folder: Path) -> float:
    """Seconds of the Epoch by the clock of the file system: hosts that share it share
    this clock as well, and their own need not agree. OSError when nothing can be
    written there."""
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".heddle-") as file:
        return os.stat(file.fileno()).st_mtime


def _ifindexes(spec: MachineSpec) -> list[int]:
    return [socket.if_nametoindex(nic.device) for nic in spec.nics]
