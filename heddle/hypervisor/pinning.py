"""Which CPUs of the host the threads of a VM run on.

A vCPU that has a core for itself, with QEMU's emulator and I/O threads on other
cores of the same memory, neither waits for its own I/O nor finds a cold cache
(Landau et al., "Plugging the hypervisor abstraction leaks caused by virtual
networking", 2010, section 5). That pays only while there are cores enough: where
vCPUs outnumber them, the kernel's scheduler spreads the load better, so those
that come last are not pinned.

What is pinned is decided when a VM is first seen running and stays so while it
runs; it is a fact of the run, and in no definition.
"""

from __future__ import annotations

import logging
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import libvirt

log = logging.getLogger(__name__)

# With fewer cores there is none to spare for the host beside vCPU and emulator.
CORES_MIN = 4
_LIVE = libvirt.VIR_DOMAIN_AFFECT_LIVE


class Core(NamedTuple):
    """A physical core: the numbers of its hardware threads, ascending, and of the
    NUMA node whose memory is near."""

    node: int
    cpus: tuple[int, ...]


class Pinning(NamedTuple):
    """``vcpus`` holds a CPU of the host for each; ``emulator`` those that QEMU's
    other threads may use."""

    vcpus: tuple[int, ...]
    emulator: frozenset[int]


def choose(cores: Sequence[Core], taken: Mapping[int, int], vcpus: int) -> Pinning | None:
    """A core of one NUMA node for each vCPU, of those on which no other vCPU is
    pinned; None when there are too few. ``taken`` counts vCPUs by CPU. The first
    core is the host's."""
    if len(cores) < CORES_MIN:
        return None
    free = [core for core in sorted(cores)[1:] if not any(taken.get(cpu) for cpu in core.cpus)]
    by_node: dict[int, list[Core]] = {}
    for core in free:
        by_node.setdefault(core.node, []).append(core)
    fitting = [node for node, found in by_node.items() if len(found) >= vcpus]
    if not fitting:
        return None
    node = max(fitting, key=lambda number: (len(by_node[number]), -number))
    chosen = by_node[node][:vcpus]
    others = [core for core in cores if core.node == node and core not in chosen]
    emulator = frozenset(cpu for core in others for cpu in core.cpus)
    return Pinning(tuple(core.cpus[0] for core in chosen), emulator) if emulator else None


def pin(connection: libvirt.virConnect, domain: libvirt.virDomain, vcpus: int) -> None:
    """Pin the threads of a running domain, once: one that is pinned stays so.
    libvirtError when the domain has ended meanwhile."""
    if any(True for _ in _pinned_cpus(domain)):
        return
    pinning = choose(list(read_cores(connection.getCapabilities())), _taken(connection), vcpus)
    if pinning is not None:
        pin_to(domain, pinning, connection.getCPUMap()[0])
        log.info("machine %s: vCPUs on %s", domain.name(), ", ".join(map(str, pinning.vcpus)))


def release(connection: libvirt.virConnect, domain: libvirt.virDomain, vcpus: int) -> None:
    """Let the threads of a running domain run anywhere."""
    host_cpus = connection.getCPUMap()[0]
    everywhere = range(host_cpus)
    for vcpu in range(vcpus):
        domain.pinVcpuFlags(vcpu, _cpu_map(everywhere, host_cpus), _LIVE)
    _pin_others(domain, _cpu_map(everywhere, host_cpus))


def pin_to(domain: libvirt.virDomain, pinning: Pinning, host_cpus: int) -> None:
    """Let the threads of a running domain run there and nowhere else."""
    for vcpu, cpu in enumerate(pinning.vcpus):
        domain.pinVcpuFlags(vcpu, _cpu_map({cpu}, host_cpus), _LIVE)
    _pin_others(domain, _cpu_map(pinning.emulator, host_cpus))


def _pin_others(domain: libvirt.virDomain, cpu_map: tuple[bool, ...]) -> None:
    domain.pinEmulator(cpu_map, _LIVE)
    for thread in domain.ioThreadInfo(_LIVE):
        domain.pinIOThread(thread[0], cpu_map, _LIVE)


def read_cores(capabilities: str) -> Iterator[Core]:
    """The cores that libvirt's capabilities tell of (formatcaps, host/topology)."""
    seen: set[tuple[int, ...]] = set()
    for cell in ET.fromstring(capabilities).iterfind("host/topology/cells/cell"):  # noqa: S314 libvirt wrote it
        for cpu in cell.iterfind("cpus/cpu"):
            own = cpu.get("id", "")
            threads = tuple(sorted(_numbers(cpu.get("siblings") or own)))
            if threads and threads not in seen:
                seen.add(threads)
                yield Core(int(cell.get("id", "0")), threads)


def _numbers(text: str) -> Iterator[int]:
    """``0,4`` or ``0-3,8``."""
    for part in filter(None, text.split(",")):
        first, _, last = part.partition("-")
        yield from range(int(first), int(last or first) + 1)


def _taken(connection: libvirt.virConnect) -> Counter[int]:
    """vCPUs pinned to each CPU, of all running domains, ours or not."""
    taken: Counter[int] = Counter()
    for domain in connection.listAllDomains(libvirt.VIR_CONNECT_LIST_DOMAINS_ACTIVE):
        try:
            taken.update(_pinned_cpus(domain))
        except libvirt.libvirtError as error:
            log.debug("machine %s has ended: %s", domain.name(), error)
    return taken


def _pinned_cpus(domain: libvirt.virDomain) -> Iterator[int]:
    """The CPU of each vCPU that may run on one alone."""
    for allowed in domain.vcpuPinInfo(_LIVE):
        cpus = [cpu for cpu, may_run in enumerate(allowed) if may_run]
        if len(cpus) == 1:
            yield cpus[0]


def _cpu_map(cpus: Iterable[int], host_cpus: int) -> tuple[bool, ...]:
    chosen = set(cpus)
    return tuple(cpu in chosen for cpu in range(host_cpus))
