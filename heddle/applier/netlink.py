"""A small netlink socket: many requests per system call, answers by request.

The kernel carries out the messages of one datagram one after the other and
answers each that failed; the last one is asked to answer always, so that a
whole batch costs two system calls. A process killed during the call leaves
the batch done to its end, since the kernel does not look at signals meanwhile.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from heddle.errors import KernelError

NLM_F_REQUEST = 0x1
NLM_F_ACK = 0x4
NLM_F_DUMP = 0x300
NLM_F_REPLACE = 0x100
NLM_F_EXCL = 0x200
NLM_F_CREATE = 0x400

NETLINK_ROUTE = 0
NETLINK_NETFILTER = 12
_SOL_NETLINK = 270
_NETLINK_CAP_ACK = 10  # an error does not repeat the request
_NETLINK_EXT_ACK = 11  # an error says in words what is wrong
_SO_RCVBUFFORCE = 33

_NLMSG_ERROR = 2
_NLMSG_DONE = 3
_NLM_F_DUMP_INTR = 0x10
_NLM_F_ACK_TLVS = 0x200
_NLMSGERR_ATTR_MSG = 1
_NLA_F_NESTED = 0x8000
_NLA_TYPE_MASK = 0x3FFF

_HEADER = struct.Struct("=IHHII")  # length, type, flags, sequence, port
_ATTRIBUTE = struct.Struct("=HH")  # length, type
_ERRNO = struct.Struct("=i")

# Answers wait in the receive buffer until the batch is done: it must hold them.
_BATCH = 256
_BATCH_READ = 64
_BATCH_BYTES = 128 << 10  # below the default limit of one send
_RECEIVE_BUFFER = 4 << 20
_DATAGRAM = 1 << 16  # the kernel sends at most 32 kB at once


class Request(NamedTuple):
    """One message: type (RTM_*), flags beside NLM_F_REQUEST, and what follows the header."""

    kind: int
    flags: int
    body: bytes


def attribute(kind: int, data: bytes) -> bytes:
    """One attribute, padded to four bytes."""
    return _ATTRIBUTE.pack(4 + len(data), kind) + data + bytes(-len(data) % 4)


def text(kind: int, value: str) -> bytes:
    return attribute(kind, value.encode() + b"\0")


def number(kind: int, value: int) -> bytes:
    return attribute(kind, value.to_bytes(4, "little"))


def nested(kind: int, *parts: bytes) -> bytes:
    return attribute(kind | _NLA_F_NESTED, b"".join(parts))


def attributes(data: bytes, start: int = 0) -> dict[int, bytes]:
    """The attributes from an offset to the end, by type; the last of a type wins."""
    found: dict[int, bytes] = {}
    end = len(data)
    while start + 4 <= end:
        length, kind = _ATTRIBUTE.unpack_from(data, start)
        if length < 4:
            break
        found[kind & _NLA_TYPE_MASK] = data[start + 4 : start + length]
        start += (length + 3) & ~3
    return found


# nfgenmsg of a batch: no family, version 0, and the subsystem, nftables.
_BATCH_BEGIN = Request(0x10, 0, b"\0\0\0\x0a")
_BATCH_END = Request(0x11, 0, b"\0\0\0\x0a")


class Answer(NamedTuple):
    """A message from the kernel: type, flags, sequence number, and what follows the header."""

    kind: int
    flags: int
    sequence: int
    body: bytes


def split(datagram: bytes) -> Iterator[Answer]:
    """The messages of one datagram."""
    position = 0
    while position + _HEADER.size <= len(datagram):
        length, kind, flags, sequence, _ = _HEADER.unpack_from(datagram, position)
        if length < _HEADER.size:
            break
        yield Answer(kind, flags, sequence, datagram[position + _HEADER.size : position + length])
        position += (length + 3) & ~3


class Netlink:
    """One socket in the network namespace in which it was opened. Not for use
    by two threads at once."""

    def __init__(self, protocol: int = NETLINK_ROUTE) -> None:
        try:
            self._socket = socket.socket(
                socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol
            )
            self._socket.bind((0, 0))
            self._socket.setsockopt(_SOL_NETLINK, _NETLINK_CAP_ACK, 1)
            self._socket.setsockopt(_SOL_NETLINK, _NETLINK_EXT_ACK, 1)
            widen(self._socket)
        except OSError as error:
            raise KernelError(f"netlink: {error.strerror}; run as root") from error
        self._sequence = 0
        self._received = memoryview(bytearray(_DATAGRAM))

    def close(self) -> None:
        self._socket.close()

    def __enter__(self) -> Netlink:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def one(self, request: Request) -> None:
        """Carry out one request; OSError when the kernel refuses."""
        error = self.batch([request])[0]
        if error is not None:
            raise error

    def batch(self, requests: Sequence[Request]) -> list[OSError | None]:
        """Carry out all requests in order; for each, None or why it failed."""
        results: list[OSError | None] = []
        for part in _portions(requests, _BATCH):
            results += self._batch(part)
        return results

    def transaction(self, requests: Sequence[Request]) -> None:
        """Carry out all requests of nfnetlink or none (NFNL_MSG_BATCH_BEGIN);
        OSError with the first reason when the kernel refuses."""
        last = requests[-1]
        asking = [*requests[:-1], last._replace(flags=last.flags | NLM_F_ACK)]
        first, end = self._send([_BATCH_BEGIN, *asking, _BATCH_END], acknowledge=0)
        for answer in self._answers(first, end - 1):
            error = _error_of(answer)
            if error is not None:
                raise error

    def read(self, requests: Sequence[Request]) -> list[bytes | OSError]:
        """Ask for one object per request; for each, its body or why there is none."""
        results: list[bytes | OSError] = []
        for part in _portions(requests, _BATCH_READ):
            results += self._read(part)
        return results

    def dump(self, request: Request) -> list[bytes]:
        """Bodies of all objects that the request matches, as of one moment.
        KernelError when the kernel refuses."""
        while True:
            bodies, consistent = self._dump(request)
            if consistent:
                return bodies

    # ---- inside ----------------------------------------------------------

    def _batch(self, requests: Sequence[Request]) -> list[OSError | None]:
        first, last = self._send(requests, acknowledge=NLM_F_ACK)
        results: list[OSError | None] = [None] * len(requests)
        for answer in self._answers(first, last):
            results[answer.sequence - first] = _error_of(answer)
        return results

    def _read(self, requests: Sequence[Request]) -> list[bytes | OSError]:
        first, last = self._send(requests, acknowledge=NLM_F_ACK)
        missing = OSError(errno.ENOENT, os.strerror(errno.ENOENT))
        results: list[bytes | OSError] = [missing] * len(requests)
        for answer in self._answers(first, last):
            error = _error_of(answer)
            if error is not None:
                results[answer.sequence - first] = error
            elif answer.kind != _NLMSG_ERROR:
                results[answer.sequence - first] = answer.body
        return results

    def _dump(self, request: Request) -> tuple[list[bytes], bool]:
        self._send([request._replace(flags=request.flags | NLM_F_DUMP)], acknowledge=0)
        bodies: list[bytes] = []
        consistent = True
        while True:
            for answer in split(self._receive()):
                if answer.sequence != self._sequence:
                    continue
                error = _error_of(answer)
                if error is not None:
                    raise KernelError(f"netlink: list: {error.strerror}") from error
                consistent &= not answer.flags & _NLM_F_DUMP_INTR
                if answer.kind == _NLMSG_DONE:
                    return bodies, consistent
                bodies.append(answer.body)

    def _send(self, requests: Sequence[Request], acknowledge: int) -> tuple[int, int]:
        """Send all in one datagram; return the first and last sequence number."""
        first = self._sequence + 1
        last = self._sequence = self._sequence + len(requests)
        parts = []
        for sequence, (kind, asked, body) in enumerate(requests, first):
            flags = asked | NLM_F_REQUEST | (acknowledge if sequence == last else 0)
            padding = bytes(-len(body) % 4)
            parts.append(_HEADER.pack(16 + len(body), kind, flags, sequence, 0) + body + padding)
        try:
            self._socket.send(b"".join(parts))
        except OSError as error:
            raise KernelError(f"netlink: send: {error.strerror}") from error
        return first, last

    def _answers(self, first: int, last: int) -> Iterator[Answer]:
        """Answers to the requests under way, up to the acknowledgement of the last."""
        while True:
            for answer in split(self._receive()):
                if not first <= answer.sequence <= last:
                    continue  # to a request whose answers could not be read
                yield answer
                if answer.sequence == last and answer.kind == _NLMSG_ERROR:
                    return

    def _receive(self) -> bytes:
        try:
            size = self._socket.recv_into(self._received)
        except OSError as error:
            raise KernelError(f"netlink: receive: {error.strerror}") from error
        return bytes(self._received[:size])


def widen(netlink_socket: socket.socket) -> None:
    """Give a socket room for the answers to a batch, or for many notifications."""
    netlink_socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _RECEIVE_BUFFER)


def _portions(requests: Sequence[Request], count: int) -> Iterator[Sequence[Request]]:
    """Cut a batch into what one datagram and the answers' buffer hold."""
    start = size = 0
    for position, request in enumerate(requests):
        size += 20 + len(request.body)
        if position > start and (position - start == count or size > _BATCH_BYTES):
            yield requests[start:position]
            start, size = position, 20 + len(request.body)
    if start < len(requests):
        yield requests[start:]


def _error_of(answer: Answer) -> OSError | None:
    """What an error message says; None for any other message and for success."""
    if answer.kind != _NLMSG_ERROR:
        return None
    code = -_ERRNO.unpack_from(answer.body)[0]
    if code == 0:
        return None
    said = os.strerror(code)
    if answer.flags & _NLM_F_ACK_TLVS:  # with CAP_ACK they follow the header of the request
        message = attributes(answer.body, _ERRNO.size + _HEADER.size).get(_NLMSGERR_ATTR_MSG)
        if message:
            said += f" ({message.rstrip(bytes(1)).decode(errors='replace').rstrip('.')})"
    return OSError(code, said)
