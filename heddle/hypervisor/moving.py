"""Live migration by libvirt: beginning it, ending it, and what libvirt tells of it.

The memory goes from the libvirt daemon of one host to that of the other
(peer-to-peer), which the operator has made trust each other: ``Transport``.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any, Literal, NamedTuple

import libvirt

from heddle.errors import HypervisorError
from heddle.hypervisor.domain import moved_xml
from heddle.hypervisor.libvirtd import connect, libvirt_errors

log = logging.getLogger(__name__)

# What the other host must still have of a libvirt connection that says nothing.
_KEEPALIVE_SECONDS, _KEEPALIVE_COUNT = 5, 5


class Transport(NamedTuple):
    """``uri``: how this host's libvirt reaches another's, with ``{host}`` for its
    name and ``{address}`` for its underlay address. ``data``: how memory goes:
    through that connection (``tunnel``), by QEMU's own TLS (``tls``), or in the
    clear (``plain``) between the underlay addresses."""

    uri: str = "qemu+tls://{host}/system"
    data: Literal["tunnel", "tls", "plain"] = "tunnel"


class Goal(NamedTuple):
    """The host that a machine moves to, and that host's definition of it."""

    host: str
    address: str
    definition: str


class Whereabouts(StrEnum):
    """Of a machine, as this host's libvirt knows it."""

    RUNNING = "running"
    PAUSED = "paused"
    MOVING = "moving"  # a migration of it is under way
    OFF = "off"
    ABSENT = "absent"  # it has moved: libvirt forgets it then, and only then, or says so
    UNKNOWN = "unknown"  # libvirt does not answer


class Turn(StrEnum):
    """What libvirt tells of a machine on its way."""

    PAUSED = "paused"  # it stands still, to switch
    RESUMED = "resumed"  # it goes on: on the host it came to, or where it was
    ENDED = "ended"  # it is off
    MOVED = "moved"  # it runs on the other host


_FLAGS = (
    libvirt.VIR_MIGRATE_LIVE
    | libvirt.VIR_MIGRATE_PEER2PEER
    | libvirt.VIR_MIGRATE_PERSIST_DEST
    | libvirt.VIR_MIGRATE_UNDEFINE_SOURCE
    | libvirt.VIR_MIGRATE_ABORT_ON_ERROR
)
_DATA_FLAGS = {
    "tunnel": libvirt.VIR_MIGRATE_TUNNELLED,
    "tls": libvirt.VIR_MIGRATE_TLS,
    "plain": 0,
}


def move(machine_id: str, goal: Goal, transport: Transport) -> None:
    """Move a running machine; returns when it runs on the other host. Raises
    HypervisorError when it does not, and then it runs here as before."""
    connection = _connected()
    domain = connection.lookupByUUIDString(machine_id)
    with libvirt_errors(f"machine {domain.name()} can't move to host {goal.host}"):
        live = domain.XMLDesc(libvirt.VIR_DOMAIN_XML_MIGRATABLE | libvirt.VIR_DOMAIN_XML_SECURE)
        parameters: dict[str, Any] = {
            libvirt.VIR_MIGRATE_PARAM_DEST_XML: moved_xml(live, goal.definition),
            libvirt.VIR_MIGRATE_PARAM_PERSIST_XML: goal.definition,
        }
        address = f"[{goal.address}]" if ":" in goal.address else goal.address
        if transport.data != "tunnel":
            parameters[libvirt.VIR_MIGRATE_PARAM_URI] = f"tcp://{address}"
        uri = transport.uri.format(host=goal.host, address=address)
        domain.migrateToURI3(uri, parameters, _FLAGS | _DATA_FLAGS[transport.data])


def abort(machine_id: str) -> None:
    """Let a migration that is under way end, with the machine here."""
    connection = _connected()
    try:
        connection.lookupByUUIDString(machine_id).abortJob()
    except libvirt.libvirtError as error:
        log.info("machine %s: nothing to abort: %s", machine_id, error)


def whereabouts(machine_id: str) -> Whereabouts:
    """How a machine is on this host, now."""
    try:
        connection = connect()
    except HypervisorError:
        return Whereabouts.UNKNOWN
    if connection is None:
        return Whereabouts.UNKNOWN
    try:
        domain = connection.lookupByUUIDString(machine_id)
        state, reason = domain.state()
        if not domain.isActive():
            has_moved = reason == libvirt.VIR_DOMAIN_SHUTOFF_MIGRATED
            return Whereabouts.ABSENT if has_moved else Whereabouts.OFF
        if domain.jobInfo()[0] != libvirt.VIR_DOMAIN_JOB_NONE:
            return Whereabouts.MOVING
        paused = state == libvirt.VIR_DOMAIN_PAUSED
        return Whereabouts.PAUSED if paused else Whereabouts.RUNNING
    except libvirt.libvirtError as error:
        absent = error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN
        return Whereabouts.ABSENT if absent else Whereabouts.UNKNOWN
    finally:
        connection.close()


def _connected() -> libvirt.virConnect:
    """A connection of its own: a migration holds it for as long as it takes."""
    connection = connect()
    if connection is None:
        raise HypervisorError("no libvirt daemon runs on this host: start it, then migrate again")
    connection.setKeepAlive(_KEEPALIVE_SECONDS, _KEEPALIVE_COUNT)
    return connection


# ---- events ---------------------------------------------------------------------------

_TURNS: Mapping[tuple[int, int], Turn] = {
    (libvirt.VIR_DOMAIN_EVENT_SUSPENDED, libvirt.VIR_DOMAIN_EVENT_SUSPENDED_MIGRATED): Turn.PAUSED,
    (libvirt.VIR_DOMAIN_EVENT_RESUMED, libvirt.VIR_DOMAIN_EVENT_RESUMED_MIGRATED): Turn.RESUMED,
    (libvirt.VIR_DOMAIN_EVENT_STOPPED, libvirt.VIR_DOMAIN_EVENT_STOPPED_MIGRATED): Turn.MOVED,
    (libvirt.VIR_DOMAIN_EVENT_STOPPED, libvirt.VIR_DOMAIN_EVENT_STOPPED_SHUTDOWN): Turn.ENDED,
    (libvirt.VIR_DOMAIN_EVENT_STOPPED, libvirt.VIR_DOMAIN_EVENT_STOPPED_DESTROYED): Turn.ENDED,
    (libvirt.VIR_DOMAIN_EVENT_STOPPED, libvirt.VIR_DOMAIN_EVENT_STOPPED_CRASHED): Turn.ENDED,
}


def start_events() -> None:
    """Let libvirt deliver events, in a thread of their own. Once in a process,
    before its first connection is opened."""
    libvirt.virEventRegisterDefaultImpl()

    def run() -> None:
        while True:
            libvirt.virEventRunDefaultImpl()

    threading.Thread(target=run, name="libvirt events", daemon=True).start()


class Turns:
    """Tells of every turn of every machine, for as long as the daemon lives."""

    def __init__(self, tell: Callable[[str, Turn], None]) -> None:
        """``tell`` gets machine id and turn, in the thread of ``start_events``."""
        self._tell = tell
        self._connection: libvirt.virConnect | None = None

    def ensure(self) -> None:
        """Listen, if a daemon runs and nobody listens to it yet."""
        if self._connection is not None and self._connection.isAlive():
            return
        self._connection = connect()
        if self._connection is not None:
            self._connection.domainEventRegisterAny(
                None, libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, self._on_event, None
            )

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _on_event(
        self,
        _connection: libvirt.virConnect,
        domain: libvirt.virDomain,
        event: int,
        detail: int,
        _opaque: object,
    ) -> None:
        turn = _TURNS.get((event, detail))
        if turn is not None:
            self._tell(domain.UUIDString(), turn)
