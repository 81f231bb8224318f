"""Live migration between the hosts of a lab, with real guests and real libvirt.

c1 and c2 are on the hosts between which vm0 moves, c2 behind a router; c3 is on a third
one. vm0 may be asked by anybody and may send nothing by itself, so that its answers
pass because of connections or not at all.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cluster import Running, cluster, eventually

from heddle.agent.migration import Timeouts
from heddle.lab.etcd import stop_member

pytestmark = pytest.mark.timeout(1800)
HERE = Path(__file__).parent
ADDRESS = "172.17.17.2"
PORT = 5201  # iperf3 listens in the guest
MANY = 10_000
IN_GUEST = "/root-echo"  # a place in the guest
TIMER_SECONDS = 35.0  # after which each connection has been looked at (FIRST_ALARM_NS)
FILE = """
version: 1
hosts: {h1: {}, h2: {}, h3: {}}
networks:
  web: {cidr: 172.17.17.0/24}
  db: {cidr: 192.168.0.0/24}
routers: {main: {networks: [web, db]}}
security_groups:
  asked:
    - {direction: to_vm, ethertype: ipv4}
machines:
  vm0:
    kind: vm
    host: h1
    memory: 256M
    nics: [{network: web, address: 172.17.17.2, security_groups: [asked]}]
  c1: {kind: container, host: h1, nics: [{network: web, address: 172.17.17.11}]}
  c2: {kind: container, host: h2, nics: [{network: db, address: 192.168.0.12}]}
  c3: {kind: container, host: h3, nics: [{network: web, address: 172.17.17.13}]}
"""


@pytest.fixture(scope="module")
def lab() -> Iterator[Running]:
    with cluster() as made:
        yield made.up(FILE, "--timeout", "600")


def host_of(lab: Running) -> str:
    (machine,) = [m for m in lab.show("machine", host="h3") if m["name"] == "vm0"]
    return str(machine["host"])


def other(host: str) -> str:
    return {"h1": "h2", "h2": "h1"}[host]


def is_ready(lab: Running) -> bool:
    (machine,) = [m for m in lab.show("machine", host="h3") if m["name"] == "vm0"]
    return bool((machine.get("status") or {}).get("ready"))


def settled(lab: Running) -> str:
    """Wait until vm0 is ready, and nothing is left of an earlier migration."""

    def done() -> bool:
        (machine,) = [m for m in lab.show("machine", host="h3") if m["name"] == "vm0"]
        moving = machine["migrating_to"] or machine["moved_from"]
        return not moving and bool((machine.get("status") or {}).get("ready"))

    eventually(done, "vm0 is settled", 300)
    return host_of(lab)


def virsh(lab: Running, host: str, *argv: str, check: bool = True) -> str:
    socket = lab.folder.root(host) / "run/libvirt/libvirt-sock"
    uri = f"qemu+unix:///system?socket={socket}"
    return lab.host(host, "virsh", "-q", "-c", uri, *argv, check=check).stdout


def fact(lab: Running, host: str) -> dict[str, Any]:
    """What the host's agent says of the last migration."""
    read = (
        "import json, os; from heddle.store.open import open_store; "
        "facts = open_store().statuses(os.environ['HEDDLE_HOST']); "
        "print(json.dumps([f for (k, _), f in facts.items() if k == 'migration']))"
    )
    ((found),) = json.loads(lab.host(host, sys.executable, "-c", read).stdout)
    return dict(found)


def boot_id(lab: Running, host: str) -> str:
    argv = ["heddle", "exec", "vm0", "--", "cat", "/proc/sys/kernel/random/boot_id"]
    return eventually(lambda: lab.host(host, *argv, check=False).stdout, "vm0 answers", 300)


def echoes(lab: Running, host: str) -> tuple[int, int]:
    """How often vm0 has been pinged, and had no room for an answer (RFC 2011, icmpOutErrors)."""
    argv = ["heddle", "exec", "vm0", "--", "cat", "/proc/net/snmp"]
    told = eventually(lambda: lab.host(host, *argv, check=False).stdout, "vm0 answers", 60)
    names, numbers = (line.split()[1:] for line in told.splitlines() if line.startswith("Icmp:"))
    found = dict(zip(names, map(int, numbers), strict=True))
    return found["InEchos"], found["OutErrors"]


def answers(lab: Running) -> bool:
    return all(lab.pings(c, ADDRESS) for c in ("h1/c1", "h2/c2", "h3/c3"))


# ---- nothing is lost ---------------------------------------------------------------------


@pytest.mark.parametrize("container", ["h3/c3", "h1/c1", "h2/c2"])
def test_nothing_is_lost_but_in_the_hypervisors_downtime(lab: Running, container: str) -> None:
    """Pings each millisecond from a third host, and from the two of the migration, as
    long as the guest stands still no longer than the queue of its link holds. A guest that
    finds many at once does not answer all: its kernel counts for which it had no room."""
    here = settled(lab)
    there, before = other(here), boot_id(lab, here)
    argv = lab.inside(container, sys.executable, str(HERE / "pinger.py"), ADDRESS, "25")
    earlier = echoes(lab, here)
    with lab.explained(), lab.background(argv) as pinger:
        assert pinger.stdout is not None
        assert pinger.stdout.readline() == "{}\n"
        done = lab.host(here, "heddle", "migrate", "vm0", there)
        assert re.fullmatch(rf"vm0 moved from {here} to {there} in [0-9.]+ s\n", done.stdout)
        job = virsh(lab, there, "domjobinfo", "vm0", "--completed")
        downtime = int(re.search(r"Total downtime: +(\d+)", job)[1])  # type: ignore[index]
        told = json.loads(pinger.communicate()[0])
        flows = (told["resumed_at"] - fact(lab, there)["first_frame_at"]) / 1e6
        asked, unable = (a - b for a, b in zip(echoes(lab, there), earlier, strict=True))
        print(f"{container}, {here} to {there}: downtime {downtime} ms; {told}; ", end="")
        print(f"traffic flows {flows:.1f} ms after the first frame; ", end="")
        print(f"the guest was asked {asked} times, without room for {unable} answers")
        assert told["sent"] - asked <= downtime, "on the way to the guest"
        assert told["lost"] - unable <= downtime, "there and back"
    assert host_of(lab) == there
    assert boot_id(lab, there) == before
    eventually(lambda: is_ready(lab), "vm0 is ready")


def test_tcp_goes_on(lab: Running) -> None:
    """Streams from a third host; vm0 may say nothing but in connections."""
    here = settled(lab)
    client = ["iperf3", "-c", ADDRESS, "-t", "25", "-P", "4", "-b", "1M", "-J"]
    with lab.background(lab.inside("h3/c3", *client)) as iperf:
        eventually(lambda: streams(lab, here) >= 4, "the streams have begun")
        lab.host(here, "heddle", "migrate", "vm0", other(here))
        told, _ = iperf.communicate(timeout=240)
    end = json.loads(told)["end"]
    assert iperf.returncode == 0
    assert all(stream["receiver"]["bytes"] > 1 << 20 for stream in end["streams"])


def streams(lab: Running, host: str) -> int:
    flows = lab.show("flows", host=host)
    return sum(f.get("destination_port") == PORT and f["state"] == "established" for f in flows)


@contextlib.contextmanager
def talking(lab: Running, host: str) -> Iterator[Callable[[str], None]]:
    """A TCP connection from each container to vm0, which runs there; what is called with
    a word sends it through all of them, and sees that it is echoed."""
    echo = "busybox nc -ll -p 7 -e cat >/dev/null 2>&1 </dev/null &"
    lab.host(host, "heddle", "exec", "vm0", "--", "sh", "-c", echo)
    with contextlib.ExitStack() as stack:
        talkers = []
        for container in ("h1/c1", "h2/c2", "h3/c3"):
            argv = lab.inside(container, sys.executable, str(HERE / "talker.py"), ADDRESS, "7")
            talkers.append(stack.enter_context(lab.background(argv)))

        def expect(line: str) -> None:
            told = [t.stdout.readline() for t in talkers if t.stdout is not None]
            assert told == [f"{line}\n"] * 3

        def say(word: str) -> None:
            for talker in talkers:
                assert talker.stdin is not None
                talker.stdin.write(f"{word}\n")
                talker.stdin.flush()
            expect(word)

        expect("connected")
        say("hello")
        yield say


def test_connections_that_are_silent_go_on(lab: Running) -> None:
    """On the host that vm0 leaves they would have an end there that is gone."""
    here = settled(lab)
    with talking(lab, here) as say:
        begun = time.monotonic()
        lab.host(here, "heddle", "migrate", "vm0", other(here))
        assert settled(lab) == other(here)
        eventually(lambda: time.monotonic() > begun + TIMER_SECONDS, "timers have looked")
        say("still here?")


def test_ten_thousand_connections_go_on(lab: Running, tmp_path: Path) -> None:
    """Each with a handshake and a word before, and a word afterwards, which is answered;
    no host drops any packet for want of a connection."""
    here = settled(lab)
    install(lab, here, HERE / "echo.c", tmp_path)
    lab.host(here, "heddle", "exec", "vm0", "--", "sh", "-c", f"{IN_GUEST} 8 >/dev/null 2>&1 &")
    program = str(HERE / "many_talkers.py")
    argv = lab.inside("h3/c3", sys.executable, program, ADDRESS, "8", str(MANY))
    with lab.background(argv) as talkers:
        assert talkers.stdin is not None
        assert talkers.stdout is not None

        def answered(word: str) -> int:
            print(word, file=talkers.stdin, flush=True)
            return int(talkers.stdout.readline())  # type: ignore[union-attr]

        assert int(talkers.stdout.readline()) == MANY
        assert answered("before") == MANY
        before = refused(lab)
        lab.host(here, "heddle", "migrate", "vm0", other(here))
        assert answered("after") == MANY
        assert refused(lab) == before
        assert established(lab, other(here)) == MANY
    assert settled(lab) == other(here)


def install(lab: Running, host: str, source: Path, folder: Path) -> None:
    """Build a program and bring it into vm0, which fetches nothing by itself."""
    built = folder / source.stem
    subprocess.run(["cc", "-O2", "-static", "-o", built, source], check=True)
    take = f"nc -l -p 9 >{IN_GUEST}.new </dev/null && mv {IN_GUEST}.new {IN_GUEST}"
    script = f"({take} && chmod 755 {IN_GUEST}) >/dev/null 2>&1 &"
    lab.host(host, "heddle", "exec", "vm0", "--", "sh", "-c", script)
    give = f"import socket, sys; s = socket.create_connection(('{ADDRESS}', 9), 30); "
    give += f"s.sendall(open('{built}', 'rb').read())"
    lab.exec("h3/c3", sys.executable, "-c", give)
    there = ["heddle", "exec", "vm0", "--", "test", "-x", IN_GUEST]
    eventually(lambda: lab.host(host, *there, check=False).returncode == 0, "it is there")


def refused(lab: Running) -> int:
    """Packets that hosts have dropped since they had no connection or found no rule."""
    told = [json.loads(lab.host(h, "heddle", "drops", "--json").stdout) for h in ("h1", "h2", "h3")]
    rows = [row for rows in told for row in rows]
    return sum(row["packets"] for row in rows if re.search("POLICY|CONNECTION|FLOW", row["reason"]))


def established(lab: Running, host: str) -> int:
    flows = lab.show("flows", host=host)
    return sum(f.get("destination_port") == 8 and f["state"] == "established" for f in flows)


# ---- faults ---------------------------------------------------------------------------------


@contextlib.contextmanager
def migrating(lab: Running, slowly: bool = True) -> Iterator[tuple[str, str]]:
    """From one host to the other, at a speed at which it does not end by itself."""
    here = settled(lab)
    there = other(here)
    if slowly:
        virsh(lab, here, "migrate-setspeed", "vm0", "1")
    with lab.background(lab.on(here, "heddle", "migrate", "vm0", there)) as command:
        eventually(lambda: "Operation:" in virsh(lab, here, "domjobinfo", "vm0"), "it moves", 120)
        yield here, there
        command.wait(timeout=240)
        for pipe in (command.stdout, command.stderr):
            assert pipe is not None
            pipe.read()


def faster(lab: Running, host: str) -> None:
    virsh(lab, host, "migrate-setspeed", "vm0", "10000", check=False)


def test_called_off(lab: Running) -> None:
    with migrating(lab) as (here, _):
        before = boot_id(lab, here)
        done = lab.host("h3", "heddle", "migrate", "vm0", "--cancel")
        assert done.stdout == f"vm0 stays on host {here}\n"
    assert settled(lab) == here
    faster(lab, here)
    assert boot_id(lab, here) == before
    assert answers(lab)


@pytest.mark.parametrize("which", ["source", "target"])
def test_an_agent_dies_on_the_way(lab: Running, which: str) -> None:
    """The VM goes on, moves all the same, and is where the store says."""
    with migrating(lab) as (here, there):
        before = boot_id(lab, here)
        host = here if which == "source" else there
        os.kill(lab.agent_pid(host), signal.SIGKILL)
        assert answers(lab)
        faster(lab, here)
        eventually(lambda: "vm0" in virsh(lab, there, "list", "--name"), "it comes", 120)
        eventually(lambda: answers(lab), "it answers while the agent is dead", 60)
        lab.cluster.heddle("lab", "up", lab.cluster.root / "topology.yaml", "--name", "lab")
        assert settled(lab) == there
    assert boot_id(lab, there) == before
    assert answers(lab)


def test_etcd_dies_on_the_way(lab: Running) -> None:
    """The VM moves all the same and can be reached; the store learns of it later."""
    with migrating(lab) as (here, there):
        before = boot_id(lab, here)
        assert stop_member(lab.folder.etcd, 1)
        faster(lab, here)
        eventually(lambda: "vm0" not in virsh(lab, here, "list", "--name"), "it has left", 120)
        eventually(lambda: answers(lab), "it answers without etcd", 60)
        lab.cluster.heddle("lab", "up", lab.cluster.root / "topology.yaml", "--name", "lab")
    assert settled(lab) == there
    assert boot_id(lab, there) == before
    assert answers(lab)


def test_the_vm_ends_on_the_way(lab: Running) -> None:
    """It stays, and boots again, since it shall run."""
    with migrating(lab) as (here, _):
        before = boot_id(lab, here)
        virsh(lab, here, "destroy", "vm0")
    assert settled(lab) == here
    eventually(lambda: boot_id(lab, here) != before, "it has booted again")
    assert answers(lab)


def test_a_target_whose_agent_is_dead(lab: Running) -> None:
    """The command says so; nothing has changed."""
    here = settled(lab)
    there = other(here)
    os.kill(lab.agent_pid(there), signal.SIGKILL)
    begun = time.monotonic()
    done = lab.host(here, "heddle", "migrate", "vm0", there, check=False)
    assert time.monotonic() - begun < Timeouts().waiting, "its lease says so before"
    assert done.returncode == 1
    assert f"host {there} does not answer" in done.stderr
    assert f"vm0 runs on host {here} as before" in done.stderr
    lab.cluster.heddle("lab", "up", lab.cluster.root / "topology.yaml", "--name", "lab")
    assert settled(lab) == here


def test_a_host_that_has_no_room(lab: Running) -> None:
    here = settled(lab)
    there = other(here)
    meminfo = lab.folder.root(there) / "meminfo"
    meminfo.write_text("MemAvailable:    1024 kB\n")
    lab.host(there, "mount", "--bind", str(meminfo), "/proc/meminfo")
    try:
        done = lab.host(here, "heddle", "migrate", "vm0", there, check=False)
    finally:
        lab.host(there, "umount", "/proc/meminfo")
    assert done.returncode == 1
    assert f"host {there} has 1 MB" in done.stderr
    assert settled(lab) == here


WRONG = {
    ("vm1", "h2"): "no machine 'vm1'; VMs are: vm0",
    ("vm0", "h9"): "no host 'h9' that VMs can move to; there is: h1, h2, h3",
    ("c1", "h2"): "machine c1 is a container, which can't move: only VMs can",
    ("vm0", "--cancel"): "vm0 is not on its way: it runs on host ",
    ("vm0",): "name a host to move to, or say --cancel",
}


@pytest.mark.parametrize("words", WRONG)
def test_wrong_requests(lab: Running, words: tuple[str, ...]) -> None:
    done = lab.host("h3", "heddle", "migrate", *words, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith(f"heddle: {WRONG[words]}")


def test_one_that_virsh_begins_is_followed(lab: Running) -> None:
    """With the rows, the connections and the place of the VM as heddle's own."""
    here = settled(lab)
    there, before = other(here), boot_id(lab, here)
    address = lab.plan.host(there).vtep
    target = [f"qemu+tcp://{address}/system", "--migrateuri", f"tcp://{address}"]
    virsh(lab, here, "migrate", "--live", "--p2p", "vm0", *target)
    assert settled(lab) == there
    assert boot_id(lab, there) == before
    assert answers(lab)
    assert "vm0" not in virsh(lab, here, "list", "--all", "--name").split()


def test_saved_here_and_restored_there(lab: Running) -> None:
    """It goes on where it was, and its network is there as it left it, with connections
    that it could not have begun itself."""
    here = settled(lab)
    there, before = other(here), boot_id(lab, here)
    file = lab.cluster.root / "vm0.saved"
    with talking(lab, here) as say:
        lab.host(here, "heddle", "vm", "save", "vm0", "--to", str(file))
        wrong = lab.host(here, "heddle", "vm", "restore", "vm0", "--host", "h9", check=False)
        assert wrong.stderr.startswith(
            "heddle: no host 'h9' that a VM can run on; there is: h1, h2"
        )
        refused = lab.host(here, "heddle", "migrate", "vm0", there, check=False)
        assert f"vm0 is saved: run heddle vm restore vm0 --host {there}" in refused.stderr
        lab.host(here, "heddle", "vm", "restore", "vm0", "--host", there)
        assert settled(lab) == there
        say("and now")
    assert boot_id(lab, there) == before
    assert answers(lab)
    assert "vm0" not in virsh(lab, here, "list", "--all", "--name").split()
    assert not list(lab.cluster.root.glob("vm0.saved*")), "its files serve once"


def test_one_that_is_off_moves_at_once(lab: Running) -> None:
    here = settled(lab)
    there = other(here)
    lab.host(here, "heddle", "vm", "destroy", "vm0")
    done = lab.host(here, "heddle", "migrate", "vm0", there)
    assert done.stdout == f"vm0, which is off, is on host {there} now\n"
    lab.host("h3", "heddle", "vm", "start", "vm0", "--timeout", "300")
    assert settled(lab) == there
    assert answers(lab)
    gone = lambda: "vm0" not in virsh(lab, here, "list", "--all", "--name").split()  # noqa: E731
    eventually(gone, "the old host forgets it")


FILL = """
import os, socket, sys, time
from heddle.datapath.loader import Datapath
datapath = Datapath.open(os.environ["HEDDLE_HOST"])
flows = datapath.table("flows")
there = sum(1 for _ in flows.items())
keys = [n.to_bytes(flows.key_size, "little") for n in range(flows.max_entries - there - 1)]
if sys.argv[1] == "fill":
    flows.put_many((key, bytes(flows.value_size)) for key in keys)
else:
    flows.delete_many(key for key, value in list(flows.items()) if not any(value))
"""


def test_a_host_whose_flow_table_is_full(lab: Running) -> None:
    """What found no room is named; the VM is there, and works as soon as there is some."""
    here = settled(lab)
    there = other(here)
    with talking(lab, here):
        before = boot_id(lab, here)
        lab.host(there, sys.executable, "-c", FILL, "fill")
        try:
            done = lab.host(here, "heddle", "migrate", "vm0", there)
            assert done.stdout.startswith(f"vm0 moved from {here} to {there}")
            assert f"warning: the flow table of host {there} is full: " in done.stderr
            assert "tcp 172.17.17.13:" in done.stderr
            assert int(fact(lab, there)["lost_connections"]) >= 1
        finally:
            lab.host(there, sys.executable, "-c", FILL, "empty")
    assert settled(lab) == there
    assert boot_id(lab, there) == before
    assert answers(lab)


def test_a_vm_boots_while_etcd_is_gone(lab: Running) -> None:
    """And gets its address, from what its host knows."""
    here = settled(lab)
    before = boot_id(lab, here)
    assert stop_member(lab.folder.etcd, 1)
    try:
        virsh(lab, here, "destroy", "vm0")
        eventually(lambda: "vm0" in virsh(lab, here, "list", "--name"), "it is started again", 120)
        eventually(lambda: answers(lab), "it answers without etcd", 300)
    finally:
        lab.cluster.heddle("lab", "up", lab.cluster.root / "topology.yaml", "--name", "lab")
    assert settled(lab) == here
    assert boot_id(lab, here) != before
