"""Messages about links: what to ask rtnetlink, and what it answers.

Requests name a link by its ifindex (a name may have gone to another link) and
leave out what is not to be changed.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from heddle.applier.netlink import (
    NLM_F_CREATE,
    NLM_F_EXCL,
    Request,
    attribute,
    attributes,
    nested,
    number,
    text,
)

RTM_NEWLINK = 16
RTM_DELLINK = 17
RTM_GETLINK = 18
RTM_SETLINK = 19
_RTM_GETNSID = 90

_IFLA_ADDRESS = 1
_IFLA_IFNAME = 3
_IFLA_MTU = 4
_IFLA_TXQLEN = 13
_IFLA_LINK = 5
_IFLA_QDISC = 6
_IFLA_MASTER = 10
_IFLA_LINKINFO = 18
_IFLA_IFALIAS = 20
_IFLA_STATS64 = 23
_IFLA_AF_SPEC = 26
_IFLA_GROUP = 27
_IFLA_NET_NS_FD = 28
_IFLA_EXT_MASK = 29
_IFLA_LINK_NETNSID = 37
_IFLA_TARGET_NETNSID = 46
_IFLA_INFO_KIND = 1
_IFLA_INFO_DATA = 2
_VETH_INFO_PEER = 1
_IFLA_TUN_MULTI_QUEUE = 7
_IFLA_INET6_CONF = 2
_IFLA_INET6_ADDR_GEN_MODE = 8
_IN6_ADDR_GEN_MODE_NONE = 1
_RTEXT_FILTER_SKIP_STATS = 8
_NETNSA_NSID = 1
_NETNSA_FD = 3

_IFF_UP = 1
_ARPHRD_ETHER = 1
_IPV6_MTU_MIN = 1280  # RFC 8200, section 5
_AF_INET6 = 10

_INFO = struct.Struct("=BBHiII")  # family, pad, type, index, flags, change
_TYPE = struct.Struct("=2xH")  # enum ARPHRD_*
_DISABLE_IPV6 = struct.Struct("=104xi")  # of s32[], DEVCONF_DISABLE_IPV6 (linux/ipv6.h)
_DROPPED = struct.Struct("=56xQ16xQ")  # tx_dropped, rx_length_errors

# The link group that a link gets when it is made. A veth can't be given its
# alias in the same message, so this is its mark until the alias is there.
GROUP = 0x6864646C
_OUR_GROUP = number(_IFLA_GROUP, GROUP)
# Links in this group are deleted by one message: one by one each would wait
# for several RCU grace periods, about 20 ms.
_GROUP_DOOMED = 0x68646478
_NO_LINK_LOCAL = nested(
    _IFLA_AF_SPEC,
    nested(_AF_INET6, attribute(_IFLA_INET6_ADDR_GEN_MODE, bytes([_IN6_ADDR_GEN_MODE_NONE]))),
)
_WITHOUT_STATISTICS = number(_IFLA_EXT_MASK, _RTEXT_FILTER_SKIP_STATS)


class LinkInfo(NamedTuple):
    """What the kernel says of a link. ``kind`` is tun, veth, ... or empty;
    ``peer`` is the ifindex of a veth's other end and ``peer_nsid`` the number
    of the namespace that it is in; of a link stacked on another ``peer`` is that
    one. ``qdisc`` is the kind of what queues in front of it, ``master`` the
    ifindex of the bridge, bond or VRF that it is a port of, 0: of none. ``has_ipv6``:
    the host itself speaks IPv6 there, for which the MTU may be too small. ``queue``: how
    many frames may wait."""

    ifindex: int
    name: str
    alias: str
    mtu: int
    up: bool
    group: int
    mac: str
    kind: str
    multiqueue: bool
    peer: int
    peer_nsid: int | None
    qdisc: str
    master: int = 0
    has_ipv6: bool = False
    queue: int = 0


def has_frames(body: bytes) -> bool:
    """Whether a link, from the body of an RTM_NEWLINK message, is an Ethernet, and
    no loopback or IP tunnel."""
    return bool(_TYPE.unpack_from(body)[0] == _ARPHRD_ETHER)


def parse(body: bytes) -> LinkInfo:
    """A link from the body of an RTM_NEWLINK message."""
    _, _, _, index, flags, _ = _INFO.unpack_from(body)
    found = attributes(body, _INFO.size)
    info = attributes(found.get(_IFLA_LINKINFO, b""))
    kind = _string(info.get(_IFLA_INFO_KIND))
    data = attributes(info.get(_IFLA_INFO_DATA, b"")) if kind == "tun" else {}
    nsid = found.get(_IFLA_LINK_NETNSID)
    return LinkInfo(
        ifindex=index,
        name=_string(found.get(_IFLA_IFNAME)),
        alias=_string(found.get(_IFLA_IFALIAS)),
        mtu=_integer(found.get(_IFLA_MTU)),
        up=bool(flags & _IFF_UP),
        group=_integer(found.get(_IFLA_GROUP)),
        mac=found.get(_IFLA_ADDRESS, b"").hex(":"),
        kind=kind,
        multiqueue=any(data.get(_IFLA_TUN_MULTI_QUEUE, b"")),
        peer=_integer(found.get(_IFLA_LINK)),
        peer_nsid=int.from_bytes(nsid, "little", signed=True) if nsid else None,
        qdisc=_string(found.get(_IFLA_QDISC)),
        master=_integer(found.get(_IFLA_MASTER)),
        has_ipv6=_has_ipv6(found.get(_IFLA_AF_SPEC, b"")),
        queue=_integer(found.get(_IFLA_TXQLEN)),
    )


def _has_ipv6(families: bytes) -> bool:
    """What the settings of protocols say of it; a kilobyte that nobody shall keep."""
    settings = attributes(attributes(families).get(_AF_INET6, b"")).get(_IFLA_INET6_CONF, b"")
    return len(settings) >= _DISABLE_IPV6.size and not _DISABLE_IPV6.unpack_from(settings)[0]


def get(index: int, nsid: int | None = None) -> Request:
    """Ask for one link, also for one in the namespace of that number."""
    target = b"" if nsid is None else number(_IFLA_TARGET_NETNSID, nsid)
    return Request(RTM_GETLINK, 0, _info(index) + _WITHOUT_STATISTICS + target)


def get_all() -> Request:
    return Request(RTM_GETLINK, 0, _info() + _WITHOUT_STATISTICS)


def get_all_with_statistics() -> Request:
    return Request(RTM_GETLINK, 0, _info())


class DeviceDrops(NamedTuple):
    """What a device dropped itself (struct rtnl_link_stats64): frames that it had no
    room for (tx_dropped), and that were too short to take in (rx_length_errors)."""

    ifindex: int
    not_taken: int
    too_short: int


def parse_drops(body: bytes) -> DeviceDrops:
    _, _, _, index, _, _ = _INFO.unpack_from(body)
    statistics = attributes(body, _INFO.size).get(_IFLA_STATS64, b"")
    return DeviceDrops(index, *(_DROPPED.unpack_from(statistics) if statistics else (0, 0)))


def nsid_of(namespace_fd: int) -> Request:
    """Ask under which number this namespace knows another one."""
    return Request(_RTM_GETNSID, 0, bytes(4) + number(_NETNSA_FD, namespace_fd))


def parse_nsid(body: bytes) -> int | None:
    """The number, None when the namespace has none."""
    data = attributes(body, 4).get(_NETNSA_NSID)
    nsid = int.from_bytes(data, "little", signed=True) if data else -1
    return nsid if nsid >= 0 else None


def create_veth(name: str, mtu: int, peer: str, peer_mac: str, namespace_fd: int) -> Request:
    """A veth pair whose other end begins its life in another namespace."""
    other = (
        _info()
        + text(_IFLA_IFNAME, peer)
        + attribute(_IFLA_ADDRESS, bytes.fromhex(peer_mac.replace(":", "")))
        + number(_IFLA_MTU, mtu)
        + number(_IFLA_NET_NS_FD, namespace_fd)
    )
    info = nested(
        _IFLA_LINKINFO,
        text(_IFLA_INFO_KIND, "veth"),
        nested(_IFLA_INFO_DATA, attribute(_VETH_INFO_PEER, other)),
    )
    body = _info() + text(_IFLA_IFNAME, name) + number(_IFLA_MTU, mtu) + _OUR_GROUP
    return Request(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, body + info)


def create_pair(name: str, peer: str, mtu: int) -> Request:
    """A veth pair with both ends here."""
    ends = [_info() + text(_IFLA_IFNAME, end) + number(_IFLA_MTU, mtu) for end in (name, peer)]
    info = nested(
        _IFLA_LINKINFO,
        text(_IFLA_INFO_KIND, "veth"),
        nested(_IFLA_INFO_DATA, attribute(_VETH_INFO_PEER, ends[1] + _OUR_GROUP)),
    )
    return Request(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, ends[0] + _OUR_GROUP + info)


def adopt(index: int, alias: str, mtu: int) -> Request:
    """Mark a new link as ours and keep the host's own IPv6 off it."""
    body = _info(index) + number(_IFLA_MTU, mtu) + _OUR_GROUP
    if mtu >= _IPV6_MTU_MIN:  # below it the link has no IPv6 that could be set
        body += _NO_LINK_LOCAL
    return Request(RTM_SETLINK, 0, body + text(_IFLA_IFALIAS, alias))


def change(
    index: int,
    *,
    name: str | None = None,
    alias: str | None = None,
    mtu: int | None = None,
    queue: int | None = None,
    up: bool | None = None,
) -> Request:
    """Set what is given."""
    body = _info(index) if up is None else _info(index, _IFF_UP if up else 0, _IFF_UP)
    if name is not None:
        body += text(_IFLA_IFNAME, name)
    if alias is not None:
        body += text(_IFLA_IFALIAS, alias)
    if mtu is not None:
        body += number(_IFLA_MTU, mtu)
    if queue is not None:
        body += number(_IFLA_TXQLEN, queue)
    return Request(RTM_SETLINK, 0, body)


def release(index: int) -> Request:
    """Out of the bridge, bond or VRF that it is a port of."""
    return Request(RTM_SETLINK, 0, _info(index) + number(_IFLA_MASTER, 0))


def delete(index: int) -> Request:
    return Request(RTM_DELLINK, 0, _info(index))


def doom(index: int) -> Request:
    """Put a link among those that ``delete_doomed`` deletes."""
    return Request(RTM_SETLINK, 0, _info(index) + number(_IFLA_GROUP, _GROUP_DOOMED))


def delete_doomed() -> Request:
    return Request(RTM_DELLINK, 0, _info() + number(_IFLA_GROUP, _GROUP_DOOMED))


def is_ours(link: LinkInfo, alias_prefix: str) -> bool:
    """Whether a link bears our mark: the alias, or a group that only we use."""
    return link.alias.startswith(alias_prefix) or link.group in (GROUP, _GROUP_DOOMED)


def is_doomed(link: LinkInfo) -> bool:
    return link.group == _GROUP_DOOMED


def _info(index: int = 0, flags: int = 0, change_mask: int = 0) -> bytes:
    return _INFO.pack(0, 0, 0, index, flags, change_mask)


def _integer(data: bytes | None) -> int:
    return int.from_bytes(data, "little") if data else 0


def _string(data: bytes | None) -> str:
    return data.rstrip(b"\0").decode(errors="replace") if data else ""
