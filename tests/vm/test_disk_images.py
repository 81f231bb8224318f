"""Machines that boot from a disk of the user, of either format."""

from __future__ import annotations

import os
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from private_host import PrivateHost, run, wait_until

from heddle.hypervisor.domain import read_disk_format
from heddle.hypervisor.packages import unpack

DISK_BYTES = 48 << 20
SYSLINUX = """
DEFAULT tiny
LABEL tiny
  LINUX vmlinuz
  INITRD initrd
  APPEND console=ttyS0 quiet mitigations=off cryptomgr.notests init_on_alloc=0 from=disk
"""


@pytest.fixture(scope="session")
def disk(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A raw disk with a boot loader of its own, and the tiny guest's files."""
    folder = tmp_path_factory.mktemp("disk")
    unpack(("dosfstools", "mtools", "syslinux"), folder / "tools")
    tools = folder / "tools/usr/bin", folder / "tools/sbin", folder / "tools/usr/sbin"
    environment = {
        **os.environ,
        "PATH": ":".join([*map(str, tools), os.environ["PATH"]]),
        "MTOOLS_SKIP_CHECK": "1",
    }

    def tool(*command: str | Path) -> None:
        subprocess.run(command, check=True, env=environment, capture_output=True)

    image = folder / "disk.raw"
    with image.open("wb") as file:
        file.truncate(DISK_BYTES)
    (folder / "syslinux.cfg").write_text(SYSLINUX)
    tool("mkfs.fat", image)
    for source, name in (
        (tiny_folder / "vmlinuz", "vmlinuz"),
        (tiny_folder / "initramfs", "initrd"),
        (folder / "syslinux.cfg", "syslinux.cfg"),
    ):
        tool("mcopy", "-i", image, source, f"::{name}")
    tool("syslinux", "--install", image)
    return image


@pytest.fixture(params=["qcow2", "raw"])
def image(request: pytest.FixtureRequest, disk: Path, vm_host: PrivateHost) -> Iterator[Path]:
    """A copy of the disk that a machine may write to."""
    copy = vm_host.root / f"{uuid.uuid4()}.{request.param}"
    run("qemu-img", "convert", "-O", request.param, str(disk), str(copy))
    yield copy
    vm_host.specs.clear()
    vm_host.machines.reconcile({})
    copy.unlink()


def test_a_disk_boots(vm_host: PrivateHost, image: Path) -> None:
    spec = vm_host.vm(vm_host.nic(), image=str(image))
    vm_host.until_ready(spec)
    assert "from=disk" in vm_host.output(spec, "cat", "/proc/cmdline")
    assert "vda" in vm_host.output(spec, "ls", "/sys/block").split()
    xml = vm_host.virsh("dumpxml", spec.name)
    assert read_disk_format(xml, image) == image.suffix.removeprefix(".")


def test_what_a_guest_writes_does_not_change_the_format(vm_host: PrivateHost, disk: Path) -> None:
    """A header of qcow2 on a raw disk could name any file of the host as its base."""
    image = vm_host.root / f"{uuid.uuid4()}.img"
    run("qemu-img", "convert", "-O", "raw", str(disk), str(image))
    spec = vm_host.vm(vm_host.nic(), image=str(image))
    vm_host.status(spec)
    assert read_disk_format(vm_host.virsh("dumpxml", spec.name), image) == "raw"
    vm_host.virsh("destroy", spec.name)
    run("qemu-img", "create", "-f", "qcow2", "-F", "raw", "-b", "/etc/passwd", str(image))
    again = vm_host.want(spec)
    wait_until(lambda: vm_host.status(again).state == "booting", "it is started again")
    assert read_disk_format(vm_host.virsh("dumpxml", spec.name), image) == "raw"
