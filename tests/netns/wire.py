"""Frames as containers see them: captures with tcpdump, frames of one's own."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lab import Lab
from scapy.packet import Packet
from scapy.utils import PcapReader

_SEND = """
import socket, sys
wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
wire.bind((sys.argv[1], 0))
wire.send(bytes.fromhex(sys.argv[2]))
"""


class Capture:
    """What a container's interface sends and receives, while it is captured."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def frames(self) -> list[Packet]:
        with PcapReader(str(self._file)) as reader:
            return list(reader)


@contextmanager
def captured(
    lab: Lab, machine: str, interface: str = "eth0", *, words: str = "", most: int = 1000
) -> Iterator[Capture]:
    """Capture in a container, the first ``most`` frames that fit tcpdump's
    expression ``words``; they are in the file as soon as they are seen."""
    file = lab.root / f"{machine}-{interface}.pcap"
    file.unlink(missing_ok=True)
    options = ["--immediate-mode", "-U", "-Z", "root", "-c", str(most), "-w", str(file)]
    argv = lab.inside(machine, "tcpdump", "-i", interface, *options, words)
    with lab.background(argv) as process:
        assert process.stderr is not None
        assert "listening on" in process.stderr.readline()
        yield Capture(file)


def send(lab: Lab, machine: str, frame: Packet | bytes, interface: str = "eth0") -> None:
    """Send a frame out of a container as it is."""
    lab.exec(machine, sys.executable, "-c", _SEND, interface, bytes(frame).hex())


def mac_of(lab: Lab, machine: str, interface: str = "eth0") -> str:
    return lab.exec(machine, "cat", f"/sys/class/net/{interface}/address").stdout.strip()
