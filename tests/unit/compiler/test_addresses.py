"""Text of intent to bytes, compared with Python's slower ipaddress."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heddle.compiler.addresses import mapped_prefix

networks = st.one_of(
    st.builds(
        IPv4Network, st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 32)), st.just(False)
    ),
    st.builds(
        IPv6Network, st.tuples(st.integers(0, 2**128 - 1), st.integers(0, 128)), st.just(False)
    ),
)


@given(networks)
def test_prefix(network: IPv4Network | IPv6Network) -> None:
    mapped = b"" if network.version == 6 else bytes(10) + b"\xff\xff"
    bits, address = mapped_prefix(str(network))
    assert bits == 8 * len(mapped) + network.prefixlen
    assert address == mapped + network.network_address.packed


BAD = [
    "",
    "10.0.0.0",
    "10.0.0.0/",
    "10.0.0.0/33",
    "10.0.0.0/-1",
    "10.0.0.0/ 8",
    "fd00::/129",
    "x/8",
]


@pytest.mark.parametrize("text", BAD)
def test_what_is_no_prefix(text: str) -> None:
    with pytest.raises(ValueError, match="is not a"):
        mapped_prefix(text)


@pytest.mark.parametrize("text", ["10.0.0.1/24", "fd00::1/64", "128.0.0.0/0", "8000::/0"])
def test_host_bits(text: str) -> None:
    with pytest.raises(ValueError, match="has host bits set"):
        ip_network(text)
    with pytest.raises(ValueError, match="has host bits set"):
        mapped_prefix(text)
