"""Ports of VMs on their way: they stand by on the host that the VM comes to, and
send on what comes from the host that it has left. Nothing depends on an agent.

web1 may only send and db1 only be sent to, so that what db1 answers passes because
of a connection or not at all. The other host is NEAR.
"""

from __future__ import annotations

import contextlib
import multiprocessing
from collections.abc import Callable, Iterator
from multiprocessing.sharedctypes import Synchronized
from multiprocessing.synchronize import Barrier

import pytest
from packet_rules import RECEIVES, SENDS, anything, write_group
from packet_shapes import forwarded, switched, to_router
from packet_talk import between, tcp, udp
from packet_tunnel import FORWARDED_ONCE, HERE, NEAR, SIX, WEB6, Tunnel
from packet_world import ALL, DB, DB1, MAIN_DB, MAIN_WEB, WEB, WEB1, WEB2, Nic
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Packet

from heddle.datapath.codec import partial_layout
from heddle.datapath.moving import Arrival, Departure, End
from heddle.datapath.testrun import run
from tests.packets.conftest import TC_ACT_REDIRECT, TC_ACT_SHOT, Switchboard

VERSIONS = (4, 6)
BROADCAST = "ff:ff:ff:ff:ff:ff"
HIDDEN = ("PORT_STANDBY", "PORT_AWAY")


def mark(board: Switchboard, nic: Nic, *flags: str, group: int = ALL) -> None:
    """What the applier writes when a VM begins to move, or has moved."""
    bits = board.datapath.abi.bits("port_flag", [*nic.flags, *flags])
    board.world.write_port(nic, groups=[group], flags=bits, elsewhere=NEAR.number if flags else 0)
    for network in (WEB, DB):
        board.world.advance_epoch(network)


def guard_both(board: Switchboard) -> None:
    write_group(board.world, SENDS, [r for r in anything() if r.direction == "FROM_VM"])
    write_group(board.world, RECEIVES, [r for r in anything() if r.direction == "TO_VM"])
    mark(board, WEB1, group=SENDS)
    mark(board, DB1, group=RECEIVES)


def write(board: Switchboard, nic: Nic, frame: Packet) -> None:
    board.devices[nic.name].write(bytes(frame))


def gets(board: Switchboard, nic: Nic, frame: Packet | bytes) -> None:
    assert board.devices[nic.name].read() == bytes(frame)


def arriving(source: Nic, destination: Nic, version: int, payload: Packet) -> Packet:
    """What a frame is behind the router."""
    frame = between(source, destination, version, payload)
    gateway = MAIN_DB if destination.network is DB else MAIN_WEB
    return forwarded(frame, gateway.mac, destination.mac)


# ---- where frames go -------------------------------------------------------------------


@pytest.mark.parametrize("flag", HIDDEN)
@pytest.mark.parametrize("version", VERSIONS)
def test_what_is_sent_to_it_goes_to_the_other_host(tunnel: Tunnel, version: int, flag: str) -> None:
    """Whatever was cached before."""
    frame, routed = switched(WEB2, WEB1, version), to_router(DB1, MAIN_DB, WEB1.address(version))
    write(tunnel.board, WEB2, frame)
    gets(tunnel.board, WEB1, frame)
    mark(tunnel.board, WEB1, flag)
    for _ in range(2):
        write(tunnel.board, WEB2, frame)
        tunnel.carries(NEAR, WEB.vni, frame)
        write(tunnel.board, DB1, routed)
        tunnel.carries(NEAR, WEB.vni, forwarded(routed, MAIN_WEB.mac, WEB1.mac))
    told = tunnel.board.trace("web2", frame)
    assert told.decision("STAGE_SWITCH") == "DECISION_SWITCH_REMOTE"


@pytest.mark.parametrize("version", VERSIONS)
def test_one_that_stands_by_gets_what_is_sent_here(tunnel: Tunnel, version: int) -> None:
    """By the host that the VM leaves, or by one that knows already."""
    mark(tunnel.board, WEB1, "PORT_STANDBY")
    frame = switched(WEB6, WEB1, version)
    for header in ({}, {"number": HERE, "bits": FORWARDED_ONCE}):
        tunnel.write(NEAR, WEB.vni, frame, **header)
        gets(tunnel.board, WEB1, frame)


@pytest.mark.parametrize("version", VERSIONS)
def test_what_comes_for_one_that_is_away_is_sent_on(tunnel: Tunnel, version: int) -> None:
    """Whatever the rules of the port say: they are asked where it is."""
    mark(tunnel.board, WEB1, "PORT_AWAY")
    frame = switched(WEB6, WEB1, version)
    tunnel.write(SIX, WEB.vni, frame)
    tunnel.carries(NEAR, WEB.vni, frame, number=NEAR.number, bits=FORWARDED_ONCE)
    assert tunnel.board.rows("drops") == []


@pytest.mark.parametrize("flag", HIDDEN)
def test_neither_gets_a_copy_of_what_is_flooded(tunnel: Tunnel, flag: str) -> None:
    """A VM that stands still would find nothing else in its queue."""
    mark(tunnel.board, WEB1, flag)
    arp = Ether(src=WEB2.mac, dst=BROADCAST) / ARP(hwsrc=WEB2.mac, psrc=WEB2.ipv4, pdst=WEB2.ipv4)
    tunnel.board.run("web2", arp)
    tunnel.write(SIX, WEB.vni, arp)
    assert tunnel.board.devices["web1"].read(wait=False) is None


@pytest.mark.parametrize("flag", HIDDEN)
def test_a_host_that_nobody_knows(tunnel: Tunnel, flag: str) -> None:
    mark(tunnel.board, WEB1, flag)
    tunnel.board.world.delete("vteps", NEAR.number)
    assert tunnel.board.send("web2", switched(WEB2, WEB1, 4)).reason == "DROP_NO_VTEP"


# ---- the first frame ---------------------------------------------------------------------


RARP = bytes.fromhex("ffffffffffff") + bytes.fromhex(WEB1.mac.replace(":", "")) + b"\x80\x35"


@pytest.mark.parametrize(
    "first",
    [bytes(switched(WEB1, WEB2, 4)), bytes(switched(WEB1, WEB2, 6)), RARP.ljust(60, b"\0")],
    ids=["IPv4", "IPv6", "RARP, as QEMU announces"],
)
def test_the_first_frame_makes_it_active(tunnel: Tunnel, first: bytes) -> None:
    """At once, for all rows, and told once."""
    board = tunnel.board
    mark(board, WEB1, "PORT_STANDBY")
    for _ in range(2):
        board.run("web1", first)
    kinds = [int.from_bytes(record[:4], "little") for record in board.events.consume()]
    active = board.world.value("EVENT_ACTIVE")
    assert kinds.count(active) == 1
    frame = switched(WEB2, WEB1, 4)
    write(board, WEB2, frame)
    gets(board, WEB1, frame)


def test_a_traced_frame_is_none(tunnel: Tunnel) -> None:
    mark(tunnel.board, WEB1, "PORT_STANDBY")
    tunnel.board.trace("web1", switched(WEB1, WEB2, 4))
    assert tunnel.board.events.consume() == []
    write(tunnel.board, WEB2, switched(WEB2, WEB1, 4))
    tunnel.carries(NEAR, WEB.vni, switched(WEB2, WEB1, 4))


def test_its_own_announcement_is_not_answered(tunnel: Tunnel) -> None:
    mark(tunnel.board, WEB1, "PORT_STANDBY")
    arp = ARP(hwsrc=WEB1.mac, psrc=WEB1.ipv4, pdst=WEB1.ipv4)
    result = tunnel.board.run("web1", Ether(src=WEB1.mac, dst=BROADCAST) / arp)
    assert result.verdict == TC_ACT_SHOT
    assert tunnel.board.rows("drops") == []


# ---- connections on the host that the VM leaves --------------------------------------------


def leave(tunnel: Tunnel, version: int) -> None:
    """web1 has an established connection with db1, and goes."""
    board = tunnel.board
    guard_both(board)
    board.run("web1", between(WEB1, DB1, version, tcp("S")))
    board.run("db1", between(DB1, WEB1, version, tcp("SA", 80, 40000)))
    board.run("web1", between(WEB1, DB1, version, tcp("A")))
    assert board.connection().state == "ESTABLISHED"
    mark(board, WEB1, "PORT_AWAY", group=SENDS)


@pytest.mark.parametrize("version", VERSIONS)
def test_one_that_has_followed_is_not_told_as_ended(tunnel: Tunnel, version: int) -> None:
    """db1 goes on asking while web1 stands still, before the last records are read. The
    host that web1 comes to learns what of its state has changed, and no more."""
    board = tunnel.board
    departure = Departure(board.datapath, [End(board.devices["web1"].ifindex, 0)])
    leave(tunnel, version)
    bulk = departure.bulk()
    for flags in ("PA", "FA"):
        answer = between(DB1, WEB1, version, tcp(flags, 80, 40000))
        write(board, DB1, answer)
        tunnel.carries(NEAR, WEB.vni, forwarded(answer, MAIN_WEB.mac, WEB1.mac))
        assert board.connection().from_ifindex == board.world.value("TUNNEL_ZONE") | DB.vni
        delta = departure.delta()
        assert len(delta) == (len(bulk) if flags == "FA" else 0)
    assert delta[:44] == bulk[:44], "under the name that it has there"
    state, ended = (
        partial_layout(board.datapath.abi.codec("connection_record"), [name])
        for name in ("state", "has_ended")
    )
    assert (
        board.datapath.abi.enum("connection_state")(state.unpack(delta)[0]).name
        == "CONNECTION_FIN_WAIT"
    )
    assert ended.unpack(delta) == (0,)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("first", ["db1", "web1"])
def test_a_connection_follows_its_vm_away(tunnel: Tunnel, first: str, version: int) -> None:
    """Whoever sends first; state and age stay."""
    leave(tunnel, version)
    board = tunnel.board
    before = board.connection()
    answer = between(DB1, WEB1, version, tcp("PA", 80, 40000))
    question = arriving(WEB1, DB1, version, tcp("PA"))
    for who in (first, "web1", "db1", "web1", "db1"):
        if who == "db1":
            write(board, DB1, answer)
            tunnel.carries(NEAR, WEB.vni, forwarded(answer, MAIN_WEB.mac, WEB1.mac))
        else:
            tunnel.write(NEAR, DB.vni, question)
            gets(board, DB1, question)
    after = board.connection()
    assert (after.state, after.opened_at) == ("ESTABLISHED", before.opened_at)
    assert after.from_ifindex == board.world.value("TUNNEL_ZONE") | DB.vni
    assert len(board.flows()) == 2
    assert board.total_usage() == 1


def test_without_the_flag_it_does_not(tunnel: Tunnel) -> None:
    """As when somebody else uses the address of a port that is still here."""
    leave(tunnel, 4)
    mark(tunnel.board, WEB1, group=SENDS)
    board = tunnel.board
    before = board.connection()
    tunnel.write(NEAR, DB.vni, arriving(WEB1, DB1, 4, tcp("PA")))
    gets(board, DB1, arriving(WEB1, DB1, 4, tcp("PA")))
    assert board.connections() == [before], "it passes, and is nobody's connection"


# ---- connections on the host that it comes to ------------------------------------------------


class Coming:
    """web1 comes to db1's host, with a connection that it opened to db1."""

    def __init__(self, tunnel: Tunnel, version: int) -> None:
        self.tunnel, self.board, self.version = tunnel, tunnel.board, version
        self.question = arriving(WEB1, DB1, version, tcp("PA"))
        self.answer = between(DB1, WEB1, version, tcp("PA", 80, 40000))
        self.answered = forwarded(self.answer, MAIN_WEB.mac, WEB1.mac)
        guard_both(self.board)
        records = self._as_on_the_other_host()
        mark(self.board, WEB1, "PORT_STANDBY", group=SENDS)
        tunnel.write(NEAR, DB.vni, self.question)
        gets(self.board, DB1, self.question)
        zone = self.board.world.value("TUNNEL_ZONE") | WEB.vni
        arrival = Arrival(self.board.datapath, [End(self.board.devices["web1"].ifindex, zone)])
        assert arrival.adopt(records, keep_seconds=60) == []
        arrival.close()

    def _as_on_the_other_host(self) -> bytes:
        """Records of the connection, which this board makes and then forgets."""
        board, version = self.board, self.version
        board.run("web1", between(WEB1, DB1, version, tcp("S")))
        board.run("db1", between(DB1, WEB1, version, tcp("SA", 80, 40000)))
        board.run("web1", between(WEB1, DB1, version, tcp("A")))
        web1 = End(board.devices["web1"].ifindex, 0)
        records = Departure(board.datapath, [web1]).bulk()
        table = board.datapath.table("flows")
        table.delete_many(key for key, _ in list(table.items()))
        board.world.put("total_usage", 0, {"connections": 0})
        for slot in (WEB1.slot, DB1.slot):
            board.world.put("usage", slot, {"connections": 0, "ifindex": 0})
        return records

    def answers_by_the_other_host(self) -> None:
        write(self.board, DB1, self.answer)
        self.tunnel.carries(NEAR, WEB.vni, self.answered)

    def send(self) -> None:
        write(self.board, WEB1, between(WEB1, DB1, self.version, tcp("PA")))
        gets(self.board, DB1, self.question)

    def answer_directly(self) -> None:
        write(self.board, DB1, self.answer)
        gets(self.board, WEB1, self.answered)

    def sent_on(self) -> None:
        """An answer that was under way while web1 came, by the other host."""
        header = {"number": HERE, "bits": FORWARDED_ONCE}
        self.tunnel.write(NEAR, WEB.vni, self.answered, **header)
        gets(self.board, WEB1, self.answered)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_connection_follows_its_vm_here(tunnel: Tunnel, version: int) -> None:
    """Through all that can happen on the way, and with nothing dropped."""
    coming = Coming(tunnel, version)
    coming.answers_by_the_other_host()
    coming.sent_on()
    coming.send()
    coming.sent_on()
    coming.sent_on()
    mark(tunnel.board, WEB1, group=SENDS)  # the agent has heard of it
    for _ in range(2):
        coming.answer_directly()
        coming.send()
    coming.sent_on()
    assert tunnel.board.rows("drops") == []
    assert tunnel.board.connection().state == "ESTABLISHED"
    assert tunnel.board.connection().from_ifindex == tunnel.board.devices["web1"].ifindex
    assert len(tunnel.board.flows()) == 2
    assert (tunnel.board.usage(WEB1.slot), tunnel.board.total_usage()) == (1, 1)


@pytest.mark.parametrize("version", VERSIONS)
def test_the_end_of_a_connection_is_seen_wherever_it_comes(tunnel: Tunnel, version: int) -> None:
    coming = Coming(tunnel, version)
    coming.send()
    fin = arriving(DB1, WEB1, version, tcp("FA", 80, 40000))
    tunnel.write(NEAR, WEB.vni, fin, number=HERE, bits=FORWARDED_ONCE)
    gets(tunnel.board, WEB1, fin)
    assert tunnel.board.connection().state == "FIN_WAIT"


def test_another_port_with_its_address_is_another(tunnel: Tunnel) -> None:
    """A question is answered by whom it was put to: nothing was on its way."""
    board = tunnel.board
    guard_both(board)
    board.run("web1", between(WEB1, DB1, 4, udp(40000, 53)))
    tunnel.write(NEAR, WEB.vni, arriving(DB1, WEB1, 4, udp(54, 40000)))
    assert board.drop_count("web1", "DROP_POLICY_TO_VM")["packets"] == 1


# ---- two CPUs at once -----------------------------------------------------------------------

ROUNDS, FRAMES = 500, 30


def send_many(
    program: int, ifindex: int, frame: bytes, turn: Barrier, lost: Synchronized[int]
) -> None:
    """In a process of its own: in each turn the same frame as fast as can be."""
    while True:
        turn.wait()
        if lost.value < 0:
            return
        for _ in range(FRAMES):
            if run(program, frame, ifindex=ifindex).verdict != TC_ACT_REDIRECT:
                with lost.get_lock():
                    lost.value += 1
        turn.wait()


@contextlib.contextmanager
def senders(board: Switchboard, *frames: tuple[Nic, bytes]) -> Iterator[Callable[[], int]]:
    """What is called lets all send at once, and tells how many frames were dropped."""
    processes = multiprocessing.get_context("fork")
    turn, lost = processes.Barrier(len(frames) + 1, timeout=60), processes.Value("i", 0)
    for nic, frame in frames:
        argv = (board.datapath.from_vm.fd, board.devices[nic.name].ifindex, frame, turn, lost)
        processes.Process(target=send_many, args=argv, daemon=True).start()

    def go() -> int:
        lost.value = 0
        turn.wait()
        turn.wait()
        return int(lost.value)

    yield go
    lost.value = -1
    turn.wait()


def test_both_ends_notice_at_once_that_one_has_come(tunnel: Tunnel) -> None:
    """db1 asks web1, which comes to its host, while both send: whoever is faster, nothing
    is lost, and there is one whole connection."""
    board = tunnel.board
    write_group(board.world, SENDS, [r for r in anything() if r.direction == "FROM_VM"])
    write_group(board.world, RECEIVES, [r for r in anything() if r.direction == "TO_VM"])
    mark(board, DB1, group=SENDS)
    mark(board, WEB1, group=RECEIVES)
    question, answer = (
        bytes(between(DB1, WEB1, 4, udp())),
        bytes(between(WEB1, DB1, 4, udp(53, 40000))),
    )
    board.run("db1", question)
    board.run("web1", answer)
    web1, flows = board.devices["web1"].ifindex, board.datapath.table("flows")
    records = Departure(board.datapath, [End(web1, 0)]).bulk()
    arrival = Arrival(board.datapath, [End(web1, board.world.value("TUNNEL_ZONE") | WEB.vni)])
    with contextlib.closing(arrival), senders(board, (DB1, question), (WEB1, answer)) as go:
        for _ in range(ROUNDS):
            flows.delete_many(key for key, _ in list(flows.items()))
            board.world.put("total_usage", 0, {"connections": 0})
            mark(board, WEB1, "PORT_STANDBY", group=RECEIVES)
            board.run("db1", question)
            arrival.adopt(records, keep_seconds=60)
            assert go() == 0, board.rows("drops")
            connection = board.connection()
            assert (connection.from_ifindex, connection.to_ifindex) == (
                board.devices["db1"].ifindex,
                web1,
            )
            assert (len(board.flows()), board.total_usage()) == (2, 1)
