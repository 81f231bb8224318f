"""The built-in guest: a Debian kernel and a handful of programs in an initramfs.

It boots in seconds also under emulation, needs no disk, configures itself by
DHCP and router advertisement, carries QEMU's guest agent and iperf3, and obeys
the power button. It is built once from distribution packages and then kept in
``paths.images_dir()``, in a folder named after the recipe (this module and the
files under ``guest/``) and the kernel.
"""

from __future__ import annotations

import fcntl
import functools
import hashlib
import importlib.resources
import os
import platform
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources.abc import Traversable
from pathlib import Path

from heddle import paths
from heddle.errors import HypervisorError
from heddle.hypervisor.cpio import Archive
from heddle.hypervisor.packages import dependency_matching, unpack

_KERNEL_PACKAGE = "linux-image-cloud-amd64"
_PACKAGES = ("busybox-static", "dhcpcd-base", "iperf3", "qemu-guest-agent")
_BUSYBOX = "bin/busybox"
_PROGRAMS = {  # place in the guest: places in the packages, by distribution release
    _BUSYBOX: ("bin/busybox", "usr/bin/busybox"),
    "bin/iperf3": ("usr/bin/iperf3",),
    "sbin/dhcpcd": ("usr/sbin/dhcpcd", "sbin/dhcpcd"),
    "sbin/qemu-ga": ("usr/sbin/qemu-ga",),
}
_MODULES = (
    "virtio_pci",
    "virtio_net",
    "virtio_console",
    "virtio_rng",
    "button",
    "evdev",
    "virtio_blk",
)
_LOADER = "lib64/ld-linux-x86-64.so.2"
_LIBRARY_FOLDERS = ("lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu")
_LIBRARY_LINE = re.compile(r"=> (?P<path>/\S+) \(0x")
_MODULE_DEPENDS = re.compile(rb"\0depends=([^\0]*)\0")

# What the recipe is made of beside the files of the guest; any change of either
# gives the image another name, so that an old one is never taken for a new one.
_RECIPE = repr((1, _KERNEL_PACKAGE, _PACKAGES, _PROGRAMS, _MODULES))

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class TinyImage:
    """What QEMU boots: both files are readable by every user."""

    kernel: Path
    initramfs: Path


def ensure_tiny_image(progress: Progress = lambda _: None) -> TinyImage:
    """Return the tiny guest, building it first when it is not there yet.

    Takes some 10 s and the package mirror on the first call, no time afterwards.
    ``progress`` is called with a line before slow work. Raises HypervisorError.
    """
    folder = paths.images_dir()
    prefix = f"tiny-{_recipe_hash()}"
    with _locked(folder):
        built = sorted(folder.glob(f"{prefix}-*"))
        if not built:
            progress("building the tiny guest from distribution packages (once)")
            built = [_build(folder, prefix)]
    return TinyImage(built[-1] / "vmlinuz", built[-1] / "initramfs")


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keep other processes from building in ``folder`` at the same time."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder / ".lock", os.O_CREAT | os.O_RDWR, 0o600)
    except OSError as error:
        raise HypervisorError(
            f"images cannot be kept in {folder} ({error.strerror}): run as root"
        ) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _build(folder: Path, prefix: str) -> Path:
    """Build in a folder of its own and rename, so that no half image is ever seen."""
    if platform.machine() != "x86_64":
        raise HypervisorError(
            f"the tiny guest is for x86_64, not {platform.machine()}: give the machine an image"
        )
    for leftover in folder.glob(".building-*"):  # of a build that was killed
        shutil.rmtree(leftover)
    scratch = Path(tempfile.mkdtemp(prefix=".building-", dir=folder))
    try:
        return _build_in(scratch, folder, prefix)
    except OSError as error:
        raise HypervisorError(
            f"the tiny guest cannot be built in {folder} ({error.strerror}): "
            "make 500 MB free there, or give the machine an image of its own"
        ) from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _build_in(scratch: Path, folder: Path, prefix: str) -> Path:
    kernel_package = dependency_matching(_KERNEL_PACKAGE, "linux-image-")
    release = kernel_package.removeprefix("linux-image-")
    tree = scratch / "tree"
    unpack((kernel_package, *_PACKAGES), tree)
    image = scratch / "image"
    image.mkdir(mode=0o755)
    shutil.move(tree / "boot" / f"vmlinuz-{release}", image / "vmlinuz")
    with (image / "initramfs").open("wb") as out:
        _write_initramfs(Archive(out), tree, release)
    for file in image.iterdir():
        file.chmod(0o644)
    return image.rename(folder / f"{prefix}-{release}")


def _write_initramfs(archive: Archive, tree: Path, release: str) -> None:
    """Uncompressed: unpacking would cost an emulated CPU more than reading does."""
    for name, content in _guest_files():
        archive.add_file(name, content, executable=True)
    _add_programs(archive, tree)
    _add_modules(archive, tree / "lib/modules" / release)
    archive.add_link("init", _BUSYBOX)
    archive.close()


def _add_programs(archive: Archive, tree: Path) -> None:
    programs = {place: _first(tree, place, sources) for place, sources in _PROGRAMS.items()}
    libraries: set[Path] = set()
    for place, program in programs.items():
        archive.add_file(place, program.read_bytes(), executable=True)
        if place != _BUSYBOX:  # that one is static
            libraries |= _libraries(tree, program)
    for library in sorted(libraries):
        content = library.read_bytes()
        archive.add_file(f"{_LIBRARY_FOLDERS[0]}/{library.name}", content, executable=True)
    archive.add_file(_LOADER, _loader(tree).read_bytes(), executable=True)
    _add_applets(archive, programs[_BUSYBOX])


def _first(tree: Path, what: str, places: Iterable[str]) -> Path:
    """The first of ``places`` that the packages have."""
    for place in places:
        if (tree / place).exists():
            return tree / place
    raise HypervisorError(
        f"the packages of the tiny guest hold no {what}: this release of the "
        "distribution is not supported, give the machine an image of its own"
    )


def _add_applets(archive: Archive, busybox: Path) -> None:
    """Links for busybox's commands, where no program of ours has the name."""
    done = subprocess.run([busybox, "--list-full"], check=True, capture_output=True, text=True)
    for applet in done.stdout.split():
        place = applet.removeprefix("usr/")
        if place not in archive and place != "linuxrc":
            archive.add_link(place, f"/{_BUSYBOX}")


def _libraries(tree: Path, program: Path) -> set[Path]:
    """Shared libraries of ``program``, found by the loader of its own distribution."""
    folders = ":".join(str(tree / folder) for folder in _LIBRARY_FOLDERS)
    command: list[str | Path] = [_loader(tree), "--inhibit-cache", "--library-path", folders]
    command += ["--list", program]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    found = {Path(match["path"]) for match in _LIBRARY_LINE.finditer(done.stdout)}
    libraries = {path for path in found if path.name != Path(_LOADER).name}
    foreign = [path for path in libraries if not path.is_relative_to(tree)]
    if done.returncode or "not found" in done.stdout or foreign:
        raise HypervisorError(
            f"{program.name} of the tiny guest misses libraries: "
            "run apt-get update, so that all packages come from one release"
        )
    return libraries


def _loader(tree: Path) -> Path:
    name = Path(_LOADER).name
    return _first(tree, name, (f"{folder}/{name}" for folder in _LIBRARY_FOLDERS))


def _add_modules(archive: Archive, folder: Path) -> None:
    """Driver modules, and the order in which they go in."""
    files = {path.stem.replace("-", "_"): path for path in folder.rglob("*.ko")}
    if not files:
        raise HypervisorError(
            f"kernel package {folder.name} holds no module that can be read: "
            "give the machine an image of its own"
        )
    order: list[str] = []
    for module in _MODULES:
        _add_module(archive, files, module, order)
    archive.add_file("lib/modules/order", "\n".join(order).encode())


def _add_module(archive: Archive, files: dict[str, Path], module: str, order: list[str]) -> None:
    """Add ``module`` after what it depends on. Built-in ones have no file."""
    if module in order or module not in files:
        return
    content = files[module].read_bytes()
    depends = _MODULE_DEPENDS.search(content)
    for dependency in depends[1].decode().split(",") if depends else ():
        _add_module(archive, files, dependency, order)
    order.append(module)
    archive.add_file(f"lib/modules/{module}.ko", content)


def _guest_files() -> Iterator[tuple[str, bytes]]:
    """Files under ``guest/`` in the package, by their place in the guest."""

    def walk(folder: Traversable, place: str) -> Iterator[tuple[str, bytes]]:
        for entry in sorted(folder.iterdir(), key=lambda entry: entry.name):
            if entry.is_dir():
                yield from walk(entry, f"{place}{entry.name}/")
            else:
                yield place + entry.name, entry.read_bytes()

    return walk(importlib.resources.files(__package__) / "guest", "")


@functools.cache
def _recipe_hash() -> str:
    digest = hashlib.sha256(_RECIPE.encode())
    for name, content in _guest_files():
        digest.update(f"{name}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()[:12]
