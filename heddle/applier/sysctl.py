"""Settings of links that have no netlink message."""

from __future__ import annotations

import os

_IPV6 = "/proc/sys/net/ipv6/conf/{}/disable_ipv6"


def disable_ipv6(device: str) -> None:
    """Keep the host's own IPv6 off a link of the calling thread's namespace: a
    host that forwards IPv6 would tell the guest which multicast groups it is in
    (RFC 3810), link-local address or not. OSError when it can't be done."""
    try:
        setting = os.open(_IPV6.format(device), os.O_WRONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return  # MTU below 1280, or a kernel without IPv6
    try:
        os.write(setting, b"1")
    finally:
        os.close(setting)
