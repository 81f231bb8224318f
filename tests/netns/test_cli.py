"""The commands as a user runs them, on a host with containers."""

from __future__ import annotations

import json
import re
import signal
import sys

import pytest
from lab import Lab, eventually
from lab_topologies import ROUTED
from lines import Lines
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether
from wire import mac_of, send

HOT = """
version: 1
networks:
  one: {{cidr: 10.1.0.0/24}}
  two: {{cidr: 10.2.0.0/24}}
machines:
  c0:
    kind: container
    nics: [{{network: one, address: 10.1.0.10}}{second}]
  c1: {{kind: container, nics: [{{network: two, address: 10.2.0.11}}]}}
"""
GUARDED = """
version: 1
networks:
  one: {cidr: 10.1.0.0/24}
address_groups:
  offices: [192.0.2.0/24, 198.51.100.7]
security_groups:
  web:
    - {direction: to_vm, protocol: tcp, ports: 80-443, address_group: offices}
    - {direction: from_vm, ethertype: ipv4}
machines:
  c0:
    kind: container
    nics: [{network: one, address: 10.1.0.10, security_groups: [web], dscp: 46,
            rate: {packets_from_vm: 1000, packet_burst: 100}, connections: 50}]
"""
SECOND_NIC = ", {network: two, address: 10.2.0.10}"


@pytest.fixture
def routed(lab: Lab) -> Lab:
    lab.heddle("up", lab.write(ROUTED))
    return lab


# ---- intent ----------------------------------------------------------------


def test_up_says_what_it_does(lab: Lab) -> None:
    done = lab.heddle("up", lab.write(ROUTED))
    plan, table = done.stdout.split("\n\n")
    assert "+ port c0/web: 10.1.0.10, fd00:1::10, mac fa:16:3e:" in plan
    assert re.search(r"^c1:0 +db +10\.2\.0\.10 fd00:2::10 +hdl\S+ +active$", table, re.MULTILINE)
    assert "starting the agent" in done.stderr
    again = lab.heddle("up", lab.write(ROUTED))
    assert again.stdout.startswith("nothing to change\n")


def test_dry_run_changes_nothing(lab: Lab) -> None:
    file = lab.write(ROUTED)
    assert "+ machine c0: container" in lab.heddle("apply", file, "--dry-run").stdout
    assert lab.show()["networks"] == []


def test_apply_without_an_agent_stores_and_says_so(lab: Lab) -> None:
    done = lab.heddle("apply", lab.write(ROUTED))
    assert "no agent runs: stored, and carried out when one starts" in done.stdout
    assert lab.links() == []
    lab.heddle("agent", "--detach")
    eventually(lambda: len(lab.links()) == 2, "the links")


def test_a_nic_is_plugged_into_a_running_machine_and_out_again(lab: Lab) -> None:
    lab.heddle("up", lab.write(HOT.format(second="")))
    before = lab.device("c0:0")
    lab.heddle("apply", lab.write(HOT.format(second=SECOND_NIC)))
    eventually(lambda: "10.2.0.10" in shown(lab), "the second NIC to be set up")
    lab.exec("c0", "ping", "-c", "1", "-W", "20", "10.2.0.11")
    lab.heddle("apply", lab.write(HOT.format(second="")))
    eventually(lambda: "eth1" not in shown(lab), "the second NIC to go")
    assert [link["ifname"] for link in lab.links() if link["ifname"] == before]


def test_a_wrong_file_changes_nothing(routed: Lab) -> None:
    before = routed.show("ports")
    wrong = routed.write(ROUTED.replace("10.2.0.10", "10.9.9.9"), "topology.yaml")
    done = routed.heddle("up", wrong, check=False)
    assert done.returncode == 2
    assert done.stdout == ""
    assert re.fullmatch(r"(heddle: .*topology\.yaml:\d+: .*\n)+", done.stderr)
    assert routed.show("ports") == before


def test_down_of_an_unknown_file_is_refused(routed: Lab) -> None:
    done = routed.heddle("down", "no-such.yaml", check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert "no such file, and nothing here was made from it" in done.stderr
    assert len(routed.links()) == 2


def test_up_says_what_hinders(lab: Lab) -> None:
    """The link's name is taken by somebody else: up gives up and says so; once
    the name is free, it works."""
    file = lab.write(ROUTED)
    lab.heddle("apply", file)
    device = lab.device("c0:0")
    lab.run("ip", "link", "add", device, "type", "bridge")
    done = lab.heddle("up", file, "--timeout", "20", check=False)
    assert done.returncode == 1
    assert f"heddle: port c0/web: link {device}: " in done.stderr
    assert f"link {device}" in lab.heddle("show").stdout
    lab.run("ip", "link", "delete", device)
    lab.heddle("up", file)


def test_interrupted_is_130(routed_lab: Lab) -> None:
    argv = routed_lab.command(sys.executable, "-m", "heddle.cli.main", "top")
    with routed_lab.background(argv) as top:
        assert top.stdout is not None
        assert top.stdout.readline().startswith("PORT ")
        top.send_signal(signal.SIGINT)
        _, error = top.communicate(timeout=120)
    assert (top.returncode, error) == (130, "\nheddle: interrupted\n")


# ---- reading ---------------------------------------------------------------


def test_show_works_with_the_agent_dead(routed: Lab) -> None:
    routed.kill_agent()
    overview = routed.heddle("show").stdout
    assert f"agent on {routed.name}: dead." in overview
    assert re.search(r"^c0 +container +\S+ +running +yes +10\.1\.0\.10", overview, re.MULTILINE)
    assert routed.show()["agent"]["state"] == "dead"
    assert routed.show("port", "c0/web")["status"]["state"] == "active"


def test_show_tells_of_groups_and_limits(lab: Lab) -> None:
    """Without an agent as well, in the singular and the plural."""
    lab.heddle("apply", lab.write(GUARDED))
    for kind, row in (
        ("security-group", "web +yes +3 +1"),
        ("address-group", "offices +2 +2"),
        ("qos", "c0/one +- +- +1000/s, burst 100 +- +- +46 +c0:0"),
        ("port", r"c0:0 +one .* web +- +c0/one +unknown"),
    ):
        for word in {kind, kind if kind == "qos" else kind + "s"}:
            assert re.search(rf"^{row}\b", lab.heddle("show", word).stdout, re.MULTILINE), word
    rule = "web to_vm ipv4 tcp 80-443 from address group offices"
    group = lab.show("security-group", "web")
    assert rule in [rule["name"] for rule in group["rules"]]
    assert group["members"] == [{"port": "c0:0", "addresses": ["10.1.0.10"]}]
    assert f"\n  {rule}\n" in lab.heddle("show", "security-group", "web").stdout
    offices = lab.show("address-group", "offices")
    assert offices["prefixes"] == ["192.0.2.0/24", "198.51.100.7/32"]
    assert rule in offices["used_by"]
    assert lab.show("qos", "c0/one")["ports"] == ["c0:0"]
    port = lab.show("port", "c0/one")
    assert (port["security_groups"], port["qos"]["dscp"]) == (["web"], 46)
    done = lab.heddle("show", "security-group", "nobody", check=False)
    assert (done.returncode, done.stderr) == (
        2, "heddle: no security group 'nobody'; there is: web\n",
    )  # fmt: skip
    done = lab.heddle("show", "ports", "--port", "c0", check=False)
    assert (done.returncode, done.stderr) == (2, "heddle: --port is for `heddle show flows`\n")


def test_an_unknown_name_is_a_wrong_request(routed_lab: Lab) -> None:
    for words in (("show", "machine", "c9"), ("exec", "c9", "--", "true"), ("trace", "c9", "c0")):
        done = routed_lab.heddle(*words, check=False)
        assert done.returncode == 2
        assert done.stderr == "heddle: no machine 'c9'; there is: c0, c1\n"


def test_exec_ends_as_its_command_does(routed_lab: Lab) -> None:
    done = routed_lab.heddle("exec", "c0", "--", "sh", "-c", "echo out; echo error >&2; exit 7",
                         check=False)  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (7, "out\n", "error\n")
    assert routed_lab.heddle("exec", "c0", "--", "no-such-command", check=False).returncode == 127


_IN_A_CHROOT = """
mount -t tmpfs none /mnt
mkdir /mnt/root
for found in /*; do
    if [ -L "$found" ]; then
        cp -d "$found" /mnt/root
    elif [ -d "$found" ] && [ "$found" != /mnt ]; then
        mkdir "/mnt/root$found"
        mount --rbind "$found" "/mnt/root$found"
    fi
done
exec chroot /mnt/root "$@"
"""


def test_exec_works_in_a_chroot(routed_lab: Lab) -> None:
    """Where no mount is at `/`, which `ip netns exec` would want."""
    heddle = (sys.executable, "-m", "heddle.cli.main", "exec", "c0", "--", "ip", "-br", "address")
    done = routed_lab.run("unshare", "--mount", "sh", "-ec", _IN_A_CHROOT, "sh", *heddle)
    assert "10.1.0.10/24" in done.stdout


def test_a_lab_in_a_chroot_says_what_it_needs(routed_lab: Lab) -> None:
    file = routed_lab.write("version: 1\nhosts: {h1: {}, h2: {}}\n", "hosts.yaml")
    heddle = (sys.executable, "-m", "heddle.cli.main", "lab", "up", str(file))
    done = routed_lab.run(
        "unshare", "--mount", "sh", "-ec", _IN_A_CHROOT, "sh", *heddle, check=False
    )
    assert done.returncode == 1
    assert "run `mount --bind DIR DIR` before `chroot DIR`" in done.stderr


@pytest.mark.parametrize("options", [(), ("--ipv6",), ("--tcp", "80"), ("--udp", "53")])
def test_trace_tells_the_way(routed_lab: Lab, options: tuple[str, ...]) -> None:
    report = json.loads(routed_lab.heddle("trace", "c0", "c1", *options, "--json").stdout)
    assert report["delivered"] is True
    assert (report["to"], report["device"]) == ("c1:0", routed_lab.device("c1:0"))
    stages = {stage["stage"]: stage["decision"] for stage in report["stages"]}
    assert stages["route"] == "route_connected"
    frame = Ether(bytes.fromhex(report["frame_out"]))
    assert frame.dst == mac_of(routed_lab, "c1")
    hops = frame.ttl if IP in frame else frame.hlim
    assert hops == 63
    text = routed_lab.heddle("trace", "c0", "c1", *options).stdout
    assert re.search(r"^  route +connected  \(router main, ", text, re.MULTILINE)
    assert text.splitlines()[-1].startswith("c1:0 receives  ")


def test_trace_tells_why_not(routed_lab: Lab) -> None:
    """Too large for the other network; nobody there; nobody here."""
    for words, reason in (
        (("10.2.0.10", "--size", "1450"), "TOO_BIG"),
        (("10.2.0.99",), "NO_NEIGHBOR"),
        (("10.77.0.1",), "NO_ROUTE"),
        (("10.1.0.99",), "ARP_UNKNOWN"),
        (("fd00:1::99",), "ND_UNKNOWN"),
        (("10.1.0.1", "--tcp", "22"), "ROUTER_SERVICE"),
    ):
        report = json.loads(routed_lab.heddle("trace", "c0", *words, "--json").stdout)
        assert (report["delivered"], report["reason"]) == (False, reason)
        assert (report["port"], report["direction"]) == ("c0:0", "from_vm")
        assert report["policy"]["allowed_to_vm_by"] is None
        text = routed_lab.heddle("trace", "c0", *words).stdout
        assert f"dropped: {reason}: " in text
        assert "\nwhat to do: " in text


def test_trace_is_not_traffic(routed_lab: Lab) -> None:
    routed_lab.heddle("trace", "c0", "10.77.0.1")
    assert ("c0:0", "NO_ROUTE") not in counts(routed_lab)


def test_drops_are_counted_and_followed(routed_lab: Lab) -> None:
    argv = routed_lab.command(
        sys.executable, "-m", "heddle.cli.main", "drops", "--follow", "--json"
    )
    forged = Ether(src=mac_of(routed_lab, "c0"), dst="fa:16:3e:00:00:01") / IP(
        src="10.1.0.77", dst="10.2.0.10"
    ) / UDP(sport=1, dport=2)  # fmt: skip
    with routed_lab.background(argv) as follow:
        assert follow.stdout is not None
        # Whether it listens yet nobody tells: send until it has heard.
        send(routed_lab, "c0", forged)
        eventually(lambda: counts(routed_lab).get(("c0:0", "SOURCE_IP")), "the drop to be counted")
        lines = Lines(follow.stdout.fileno())
        event = eventually(lambda: send(routed_lab, "c0", forged) or lines.first(), "an event")
    found = json.loads(event)
    assert (found["port"], found["reason"], found["stage"]) == ("c0:0", "SOURCE_IP", "guard")
    assert "IPv4 10.1.0.77 > 10.2.0.10, TTL 64, UDP 1 > 2" in found["summary"]
    table = routed_lab.heddle("drops", "--port", "c0").stdout
    assert re.search(r"^c0:0 +\d+ +\d+ +SOURCE_IP +the source address", table, re.MULTILINE)
    assert "SOURCE_IP" not in routed_lab.heddle("drops", "--port", "c1").stdout
    for more in ((), ("--follow",)):
        wrong = routed_lab.heddle("drops", "--port", "c9", *more, check=False)
        assert (wrong.returncode, wrong.stdout) == (2, "")
        assert wrong.stderr == "heddle: no port 'c9'; there is: c0/web, c1/db\n"


def test_top_shows_rates(routed_lab: Lab) -> None:
    pinging = routed_lab.inside("c0", "ping", "-q", "-i", "0.002", "10.2.0.10")

    def busy() -> list[dict[str, float]]:
        rows = json.loads(routed_lab.heddle("top", "--json").stdout)
        return [row for row in rows if row["port"] == "c1:0" and row["to_vm_packets"] > 50]

    with routed_lab.background(pinging):
        row = eventually(busy, "rates")[0]
        assert row["from_vm_packets"] > 50
        assert row["to_vm_bits"] > row["to_vm_packets"] * 8 * 64
        text = routed_lab.heddle("top", "--once").stdout
    assert text.splitlines()[0].split()[:2] == ["PORT", "NETWORK"]


def test_vm_list_and_what_is_no_vm(lab: Lab) -> None:
    lab.heddle("apply", lab.write(HOT.format(second="").replace("container", "vm", 1)))
    row = lab.heddle("vm", "list").stdout.splitlines()[1]
    assert re.match(r"c0 +stopped +no +1 +256M +tiny +10\.1\.0\.10", row)
    assert [vm["name"] for vm in json.loads(lab.heddle("vm", "list", "--json").stdout)] == ["c0"]
    done = lab.heddle("vm", "start", "c1", check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert "machine c1 is a container, no VM" in done.stderr


def test_one_agent_per_host(routed_lab: Lab) -> None:
    done = routed_lab.heddle("agent", check=False)
    assert done.returncode == 1
    assert f"an agent of this host runs already: pid {routed_lab.agent_pid()}" in done.stderr
    done = routed_lab.heddle("agent", "--detach", check=False)
    assert "an agent of this host runs already" in done.stderr


def counts(lab: Lab) -> dict[tuple[str, str], int]:
    rows = json.loads(lab.heddle("drops", "--json").stdout)
    return {(row["port"], row["reason"]): row["packets"] for row in rows}


def shown(lab: Lab) -> str:
    return lab.exec("c0", "ip", "address").stdout
