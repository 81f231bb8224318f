"""Domain names on the wire (RFC 1035 3.1), as DHCPv6 and RA carry them."""

from __future__ import annotations

from heddle.errors import CompileError
from heddle.intent.model import Network

_LABEL_MAX = 63
_NAME_MAX = 255


def wire_name(network: Network) -> bytes:
    """The network's domain as length-prefixed labels and the root. Raises
    CompileError when it is no domain name."""
    labels = network.domain.rstrip(".").encode(errors="replace").split(b".")
    name = b"".join(bytes([len(label) & 0xFF]) + label for label in labels) + b"\0"
    if len(name) > _NAME_MAX or not all(0 < len(label) <= _LABEL_MAX for label in labels):
        raise CompileError(
            f"network {network.name}: domain {network.domain!r} is no domain name; give labels "
            f"of 1 to {_LABEL_MAX} characters, {_NAME_MAX} in all"
        )
    return name
