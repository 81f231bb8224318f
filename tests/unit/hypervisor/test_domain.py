"""The libvirt XML of a machine."""

from __future__ import annotations

import dataclasses
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from heddle.compiler.state import MachineSpec, Nic
from heddle.hypervisor.domain import (
    Boot,
    Placement,
    domain_xml,
    has_agent,
    interface_xml,
    read_disk_format,
    read_mark,
    read_nics,
)

NIC = Nic(
    port_id="4b211b82-0964-5a3c-9f0b-68656464006c",
    device="tap4b211b82-09",
    mac="fa:16:3e:73:6c:c1",
    mtu=1450,
    addresses=("172.17.17.2/24",),
    gateways=("172.17.17.1",),
    routes=(),
    dns=(),
)
SPEC = MachineSpec(
    id="1f2cfdc2-6442-47e9-8eed-b879f0108a8c",
    name="vm0",
    machine_kind="vm",
    image="tiny",
    cpus=1,
    memory=256 << 20,
    running=True,
    nics=(NIC,),
)
TINY = Boot(kernel=Path("/images/vmlinuz"), initramfs=Path("/images/initramfs"))
DISK = Boot(disk=Path("/images/a & b.qcow2"), disk_format="qcow2")
PLACEMENT = Placement(host="h1", accelerator="qemu", console_log=Path("/log/vm0.log"))


def parsed(
    spec: MachineSpec = SPEC, boot: Boot = TINY, placement: Placement = PLACEMENT
) -> ET.Element:
    return ET.fromstring(domain_xml(spec, boot, placement))  # noqa: S314 our own


def test_identity_and_size() -> None:
    domain = parsed()
    assert domain.get("type") == "qemu"
    assert domain.findtext("name") == "vm0"
    assert domain.findtext("uuid") == SPEC.id
    memory = domain.find("memory")
    assert memory is not None
    assert (memory.text, memory.get("unit")) == ("262144", "KiB")
    assert domain.findtext("vcpu") == "1"


def test_memory_is_rounded_up() -> None:
    assert parsed(dataclasses.replace(SPEC, memory=(256 << 20) + 1)).findtext("memory") == "262145"


@pytest.mark.parametrize("memory", [256 << 20, (256 << 20) + 1, 1 << 33])
def test_memory_of_an_emulated_machine_is_no_multiple_of_64_pages(memory: int) -> None:
    """QEMU before 9.0 loses what an emulated CPU writes to such memory while it moves."""
    domain = parsed(dataclasses.replace(SPEC, memory=memory))
    (command_line,) = (e for e in domain if e.tag.endswith("}commandline"))
    words = [argument.get("value", "") for argument in command_line]
    assert words[::2] == ["-object", "-machine", "-m"]
    kind, name, size = words[1].split(",")
    assert (kind, words[3]) == ("memory-backend-ram", f"memory-backend={name.removeprefix('id=')}")
    assert size == f"size={words[5]}"
    kib = int(words[5].removesuffix("K"))
    assert kib % 256
    assert 0 < kib * 1024 - memory <= (1 << 20) + (8 << 10)


def test_memory_of_others_is_as_libvirt_makes_it() -> None:
    domain = parsed(placement=dataclasses.replace(PLACEMENT, accelerator="kvm"))
    assert not [e for e in domain if e.tag.endswith("}commandline")]


def test_the_hardware_is_explicit_so_that_it_can_move() -> None:
    kind = parsed().find("os/type")
    assert kind is not None
    assert kind.get("machine") not in (None, "q35", "pc")  # those differ by QEMU's version
    for accelerator in ("kvm", "qemu"):
        cpu = parsed(placement=dataclasses.replace(PLACEMENT, accelerator=accelerator)).find("cpu")
        assert cpu is not None
        assert cpu.get("mode") == "custom"
        assert cpu.findtext("model")


def test_the_tiny_guest_boots_its_kernel_and_learns_its_name() -> None:
    domain = parsed()
    assert domain.findtext("os/kernel") == "/images/vmlinuz"
    assert domain.findtext("os/initrd") == "/images/initramfs"
    words = (domain.findtext("os/cmdline") or "").split()
    assert "heddle.name=vm0" in words
    assert domain.find("devices/disk") is None


@pytest.mark.parametrize("disk_format", ["qcow2", "raw"])
def test_a_disk_has_its_format_stated(disk_format: str) -> None:
    boot = dataclasses.replace(DISK, disk_format=disk_format)
    domain = parsed(boot=boot)
    assert domain.find("os/kernel") is None
    driver = domain.find("devices/disk/driver")
    assert driver is not None
    assert driver.get("type") == disk_format
    assert boot.disk is not None
    assert read_disk_format(domain_xml(SPEC, boot, PLACEMENT), boot.disk) == disk_format
    assert read_disk_format(domain_xml(SPEC, boot, PLACEMENT), Path("/other")) is None


def test_a_nic_is_on_the_tap_that_is_there_already() -> None:
    interface = parsed().find("devices/interface")
    assert interface is not None
    assert interface.get("type") == "ethernet"
    assert attributes(interface, "target") == {"dev": NIC.device, "managed": "no"}
    assert attributes(interface, "mac") == {"address": NIC.mac}
    assert attributes(interface, "model") == {"type": "virtio"}
    assert attributes(interface, "mtu") == {"size": "1450"}
    assert interface.find("driver") is None


def test_a_nic_has_a_queue_per_cpu() -> None:
    interface = parsed(dataclasses.replace(SPEC, cpus=4)).find("devices/interface")
    assert interface is not None
    assert attributes(interface, "driver") == {"queues": "4"}
    plugged = ET.canonicalize(interface_xml(NIC, 4), strip_text=True)
    assert ET.canonicalize(ET.tostring(interface), strip_text=True) == plugged


def test_no_other_network() -> None:
    assert {i.get("type") for i in parsed().iterfind("devices/interface")} == {"ethernet"}
    assert parsed(dataclasses.replace(SPEC, nics=())).find("devices/interface") is None


def test_there_are_slots_for_more_nics() -> None:
    def slots(spec: MachineSpec) -> int:
        controllers = parsed(spec).iterfind("devices/controller[@model='pcie-root-port']")
        return len(list(controllers))

    more = dataclasses.replace(SPEC, nics=(NIC, NIC))
    assert slots(more) == slots(SPEC) + 1
    assert slots(SPEC) >= 8


def test_console_agent_and_random_numbers() -> None:
    devices = parsed().find("devices")
    assert devices is not None
    assert attributes(devices, "serial/log") == {"file": "/log/vm0.log", "append": "off"}
    assert attributes(devices, "channel/target")["name"] == "org.qemu.guest_agent.0"
    assert attributes(devices, "rng") == {"model": "virtio"}


def test_the_mark_is_read_back() -> None:
    mark = read_mark(domain_xml(SPEC, TINY, PLACEMENT))
    assert mark is not None
    assert (mark.id, mark.host) == (SPEC.id, "h1")
    assert read_mark("<domain><name>vm0</name><metadata/></domain>") is None


@pytest.mark.parametrize(
    "change",
    [
        {"spec": dataclasses.replace(SPEC, cpus=2)},
        {"spec": dataclasses.replace(SPEC, nics=())},
        {"spec": dataclasses.replace(SPEC, nics=(dataclasses.replace(NIC, mtu=1400),))},
        {"boot": DISK},
        {"placement": dataclasses.replace(PLACEMENT, accelerator="kvm")},
    ],
)
def test_the_digest_changes_with_the_definition(change: dict[str, object]) -> None:
    settings = {"spec": SPEC, "boot": TINY, "placement": PLACEMENT}
    before = read_mark(domain_xml(**settings))  # type: ignore[arg-type]
    after = read_mark(domain_xml(**(settings | change)))  # type: ignore[arg-type]
    assert before is not None
    assert after is not None
    assert before.digest != after.digest
    assert before == read_mark(domain_xml(**settings))  # type: ignore[arg-type]


def test_whether_a_machine_should_run_is_not_part_of_its_definition() -> None:
    off = dataclasses.replace(SPEC, running=False)
    assert domain_xml(off, TINY, PLACEMENT) == domain_xml(SPEC, TINY, PLACEMENT)


def test_nics_are_read_back() -> None:
    assert read_nics(domain_xml(SPEC, TINY, PLACEMENT)) == {NIC.device: NIC.mac}


def test_the_agent_is_there_when_the_guest_has_opened_its_channel() -> None:
    channel = "<target type='virtio' name='org.qemu.guest_agent.0' state='{}'/>"
    xml = f"<domain><devices><channel>{channel}</channel></devices></domain>"
    assert has_agent(xml.format("connected"))
    assert not has_agent(xml.format("disconnected"))
    assert not has_agent(domain_xml(SPEC, TINY, PLACEMENT))


def attributes(element: ET.Element, path: str) -> dict[str, str]:
    found = element.find(path)
    assert found is not None, path
    return dict(found.attrib)
