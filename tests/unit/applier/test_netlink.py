"""Messages to and from rtnetlink, as bytes."""

from __future__ import annotations

import struct

from heddle.applier import filters, links
from heddle.applier.netlink import attribute, attributes, nested, number, split, text


def test_attributes_are_padded_and_found_again() -> None:
    data = text(3, "eth0") + number(4, 1450) + attribute(5, b"")
    assert len(data) == 12 + 8 + 4
    assert attributes(data) == {3: b"eth0\0", 4: struct.pack("=I", 1450), 5: b""}


def test_the_flag_of_a_nest_is_no_part_of_its_type() -> None:
    assert attributes(nested(18, text(1, "veth"))) == {18: text(1, "veth")}


def test_attributes_that_contradict_themselves_end_the_reading() -> None:
    assert attributes(struct.pack("=HH", 2, 1) + bytes(8)) == {}


def test_a_datagram_is_split_into_its_messages() -> None:
    one = struct.pack("=IHHII", 18, 16, 2, 7, 0) + b"ab" + bytes(2)
    two = struct.pack("=IHHII", 20, 3, 0, 8, 0) + b"done"
    found = list(split(one + two))
    assert [(m.kind, m.flags, m.sequence, m.body) for m in found] == [
        (16, 2, 7, b"ab"),
        (3, 0, 8, b"done"),
    ]


def test_a_link_is_read_from_its_message() -> None:
    tun = nested(18, text(1, "tun"), nested(2, attribute(7, b"\1"), number(8, 3)))
    body = (
        struct.pack("=BBHiII", 0, 0, 1, 12, 0x1003, 0)
        + text(3, "tap0")
        + text(20, "heddle:port:x")
        + number(4, 1450)
        + attribute(1, bytes.fromhex("fa163e000001"))
        + tun
    )
    assert links.parse(body) == links.LinkInfo(
        ifindex=12,
        name="tap0",
        alias="heddle:port:x",
        mtu=1450,
        up=True,
        group=0,
        mac="fa:16:3e:00:00:01",
        kind="tun",
        multiqueue=True,
        peer=0,
        peer_nsid=None,
        qdisc="",
    )


def test_our_mark_is_the_alias_or_the_group() -> None:
    body = struct.pack("=BBHiII", 0, 0, 1, 12, 0, 0)
    plain = links.parse(body + text(20, "uplink"))
    assert not links.is_ours(plain, "heddle:port:")
    assert links.is_ours(plain._replace(alias="heddle:port:x"), "heddle:port:")
    assert links.is_ours(plain._replace(group=links.GROUP), "heddle:port:")


def test_a_filter_is_read_from_its_message() -> None:
    options = nested(2, number(11, 99), number(8, 1))
    attributes = text(1, "bpf") + options
    ours = (filters.HANDLE, 0x68, filters.PRIORITY << 16 | 0x0300)  # ETH_P_ALL, swapped
    body = struct.pack("=BxxxiIII", 0, -1, *ours) + attributes
    assert filters.parse(body) == filters.FilterInfo(True, 99, direct_action=True)
    assert filters.changed_block(body) == 0x68
    body = struct.pack("=BxxxiIII", 0, 12, filters.HANDLE, 0, 0x20300) + attributes
    assert not filters.parse(body).is_ours
    assert filters.changed_block(body) is None
