"""The verifier accepts every BPF object, on the oldest kernel and on this one.

Both run the same script over a folder of objects, with bpftool as the loader:
the oldest kernel in an emulated guest that holds nothing else, the running one
in a mount namespace with a BPF file system of its own. A program that must be
refused goes along, so that an accepting verdict means something.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

import heddle
from heddle.hypervisor.cpio import Archive

SOURCES = Path(heddle.__file__).parent.parent / "bpf"
OBJECTS = Path(heddle.__file__).parent / "datapath" / "objects"
NAMES = sorted(path.name.removesuffix(".bpf.c") for path in SOURCES.glob("*.bpf.c"))

BOOT_DEADLINE = 240  # seconds; the emulated guest needs 5 when nothing else runs

# Reads the packet without having looked at its length.
BAD_PROGRAM = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
SEC("tc") int unchecked(struct __sk_buff *skb) { return *(char *)(long)skb->data; }
char _license[] SEC("license") = "GPL";
"""

VERIFY = """
mount -t bpf bpf /sys/fs/bpf
echo "kernel $(uname -r)"
for object in "$1"/*.o; do
    name=${object##*/}
    name=${name%.o}
    log=$(bpftool prog loadall "$object" "/sys/fs/bpf/${name}_programs" type classifier 2>&1)
    verdict=$?
    [ $verdict = 0 ] || echo "$log" | tail -n 60
    echo "verdict $name $verdict"
done
"""

INIT = """#!/bin/sh
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t tmpfs tmpfs /tmp
sh /verify /objects
poweroff -f
"""


@pytest.fixture(scope="module")
def objects(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with every object, and ``unchecked.o``."""
    folder = tmp_path_factory.mktemp("objects")
    for path in OBJECTS.glob("*.bpf.o"):
        shutil.copy(path, folder / (path.name.removesuffix(".bpf.o") + ".o"))
    source = folder / "unchecked.c"
    source.write_text(BAD_PROGRAM)
    command = ["clang-14", "-O2", "-g", "-target", "bpf", "-I/usr/include/x86_64-linux-gnu"]
    subprocess.run([*command, "-c", source, "-o", folder / "unchecked.o"], check=True)
    return folder


@pytest.fixture(scope="module")
def oldest_console(
    objects: Path, tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> str:
    """What Debian 12's kernel says about the objects, on its serial console."""
    folder = tmp_path_factory.mktemp("oldest")
    initramfs = folder / "initramfs"
    _write_initramfs(initramfs, objects)
    machine = ["-accel", "tcg", "-cpu", "max", "-m", "1024", "-nodefaults", "-no-reboot"]
    console = ["-display", "none", "-serial", "stdio", "-append", "console=ttyS0 quiet panic=-1"]
    boot = ["-kernel", tiny_folder / "vmlinuz", "-initrd", initramfs]
    done = subprocess.run(
        ["qemu-system-x86_64", *machine, *console, *boot],
        check=True,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=BOOT_DEADLINE,
    )
    return done.stdout.decode(errors="replace").replace("\r", "")


@pytest.fixture(scope="module")
def running_console(objects: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """What the running kernel says about the objects."""
    script = tmp_path_factory.mktemp("running") / "verify"
    script.write_text(VERIFY)
    command = ["unshare", "--mount", "sh", script, objects]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def test_every_program_is_compiled() -> None:
    assert NAMES
    assert sorted(path.name.removesuffix(".bpf.o") for path in OBJECTS.glob("*.o")) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_the_oldest_kernel_accepts(name: str, oldest_console: str) -> None:
    assert re.search(r"^kernel 6\.1\.", oldest_console, re.MULTILINE), oldest_console
    assert _verdicts(oldest_console).get(name) == 0, oldest_console


@pytest.mark.parametrize("name", NAMES)
def test_the_running_kernel_accepts(name: str, running_console: str) -> None:
    assert _verdicts(running_console).get(name) == 0, running_console


def test_a_bad_program_is_refused(oldest_console: str, running_console: str) -> None:
    assert _verdicts(oldest_console)["unchecked"] != 0
    assert _verdicts(running_console)["unchecked"] != 0


def _verdicts(console: str) -> Mapping[str, int]:
    """Program name to exit status of the loader."""
    return {
        name: int(status) for name, status in re.findall(r"^verdict (\S+) (\d+)$", console, re.M)
    }


def _write_initramfs(path: Path, objects: Path) -> None:
    """busybox, bpftool with its libraries, the objects and the script."""
    bpftool = str(shutil.which("bpftool"))
    with path.open("wb") as stream:
        archive = Archive(stream)
        archive.add_file("bin/busybox", Path("/bin/busybox").read_bytes(), executable=True)
        for applet in ("sh", "mount", "uname", "tail", "poweroff"):
            archive.add_link(f"bin/{applet}", "busybox")
        archive.add_file("bin/bpftool", Path(bpftool).read_bytes(), executable=True)
        for library in _libraries(bpftool):
            archive.add_file(library[1:], Path(library).read_bytes(), executable=True)
        for entry in objects.glob("*.o"):
            archive.add_file(f"objects/{entry.name}", entry.read_bytes())
        archive.add_file("verify", VERIFY.encode())
        archive.add_file("init", INIT.encode(), executable=True)
        for mount_point in ("proc", "sys", "tmp"):
            archive.add_file(f"{mount_point}/.keep", b"")
        archive.close()


def _libraries(program: str) -> list[str]:
    """Paths of the shared libraries and the loader of ``program``."""
    output = subprocess.run(["ldd", program], check=True, capture_output=True, text=True).stdout
    return re.findall(r"/\S+", output)
