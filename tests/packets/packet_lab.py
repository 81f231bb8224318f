"""Real devices in network namespaces of the test's own.

The namespaces have no name: they go when the test process goes, whatever way
it ends. TAPs live as long as the lab holds their file.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import secrets
import select
import socket
import struct
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

_CLONE_NEWNET = 0x40000000
_TUNSETIFF = 0x400454CA
_TUNSETVNETHDRSZ = 0x400454D8
_TUNSETOFFLOAD = 0x400454D0
_IFF_TAP, _IFF_NO_PI, _IFF_VNET_HDR = 0x0002, 0x1000, 0x4000
_TUN_F_CSUM, _TUN_F_TSO4, _TUN_F_TSO6 = 1, 2, 4
_ETH_P_ALL = 3
_DEADLINE = 60.0  # seconds until a frame that must come counts as lost
VNET_HEADER_BYTES = 10
OWN_MAC = "02:00:00:00:00:01"  # of our end of an underlay
PEER_MAC = "02:00:00:00:00:99"  # of all hosts at its other end

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass
class Device:
    """The host's side of a vNIC, and the guest's side of it to read and write."""

    name: str
    ifindex: int
    guest: int  # file of the TAP, or of a packet socket in the container

    def write(self, frame: bytes) -> None:
        """The guest sends a frame."""
        os.write(self.guest, frame)

    def read(self, *, wait: bool = True) -> bytes | None:
        """The next frame that reached the guest; None when there is none (in time)."""
        ready, _, _ = select.select([self.guest], [], [], _DEADLINE if wait else 0)
        return os.read(self.guest, 1 << 17) if ready else None

    def read_all(self) -> list[bytes]:
        """What waits to be read by now."""
        return list(iter(lambda: self.read(wait=False), None))


def run(*command: str) -> None:
    subprocess.run(command, check=True)


@contextmanager
def own_namespace() -> Iterator[int]:
    """Enter a new network namespace; yields a file that keeps it alive."""
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    if _libc.unshare(_CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "unshare")
    own = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    # Only frames that a test sends shall be on the wire.
    for name in ("all", "default"):
        with open(f"/proc/sys/net/ipv6/conf/{name}/disable_ipv6", "w", encoding="ascii") as file:
            file.write("1")
    try:
        yield own
    finally:
        enter(before)
        os.close(own)
        os.close(before)


def enter(namespace: int) -> None:
    if _libc.setns(namespace, _CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")


class Lab:
    """A host's namespace with TAPs, and a container's behind veths."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        stack.callback(os.close, self._home)
        self._container = stack.enter_context(own_namespace())
        self._host = stack.enter_context(own_namespace())

    @property
    def namespace(self) -> str:
        """Path of the host's network namespace."""
        return f"/proc/{os.getpid()}/fd/{self._host}"

    @contextmanager
    def away(self) -> Iterator[None]:
        """Back in the namespace that the process came from, for a while."""
        enter(self._home)
        try:
            yield
        finally:
            enter(self._host)

    @contextmanager
    def entered(self) -> Iterator[None]:
        """In the host's namespace again, when ``away``."""
        enter(self._host)
        try:
            yield
        finally:
            enter(self._home)

    def tap(self, *, vnet_header: bool = False) -> Device:
        """A TAP that is up. With ``vnet_header`` as QEMU opens it: each frame
        has a struct virtio_net_hdr before it, offloads are on."""
        name, guest = _name("tap"), os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
        self._stack.callback(os.close, guest)
        flags = _IFF_TAP | _IFF_NO_PI | (_IFF_VNET_HDR if vnet_header else 0)
        fcntl.ioctl(guest, _TUNSETIFF, struct.pack("16sH22x", name.encode(), flags))
        if vnet_header:
            fcntl.ioctl(guest, _TUNSETVNETHDRSZ, struct.pack("i", VNET_HEADER_BYTES))
            fcntl.ioctl(guest, _TUNSETOFFLOAD, _TUN_F_CSUM | _TUN_F_TSO4 | _TUN_F_TSO6)
        run("ip", "link", "set", name, "up")
        return Device(name, socket.if_nametoindex(name), guest)

    def veth(self) -> Device:
        """A veth whose peer is in the container's namespace; both ends are up."""
        name, peer = _name("hdl"), _name("eth")
        container = f"/proc/{os.getpid()}/fd/{self._container}"
        run("ip", "link", "add", name, "type", "veth", "peer", "name", peer, "netns", container)
        run("ip", "link", "set", name, "up")
        enter(self._container)
        try:
            run("ip", "link", "set", peer, "up")
            guest = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_ALL))
            guest.bind((peer, 0))
        finally:
            enter(self._host)
        self._stack.callback(guest.close)
        _wait_for_carrier(name)
        return Device(name, socket.if_nametoindex(name), guest.fileno())

    def wire(self) -> tuple[str, str]:
        """Names of a veth pair whose ends are both in the host's namespace, and up."""
        names = _name("shp"), _name("shp")
        run("ip", "link", "add", names[0], "type", "veth", "peer", "name", names[1])
        for name in names:
            run("ip", "link", "set", name, "up")
        _wait_for_carrier(names[0])
        return names

    def underlay(self, addresses: Sequence[str], neighbors: Sequence[str]) -> Device:
        """A link with our addresses, on which all neighbors are the reader and
        writer of its file. Nobody asks for them by ARP or ND. A TAP without offloads:
        the kernel finishes checksums and cuts what is too large."""
        device = self.tap()
        for name, value in (("router_solicitations", "0"), ("disable_ipv6", "0")):
            with open(f"/proc/sys/net/ipv6/conf/{device.name}/{name}", "w") as file:
                file.write(value)
        run("ip", "link", "set", device.name, "address", OWN_MAC, "arp", "off")
        run("ip", "link", "set", device.name, "addrgenmode", "none")
        for address in addresses:
            run("ip", "address", "add", address, "dev", device.name, "nodad")
        for neighbor in neighbors:
            run("ip", "neigh", "replace", neighbor, "lladdr", PEER_MAC, "dev", device.name)
        return device

    def vxlan(self, udp_port: int) -> Device:
        """A VXLAN device as the applier makes it; nobody reads at its host end."""
        name = _name("vxl")
        run(
            *("ip", "link", "add", name, "type", "vxlan", "external", "gbp"),
            *("dstport", str(udp_port), "nolearning"),
        )
        run("ip", "link", "set", name, "up")
        return Device(name, socket.if_nametoindex(name), -1)

    def attach(self, link: str, program_pin: str) -> None:
        """Run the program on what comes in at a link."""
        run("tc", "qdisc", "add", "dev", link, "clsact")
        run(
            *("tc", "filter", "add", "dev", link, "ingress", "bpf"),
            *("direct-action", "object-pinned", program_pin),
        )


def _name(prefix: str) -> str:
    return prefix + secrets.token_hex(4)


def _wait_for_carrier(name: str) -> None:
    deadline = time.monotonic() + _DEADLINE
    while not _is_running(name):
        if time.monotonic() > deadline:
            raise TimeoutError(f"{name} has no carrier")


def _is_running(name: str) -> bool:
    siocgifflags, iff_running = 0x8913, 0x40
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        answer = fcntl.ioctl(probe, siocgifflags, struct.pack("16s24x", name.encode()))
    return bool(struct.unpack_from("H", answer, 16)[0] & iff_running)
