"""What a machine's ``image`` means: the built-in guest, or a disk of the user."""

from __future__ import annotations

import json
import os
import pwd
import subprocess
from pathlib import Path

from heddle.errors import HypervisorError
from heddle.hypervisor.domain import Boot
from heddle.hypervisor.tiny import Progress, ensure_tiny_image

TINY = "tiny"
_QEMU_USER = "libvirt-qemu"  # as whom Debian's libvirt runs QEMU
_FORMATS = ("qcow2", "raw")


def boot_tiny(progress: Progress) -> Boot:
    """Boot the built-in guest, which is built first where it is missing."""
    image = ensure_tiny_image(progress)
    return Boot(kernel=image.kernel, initramfs=image.initramfs)


def boot_disk(disk: Path, known_format: str | None) -> Boot:
    """Boot a disk image. ``known_format`` is what we told libvirt the last time.

    The format is looked up in the file only once, before a guest has ever
    written to it; from then on it is what we stated. Raises HypervisorError.
    """
    if not disk.is_file():
        raise HypervisorError(
            f"image {disk} does not exist: correct it in the topology file "
            f"({TINY!r}, or the path of a qcow2 or raw disk)"
        )
    if disk.stat().st_size == 0:
        raise HypervisorError(f"image {disk} is empty: was it downloaded in full?")
    return Boot(disk=disk, disk_format=known_format or _detected_format(disk))


def check_reachable(file: Path) -> None:
    """Raise HypervisorError where QEMU's user can't get at ``file``.

    Libvirt gives that user the file itself, but not the folders above it.
    """
    try:
        user = pwd.getpwnam(_QEMU_USER)
    except KeyError:  # another distribution's libvirt: it will say so itself
        return
    for folder in reversed(file.resolve().parents):
        allowed = subprocess.run(
            ["test", "-x", folder],
            check=False,
            user=user.pw_uid,
            group=user.pw_gid,
            extra_groups=os.getgrouplist(user.pw_name, user.pw_gid),
        )
        if allowed.returncode:
            raise HypervisorError(
                f"image {file}: QEMU runs as {_QEMU_USER}, which may not enter {folder}: "
                f"run chmod o+x {folder}, or move the image"
            )


def _detected_format(disk: Path) -> str:
    if disk.suffix == ".raw":
        return "raw"
    command = ["qemu-img", "info", "--force-share", "--output=json", str(disk)]
    try:
        done = subprocess.run(command, check=True, capture_output=True, text=True)
    except FileNotFoundError as error:
        raise HypervisorError("qemu-img is missing: run apt-get install qemu-utils") from error
    except subprocess.CalledProcessError as error:
        reason = error.stderr.strip().removeprefix("qemu-img: ")
        raise HypervisorError(f"image {disk} can't be read: {reason}") from error
    found = str(json.loads(done.stdout)["format"])
    if found == "raw" and disk.suffix == ".qcow2":
        raise HypervisorError(f"image {disk} is no qcow2 file: was it downloaded in full?")
    if found not in _FORMATS:
        raise HypervisorError(
            f"image {disk} is of format {found}: run qemu-img convert -O qcow2 to convert it"
        )
    return found
