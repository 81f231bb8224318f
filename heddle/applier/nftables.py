"""Messages to nftables (linux/netfilter/nf_tables.h), as far as we need rules.

An expression is a list of attributes; the kernel takes those of one message
as a rule. What belongs together goes as one transaction: all of it or nothing.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from enum import IntEnum

from heddle.applier.netlink import NLM_F_CREATE, Request, attribute, attributes, text

_SUBSYSTEM = 10 << 8  # NFNL_SUBSYS_NFTABLES
_NEW_TABLE, _DELETE_TABLE = _SUBSYSTEM | 0, _SUBSYSTEM | 2
_NEW_CHAIN, _GET_CHAIN = _SUBSYSTEM | 3, _SUBSYSTEM | 4
_NEW_RULE, _GET_RULE = _SUBSYSTEM | 6, _SUBSYSTEM | 7

_TABLE_NAME = 1
_CHAIN_TABLE, _CHAIN_NAME, _CHAIN_HOOK, _CHAIN_TYPE = 1, 3, 4, 7
_HOOK_NUMBER, _HOOK_PRIORITY = 1, 2
_RULE_TABLE, _RULE_CHAIN, _RULE_EXPRESSIONS, _RULE_USERDATA = 1, 2, 4, 7
_LIST_ELEMENT = 1
_EXPRESSION_NAME, _EXPRESSION_DATA = 1, 2
_DATA_VALUE, _DATA_VERDICT, _VERDICT_CODE = 1, 2, 1

_REGISTER = 1  # NFT_REG_1; the verdict's is 0
_META_KEY, _META_REGISTER = 2, 1
_COMPARE_REGISTER, _COMPARE_OPERATION, _COMPARE_DATA = 1, 2, 3
_EQUAL = 0
_PAYLOAD_REGISTER, _PAYLOAD_BASE, _PAYLOAD_OFFSET, _PAYLOAD_LENGTH = 1, 2, 3, 4
_TRANSPORT_HEADER = 2
_IMMEDIATE_REGISTER, _IMMEDIATE_DATA = 1, 2
_INTERFACE_NAME_BYTES = 16

_HEADER = struct.Struct("!BBH")  # nfgenmsg: family, version, resource


class Family(IntEnum):
    INET = 1
    BRIDGE = 7


class Hook(IntEnum):
    """Of IPv4, IPv6 and bridges alike."""

    PREROUTING = 0
    FORWARD = 2
    OUTPUT = 3


class Meta(IntEnum):
    """What is known of a packet beside its bytes."""

    INTERFACE_IN = 6
    INTERFACE_OUT = 7
    L4_PROTOCOL = 16


def replace_table(family: Family, table: str) -> list[Request]:
    """An empty table in place of whatever there is under the name."""
    return [
        Request(_NEW_TABLE, NLM_F_CREATE, _header(family) + text(_TABLE_NAME, table)),
        delete_table(family, table),
        Request(_NEW_TABLE, NLM_F_CREATE, _header(family) + text(_TABLE_NAME, table)),
    ]


def delete_table(family: Family, table: str) -> Request:
    """With all that is in it; ENOENT when there is none."""
    return Request(_DELETE_TABLE, 0, _header(family) + text(_TABLE_NAME, table))


def add_chain(family: Family, table: str, hook: Hook, priority: int) -> Request:
    """A chain of filters at a hook, named after it."""
    body = text(_CHAIN_TABLE, table) + text(_CHAIN_NAME, chain_name(hook))
    place = _number(_HOOK_NUMBER, hook) + _number(_HOOK_PRIORITY, priority & 0xFFFFFFFF)
    body += attribute(_CHAIN_HOOK, place) + text(_CHAIN_TYPE, "filter")
    return Request(_NEW_CHAIN, NLM_F_CREATE, _header(family) + body)


def chain_name(hook: Hook) -> str:
    return hook.name.lower()


def add_rule(
    family: Family, table: str, hook: Hook, expressions: Sequence[bytes], remark: bytes
) -> Request:
    """A rule at the end of a chain; ``remark`` is kept with it for us."""
    body = text(_RULE_TABLE, table) + text(_RULE_CHAIN, chain_name(hook))
    listed = b"".join(attribute(_LIST_ELEMENT, expression) for expression in expressions)
    body += attribute(_RULE_EXPRESSIONS, listed) + attribute(_RULE_USERDATA, remark)
    return Request(_NEW_RULE, NLM_F_CREATE, _header(family) + body)


def get_rules(family: Family, table: str) -> Request:
    return Request(_GET_RULE, 0, _header(family) + text(_RULE_TABLE, table))


def get_chains(family: Family) -> Request:
    return Request(_GET_CHAIN, 0, _header(family))


def parse_rule(body: bytes) -> tuple[str, str, bytes]:
    """Table, chain and remark of a rule."""
    found = attributes(body, _HEADER.size)
    names = (found.get(kind, b"").rstrip(b"\0").decode() for kind in (_RULE_TABLE, _RULE_CHAIN))
    return (*names, found.get(_RULE_USERDATA, b""))  # type: ignore[return-value]


def parse_chain(body: bytes) -> tuple[str, str, int]:
    """Table, name and priority of a chain; 0 for one without a hook."""
    found = attributes(body, _HEADER.size)
    hook = attributes(found.get(_CHAIN_HOOK, b""))
    priority = int.from_bytes(hook.get(_HOOK_PRIORITY, b""), "big", signed=True)
    table, name = (found.get(k, b"").rstrip(b"\0").decode() for k in (_CHAIN_TABLE, _CHAIN_NAME))
    return table, name, priority


# ---- expressions ---------------------------------------------------------------


def meta_is(key: Meta, value: bytes) -> list[bytes]:
    """Go on if what is known of the packet has this value."""
    load = _number(_META_REGISTER, _REGISTER) + _number(_META_KEY, key)
    return [_expression("meta", load), _equals(value)]


def interface_is(key: Meta, name: str) -> list[bytes]:
    """Go on if the packet comes from, or goes to, this link."""
    return meta_is(key, name.encode().ljust(_INTERFACE_NAME_BYTES, b"\0"))


def transport_is(offset: int, value: bytes) -> list[bytes]:
    """Go on if the transport header has these bytes at an offset."""
    load = _number(_PAYLOAD_REGISTER, _REGISTER) + _number(_PAYLOAD_BASE, _TRANSPORT_HEADER)
    load += _number(_PAYLOAD_OFFSET, offset) + _number(_PAYLOAD_LENGTH, len(value))
    return [_expression("payload", load), _equals(value)]


def notrack() -> list[bytes]:
    """Keep the packet out of connection tracking."""
    return [_expression("notrack", b"")]


def drop() -> list[bytes]:
    verdict = attribute(_DATA_VERDICT, _number(_VERDICT_CODE, 0))  # NF_DROP
    body = _number(_IMMEDIATE_REGISTER, 0) + attribute(_IMMEDIATE_DATA, verdict)
    return [_expression("immediate", body)]


def _equals(value: bytes) -> bytes:
    body = _number(_COMPARE_REGISTER, _REGISTER) + _number(_COMPARE_OPERATION, _EQUAL)
    return _expression("cmp", body + attribute(_COMPARE_DATA, attribute(_DATA_VALUE, value)))


def _expression(name: str, data: bytes) -> bytes:
    return text(_EXPRESSION_NAME, name) + attribute(_EXPRESSION_DATA, data)


def _header(family: Family) -> bytes:
    return _HEADER.pack(family, 0, 0)


def _number(kind: int, value: int) -> bytes:
    """nftables has its numbers in network byte order."""
    return attribute(kind, value.to_bytes(4, "big"))
