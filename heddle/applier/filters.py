"""Messages about what stands at a link's ingress: a qdisc and our program.

The qdisc is ``ingress``, and its filters stand in a block that all links of a
host share (``tc qdisc ... ingress_block N``), so that one filter serves all. A
filter may also stand at the qdisc of one link alone: earlier versions had it so,
and a ``clsact`` that somebody else made can hold no other.
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

_RTM_NEWQDISC = 36
_RTM_DELQDISC = 37
_RTM_NEWTFILTER = 44
_RTM_GETTFILTER = 46

_TCA_KIND = 1
_TCA_OPTIONS = 2
_TCA_INGRESS_BLOCK = 13
_TCA_BPF_FD = 6
_TCA_BPF_NAME = 7
_TCA_BPF_FLAGS = 8
_TCA_BPF_ID = 11
_DIRECT_ACTION = 1

_ROOT = 0xFFFFFFFF
_INGRESS_HANDLE = 0xFFFF0000
_INGRESS_QDISC = 0xFFFFFFF1
_INGRESS = 0xFFFFFFF2  # parent of filters, of clsact and ingress alike
_EGRESS = 0xFFFFFFF3  # the same of clsact alone
_ANY_PROTOCOL = socket.htons(0x0003)  # ETH_P_ALL

_MESSAGE = struct.Struct("=BxxxiIII")  # family, ifindex, handle, parent or block, info

# In place of an ifindex, when a message is about a block (TCM_IFINDEX_MAGIC_BLOCK).
BLOCK_INDEX = -1

_BPF = text(_TCA_KIND, "bpf")
_INGRESS_KIND = text(_TCA_KIND, "ingress")
_NO_QUEUE = text(_TCA_KIND, "noqueue")

# The mark of our filter: before all others, with a handle nobody has by chance.
PRIORITY = 1
HANDLE = 0x6864646C
_INFO = PRIORITY << 16 | _ANY_PROTOCOL


class FilterInfo(NamedTuple):
    """A filter. ``is_ours``: it bears our mark."""

    is_ours: bool
    program_id: int
    direct_action: bool


def add_ingress(index: int, block: int) -> Request:
    """The qdisc whose filters stand in a block, which there is from then on;
    EEXIST when the link has one at its ingress, whatever its filters."""
    body = _ingress_of(index) + _INGRESS_KIND + number(_TCA_INGRESS_BLOCK, block)
    return Request(_RTM_NEWQDISC, NLM_F_CREATE | NLM_F_EXCL, body)


def add_own_ingress(index: int) -> Request:
    """The qdisc with filters of its own; EEXIST when the link has one."""
    return Request(_RTM_NEWQDISC, NLM_F_CREATE | NLM_F_EXCL, _ingress_of(index) + _INGRESS_KIND)


def remove_ingress(index: int) -> Request:
    """Remove what is at a link's ingress, clsact as well."""
    return Request(_RTM_DELQDISC, 0, _ingress_of(index))


def remove_queue(index: int) -> Request:
    """No queue in front of a TAP, which has one of its own: the default one
    costs 24 kB per link and a lock per packet."""
    body = _MESSAGE.pack(0, index, 0, _ROOT, 0) + _NO_QUEUE
    return Request(_RTM_NEWQDISC, NLM_F_CREATE | NLM_F_REPLACE, body)


def bpf_options(program_fd: int, name: str) -> bytes:
    """What is the same in all our filters."""
    return nested(
        _TCA_OPTIONS,
        number(_TCA_BPF_FD, program_fd),
        text(_TCA_BPF_NAME, name),
        number(_TCA_BPF_FLAGS, _DIRECT_ACTION),
    )


def attach_to_block(block: int, options: bytes) -> Request:
    """Put our program in place, or in the place of what is there, at one stroke."""
    return Request(_RTM_NEWTFILTER, NLM_F_CREATE, _ours_in(block) + _BPF + options)


def attach(index: int, options: bytes) -> Request:
    """The same for one link; EOPNOTSUPP when its filters stand in a shared block."""
    body = _MESSAGE.pack(0, index, HANDLE, _INGRESS, _INFO)
    return Request(_RTM_NEWTFILTER, NLM_F_CREATE, body + _BPF + options)


def get_from_block(block: int) -> Request:
    """Ask what stands in our place; an error when nothing does."""
    return Request(_RTM_GETTFILTER, 0, _ours_in(block) + _BPF)


def get_all(index: int) -> Request:
    """Ask for all filters at a link's ingress, shared or its own."""
    return Request(_RTM_GETTFILTER, 0, _MESSAGE.pack(0, index, 0, _INGRESS, 0))


def get_egress(index: int) -> Request:
    """Ask for all filters at a link's egress, where heddle has none."""
    return Request(_RTM_GETTFILTER, 0, _MESSAGE.pack(0, index, 0, _EGRESS, 0))


def parse(body: bytes) -> FilterInfo:
    _, _, handle, _, info = _MESSAGE.unpack_from(body)
    found = attributes(body, _MESSAGE.size)
    options = attributes(found.get(_TCA_OPTIONS, b""))
    return FilterInfo(
        handle == HANDLE and info == _INFO,
        int.from_bytes(options.get(_TCA_BPF_ID, b""), "little"),
        bool(int.from_bytes(options.get(_TCA_BPF_FLAGS, b""), "little") & _DIRECT_ACTION),
    )


def is_filter(body: bytes) -> bool:
    """Whether a message is about a filter, not about the classifier that holds it."""
    handle: int = _MESSAGE.unpack_from(body)[2]
    return handle != 0


def changed_block(body: bytes) -> int | None:
    """The block that a message about filters is about; None: those of one link."""
    _, index, _, block, _ = _MESSAGE.unpack_from(body)
    return block if index == BLOCK_INDEX else None


def _ingress_of(index: int) -> bytes:
    return _MESSAGE.pack(0, index, _INGRESS_HANDLE, _INGRESS_QDISC, 0)


def _ours_in(block: int) -> bytes:
    return _MESSAGE.pack(0, BLOCK_INDEX, HANDLE, block, _INFO)
