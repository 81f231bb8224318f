"""Libvirt's XML for a virtual machine. Pure: the same machine gives the same text.

The domain bears our mark in its metadata, so that nothing of another owner is
ever touched. Machine type and CPU model are explicit: a domain that moves to
another host must find the same hardware there.
"""

from __future__ import annotations

import hashlib
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from heddle.compiler.state import MachineSpec, Nic

MARK_NAMESPACE = "https://heddle.dev/domain/1"
AGENT_CHANNEL = "org.qemu.guest_agent.0"

_MARK_TAG = f"{{{MARK_NAMESPACE}}}machine"
_MACHINE_TYPE = "pc-q35-7.2"
_CPU_MODELS = {"kvm": "Westmere", "qemu": "qemu64"}  # Westmere: every x86 server since 2010
_FIXED_SLOTS = 3  # disk, serial channels, random numbers
_SPARE_SLOTS = 8  # for NICs that are plugged into a running machine
_QEMU_NAMESPACE = "http://libvirt.org/schemas/domain/qemu/1.0"
_ODD_MEMORY = "odd.ram"  # QEMU's name of the memory of a machine that is emulated
_LIBVIRT_UNIT_KIB = 1024  # to which libvirt rounds memory up
_ODD_KIB = 8  # the least that QEMU takes
# The second half spares an emulated CPU work: tests of ciphers, zeroing of memory
# and services of PCIe ports (plugging goes by ACPI).
_TINY_COMMAND_LINE = (
    "console=ttyS0 quiet panic=1 mitigations=off "
    "cryptomgr.notests init_on_alloc=0 pcie_ports=compat"
)

ET.register_namespace("heddle", MARK_NAMESPACE)
ET.register_namespace("qemu", _QEMU_NAMESPACE)


@dataclass(frozen=True, slots=True)
class Boot:
    """What a domain starts from: a kernel with its initramfs, or a disk."""

    kernel: Path | None = None
    initramfs: Path | None = None
    disk: Path | None = None
    disk_format: str = "qcow2"  # as QEMU's drivers are called


@dataclass(frozen=True, slots=True)
class Placement:
    """What the XML takes from the host."""

    host: str
    accelerator: str  # kvm or qemu (software emulation)
    console_log: Path


class Mark(NamedTuple):
    """Says that a domain is ours. ``digest`` tells whether its definition is current."""

    id: str  # of the machine
    host: str
    digest: str


def domain_xml(spec: MachineSpec, boot: Boot, placement: Placement) -> str:
    """The persistent definition of ``spec``. Memory is rounded up to whole KiB, by libvirt
    to whole MiB."""
    domain = ET.Element("domain", type=placement.accelerator)
    _text(domain, "name", spec.name)
    _text(domain, "uuid", spec.id)
    mark = _add_mark(domain, spec, placement)
    kib = -(-spec.memory // 1024)
    _text(domain, "memory", str(kib), unit="KiB")
    _text(domain, "vcpu", str(spec.cpus))
    _add_boot(domain, spec, boot)
    features = ET.SubElement(domain, "features")
    ET.SubElement(features, "acpi")
    ET.SubElement(features, "apic")
    cpu = ET.SubElement(domain, "cpu", mode="custom", match="exact")
    _text(cpu, "model", _CPU_MODELS[placement.accelerator])
    _text(domain, "on_crash", "destroy")
    _add_devices(domain, spec, boot, placement)
    if placement.accelerator == "qemu":
        _add_odd_memory(domain, kib)
    mark.set("digest", hashlib.sha256(ET.tostring(domain)).hexdigest())
    ET.indent(domain)
    return ET.tostring(domain, encoding="unicode")


def interface_xml(nic: Nic, queues: int) -> str:
    """A NIC on a TAP that is there already, for plugging into a running machine."""
    parent = ET.Element("devices")
    _add_interface(parent, nic, queues)
    return ET.tostring(parent[0], encoding="unicode")


def moved_xml(xml: str, target: str) -> str:
    """The XML of a machine that runs, or is saved, for the host whose definition of
    it is ``target``: the same hardware, with that host's files and mark."""
    domain, wanted = _parse(xml), _parse(target)
    for path in ("metadata", "os/kernel", "os/initrd", "os/cmdline"):
        _replace(domain, wanted, path)
    file = next((log.get("file", "") for log in wanted.iterfind("devices/serial/log")), "")
    for log in domain.iterfind("devices/*/log"):
        log.set("file", file)
    disks = {_target(disk): disk for disk in wanted.iterfind("devices/disk")}
    for disk in domain.iterfind("devices/disk"):
        if (other := disks.get(_target(disk))) is not None:
            _replace(disk, other, "source")
    return ET.tostring(domain, encoding="unicode")


def _target(disk: ET.Element) -> str:
    target = disk.find("target")
    return "" if target is None else target.get("dev", "")


def _replace(element: ET.Element, other: ET.Element, path: str) -> None:
    """Put what the other has at a path in place of what this one has there."""
    folder, _, tag = path.rpartition("/")
    parent = element.find(folder) if folder else element
    new = other.find(path)
    if parent is None or new is None:
        return
    old = parent.find(tag)
    if old is not None:
        parent.remove(old)
    parent.append(new)


def read_mark(xml: str) -> Mark | None:
    """The mark in a domain's XML, None where it is not ours."""
    mark = _parse(xml).find(f"metadata/{_MARK_TAG}")
    return None if mark is None else Mark(*(mark.get(name, "") for name in Mark._fields))


def read_nics(xml: str) -> dict[str, str]:
    """MAC by TAP name of the NICs in a domain's XML."""
    nics: dict[str, str] = {}
    for interface in _parse(xml).iterfind("devices/interface"):
        target, mac = interface.find("target"), interface.find("mac")
        if target is not None and mac is not None:
            nics[target.get("dev", "")] = mac.get("address", "").lower()
    return nics


def read_disk_format(xml: str, disk: Path) -> str | None:
    """The format that a domain's XML states for ``disk``, None if it has no such disk."""
    for element in _parse(xml).iterfind("devices/disk"):
        source, driver = element.find("source"), element.find("driver")
        if source is not None and driver is not None and source.get("file") == str(disk):
            return driver.get("type")
    return None


def has_agent(xml: str) -> bool:
    """Whether the guest of a running domain's XML has opened the agent's channel."""
    targets = _parse(xml).iterfind("devices/channel/target")
    return any(t.get("name") == AGENT_CHANNEL and t.get("state") == "connected" for t in targets)


def _add_mark(domain: ET.Element, spec: MachineSpec, placement: Placement) -> ET.Element:
    metadata = ET.SubElement(domain, "metadata")
    attributes = {"id": spec.id, "host": placement.host}
    return ET.SubElement(metadata, _MARK_TAG, attributes)


def _add_boot(domain: ET.Element, spec: MachineSpec, boot: Boot) -> None:
    os = ET.SubElement(domain, "os")
    _text(os, "type", "hvm", arch="x86_64", machine=_MACHINE_TYPE)
    if boot.kernel is not None:
        _text(os, "kernel", str(boot.kernel))
        _text(os, "initrd", str(boot.initramfs))
        _text(os, "cmdline", f"{_TINY_COMMAND_LINE} heddle.name={spec.name}")
    else:
        ET.SubElement(os, "boot", dev="hd")


def _add_odd_memory(domain: ET.Element, kib: int) -> None:
    """Memory that is no multiple of 64 pages, which libvirt has no word for.

    What an emulated CPU writes while it moves is lost, and its guest crashes sooner or
    later, where QEMU before 9.0 looks for changed pages 64 at a time: it clears their
    bits and lets the CPU go on writing past them (mended there by "physmem: Fix migration
    dirty bitmap coherency with TCG memory access"). One by one it looks at them rightly,
    and does so in memory of such a size.
    """
    size = -(-kib // _LIBVIRT_UNIT_KIB) * _LIBVIRT_UNIT_KIB + _ODD_KIB
    words = ["-object", f"memory-backend-ram,id={_ODD_MEMORY},size={size}K"]
    words += ["-machine", f"memory-backend={_ODD_MEMORY}", "-m", f"{size}K"]
    command_line = ET.SubElement(domain, f"{{{_QEMU_NAMESPACE}}}commandline")
    for word in words:
        ET.SubElement(command_line, f"{{{_QEMU_NAMESPACE}}}arg", value=word)


def _add_devices(domain: ET.Element, spec: MachineSpec, boot: Boot, placement: Placement) -> None:
    devices = ET.SubElement(domain, "devices")
    ET.SubElement(devices, "controller", type="usb", model="none")
    ET.SubElement(devices, "controller", type="pci", index="0", model="pcie-root")
    for _ in range(_FIXED_SLOTS + len(spec.nics) + _SPARE_SLOTS):
        ET.SubElement(devices, "controller", type="pci", model="pcie-root-port")
    if boot.disk is not None:
        _add_disk(devices, boot)
    for nic in spec.nics:
        _add_interface(devices, nic, spec.cpus)
    _add_console(devices, placement.console_log)
    channel = ET.SubElement(devices, "channel", type="unix")
    ET.SubElement(channel, "target", type="virtio", name=AGENT_CHANNEL)
    random = ET.SubElement(devices, "rng", model="virtio")
    _text(random, "backend", "/dev/urandom", model="random")
    ET.SubElement(devices, "memballoon", model="none")


def _add_disk(devices: ET.Element, boot: Boot) -> None:
    """The format is stated: guessed from the content, a guest that writes a qcow2
    header to its raw disk could name any file of the host as the backing file."""
    disk = ET.SubElement(devices, "disk", type="file", device="disk")
    ET.SubElement(disk, "driver", name="qemu", type=boot.disk_format, discard="unmap")
    ET.SubElement(disk, "source", file=str(boot.disk))
    ET.SubElement(disk, "target", dev="vda", bus="virtio")


def _add_interface(devices: ET.Element, nic: Nic, queues: int) -> None:
    interface = ET.SubElement(devices, "interface", type="ethernet")
    ET.SubElement(interface, "mac", address=nic.mac)
    ET.SubElement(interface, "target", dev=nic.device, managed="no")
    ET.SubElement(interface, "model", type="virtio")
    if queues > 1:
        ET.SubElement(interface, "driver", queues=str(queues))
    ET.SubElement(interface, "mtu", size=str(nic.mtu))


def _add_console(devices: ET.Element, log: Path) -> None:
    for kind, target in (("serial", {"port": "0"}), ("console", {"type": "serial", "port": "0"})):
        device = ET.SubElement(devices, kind, type="pty")
        if kind == "serial":
            ET.SubElement(device, "log", file=str(log), append="off")
        ET.SubElement(device, "target", target)


def _text(parent: ET.Element, tag: str, text: str, **attributes: str) -> None:
    ET.SubElement(parent, tag, attributes).text = text


def _parse(xml: str) -> ET.Element:
    return ET.fromstring(xml)  # noqa: S314 libvirt wrote it
