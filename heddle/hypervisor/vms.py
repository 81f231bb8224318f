"""Virtual machines: what libvirt has, brought to what this host must have."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from ipaddress import ip_interface
from pathlib import Path

import libvirt

from heddle import paths
from heddle.compiler.state import MachineSpec, Nic
from heddle.errors import HypervisorError
from heddle.hypervisor import guest_agent, pinning, saving
from heddle.hypervisor.accelerator import accelerator
from heddle.hypervisor.backoff import Backoff
from heddle.hypervisor.domain import (
    Boot,
    Mark,
    Placement,
    domain_xml,
    has_agent,
    interface_xml,
    read_disk_format,
    read_mark,
    read_nics,
)
from heddle.hypervisor.images import TINY, boot_disk, boot_tiny, check_reachable
from heddle.hypervisor.interfaces import is_deserted, is_there
from heddle.hypervisor.libvirtd import connect, ensure_libvirtd, libvirt_errors
from heddle.hypervisor.memory import check_memory
from heddle.hypervisor.status import MachineStatus

log = logging.getLogger(__name__)

_READY_SECONDS = 10.0  # for which a guest that was ready is not asked again
_SHUTDOWN_RETRY_SECONDS = 10.0  # a guest that is still booting may miss the power button
_SHUTDOWN_SECONDS = 60.0  # until a guest that does not react is reported
# A guest without an agent can't tell its addresses. It counts as ready when it
# had this long to boot and has sent frames on every NIC.
_SILENT_SECONDS = 20.0
_UNDEFINE_FLAGS = (
    libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE
    | libvirt.VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA
    | libvirt.VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA
    | libvirt.VIR_DOMAIN_UNDEFINE_NVRAM
)
_PAUSE_REASONS = {
    libvirt.VIR_DOMAIN_PAUSED_IOERROR: "its disk can't be written: free space on the host",
    libvirt.VIR_DOMAIN_PAUSED_USER: "somebody paused it: run heddle vm resume",
}


@dataclass(slots=True)
class _Run:
    """One run of a domain, from its start to its end."""

    domain_id: int  # libvirt's number, new at every start
    seen_at: float = field(default_factory=time.monotonic)
    was_ready: bool = False
    pinned: bool = False
    ready_nics: tuple[Nic, ...] | None = None  # with which it was ready
    ready_until: float = 0.0
    asked_to_stop: float | None = None  # first time
    asked_again: float = 0.0
    paused: bool = False  # by us


class VirtualMachines:
    """The domains of one host. Keeps a connection to libvirt while it is good."""

    def __init__(self, host: str) -> None:
        self._host = host
        self._connection: libvirt.virConnect | None = None
        self._runs: dict[str, _Run] = {}  # by machine id
        self._backoff = Backoff()

    def reconcile(self, specs: Mapping[str, MachineSpec]) -> dict[str, MachineStatus]:
        """One step towards ``specs``; returns the state of each, by machine id. One
        that is moving is left to the migration: it is not started, and not changed.

        Domains of ours that are not in ``specs`` are ended and undefined; one
        that resists is in the result with its error.
        """
        try:
            marks = self._connected_marks(start=any(spec.running for spec in specs.values()))
        except HypervisorError as error:
            return {name: MachineStatus("error", False, str(error)) for name in specs}
        statuses = {}
        for machine_id in marks.keys() - {spec.id for spec in specs.values()}:
            if failure := self._remove(machine_id):
                statuses[machine_id] = failure
        for name, spec in specs.items():
            if spec.moving != "in":  # the other host tells how it is
                statuses[name] = self._reconcile_one(spec, marks.get(spec.id))
        return statuses

    def definition(self, spec: MachineSpec) -> str:
        """What a machine that comes from another host will be here. Starts libvirt
        where it does not run. HypervisorError when this host can't have it."""
        for nic in spec.nics:
            if not is_there(nic.device):
                raise HypervisorError(f"machine {spec.name} has no link {nic.device} here yet")
        check_memory(spec, self._host)
        self._connected_marks(start=True)
        xml = self._definition_of(spec, None)
        assert xml is not None  # without a mark it is never current
        return xml

    def retry(self) -> None:
        self._backoff.forget()

    def _connected_marks(self, *, start: bool) -> dict[str, Mark]:
        """Marks of our domains by machine id; none where no libvirt daemon runs."""
        if self._connection is not None and not self._connection.isAlive():
            self._connection = None
        if self._connection is None:
            self._connection = ensure_libvirtd(log.warning) if start else connect()
        if self._connection is None:
            return {}
        with libvirt_errors("machines"):
            return dict(self._read_marks(self._connection))

    def _read_marks(self, connection: libvirt.virConnect) -> list[tuple[str, Mark]]:
        domains = connection.listAllDomains(libvirt.VIR_CONNECT_LIST_DOMAINS_PERSISTENT)
        marks = (read_mark(_definition(domain)) for domain in domains)
        return [(mark.id, mark) for mark in marks if mark is not None and mark.host == self._host]

    # ---- removing ------------------------------------------------------

    def _remove(self, machine_id: str) -> MachineStatus | None:
        """End and undefine a domain of ours; None when it is gone."""
        try:
            domain = self._lookup(machine_id)
            with libvirt_errors(f"machine {domain.name()} can't be removed"):
                if domain.isActive():
                    domain.destroy()
                domain.undefineFlags(_UNDEFINE_FLAGS)
            console_log(domain.name()).unlink(missing_ok=True)
        except (HypervisorError, OSError) as error:
            return MachineStatus("error", False, str(error))
        self._runs.pop(machine_id, None)
        self._backoff.succeeded(machine_id)
        return None

    # ---- one machine ---------------------------------------------------

    def _reconcile_one(self, spec: MachineSpec, mark: Mark | None) -> MachineStatus:
        if error := self._backoff.waiting(spec.id):
            return MachineStatus("error", False, error)
        try:
            with libvirt_errors(f"machine {spec.name}"):
                status = self._advance(spec, mark)
        except HypervisorError as error:
            self._backoff.failed(spec.id, str(error))
            return MachineStatus("error", False, str(error))
        self._backoff.succeeded(spec.id)
        return status

    def _advance(self, spec: MachineSpec, mark: Mark | None) -> MachineStatus:
        if mark is None and (spec.moving or not spec.running):
            return _off(spec)  # libvirt hears of it when it first starts
        domain = self._lookup(spec.id) if spec.moving else self._defined(spec, mark)
        if not domain.isActive():
            self._runs.pop(spec.id, None)
            return self._start(domain, spec) if spec.running and not spec.moving else _off(spec)
        run = self._run_of(domain, spec)
        if not spec.running:
            return self._end(domain, run, spec)
        run.asked_to_stop = None
        if not spec.moving:
            self._suit(domain, run, spec)
        return self._look(domain, run, spec)

    def _suit(self, domain: libvirt.virDomain, run: _Run, spec: MachineSpec) -> None:
        """Give a running machine the CPUs and NICs that it should have; pause it, or
        let it go on."""
        self._pin(domain, run, spec)
        if self._plug(domain, spec):
            run.ready_until = 0.0
        if spec.paused and not run.paused:
            domain.suspend()
        elif run.paused and not spec.paused:
            domain.resume()
        run.paused = spec.paused

    def _run_of(self, domain: libvirt.virDomain, spec: MachineSpec) -> _Run:
        run = self._runs.get(spec.id)
        if run is None or run.domain_id != domain.ID():
            run = self._runs[spec.id] = _Run(domain.ID())
        return run

    def _pin(self, domain: libvirt.virDomain, run: _Run, spec: MachineSpec) -> None:
        """Once in a run, and when the operator thinks otherwise. What somebody else
        has pinned (virsh vcpupin) stays."""
        if spec.pinned == run.pinned:
            return
        assert self._connection is not None
        if spec.pinned:
            pinning.pin(self._connection, domain, spec.cpus)
        else:
            pinning.release(self._connection, domain, spec.cpus)
        run.pinned = spec.pinned

    def _defined(self, spec: MachineSpec, mark: Mark | None) -> libvirt.virDomain:
        """The domain of ``spec``, defined anew where its definition is not current."""
        assert self._connection is not None
        before = _definition(self._lookup(spec.id)) if mark else None
        xml = self._definition_of(spec, before, mark)
        return self._lookup(spec.id) if xml is None else self._connection.defineXML(xml)

    def _definition_of(
        self, spec: MachineSpec, before: str | None, mark: Mark | None = None
    ) -> str | None:
        """The definition of a machine, None if ``mark`` is that of it."""
        boot = _boot_of(spec, before)
        placement = Placement(self._host, accelerator(), console_log(spec.name))
        xml = domain_xml(spec, boot, placement)
        if mark is not None and mark == read_mark(xml):
            return None
        for file in (boot.kernel, boot.initramfs, boot.disk):
            if file is not None:
                check_reachable(file)
        self._refuse_foreign(spec)
        placement.console_log.parent.mkdir(parents=True, exist_ok=True)
        return xml

    def _refuse_foreign(self, spec: MachineSpec) -> None:
        """Never define over a domain that is not ours."""
        assert self._connection is not None
        try:
            domain = self._connection.lookupByName(spec.name)
        except libvirt.libvirtError:
            return
        mark = read_mark(_definition(domain))
        if mark is None or (mark.id, mark.host) != (spec.id, self._host):
            owner = "is not heddle's" if mark is None else f"belongs to heddle's host {mark.host}"
            raise HypervisorError(
                f"machine {spec.name}: libvirt has a domain of that name which {owner}: "
                "give the machine another name"
            )

    def _lookup(self, machine_id: str) -> libvirt.virDomain:
        assert self._connection is not None
        with libvirt_errors(f"machine {machine_id}"):
            return self._connection.lookupByUUIDString(machine_id)

    def _start(self, domain: libvirt.virDomain, spec: MachineSpec) -> MachineStatus:
        for nic in spec.nics:
            if not is_there(nic.device):
                waiting = f"machine {spec.name} waits for its link {nic.device}: see heddle show"
                return MachineStatus("stopped", False, waiting)
        if spec.saved:
            assert self._connection is not None
            saving.restore(self._connection, domain, spec, self._host)
        else:
            domain.create()
        self._run_of(domain, spec)
        return _BOOTING

    def _end(self, domain: libvirt.virDomain, run: _Run, spec: MachineSpec) -> MachineStatus:
        """Shut it down, or save its memory where that is wanted."""
        if not spec.saved:
            return self._stop(domain, run, spec)
        saving.save(domain, spec, self._host)
        return _off(spec)

    def _stop(self, domain: libvirt.virDomain, run: _Run, spec: MachineSpec) -> MachineStatus:
        """Ask the guest to shut down, by its agent or the power button."""
        now = time.monotonic()
        run.asked_to_stop = run.asked_to_stop or now
        if now - run.asked_again > _SHUTDOWN_RETRY_SECONDS:
            run.asked_again = now
            domain.shutdown()
        if now - run.asked_to_stop < _SHUTDOWN_SECONDS:
            return MachineStatus("running", False, None)
        error = f"machine {spec.name} does not shut down: run heddle vm destroy {spec.name}"
        return MachineStatus("running", False, error)

    # ---- NICs of a running machine -------------------------------------

    def _plug(self, domain: libvirt.virDomain, spec: MachineSpec) -> bool:
        """Plug and unplug NICs until the running domain has those of ``spec``.

        One whose TAP was made anew behind QEMU's back is plugged in again: QEMU
        holds the old, dead device. Returns whether anything was done.
        """
        wanted = {nic.device: nic for nic in spec.nics}
        plugged = read_nics(domain.XMLDesc(0))
        if spec.cpus > 1 and any(is_deserted(device) for device in plugged):
            self._begin_anew(domain, spec)
            return True
        surplus = [
            (device, mac)
            for device, mac in plugged.items()
            if device not in wanted or wanted[device].mac != mac or is_deserted(device)
        ]
        for device, mac in surplus:
            self._unplug(domain, device, mac)
        if surplus:  # the guest may keep one for a while: then its successor has to wait
            plugged = read_nics(domain.XMLDesc(0))
        missing = [nic for device, nic in wanted.items() if device not in plugged]
        for nic in missing:
            self._plug_one(domain, spec, nic)
        return bool(surplus or missing)

    def _begin_anew(self, domain: libvirt.virDomain, spec: MachineSpec) -> None:
        """Let a new QEMU go on from the memory of the old one. When a NIC with several
        queues is unplugged or reset whose TAP is gone, QEMU aborts (peer_detach), and
        the guest with it."""
        assert self._connection is not None
        log.info("machine %s: begun anew, since its TAP was", spec.name)
        file = paths.state_dir() / "saved" / f"{spec.name}.anew"
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            with libvirt_errors(f"machine {spec.name}: can't be given its new TAP"):
                domain.save(str(file))
                self._connection.restoreFlags(str(file), None, libvirt.VIR_DOMAIN_SAVE_RUNNING)
        finally:
            file.unlink(missing_ok=True)

    def _unplug(self, domain: libvirt.virDomain, device: str, mac: str) -> None:
        log.info("machine %s: unplugging %s", domain.name(), device)
        what = f"<interface type='ethernet'><mac address='{mac}'/></interface>"
        with libvirt_errors(f"machine {domain.name()}: NIC {mac} can't be unplugged"):
            domain.detachDeviceFlags(what, libvirt.VIR_DOMAIN_AFFECT_LIVE)

    def _plug_one(self, domain: libvirt.virDomain, spec: MachineSpec, nic: Nic) -> None:
        if not is_there(nic.device):
            return  # the applier is about to make it
        log.info("machine %s: plugging in %s", spec.name, nic.device)
        with libvirt_errors(f"machine {spec.name}: NIC {nic.mac} can't be plugged in"):
            domain.attachDeviceFlags(interface_xml(nic, spec.cpus), libvirt.VIR_DOMAIN_AFFECT_LIVE)

    # ---- state ---------------------------------------------------------

    def _look(self, domain: libvirt.virDomain, run: _Run, spec: MachineSpec) -> MachineStatus:
        state, reason = domain.state()
        if state == libvirt.VIR_DOMAIN_PAUSED and (run.paused or spec.moving):
            return MachineStatus("paused" if run.paused else "running", False, None)
        if state == libvirt.VIR_DOMAIN_PAUSED and reason in _PAUSE_REASONS:
            error = f"machine {spec.name} is paused: {_PAUSE_REASONS[reason]}"
            return MachineStatus("error", False, error)
        now = time.monotonic()
        ready = now < run.ready_until and run.ready_nics == spec.nics
        if not ready and _is_ready(domain, run, spec):
            run.ready_until, run.ready_nics = now + _READY_SECONDS, spec.nics
            run.was_ready = ready = True
        return MachineStatus("running" if run.was_ready else "booting", ready, None)


_STOPPED = MachineStatus("stopped", False, None)
_BOOTING = MachineStatus("booting", False, None)


def _off(spec: MachineSpec) -> MachineStatus:
    return MachineStatus("saved", False, None) if spec.saved else _STOPPED


def console_log(name: str) -> Path:
    """Where a machine's serial console is recorded, from its last start on."""
    return paths.state_dir() / "console" / f"{name}.log"


def _definition(domain: libvirt.virDomain) -> str:
    xml: str = domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
    return xml


def _boot_of(spec: MachineSpec, before: str | None) -> Boot:
    if spec.image == TINY:
        return boot_tiny(partial(log.info, "machine %s: %s", spec.name))
    disk = Path(spec.image)
    return boot_disk(disk, read_disk_format(before, disk) if before else None)


def _is_ready(domain: libvirt.virDomain, run: _Run, spec: MachineSpec) -> bool:
    """Whether the guest has booted and its NICs have the addresses of ``spec``."""
    if not has_agent(domain.XMLDesc(0)):
        waited = time.monotonic() - run.seen_at > _SILENT_SECONDS
        return waited and all(_has_sent(domain, nic.device) for nic in spec.nics)
    try:
        found = guest_agent.addresses(domain)
    except libvirt.libvirtError as error:
        log.debug("machine %s: its guest agent does not answer: %s", spec.name, error)
        return False
    return all(
        {ip_interface(address).ip for address in nic.addresses} <= found.get(nic.mac, set())
        for nic in spec.nics
    )


def _has_sent(domain: libvirt.virDomain, device: str) -> bool:
    """Whether the guest has sent a frame through this TAP."""
    sent_packets: int = domain.interfaceStats(device)[5]
    return sent_packets > 0
