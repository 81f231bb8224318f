"""Security groups end to end: the real agent, containers, and their own kernels'
TCP, UDP and ICMP."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from lab import eventually, with_lab
from lines import Lines
from policy_host import ADDRESS, Datagrams, PolicyHost, Stream, echoed, read_line, topology
from scapy.layers.inet import ICMP, IP, TCP, UDP, IPerror, UDPerror
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Packet, Raw
from wire import captured, mac_of, send

A, B, C = (ADDRESS[name][0] for name in "abc")
A6, C6 = ADDRESS["a"][1], ADDRESS["c"][1]

ALL = "{direction: from_vm}, {direction: to_vm}"


def groups(**rules: str) -> str:
    """``security_groups:`` of a file."""
    return "security_groups:\n" + "".join(f"  {name}: [{text}]\n" for name, text in rules.items())


def tcp(ports: str, remote: str = "") -> str:
    return f"{{direction: to_vm, protocol: tcp, ports: {ports}{remote}}}"


def udp(ports: str, remote: str = "") -> str:
    return f"{{direction: to_vm, protocol: udp, ports: {ports}{remote}}}"


@pytest.fixture(scope="module")
def host() -> Iterator[PolicyHost]:
    """Containers a and b in one subnet, c in another; a router between."""
    with TemporaryDirectory(prefix="heddle-") as root, with_lab(Path(root)) as lab:
        lab.heddle("up", lab.write(topology()))
        yield PolicyHost(lab)


# ---- who may talk ------------------------------------------------------------


def test_members_of_the_default_group_talk_and_others_do_not(host: PolicyHost) -> None:
    """Across a router, in both families; a stranger gets nothing in or out of it
    what no rule of its own allows."""
    host.apply(groups(lonely="{direction: from_vm}"), b="security_groups: [lonely]")
    host.ping("a", C)
    host.ping("c", A6)
    host.may_not_ping("b", A, at="a")
    host.may_not_ping("a", B, at="b")


def test_without_groups_nothing_passes_but_addresses_resolve(host: PolicyHost) -> None:
    host.apply(b="security_groups: []")
    host.may_not_ping("b", A, at="b", reason="POLICY_FROM_VM")
    host.may_not_ping("b", "10.1.0.1", at="b", reason="POLICY_FROM_VM")
    host.may_not_ping("a", B, at="b")
    assert mac_of(host.lab, "a") in host.lab.exec("b", "ip", "neigh", "show", A).stdout


def test_a_rule_allows_exactly_its_ports(host: PolicyHost) -> None:
    """And the replies; the same ports of UDP are none of its business."""
    rule = "{direction: to_vm, protocol: tcp, ports: 5001-5006, remote: 10.1.0.0/24}"
    host.apply(
        groups(server=rule, all=ALL), c="security_groups: [server]", a="security_groups: [all]"
    )
    with host.serving("c", 5000, 5001, 5006, 5007):
        for port in (5001, 5006):
            host.connects("a", C, port)
        for port in (5000, 5007):
            host.may_not_connect("a", C, port, at="c")
        host.may_not_connect("a", C6, 5001, at="c")
    report = host.trace("a", "c", "--udp", "5001")
    assert (report["reason"], report["port"]) == ("POLICY_TO_VM", "c:0")
    host.may_not_ping("c", A, at="c", reason="POLICY_FROM_VM")


def test_a_drop_names_port_direction_and_groups(host: PolicyHost) -> None:
    """In the counters and, as it happens, in the events."""
    host.apply(
        groups(all=ALL, first=tcp("1"), second=tcp("2")),
        a="security_groups: [all]",
        c="security_groups: [first, second]",
    )
    heddle = (sys.executable, "-m", "heddle.cli.main")
    meaning = "no rule of its security groups (first, second) allows it"
    with (
        host.lab.background(host.lab.command(*heddle, "drops", "--follow")) as plain,
        host.lab.background(host.lab.command(*heddle, "drops", "--follow", "--json")) as json_lines,
        host.lab.background(host.lab.inside("a", "ping", "-i", "0.05", C)),
    ):
        assert plain.stdout is not None
        assert json_lines.stdout is not None
        line = eventually(Lines(plain.stdout.fileno()).first, "an event")
        event = json.loads(eventually(Lines(json_lines.stdout.fileno()).first, "an event"))
    assert re.fullmatch(
        rf"[\d:.]+  c:0  POLICY_TO_VM  .*, IPv4 {A} > {C}, TTL 64, ICMP echo request, "
        rf"from a:0: {re.escape(meaning)}",
        line,
    )
    assert (event["port"], event["from"], event["direction"]) == ("c:0", "a:0", "to_vm")
    assert event["security_groups"] == ["first", "second"]
    told = next(
        c
        for c in json.loads(host.lab.heddle("drops", "--json").stdout)
        if (c["port"], c["reason"]) == ("c:0", "POLICY_TO_VM")
    )
    assert (told["direction"], told["meaning"]) == ("to_vm", meaning)
    assert meaning in host.lab.heddle("show", "port", "c/db").stdout
    report = host.trace("a", "c")
    assert (report["port"], report["direction"]) == ("c:0", "to_vm")
    assert (report["reason"], report["meaning"]) == ("POLICY_TO_VM", meaning)
    assert "to" not in report
    text = host.lab.heddle("trace", "a", "c").stdout
    assert "  policy   drop  (a:0: all from_vm to 0.0.0.0/0)\n" in text
    assert f"\ndropped: POLICY_TO_VM: c:0, to_vm: {meaning}\nwhat to do: add a rule" in text


def test_allowed_flows_name_their_rules(host: PolicyHost) -> None:
    rule = "{direction: to_vm, protocol: tcp, ports: 5001, remote: 10.1.0.0/24}"
    host.apply(
        groups(server=rule, all=ALL), a="security_groups: [all]", c="security_groups: [server]"
    )
    with host.serving("c", 5001), host.connecting("a", C, 5001) as client:
        assert (read_line(client), echoed(client, "hello")) == ("connected", True)
        (flow,) = [flow for flow in host.flows("c") if flow["state"] == "established"]
        report = host.trace("a", "c", "--tcp", "5001")
        text = host.lab.heddle("trace", "a", "c", "--tcp", "5001").stdout
    assert (flow["from"], flow["to"], flow["protocol"]) == ("a:0", "c:0", "tcp")
    assert (flow["source"], flow["destination"], flow["destination_port"]) == (A, C, 5001)
    assert flow["packets"] > 1
    assert flow["reply_packets"] > 0
    assert flow["allowed_from_vm_by"] == "all from_vm to 0.0.0.0/0"
    assert flow["allowed_to_vm_by"] == "server to_vm tcp 5001 from 10.1.0.0/24"
    assert report["policy"]["allowed_to_vm_by"] == flow["allowed_to_vm_by"]
    rules = f"a:0: {flow['allowed_from_vm_by']}; c:0: {flow['allowed_to_vm_by']}"
    assert f"  policy   allowed  ({rules})\n" in text


def test_a_trace_knows_the_connection(host: PolicyHost) -> None:
    """Its source port is always the same, so a datagram can come before it."""
    host.apply()
    send_from = (
        "import socket, sys; s = socket.socket(type=socket.SOCK_DGRAM)\n"
        "s.bind(('', int(sys.argv[1]))); s.sendto(b'?', (sys.argv[2], int(sys.argv[3])))"
    )
    states = []
    for source, words in (("a", ("40000", C, "5008")), ("c", ("5008", A, "40000"))):
        host.lab.exec(source, sys.executable, "-c", send_from, *words)
        states.append(host.trace("a", "c", "--udp", "5008")["policy"]["connection"])
    assert states == ["new", "assured"]


# ---- what changes while traffic flows ---------------------------------------------


def test_a_rule_taken_away_ends_what_it_alone_allowed(host: PolicyHost) -> None:
    """And nothing else: not a datagram of the other flows is lost, no
    connection is reset."""
    before = groups(all=ALL, server=f"{tcp('5001')}, {udp('5002')}, {udp('5000-5003')}")
    after = groups(all=ALL, server=f"{tcp('5001')}, {udp('5002')}")
    nics = {"a": "security_groups: [all]", "c": "security_groups: [server]"}
    host.apply(before, **nics)
    with ExitStack() as stack:
        stream = Stream(host.lab, stack, "a", "c", 5001)
        kept, ended = (Datagrams(host.lab, stack, "a", "c", port) for port in (5002, 5003))
        host.await_packets(C, 5001, 5002, 5003)
        dropped = host.drops("c", "POLICY_TO_VM")
        host.apply(after, **nics)
        eventually(lambda: host.drops("c", "POLICY_TO_VM") > dropped, "the flow's end")
        host.await_packets(C, 5001, 5002)
        (sent, came), (ended_sent, ended_came) = kept.stop(), ended.stop()
        streamed, taken = stream.stop()
    assert sent == came > 0
    assert streamed == taken > 0
    assert ended_sent - ended_came == host.drops("c", "POLICY_TO_VM") - dropped
    assert [f for f in host.flows("c") if f.get("destination_port") == 5003] == []


def test_a_member_that_leaves_a_remote_group_is_cut_off(host: PolicyHost) -> None:
    """While another member's flow goes on."""
    rules = groups(all=ALL, client="", server=udp("5000-5003", ", remote_group: client"))
    client, both = "security_groups: [all, client]", {"c": "security_groups: [server]"}
    host.apply(rules, a=client, b=client, **both)
    with ExitStack() as stack:
        kept = Datagrams(host.lab, stack, "a", "c", 5002)
        ended = Datagrams(host.lab, stack, "b", "c", 5003)
        host.await_packets(C, 5002, 5003)
        dropped = host.drops("c", "POLICY_TO_VM")
        host.apply(rules, a=client, b="security_groups: [all]", **both)
        eventually(lambda: host.drops("c", "POLICY_TO_VM") > dropped, "the flow's end")
        host.await_packets(C, 5002)
        (sent, came), (ended_sent, ended_came) = kept.stop(), ended.stop()
    assert sent == came > 0
    assert ended_sent - ended_came == host.drops("c", "POLICY_TO_VM") - dropped


def test_an_address_group_gains_and_loses_a_prefix(host: PolicyHost) -> None:
    rules = groups(all=ALL, server=tcp("5001", ", address_group: offices"))
    nics = {"a": "security_groups: [all]", "c": "security_groups: [server]"}
    with host.serving("c", 5001):
        for prefixes, allowed in (("10.1.0.11", False), ("10.1.0.8/30", True), ("", False)):
            host.apply(f"address_groups: {{offices: [{prefixes}]}}\n{rules}", **nics)
            if allowed:
                host.connects("a", C, 5001)
            else:
                host.may_not_connect("a", C, 5001, at="c")


def test_a_stateless_group_wants_a_rule_for_replies(host: PolicyHost) -> None:
    """The SYN is let in, the SYN+ACK not out, until a rule says so. Nothing is
    a connection at either end then."""
    rule = tcp("5001")
    reply = "{direction: from_vm, protocol: tcp}"
    for rules, allowed in ((rule, False), (f"{rule}, {reply}", True)):
        text = groups(all=ALL) + f"  server: {{stateful: false, rules: [{rules}]}}\n"
        host.apply(text, a="security_groups: [all]", c="security_groups: [server]")
        with host.serving("c", 5001):
            if allowed:
                host.connects("a", C, 5001)
            else:
                host.may_not_connect("a", C, 5001, at="c", reason="POLICY_FROM_VM")


# ---- what the guard lets pass -----------------------------------------------------


def test_without_port_security_everything_passes(host: PolicyHost) -> None:
    """Foreign sources out, and in what no rule allows."""
    host.apply(groups(all=ALL), a="port_security: false", b="port_security: false")
    forged = Ether(src="02:00:00:00:00:99", dst=mac_of(host.lab, "b"))
    forged /= IP(src="192.0.2.9", dst=B) / UDP(sport=7, dport=9)
    with captured(host.lab, "b", words="udp port 9") as far:
        send(host.lab, "a", forged)
        (came,) = eventually(far.frames, "the forged frame")
    assert bytes(came)[: len(forged)] == bytes(forged)
    host.may_not_ping("a", C, at="c")
    flow = host.trace("a", "b", "--udp", "9")
    assert flow["policy"]["allowed_from_vm_by"] == "port security off"
    assert flow["policy"]["allowed_to_vm_by"] == "port security off"


VIRTUAL = "10.1.0.100"


def test_an_address_pair_moves_between_machines(host: PolicyHost) -> None:
    """It belongs to who last announced it, also for who comes through a router;
    nobody may send from an address outside of its pairs."""
    pair = "allowed_address_pairs: [10.1.0.96/28]"
    host.apply(a=pair, b=pair)
    host.may_not_ping("c", VIRTUAL, at="c", reason="NO_NEIGHBOR")
    for owner in ("a", "b"):
        host.lab.exec(owner, "ip", "address", "add", f"{VIRTUAL}/24", "dev", "eth0")
        send(host.lab, owner, announcement(mac_of(host.lab, owner), VIRTUAL))
        with captured(host.lab, owner, words=f"icmp and dst host {VIRTUAL}") as taken:
            host.ping("c", VIRTUAL)
            eventually(taken.frames, f"the ping at {owner}")
        host.lab.exec(owner, "ip", "address", "delete", f"{VIRTUAL}/24", "dev", "eth0")
    before = host.drops("a", "ARP_SPOOF")
    send(host.lab, "a", announcement(mac_of(host.lab, "a"), "10.1.0.120"))
    assert host.drops("a", "ARP_SPOOF") == before + 1


def announcement(mac: str, address: str) -> Packet:
    """A gratuitous ARP (RFC 5227, 3)."""
    arp = ARP(op=1, hwsrc=mac, psrc=address, hwdst="00:00:00:00:00:00", pdst=address)
    return Ether(src=mac, dst="ff:ff:ff:ff:ff:ff") / arp


# ---- ICMP errors and fragments ------------------------------------------------------


def test_icmp_errors_of_an_allowed_flow_pass(host: PolicyHost) -> None:
    """A datagram to a closed port comes back as refused, though a's group lets
    nothing in; an error about what was never sent does not."""
    sender = "{direction: from_vm, protocol: udp}"
    host.apply(
        groups(sender=sender, server=udp("5009")),
        a="security_groups: [sender]",
        c="security_groups: [server]",
    )
    refused = (
        "import socket, sys; s = socket.socket(type=socket.SOCK_DGRAM); s.settimeout(60)\n"
        "s.connect((sys.argv[1], 5009)); s.send(b'?')\n"
        "try: s.recv(1)\n"
        "except ConnectionRefusedError: print('refused')\n"
    )
    assert host.lab.exec("a", sys.executable, "-c", refused, C).stdout == "refused\n"
    gateway = host.lab.exec("c", "ip", "neigh", "show", "10.2.0.1").stdout.split()[4]
    quoted = IPerror(src=A, dst=C) / UDPerror(sport=40001, dport=53)
    error = IP(src=C, dst=A) / ICMP(type=3, code=3) / quoted
    before = host.drops("c", "POLICY_FROM_VM")
    send(host.lab, "c", Ether(src=mac_of(host.lab, "c"), dst=gateway) / error)
    eventually(lambda: host.drops("c", "POLICY_FROM_VM") > before, "the stray error's end")


def test_fragments_follow_their_first(host: PolicyHost) -> None:
    """A datagram in three fragments arrives whole where its port is allowed;
    where it is not, none of them does."""
    host.apply(
        groups(all=ALL, server=udp("5001")),
        a="security_groups: [all]",
        c="security_groups: [server]",
    )
    with captured(host.lab, "c", words="src host 10.1.0.10") as far:
        before = host.drops("c", "POLICY_TO_VM")
        host.lab.exec("a", sys.executable, "-c", LARGE, C, "5002")
        eventually(lambda: host.drops("c", "POLICY_TO_VM") > before, "the first fragment's end")
        host.lab.exec("a", sys.executable, "-c", LARGE, C, "5001")
        eventually(lambda: len(far.frames()) >= 3, "three fragments")
        frames = far.frames()
    ports = [frame[UDP].dport for frame in frames if UDP in frame]
    assert ports == [5001]
    assert sum(len(frame[IP].payload) for frame in frames) == 4000 + 8
    assert host.drops("a", "FRAGMENT_ORPHAN") + host.drops("c", "POLICY_TO_VM") - before == 3


LARGE = """
import socket, sys
sender = socket.socket(type=socket.SOCK_DGRAM)
sender.sendto(bytes(4000), (sys.argv[1], int(sys.argv[2])))
"""


STRAYS = {
    "syn-ack": (IP(src=A, dst=B) / TCP(sport=80, dport=40000, flags="SA"), "CONNECTION_INVALID"),
    "fin": (IP(src=A, dst=B) / TCP(sport=40000, dport=80, flags="FA"), "CONNECTION_INVALID"),
    "reset": (IP(src=A, dst=B) / TCP(sport=40000, dport=80, flags="R"), "CONNECTION_INVALID"),
    "echo reply": (IP(src=A, dst=B) / ICMP(type=0, id=7), "CONNECTION_INVALID"),
    "later fragment": (IP(src=A, dst=B, proto=17, frag=9) / Raw(bytes(64)), "FRAGMENT_ORPHAN"),
}


def test_what_belongs_to_nothing_is_dropped(host: PolicyHost) -> None:
    """Although rules allow anything between the two."""
    host.apply()
    ends = Ether(src=mac_of(host.lab, "a"), dst=mac_of(host.lab, "b"))
    for name, (packet, reason) in STRAYS.items():
        before = host.drops("a", reason)
        send(host.lab, "a", ends / packet)
        assert host.drops("a", reason) == before + 1, name


# ---- the agent dies -----------------------------------------------------------------


def test_policy_stands_without_the_agent(host: PolicyHost) -> None:
    """New connections are judged, old ones go on, what is forbidden stays so."""
    host.apply(
        groups(all=ALL, server=tcp("5001")),
        a="security_groups: [all]",
        c="security_groups: [server]",
    )
    with host.serving("c", 5001, 5002), host.connecting("a", C, 5001) as client:
        assert (read_line(client), echoed(client, "before")) == ("connected", True)
        with host.without_agent():
            assert echoed(client, "after")
            host.connects("a", C, 5001)
            host.may_not_connect("a", C, 5002, at="c")


def test_the_agent_dies_while_policy_changes_under_load(host: PolicyHost) -> None:
    """Killed in the midst of changes and started again, time after time: what
    every version allows loses nothing, and the last version holds in the end."""
    nics = {"a": "security_groups: [all]", "c": "security_groups: [server]"}
    always = f"{tcp('5001')}, {udp('5002')}"
    more = ", ".join(udp(f"{port}-{port + 1}") for port in range(5003, 5063, 2))
    host.apply(groups(all=ALL, server=always), **nics)
    with ExitStack() as stack:
        stream = Stream(host.lab, stack, "a", "c", 5001)
        steady = Datagrams(host.lab, stack, "a", "c", 5002)
        flickering = Datagrams(host.lab, stack, "a", "c", 5003)
        for rules in (f"{always}, {more}", always, f"{always}, {more}"):
            with host.killed_amid(groups(all=ALL, server=rules), **nics):
                host.await_packets(C, 5001, 5002, packets=20)
        eventually(lambda: host.lab.show("agent")["revision"] == host.revision(), "the last change")
        dropped = host.drops("c", "POLICY_TO_VM")
        host.await_packets(C, 5003)
        assert host.drops("c", "POLICY_TO_VM") == dropped
        (sent, came), (_, seldom) = steady.stop(), flickering.stop()
        streamed, taken = stream.stop()
    assert sent == came > 0
    assert streamed == taken > 0
    assert seldom > 0
