"""Two heddle hosts on one underlay, and foreign hosts beside them on which the
peers run: a lab on the private host."""

from __future__ import annotations

from pathlib import Path

from bench import peers, private
from bench.commands import run
from bench.peers import Pair
from bench.product import heddle
from heddle.intent.names import namespace_name
from heddle.lab.folder import LabFolder, plan_of

LAB = "bench"
HOSTS = ("h1", "h2")
KERNEL_HOSTS = ("k1", "k2")
VSWITCH_HOSTS = ("o1", "o2")

SENDER_IP, RECEIVER_IP, NEIGHBOR_IP = "10.83.1.2", "10.83.2.2", "10.83.2.3"

_TOPOLOGY = f"""\
version: 1
hosts:
  h1: {{}}
  h2: {{}}
  k1: {{foreign: true, vtep: 198.18.0.101}}
  k2: {{foreign: true, vtep: 198.18.0.102}}
  o1: {{foreign: true, vtep: 198.18.0.103}}
  o2: {{foreign: true, vtep: 198.18.0.104}}
networks:
  left: {{cidr: 10.83.1.0/24}}
  right: {{cidr: 10.83.2.0/24}}
routers:
  main: {{networks: [left, right]}}
machines:
  sender: {{kind: container, host: h1, nics: [{{network: left, address: {SENDER_IP}}}]}}
  receiver: {{kind: container, host: h2, nics: [{{network: right, address: {RECEIVER_IP}}}]}}
  neighbor: {{kind: container, host: h1, nics: [{{network: right, address: {NEIGHBOR_IP}}}]}}
"""


def start() -> tuple[Pair, Pair]:
    """The lab, up: containers on two hosts, and on one of them."""
    file = private.ROOT / f"{LAB}.yaml"
    file.write_text(_TOPOLOGY, encoding="utf-8")
    heddle("lab", "up", str(file), "--name", LAB)
    for host in (*HOSTS, *KERNEL_HOSTS, *VSWITCH_HOSTS):
        _name_namespace(host, LabFolder(LAB).spaces / host / "net")
    sender = borrow_container("h1", "sender")
    receiver = borrow_container("h2", "receiver")
    neighbor = borrow_container("h1", "neighbor")
    across = Pair("heddle, two hosts", sender, receiver, "h1", SENDER_IP, RECEIVER_IP)
    inside = Pair("heddle, one host", sender, neighbor, "h1", SENDER_IP, NEIGHBOR_IP)
    return across.check(), inside.check()


def root_of(host: str) -> Path:
    """HEDDLE_ROOT of a host."""
    return LabFolder(LAB).root(host)


def vtep_of(host: str) -> str:
    return plan_of(LabFolder(LAB)).host(host).vtep


def borrow_container(host: str, machine: str) -> str:
    """Name a container's namespace, which its host knows, on the private host."""
    pid = int((root_of(host) / "run/heddle/agent.pid").read_text())
    name = f"{host}-{machine}"
    _name_namespace(name, Path(f"/proc/{pid}/root/run/netns/{namespace_name(machine)}"))
    return name


def _name_namespace(name: str, file: Path) -> None:
    """Let ``ip netns`` know a namespace that a file stands for."""
    named = Path(peers.netns_path(name))
    named.parent.mkdir(exist_ok=True)
    named.touch()
    run("mount", "--bind", str(file), str(named))
