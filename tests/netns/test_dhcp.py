"""Addresses for guests, asked for by real clients (udhcpc, dhclient, the
kernel), with the agent alive and with it dead.

heddle sets its own containers up without DHCP. So the clients' scripts only
write down what they are told, but for the test in which the agent is dead and
the container stripped: there the client's own script does its work.
"""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path

import pytest
from lab import Lab, eventually
from scapy.layers.inet6 import ICMPv6ND_RA
from wire import captured, mac_of

TOPOLOGY = """
version: 1
networks:
  lan:
    cidr:
      - cidr: 10.7.0.0/24
        dns: [10.7.0.53]
        lease_time: 3600
        host_routes: [{to: 10.99.0.0/16, via: 10.7.0.9}]
      - {cidr: "fd00:7::/64", ipv6_mode: dhcpv6-stateful, dns: ["fd00:7::53"]}
    mtu: 1400
    domain: lab.example
  auto:
    cidr: [10.8.0.0/24, "fd00:8::/64"]
    mtu: 1400
routers:
  main: {networks: [lan, auto]}
machines:
  guest: {kind: container, nics: [{network: lan, address: [10.7.0.20, "fd00:7::20"]}]}
  free: {kind: container, nics: [{network: auto}]}
"""
# A client's script: waits for the lease and writes down its environment.
NOTE_LEASE = """#!/bin/sh
case "$1$reason" in
bound | BOUND | BOUND6) env > {file}.new && mv {file}.new {file} ;;
esac
exit 0
"""
DHCLIENT_CONF = """
option classless-routes code 121 = array of unsigned integer 8;
request subnet-mask, routers, domain-name, domain-name-servers, interface-mtu, classless-routes,
        dhcp6.name-servers, dhcp6.domain-search;
"""
DHCLIENT_WORKS_SECONDS = 30.0


@pytest.fixture(params=["agent alive", "agent dead"])
def served(lab: Lab, request: pytest.FixtureRequest) -> Lab:
    """The topology, once with the agent killed."""
    lab.heddle("up", lab.write(TOPOLOGY))
    if request.param == "agent dead":
        lab.kill_agent()
    return lab


@pytest.fixture
def orphaned(lab: Lab) -> Lab:
    """The agent killed, and the guests stripped of what it gave them."""
    lab.heddle("up", lab.write(TOPOLOGY))
    lab.kill_agent()
    for name in ("guest", "free"):
        lab.exec(name, "ip", "-4", "address", "flush", "dev", "eth0")
        lab.exec(name, "ip", "-6", "address", "flush", "dev", "eth0", "scope", "global")
        lab.exec(name, "ip", "link", "set", "eth0", "mtu", "1500")
    return lab


def test_udhcpc(served: Lab) -> None:
    lease = udhcpc_lease(served)
    assert lease["ip"] == "10.7.0.20"
    assert lease["subnet"] == "255.255.255.0"
    assert lease["router"] == "10.7.0.1"
    assert lease["dns"] == "10.7.0.53"
    assert lease["domain"] == "lab.example"
    assert lease["mtu"] == "1400"
    assert lease["lease"] == "3600"
    # RFC 3442: who takes these ignores the router option, so that one is there too.
    assert lease["staticroutes"] == "10.99.0.0/16 10.7.0.9 0.0.0.0/0 10.7.0.1"


def test_dhclient_v4(served: Lab) -> None:
    lease = dhclient_lease(served, "-4")
    assert lease["new_ip_address"] == "10.7.0.20"
    assert lease["new_subnet_mask"] == "255.255.255.0"
    assert lease["new_routers"] == "10.7.0.1"
    assert lease["new_domain_name_servers"] == "10.7.0.53"
    assert lease["new_domain_name"] == "lab.example"
    assert lease["new_interface_mtu"] == "1400"
    assert lease["new_dhcp_lease_time"] == "3600"
    assert lease["new_classless_routes"] == "16 10 99 10 7 0 9 0 10 7 0 1"


def test_dhclient_v6(served: Lab) -> None:
    eventually(lambda: "fe80::" in settled_addresses(served, "guest"), "a link-local address")
    lease = dhclient_lease(served, "-6")
    assert lease["new_ip6_address"] == "fd00:7::20"
    assert lease["new_dhcp6_name_servers"] == "fd00:7::53"
    assert lease["new_dhcp6_domain_search"].rstrip(".") == "lab.example"
    assert int(lease["new_max_life"]) >= int(lease["new_preferred_life"]) >= 3600


def test_a_client_alone_makes_a_guest_work(orphaned: Lab) -> None:
    """udhcpc with the script that Debian gives it, and nothing else."""
    orphaned.exec("guest", "udhcpc", "-i", "eth0", "-n", "-q", "-f", "-O", "mtu", seconds=60)
    shown = orphaned.exec("guest", "ip", "-4", "address", "show", "dev", "eth0").stdout
    assert "inet 10.7.0.20/24" in shown
    assert "default via 10.7.0.1" in orphaned.exec("guest", "ip", "route").stdout
    orphaned.exec("guest", "ping", "-c", "1", "-W", "20", "10.7.0.1")


def test_slaac(orphaned: Lab) -> None:
    """The kernel's own: address, MTU and default route from an advertisement."""
    conf = "/proc/sys/net/ipv6/conf/eth0"
    for name, value in (("accept_ra", 2), ("autoconf", 1), ("addr_gen_mode", 0)):
        orphaned.exec("free", "sh", "-c", f"echo {value} > {conf}/{name}")
    orphaned.exec("free", "ip", "link", "set", "eth0", "down")
    orphaned.exec("free", "ip", "link", "set", "eth0", "up")
    address = eui64("fd00:8::", mac_of(orphaned, "free"))
    eventually(
        lambda: f"inet6 {address}/64 scope global" in settled_addresses(orphaned, "free"),
        "the address",
        DHCLIENT_WORKS_SECONDS,
    )
    assert orphaned.exec("free", "cat", f"{conf}/mtu").stdout == "1400\n"
    route = orphaned.exec("free", "ip", "-6", "route", "show", "default").stdout
    assert re.search(r"default via fe80::\S+ dev eth0 proto ra", route)
    orphaned.exec("free", "ping", "-c", "1", "-W", "20", "fd00:7::1")


def test_advertisements_come_unasked(orphaned: Lab) -> None:
    """A starting agent advertises at once, well before guests would ask."""
    with captured(orphaned, "free", words="icmp6 and ip6[40] == 134") as seen:
        orphaned.heddle("agent", "--detach")
        advertisement = eventually(seen.frames, "an advertisement")[0]
    assert advertisement.dst == "33:33:00:00:00:01"
    assert advertisement[ICMPv6ND_RA].routerlifetime == 9000
    macs = [interface["mac"] for interface in orphaned.show("routers")[0]["interfaces"]]
    assert advertisement.src in macs


def udhcpc_lease(lab: Lab) -> dict[str, str]:
    script, file = lease_script(lab)
    asked = [word for name in ("mtu", "staticroutes") for word in ("-O", name)]
    lab.exec("guest", "udhcpc", "-i", "eth0", "-n", "-q", "-f", *asked, "-s", str(script))
    return read_lease(file)


def dhclient_lease(lab: Lab, family: str) -> dict[str, str]:
    script, file = lease_script(lab)
    conf = lab.root / "dhclient.conf"
    conf.write_text(DHCLIENT_CONF)
    files = ["-sf", str(script), "-cf", str(conf), "-lf", str(lab.root / "leases")]
    argv = lab.inside("guest", "dhclient", family, "-d", "--no-pid", *files, "eth0")
    with lab.background(argv):
        return eventually(lambda: read_lease(file), "a lease", DHCLIENT_WORKS_SECONDS)


def lease_script(lab: Lab) -> tuple[Path, Path]:
    """A client's script, and the file into which it writes the lease."""
    script, file = lab.root / "script", lab.root / "lease"
    script.write_text(NOTE_LEASE.format(file=file))
    script.chmod(0o755)
    return script, file


def read_lease(file: Path) -> dict[str, str]:
    """Variables of the lease; nothing as long as there is none."""
    if not file.exists():
        return {}
    return dict(line.split("=", 1) for line in file.read_text().splitlines() if "=" in line)


def settled_addresses(lab: Lab, machine: str) -> str:
    """Addresses of a container, those left out whose duplicates are looked for."""
    shown = lab.exec(machine, "ip", "-6", "address", "show", "dev", "eth0", "-tentative")
    return shown.stdout


def eui64(prefix: str, mac: str) -> str:
    raw = bytes.fromhex(mac.replace(":", ""))
    interface = bytes([raw[0] ^ 2]) + raw[1:3] + b"\xff\xfe" + raw[3:]
    network = int(ipaddress.IPv6Address(prefix))
    return str(ipaddress.IPv6Address(network + int.from_bytes(interface, "big")))
