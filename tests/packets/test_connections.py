"""Connections: opened by rules, gone on with by state, ended by packets or time.

web1 may only send and db1 only be sent to, so that all that db1 sends passes
because of a connection or not at all.
"""

from __future__ import annotations

import pytest
from packet_rules import RECEIVES, SENDS, TCP, Member, Rule, anything, write_group, write_set
from packet_shapes import forwarded, switched
from packet_talk import between, ping, pong, question_and_answer, talk, tcp, udp
from packet_world import DB1, GATE, LONE, LONE1, MAIN_WEB, WEB1, WEB2, WEB3
from scapy.layers.l2 import Ether
from scapy.packet import Packet

from heddle.datapath.flows import Connection
from tests.packets.conftest import Switchboard

VERSIONS = (4, 6)
SECOND = 10**9
DEADLINE = 60  # seconds until what must happen counts as missing


# ---- TCP ------------------------------------------------------------------------

SYN_SENT = ("web1", "S", "SYN_SENT")
OPENED = (SYN_SENT, ("db1", "SA", "SYN_RECEIVED"), ("web1", "A", "ESTABLISHED"))
CLOSED = (
    *OPENED,
    ("web1", "FA", "FIN_WAIT"),
    ("db1", "FA", "LAST_ACK"),
    ("web1", "A", "TIME_WAIT"),
)
RESET = (*OPENED, ("db1", "R", "CLOSED"))
# Who sends what, and the state thereafter or the reason why it is dropped.
LIVES = {
    "data both ways": (*OPENED, ("web1", "PA", "ESTABLISHED"), ("db1", "PA", "ESTABLISHED")),
    "opener closes": (
        *OPENED,
        ("web1", "FA", "FIN_WAIT"),
        ("db1", "A", "CLOSE_WAIT"),
        ("db1", "PA", "CLOSE_WAIT"),
        ("web1", "A", "CLOSE_WAIT"),
        ("db1", "FA", "LAST_ACK"),
        ("web1", "A", "TIME_WAIT"),
        ("web1", "A", "TIME_WAIT"),
    ),
    "other side closes": (
        *OPENED,
        ("db1", "FA", "FIN_WAIT"),
        ("web1", "A", "CLOSE_WAIT"),
        ("web1", "PA", "CLOSE_WAIT"),
        ("db1", "A", "CLOSE_WAIT"),
        ("web1", "FA", "LAST_ACK"),
        ("db1", "A", "TIME_WAIT"),
    ),
    "both close at once": (
        *OPENED,
        ("web1", "FA", "FIN_WAIT"),
        ("db1", "FA", "LAST_ACK"),
        ("db1", "A", "LAST_ACK"),
        ("web1", "A", "TIME_WAIT"),
    ),
    "FIN is sent again": (
        *OPENED,
        ("db1", "FA", "FIN_WAIT"),
        ("db1", "FA", "FIN_WAIT"),
        ("db1", "A", "FIN_WAIT"),
    ),
    "closed before it is established": (*OPENED[:2], ("db1", "FA", "FIN_WAIT")),
    "both open at once": (
        SYN_SENT,
        ("db1", "S", "SYN_RECEIVED"),
        ("web1", "SA", "SYN_RECEIVED"),
        ("db1", "SA", "SYN_RECEIVED"),
        ("db1", "A", "SYN_RECEIVED"),
        ("web1", "A", "ESTABLISHED"),
    ),
    "SYN is sent again": (SYN_SENT, SYN_SENT, *OPENED[1:]),
    "SYN+ACK is sent again": (*OPENED[:2], OPENED[1], OPENED[2]),
    "ACK before SYN+ACK": (SYN_SENT, ("web1", "A", "SYN_SENT"), ("db1", "A", "SYN_SENT")),
    "refused": (SYN_SENT, ("db1", "RA", "CLOSED")),
    "opener resets": (*OPENED, ("web1", "R", "CLOSED")),
    "reset while closing": (*OPENED, ("web1", "FA", "FIN_WAIT"), ("db1", "R", "CLOSED")),
    "what comes late after a reset": (*RESET, ("db1", "A", "CLOSED"), ("web1", "A", "CLOSED")),
    "SYN while established": (*OPENED, ("web1", "S", "ESTABLISHED"), ("db1", "A", "ESTABLISHED")),
    "opened again after a reset": (*RESET, *OPENED),
    "opened again in TIME_WAIT": (*CLOSED, *OPENED),
    "a new one needs a rule": (*CLOSED, ("db1", "S", "DROP_POLICY_FROM_VM")),
    "a new one needs a rule after a reset": (*RESET, ("db1", "S", "DROP_POLICY_FROM_VM")),
    "found in the middle": (("web1", "PA", "ESTABLISHED"), ("db1", "PA", "ESTABLISHED")),
    "found in the middle from the wrong side": (("db1", "PA", "DROP_POLICY_FROM_VM"),),
}
SIDES = {"web1": (WEB1, DB1, 40000, 80), "db1": (DB1, WEB1, 80, 40000)}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", LIVES)
def test_life_of_a_tcp_connection(strict: Switchboard, name: str, version: int) -> None:
    opener = None
    for who, flags, expected in LIVES[name]:
        source, destination, sport, dport = SIDES[who]
        before = [connection.state for connection in strict.connections()]
        frame = between(source, destination, version, tcp(flags, sport, dport))
        told = strict.trace(who, frame)
        fate = talk(strict, frame, source, destination)
        if expected.startswith("DROP_"):
            assert (fate, strict.connections()) == (expected, [])
            return
        state = told.connection_state
        is_new = not before or (flags == "S" and before[0] in ("TIME_WAIT", "CLOSED"))
        opener = who if is_new else opener
        assert state is None if is_new else state and state.name == f"CONNECTION_{before[0]}"
        assert strict.connection().state == expected, (who, flags)
        assert fate == ("ALLOWED" if who == opener else "REPLY")


BLUE = ("SA", "F", "FA", "R", "RA", "", "P", "U", "SF", "SR", "FPU")


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("flags", BLUE)
def test_what_can_not_open_a_connection(board: Switchboard, flags: str, version: int) -> None:
    """Allowed by all rules there are."""
    frame = between(WEB1, DB1, version, tcp(flags))
    assert talk(board, frame, WEB1, DB1) == "DROP_CONNECTION_INVALID"
    assert board.flows() == []


@pytest.mark.parametrize("version", VERSIONS)
def test_packets_of_an_established_connection_are_hits(strict: Switchboard, version: int) -> None:
    """Those that open and close it are looked at, in both directions."""
    data = {who: between(s, d, version, tcp("PA", *p)) for who, (s, d, *p) in SIDES.items()}

    def is_known(who: str) -> str | None:
        decision = strict.trace(who, data[who]).decision("STAGE_FLOW")
        return decision.removeprefix("DECISION_FLOW_") if decision else None

    for who, flags, _ in OPENED:
        source, destination, *ports = SIDES[who]
        strict.run(who, between(source, destination, version, tcp(flags, *ports)))
    assert is_known("web1") == "HIT"
    for who in ("db1", "web1"):
        strict.run(who, data[who])
    assert (is_known("web1"), is_known("db1")) == ("HIT", "HIT")
    strict.run("web1", between(WEB1, DB1, version, tcp("FA")))
    assert (is_known("web1"), is_known("db1")) == ("UNSETTLED", "UNSETTLED")
    strict.run("db1", data["db1"])
    assert strict.connection().state == "CLOSE_WAIT"
    assert is_known("db1") == "HIT", "it may send for long yet"
    fin = strict.trace("db1", between(DB1, WEB1, version, tcp("FA", 80, 40000)))
    assert fin.decision("STAGE_FLOW") == "DECISION_FLOW_UNSETTLED"


ODD = ("SF", "SR", "F", "SFA", "SRA", "FPU")


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("who", SIDES)
@pytest.mark.parametrize("flags", ODD)
def test_flags_that_mean_nothing_change_nothing(
    board: Switchboard, flags: str, who: str, version: int
) -> None:
    """Neither in an open connection nor in one that was reset."""
    source, destination, *ports = SIDES[who]
    odd = between(source, destination, version, tcp(flags, *ports))
    for end, state in ((None, "ESTABLISHED"), ("RA", "CLOSED")):
        before = opened(board, version) if end is None else board.connection()
        if end is not None:
            board.run(who, between(source, destination, version, tcp(end, *ports)))
        assert talk(board, odd, source, destination) == "DROP_CONNECTION_INVALID"
        after = board.connection()
        assert (after.opened_at, after.state) == (before.opened_at, state)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_syn_of_the_other_side_is_no_reply(strict: Switchboard, version: int) -> None:
    """It opens nothing that db1's rules don't allow, and ends nothing."""
    before = opened(strict, version)
    back = between(DB1, WEB1, version, tcp("S", 80, 40000))
    assert talk(strict, back, DB1, WEB1) == "DROP_POLICY_FROM_VM"
    data = between(DB1, WEB1, version, tcp("PA", 80, 40000))
    assert talk(strict, data, DB1, WEB1) == "REPLY"
    assert strict.connection().opened_at == before.opened_at
    for nic in (WEB1, DB1):
        strict.world.write_port(nic)
        strict.world.advance_epoch(nic.network)
    assert talk(strict, back, DB1, WEB1) == "REPLY"
    assert strict.connection().state == "ESTABLISHED"


# ---- other protocols ---------------------------------------------------------------

KINDS = ("udp", "echo", "sctp", "dccp", "udplite", "gre", "unknown")


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_question_opens_the_way_for_answers(strict: Switchboard, kind: str, version: int) -> None:
    (ip, question), (_, answer) = question_and_answer(kind, version)
    to_db1 = between(WEB1, DB1, version, question, **ip)
    to_web1 = between(DB1, WEB1, version, answer, **ip)
    early = "DROP_CONNECTION_INVALID" if kind == "echo" else "DROP_POLICY_FROM_VM"
    assert talk(strict, to_web1, DB1, WEB1) in ("DROP_POLICY_FROM_VM", early)
    assert talk(strict, to_db1, WEB1, DB1) == "ALLOWED"
    assert strict.connection().state == "NEW"
    for _ in range(2):
        assert talk(strict, to_web1, DB1, WEB1) == "REPLY"
        assert strict.connection().state == "ASSURED"
    assert talk(strict, to_db1, WEB1, DB1) == "ALLOWED"
    connection = strict.connection()
    assert (connection.packets, connection.reply_packets) == (2, 2)
    assert connection.bytes == 2 * len(bytes(to_db1))
    assert connection.reply_bytes == 2 * len(bytes(to_web1))


STRANGERS = {
    "other source port": udp(54, 40000),
    "other destination port": udp(53, 40001),
    "other protocol": tcp("PA", 53, 40000),
    "a ping": ping(4),
}


@pytest.mark.parametrize("name", STRANGERS)
def test_other_packets_are_no_answers(strict: Switchboard, name: str) -> None:
    strict.run("web1", between(WEB1, DB1, 4, udp(40000, 53)))
    frame = between(DB1, WEB1, 4, STRANGERS[name])
    assert talk(strict, frame, DB1, WEB1) == "DROP_POLICY_FROM_VM"


@pytest.mark.parametrize("version", VERSIONS)
def test_answer_to_no_ping_is_invalid(board: Switchboard, version: int) -> None:
    board.run("web1", between(WEB1, DB1, version, ping(version, 1)))
    frame = between(DB1, WEB1, version, pong(version, 2))
    assert talk(board, frame, DB1, WEB1) == "DROP_CONNECTION_INVALID"


@pytest.mark.parametrize("version", VERSIONS)
def test_two_that_ask_at_once_have_one_connection(board: Switchboard, version: int) -> None:
    """Whoever comes second replies."""
    assert talk(board, between(WEB1, DB1, version, udp(5, 6)), WEB1, DB1) == "ALLOWED"
    assert talk(board, between(DB1, WEB1, version, udp(6, 5)), DB1, WEB1) == "REPLY"
    assert board.connection().from_ifindex == board.devices["web1"].ifindex


# ---- at other ports, in other networks -------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
def test_an_answer_s_entry_without_its_connection_is_in_nobodys_way(
    strict: Switchboard, version: int
) -> None:
    """As two CPUs could leave it that opened, or moved, one connection at once."""
    question, answer = (
        between(WEB1, DB1, version, ping(version)),
        between(DB1, WEB1, version, pong(version)),
    )
    assert talk(strict, question, WEB1, DB1) == "ALLOWED"
    flows = strict.datapath.table("flows")
    web1 = strict.devices["web1"].ifindex.to_bytes(4, "little")
    assert flows.delete_many([key for key, _ in flows.items() if key.startswith(web1)]) == 1
    strict.world.put("total_usage", 0, {"connections": 0})
    strict.world.put("usage", WEB1.slot, {"connections": 0, "ifindex": 0})
    for _ in range(2):
        assert talk(strict, question, WEB1, DB1) == "ALLOWED"
        assert talk(strict, answer, DB1, WEB1) == "REPLY"
    assert strict.connection().state == "ASSURED"
    assert (strict.usage(WEB1.slot), strict.total_usage(), len(strict.flows())) == (1, 1, 2)


@pytest.mark.parametrize("version", VERSIONS)
def test_answers_come_from_the_port_that_was_asked(strict: Switchboard, version: int) -> None:
    """web3, which nobody guards, sends in web2's name."""
    question = switched(WEB1, WEB2, version)
    assert talk(strict, question, WEB1, WEB2) == "ALLOWED"
    strict.world.open_port(WEB3)
    answer = between(WEB2, WEB1, version, udp(53, 33000))
    sent = strict.send_once("web3", answer)
    assert sent.reason == "DROP_POLICY_TO_VM"
    assert talk(strict, answer, WEB2, WEB1) == "REPLY"


@pytest.mark.parametrize("version", VERSIONS)
def test_answers_go_to_the_port_that_asked(strict: Switchboard, version: int) -> None:
    """web1's address has moved to web3, which has asked nothing and allows nothing."""
    assert talk(strict, between(WEB1, WEB2, version, udp()), WEB1, WEB2) == "ALLOWED"
    write_group(strict.world, SENDS, [])
    strict.world.write_port(WEB3, groups=[SENDS])
    answer = between(WEB2, WEB1, version, udp(53, 40000))
    answer.dst = WEB3.mac
    assert strict.send_once("web2", answer).reason == "DROP_POLICY_TO_VM"


@pytest.mark.parametrize("version", VERSIONS)
def test_equal_addresses_in_two_networks_never_meet(strict: Switchboard, version: int) -> None:
    """lone1 and gate have the addresses of web1 and web2 in a network of their own."""
    world, kind = strict.world, strict.world.value("ENDPOINT_PORT")
    twins = {WEB1: LONE1, WEB2: GATE}
    for original, twin in twins.items():
        target = strict.devices[twin.name].ifindex
        world.write_port(twin, network=LONE.vni, groups=[SENDS if twin is LONE1 else RECEIVES])
        world.put_address(LONE, original.address(version), kind, target, twin.mac)
        mac = bytes.fromhex(twin.mac.replace(":", ""))
        world.put("macs", {"network": LONE.vni, "mac": mac}, {"kind": kind, "target": target})

    def among_twins(frame: Packet) -> Packet:
        copy = Ether(bytes(frame))
        macs = {original.mac: twin.mac for original, twin in twins.items()}
        copy.src, copy.dst = macs[copy.src], macs[copy.dst]
        return copy

    question = between(WEB1, WEB2, version, udp())
    answer = between(WEB2, WEB1, version, udp(53, 40000))
    assert talk(strict, question, WEB1, WEB2) == "ALLOWED"
    assert strict.send_once("gate", among_twins(answer)).reason == "DROP_POLICY_FROM_VM"
    assert strict.send_once("lone1", among_twins(question)).to == "gate"
    assert strict.send_once("gate", among_twins(answer)).to == "lone1"
    assert talk(strict, answer, WEB2, WEB1) == "REPLY"
    assert len(strict.connections()) == 2


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("protocol", ["udp", "tcp"])
def test_a_packet_from_itself_to_itself_leaves_nothing_behind(
    board: Switchboard, protocol: str, version: int
) -> None:
    """Both directions would be one and the same ("land")."""
    payload = udp(7, 7) if protocol == "udp" else tcp("S", 7, 7)
    frame = between(WEB1, WEB1, version, payload)
    frame.dst = MAIN_WEB.mac
    board.send("web1", frame).arrives("web1", forwarded(frame, MAIN_WEB.mac, WEB1.mac))
    assert (board.flows(), board.total_usage()) == ([], 0)


# ---- the policy changes ---------------------------------------------------------------


def opened(board: Switchboard, version: int) -> Connection:
    for who, flags, _ in OPENED:
        source, destination, *ports = SIDES[who]
        board.run(who, between(source, destination, version, tcp(flags, *ports)))
    return board.connection()


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("who", SIDES)
def test_what_is_still_allowed_goes_on(strict: Switchboard, who: str, version: int) -> None:
    before = opened(strict, version)
    for nic in (WEB1, DB1):
        strict.world.advance_epoch(nic.network)
    source, destination, *ports = SIDES[who]
    frame = between(source, destination, version, tcp("PA", *ports))
    assert talk(strict, frame, source, destination) == ("REPLY" if who == "db1" else "ALLOWED")
    after = strict.connection()
    assert (after.opened_at, after.state) == (before.opened_at, "ESTABLISHED")
    told = strict.trace(who, frame)
    assert told.decision("STAGE_FLOW") == "DECISION_FLOW_HIT"


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("end", ["web1", "db1"])
@pytest.mark.parametrize("who", SIDES)
def test_what_is_no_longer_allowed_ends(
    strict: Switchboard, who: str, end: str, version: int
) -> None:
    """Whoever sends, the end whose rule is gone is blamed, and nothing is left."""
    opened(strict, version)
    strict.world.write_port({"web1": WEB1, "db1": DB1}[end], groups=[])
    for nic in (WEB1, DB1):
        strict.world.advance_epoch(nic.network)
    source, destination, *ports = SIDES[who]
    frame = between(source, destination, version, tcp("PA", *ports))
    reason = {"web1": "DROP_POLICY_FROM_VM", "db1": "DROP_POLICY_TO_VM"}[end]
    assert talk(strict, frame, source, destination) == reason
    assert strict.drop_count(end, reason)["packets"] == 1
    assert (strict.flows(), strict.usage(WEB1.slot)) == ([], 0)
    assert strict.total_usage() == 0


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("who", SIDES)
def test_an_answer_is_judged_by_the_rules_for_its_question(
    board: Switchboard, who: str, version: int
) -> None:
    """Of peers, ports and networks as the opener saw them, whoever sends next."""
    write_set(board.world, 5, [Member(WEB1.address(version), WEB1.network.vni)])
    to_db1 = Rule(11, "FROM_VM", version, TCP, ports=(80, 80), remote=DB1.address(version))
    from_web1 = Rule(12, "TO_VM", version, TCP, ports=(80, 80), remote=5)
    write_group(board.world, SENDS, [to_db1])
    write_group(board.world, RECEIVES, [from_web1])
    board.world.write_port(WEB1, groups=[SENDS])
    board.world.write_port(DB1, groups=[RECEIVES])
    opened(board, version)
    for nic in (WEB1, DB1):
        board.world.advance_epoch(nic.network)
    source, destination, *ports = SIDES[who]
    frame = between(source, destination, version, tcp("PA", *ports))
    assert talk(board, frame, source, destination) == ("REPLY" if who == "db1" else "ALLOWED")
    assert (board.connection().from_rule, board.connection().to_rule) == (11, 12)


def test_rules_of_a_new_policy_are_named(strict: Switchboard) -> None:
    assert opened(strict, 4).from_rule == 1
    write_group(strict.world, 5, anything(100))
    strict.world.write_port(WEB1, groups=[5])
    strict.world.advance_epoch(WEB1.network)
    strict.run("web1", between(WEB1, DB1, 4, tcp("PA")))
    assert (strict.connection().from_rule, strict.connection().to_rule) == (100, 3)
