"""ICMP errors: those about a packet of a known connection, and forged ones."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from packet_talk import between, ping, talk, tcp, udp
from packet_world import DB1, GATE, WEB1, WEB2, Nic
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import (
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
)
from scapy.layers.ipsec import AH
from scapy.layers.l2 import Ether
from scapy.packet import Packet, Raw

from tests.packets.conftest import Switchboard

VERSIONS = (4, 6)


# ---- ICMP errors ---------------------------------------------------------------------------

ERRORS = {
    4: ((3, 1), (3, 4), (11, 0), (12, 0), (5, 1)),
    6: ((1, 4), (2, 0), (3, 0), (4, 1), (100, 0)),
}
QUOTED: dict[str, Callable[[int], Packet]] = {
    "tcp": lambda _: tcp("PA"),
    "udp": lambda _: udp(),
    "echo": ping,
}


def error(
    kind: tuple[int, int], quoted: Packet, source: Nic, destination: Nic, bytes_quoted: int = 0
) -> Packet:
    """An ICMP error about a frame, of which it quotes so many bytes of the IP packet,
    or 8 of the payload."""
    version = 4 if IP in quoted else 6
    numbers = {"proto": 1} if version == 4 else {"nh": 58}
    header = bytes([*kind, 0, 0]) + bytes(4)
    payload = bytes(quoted[1])[: bytes_quoted or (28 if version == 4 else 48)]
    return between(source, destination, version, Raw(header + payload), **numbers)


@pytest.mark.parametrize("quoted", QUOTED)
@pytest.mark.parametrize(
    ("version", "kind"), [(version, kind) for version in VERSIONS for kind in ERRORS[version]]
)
def test_error_about_a_known_packet(
    strict: Switchboard, version: int, kind: tuple[int, int], quoted: str
) -> None:
    """To its sender, by whom it was sent to. Neither rule nor entry is needed."""
    sent = between(WEB1, DB1, version, QUOTED[quoted](version))
    strict.run("web1", sent)
    before = strict.connection()
    assert talk(strict, error(kind, sent, DB1, WEB1), DB1, WEB1) == "RELATED"
    assert strict.connection() == before


@pytest.mark.parametrize("version", VERSIONS)
def test_error_about_an_answer(strict: Switchboard, version: int) -> None:
    """Its port has closed: web1 tells db1."""
    strict.run("web1", between(WEB1, DB1, version, udp()))
    answer = between(DB1, WEB1, version, udp(53, 40000))
    strict.run("db1", answer)
    kind = ERRORS[version][0]
    assert talk(strict, error(kind, answer, WEB1, DB1), WEB1, DB1) == "RELATED"


CHAINS: dict[str, Packet] = {
    "first fragment": IPv6ExtHdrFragment(id=9, m=1),
    "options": IPv6ExtHdrHopByHop() / IPv6ExtHdrDestOpt(),
    "authentication": AH(nh=60, payloadlen=4, spi=1, seq=1, icv=bytes(12)) / IPv6ExtHdrDestOpt(),
    "all of them": IPv6ExtHdrHopByHop() / IPv6ExtHdrRouting() / IPv6ExtHdrFragment(id=9, m=1),
}


def behind(chain: Packet, upper: Packet) -> Packet:
    """A copy of the chain with the upper layer at its end."""
    return chain.copy() / upper


@pytest.mark.parametrize("quoted", QUOTED)
@pytest.mark.parametrize("chain", CHAINS)
def test_error_about_a_packet_with_extension_headers(
    strict: Switchboard, chain: str, quoted: str
) -> None:
    sent = between(WEB1, DB1, 6, behind(CHAINS[chain], QUOTED[quoted](6)))
    strict.run("web1", sent)
    told = error((2, 0), sent, DB1, WEB1, bytes_quoted=140)
    assert talk(strict, told, DB1, WEB1) == "RELATED"


BROKEN: dict[str, tuple[Packet, int]] = {
    "a later fragment": (IPv6ExtHdrFragment(id=9, offset=4), 100),
    "cut within its headers": (IPv6ExtHdrHopByHop() / IPv6ExtHdrDestOpt(), 52),
    "cut within its ports": (IPv6ExtHdrFragment(id=9, m=1), 52),
}


@pytest.mark.parametrize("name", BROKEN)
def test_error_that_quotes_no_ports_behind_extension_headers(board: Switchboard, name: str) -> None:
    board.run("web1", between(WEB1, DB1, 6, udp()))
    chain, length = BROKEN[name]
    quoted = between(WEB1, DB1, 6, behind(chain, udp()))
    told = error((1, 4), quoted, DB1, WEB1, bytes_quoted=length)
    assert talk(board, told, DB1, WEB1) == "DROP_CONNECTION_INVALID"


def forged(name: str, version: int) -> tuple[Nic, Nic, Packet]:
    """Sender, receiver and the packet that the error quotes."""
    if name == "of another connection":
        return DB1, WEB1, between(WEB1, DB1, version, udp(40001))
    if name == "to another than the sender":
        return DB1, WEB2, between(WEB1, DB1, version, udp())
    if name == "by one who was not asked":
        return GATE, WEB1, between(WEB1, DB1, version, udp())
    return DB1, WEB1, between(DB1, WEB1, version, udp(53, 40000))


FORGED = (
    "of another connection",
    "to another than the sender",
    "by one who was not asked",
    "about a packet of its own",
)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", FORGED)
def test_other_errors_are_refused(board: Switchboard, name: str, version: int) -> None:
    """Though all rules allow them."""
    board.run("web1", between(WEB1, DB1, version, udp()))
    source, destination, quoted = forged(name, version)
    frame = error(ERRORS[version][0], quoted, source, destination)
    assert talk(board, frame, source, destination) == "DROP_CONNECTION_INVALID"


def test_error_that_quotes_too_little(board: Switchboard) -> None:
    board.run("web1", between(WEB1, DB1, 4, udp()))
    frame = error((3, 1), between(WEB1, DB1, 4, udp()), DB1, WEB1)
    short = Ether(bytes(frame)[:-6])
    short[IP].len -= 6
    del short[IP].chksum
    assert talk(board, short, DB1, WEB1) == "DROP_CONNECTION_INVALID"


def test_later_fragment_of_the_quoted_packet_has_no_ports(board: Switchboard) -> None:
    sent = between(WEB1, DB1, 4, udp())
    board.run("web1", sent)
    quoted = between(WEB1, DB1, 4, UDP(sport=40000, dport=53), frag=5)
    frame = error((11, 1), quoted, DB1, WEB1)
    assert talk(board, frame, DB1, WEB1) == "DROP_CONNECTION_INVALID"


# ---- errors that heddle itself sends -----------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
def test_who_answers_is_told_that_it_is_too_big(strict: Switchboard, version: int) -> None:
    """db1 may send nothing by itself, but must learn what fits."""
    strict.run("web1", between(WEB1, DB1, version, udp()))
    answer = between(DB1, WEB1, version, UDP(sport=53, dport=40000) / Raw(bytes(1500)))
    if version == 4:
        answer[IP].flags = "DF"
    sent = strict.send_once("db1", answer)
    assert (sent.reason, sent.to) == ("DROP_TOO_BIG", "db1")
