"""TCP and UDP between two emulated VMs on two hosts: through heddle's overlay,
and between a second card of each, which QEMU joins by itself.

That one is a UDP socket between the two QEMUs (``-netdev dgram``), with frames of
the MTU and no offloads: what an overlay in user space gives. The emulated CPUs
bound both; figures/cluster_ladder.py has the same without them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

from bench import cluster_lab, private
from bench.cluster_lab import HOSTS, vtep_of
from bench.commands import BenchError
from bench.figures.vms import give_cpus, prepare
from bench.product import heddle
from bench.report import Figure, Measured, at_least
from bench.rounds import interleave, medians, ratio

ROUNDS = 9
SECONDS = 2
DATAGRAM_BYTES = 1400
_MTU = 1450
_UDP_PORT = 9998
_ROOT_PORTS = range(1, 20)  # of libvirt's PCI Express topology, some of them free
_ADDRESSES = {"h1": "10.88.0.2", "h2": "10.88.0.3"}
_TO = "10.87.2.2"

_MACHINES = f"""\
version: 1
networks:
  vms-left: {{cidr: 10.87.1.0/24}}
  vms-right: {{cidr: 10.87.2.0/24}}
routers:
  vms: {{networks: [vms-left, vms-right]}}
security_groups:
  vms: [{{direction: from_vm}}, {{direction: to_vm}}]
machines:
  h1-vm: {{host: h1, nics: [{{network: vms-left, security_groups: [vms]}}]}}
  h2-vm: {{host: h2, nics: [{{network: vms-right, address: {_TO}, security_groups: [vms]}}]}}
"""


def measure() -> Measured:
    private.borrow_images()
    cluster_lab.start()
    file = private.ROOT / "vms.yaml"
    file.write_text(_MACHINES, encoding="utf-8")
    _on_host("h1", "heddle", "up", str(file))
    for host in HOSTS:
        _plug_socket(host)
    give_cpus()
    _in_guest("h2", "iperf3", "-s", "-D")
    ways = {"heddle": _TO, "QEMU's UDP socket": _ADDRESSES["h2"]}
    contenders = {f"{name}, TCP": _stream(address) for name, address in ways.items()}
    contenders |= {f"{name}, UDP": _datagrams(address) for name, address in ways.items()}
    samples = interleave(contenders, ROUNDS)
    values = {
        f"vm-{name.lower()}-of-udp-socket": ratio(
            samples[f"heddle, {name}"], samples[f"QEMU's UDP socket, {name}"]
        )
        for name in ("TCP", "UDP")
    }
    return Measured(values, "Mbit/s", medians(samples))


def _stream(address: str) -> Callable[[], float]:
    """Mbit/s that the receiving guest got of one TCP stream."""
    return lambda: _iperf(address)["sum_received"]["bits_per_second"] / 1e6


def _datagrams(address: str) -> Callable[[], float]:
    """Mbit/s of datagrams that it got of as many as the other could send."""

    def received() -> float:
        total = _iperf(address, "-u", "-b", "0", "-l", str(DATAGRAM_BYTES))["sum"]
        return float(total["bits_per_second"]) * (1 - total["lost_percent"] / 100) / 1e6

    return received


def _iperf(address: str, *options: str) -> dict[str, dict[str, float]]:
    output = _in_guest("h1", "iperf3", "-c", address, "-t", str(SECONDS), "-J", *options)
    end: dict[str, dict[str, float]] = json.loads(output)["end"]
    return end


def _on_host(host: str, *argv: str) -> str:
    return heddle("lab", "exec", host, "--", *argv)


def _in_guest(host: str, *argv: str) -> str:
    return _on_host(host, "heddle", "exec", f"{host}-vm", "--", *argv)


def _plug_socket(host: str) -> None:
    """Plug the second card into the running VM, and give it an address."""
    other = HOSTS[1 - HOSTS.index(host)]
    ends = {
        end: {"type": "inet", "host": vtep_of(of), "port": str(_UDP_PORT)}
        for end, of in (("local", host), ("remote", other))
    }
    mac = f"02:00:00:00:88:0{HOSTS.index(host)}"
    _monitor(host, "netdev_add", {"type": "dgram", "id": "socket", **ends})
    card = {"driver": "virtio-net-pci", "netdev": "socket", "id": "socket-card", "mac": mac}
    card["addr"] = "0"  # QEMU would take another slot, in which guests don't look
    for bus in _buses():
        try:
            _monitor(host, "device_add", {**card, "bus": bus})
        except BenchError:
            continue
        break
    device = f"$(basename $(dirname $(grep -l {mac} /sys/class/net/*/address)))"
    address = f"{_ADDRESSES[host]}/24"
    script = f"for i in 1 2 3 4 5 6 7 8 9; do grep -q {mac} /sys/class/net/*/address && break; "
    script += f"sleep 1; done; ip link set {device} mtu {_MTU} up && "
    script += f"ip address add {address} dev {device}"
    _in_guest(host, "sh", "-c", script)


def _buses() -> Iterator[str]:
    return (f"pci.{number}" for number in _ROOT_PORTS)


def _monitor(host: str, command: str, arguments: dict[str, object]) -> None:
    """Tell QEMU something; BenchError when it refuses."""
    request = json.dumps({"execute": command, "arguments": arguments})
    socket = cluster_lab.root_of(host) / "run/libvirt/libvirt-sock"
    uri = f"qemu+unix:///system?socket={socket}"
    argv = ("virsh", "-c", uri, "qemu-monitor-command", f"{host}-vm", request)
    answer = _on_host(host, *argv)
    if "error" in json.loads(answer):
        raise BenchError(f"QEMU of {host}-vm: {answer.strip()}")


FIGURE = Figure(
    "cluster-vms",
    "Two emulated VMs on two hosts",
    {
        "vm-tcp-of-udp-socket": at_least(5.5, "of QEMU's own UDP socket"),
        "vm-udp-of-udp-socket": at_least(1.8, "of QEMU's own UDP socket"),
    },
    measure,
    prepare,
    patience=600,  # a VM's boot, and each iperf3 in it, takes seconds of an emulated CPU
)
