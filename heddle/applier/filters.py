"""Messages about what stands at a link's ingress: a qdisc and our program.

The qdisc is ``ingress``, and a ``clsact`` found in its place is as good: both
run the same hook, and filters of both go by the same parent. Ours is
``ingress`` because the kernel keeps one list of all blocks of all qdiscs and
walks it for each new block; clsact has two blocks, so that making the qdiscs
of 10,000 links takes four times as long (1.4 s against 0.35).
"""

from __future__ import annotations

import socket
import struct
from typing import NamedTuple

from heddle.applier.netlink import (
    NLM_F_CREATE,
    NLM_F_EXCL,
    NLM_F_REPLACE,
    Request,
    attributes,
    nested,
    number,
    text,
)

RTM_NEWQDISC = 36
_RTM_NEWTFILTER = 44
_RTM_GETTFILTER = 46

_TCA_KIND = 1
_TCA_OPTIONS = 2
_TCA_BPF_FD = 6
_TCA_BPF_NAME = 7
_TCA_BPF_FLAGS = 8
_TCA_BPF_ID = 11
_DIRECT_ACTION = 1

_ROOT = 0xFFFFFFFF
_INGRESS_HANDLE = 0xFFFF0000
_INGRESS_QDISC = 0xFFFFFFF1
_INGRESS = 0xFFFFFFF2  # parent of filters, of clsact and ingress alike
_ANY_PROTOCOL = socket.htons(0x0003)  # ETH_P_ALL

_MESSAGE = struct.Struct("=BxxxiIII")  # family, ifindex, handle, parent, info

_BPF = text(_TCA_KIND, "bpf")
_INGRESS_KIND = text(_TCA_KIND, "ingress")
_NO_QUEUE = text(_TCA_KIND, "noqueue")

# The mark of our filter: before all others, with a handle nobody has by chance.
PRIORITY = 1
HANDLE = 0x6864646C


class FilterInfo(NamedTuple):
    """The filter that stands where ours should."""

    ifindex: int
    kind: str
    program_id: int
    direct_action: bool


def add_ingress(index: int) -> Request:
    """The qdisc that filters at ingress hang on; EEXIST when there is one."""
    body = _MESSAGE.pack(0, index, _INGRESS_HANDLE, _INGRESS_QDISC, 0)
    return Request(RTM_NEWQDISC, NLM_F_CREATE | NLM_F_EXCL, body + _INGRESS_KIND)


def remove_queue(index: int) -> Request:
    """No queue in front of a TAP, which has one of its own: the default one
    costs 24 kB per link and a lock per packet."""
    body = _MESSAGE.pack(0, index, 0, _ROOT, 0) + _NO_QUEUE
    return Request(RTM_NEWQDISC, NLM_F_CREATE | NLM_F_REPLACE, body)


def bpf_options(program_fd: int, name: str) -> bytes:
    """What is the same in all our filters."""
    return nested(
        _TCA_OPTIONS,
        number(_TCA_BPF_FD, program_fd),
        text(_TCA_BPF_NAME, name),
        number(_TCA_BPF_FLAGS, _DIRECT_ACTION),
    )


def attach(index: int, options: bytes) -> Request:
    """Put our program in place, or in the place of what is there, at one stroke."""
    return Request(_RTM_NEWTFILTER, NLM_F_CREATE, _ours(index) + _BPF + options)


def get(index: int) -> Request:
    """Ask what stands in our place; an error when nothing does."""
    return Request(_RTM_GETTFILTER, 0, _ours(index) + _BPF)


def parse(body: bytes) -> FilterInfo:
    _, index, _, _, _ = _MESSAGE.unpack_from(body)
    found = attributes(body, _MESSAGE.size)
    options = attributes(found.get(_TCA_OPTIONS, b""))
    return FilterInfo(
        index,
        found.get(_TCA_KIND, b"").rstrip(b"\0").decode(errors="replace"),
        int.from_bytes(options.get(_TCA_BPF_ID, b""), "little"),
        bool(int.from_bytes(options.get(_TCA_BPF_FLAGS, b""), "little") & _DIRECT_ACTION),
    )


def _ours(index: int) -> bytes:
    return _MESSAGE.pack(0, index, HANDLE, _INGRESS, PRIORITY << 16 | _ANY_PROTOCOL)
