"""The DHCPv6 answer of a subnet (RFC 8415): the options that are the same for
every client. The data plane adds the client's identifier and its address."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from heddle.compiler.addresses import is_ipv6, packed
from heddle.compiler.domain import wire_name
from heddle.compiler.fragment import Limits
from heddle.compiler.state import Dhcp6TemplateRow
from heddle.errors import CompileError
from heddle.intent.model import Network, Subnet

_SERVER_ID = 2
_DNS = 23  # RFC 3646
_DOMAIN_LIST = 24  # RFC 3646

_DUID_LL = 3  # RFC 8415 11.4
_ETHERNET = 1


def template(
    network: Network, subnet: Subnet, server_mac: bytes, limits: Limits
) -> Dhcp6TemplateRow:
    """Raises CompileError when the options are too long."""
    server_id = struct.pack("!HH", _DUID_LL, _ETHERNET) + server_mac
    options = b"".join(_options(network, subnet, server_id))
    if len(options) > limits.dhcp_options:
        raise CompileError(
            f"subnet {subnet.name}: its DHCPv6 options take {len(options)} bytes, but only "
            f"{limits.dhcp_options} fit; give fewer DNS servers, or a shorter domain"
        )
    return Dhcp6TemplateRow(
        server_mac=server_mac,
        options_length=len(options),
        server_id_length=len(server_id),
        preferred_lifetime=subnet.lease_time,
        valid_lifetime=subnet.lease_time,
        options=options,
    )


def _options(network: Network, subnet: Subnet, server_id: bytes) -> Iterator[bytes]:
    yield _option(_SERVER_ID, server_id)
    servers = b"".join(packed(dns) for dns in subnet.dns if is_ipv6(dns))
    if servers:
        yield _option(_DNS, servers)
    if network.domain:
        yield _option(_DOMAIN_LIST, wire_name(network))


def _option(code: int, data: bytes) -> bytes:
    return struct.pack("!HH", code, len(data)) + data
