"""The agent's loop on a kernel in memory: intent goes in, facts come out, and
whatever fails stays wanted and visible."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from heddle.agent import loop
from heddle.agent.loop import Agent, Parts
from heddle.agent.prober import Prober
from heddle.applier.applier import Applier
from heddle.applier.fake import FakeKernel
from heddle.compiler.fragment import UNLIMITED
from heddle.compiler.state import MachineSpec
from heddle.events.drops import DropEvent
from heddle.hypervisor.machines import MachineStatus
from heddle.intent.model import FixedIp, Kind, Machine, Network, Port, Subnet
from heddle.intent.names import tap_name
from heddle.store.interface import Transaction
from heddle.store.sqlite import SqliteStore

HOST = "h1"
RUNNING = MachineStatus("running", True, None)
STOPPED = MachineStatus("stopped", False, None)
Scenario = Callable[["Host", Agent], Awaitable[None]]


class StubMachines:
    """Machines do at once what they are told."""

    def __init__(self) -> None:
        self.failure: Exception | None = None
        self.asked: list[set[str]] = []
        self.retried = False
        self.broken = False

    def reconcile(self, specs: Mapping[str, MachineSpec]) -> dict[str, MachineStatus]:
        self.asked.append(set(specs))
        if self.failure:
            raise self.failure
        if self.broken:
            return dict.fromkeys(specs, MachineStatus("error", False, "no image"))
        return {name: RUNNING if spec.running else STOPPED for name, spec in specs.items()}

    def retry(self) -> None:
        self.retried = True


class StubSource:
    """Something to read: the ring buffer, or the kernel's notifications."""

    def __init__(self) -> None:
        self.inside, self._outside = socket.socketpair()
        self.inside.setblocking(False)

    def fileno(self) -> int:
        return self.inside.fileno()

    def tell(self, record: bytes = b"!") -> None:
        self._outside.send(record)

    def consume(self) -> list[bytes]:
        return [self.inside.recv(100)]

    def drain(self) -> bool:
        try:
            return bool(self.inside.recv(100))
        except BlockingIOError:
            return False

    def close(self) -> None:
        self.inside.close()
        self._outside.close()


class NoFrames:
    """There is no other host to probe."""

    def request(self, host: int, sequence: int, size: int, relay_to: int = 0) -> bytes:
        raise AssertionError


class NoSender:
    def __init__(self, vtep: str) -> None:
        raise AssertionError(vtep)

    def send(self, payload: bytes, address: str, port: int) -> bool:
        raise AssertionError

    def close(self) -> None:
        raise AssertionError


class Host:
    """A host's store and kernel, which outlive its agents."""

    def __init__(self, folder: Path) -> None:
        self.store = SqliteStore(folder / "store.sqlite", watch_interval=0.001)
        self.kernel = FakeKernel()
        self.machines = StubMachines()
        self.drops, self.notifications = StubSource(), StubSource()
        self._folder = folder

    def run(self, scenario: Scenario) -> None:
        """Run an agent for as long as the scenario takes."""
        asyncio.run(self._run(scenario))

    async def _run(self, scenario: Scenario) -> None:
        parts = Parts(
            store=self.store,
            applier=Applier(self.kernel),
            limits=UNLIMITED,
            machines=self.machines,
            drops=self.drops,
            decode_event=event,
            notifications=self.notifications,  # type: ignore[arg-type]
            send=lambda device, frame: None,
            index_of=self.index_of,
            prober=Prober(NoFrames(), NoSender, self._folder / "paths.json"),
        )
        agent = Agent(HOST, parts, self._folder / "agent.sock")
        running = asyncio.create_task(agent.run())
        try:
            async with asyncio.timeout(60):
                await scenario(self, agent)
        finally:
            agent.stop()
            await running

    def index_of(self, device: str) -> int | None:
        found = (link.index for link in self.kernel.all_links.values() if link.name == device)
        return next(found, None)

    def want(self, *objects: Any, gone: tuple[tuple[Kind, str], ...] = ()) -> int:  # noqa: ANN401
        return self.store.commit(Transaction(put=objects, delete=gone))

    def fact(self, kind: str, name: str) -> dict[str, Any]:
        return self.store.statuses().get((kind, name), {})

    @property
    def agent_fact(self) -> dict[str, Any]:
        return self.fact("agent", HOST)

    def close(self) -> None:
        for part in (self.store, self.drops, self.notifications):
            part.close()


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:  # noqa: ANN401 (a generator)
    monkeypatch.setattr(loop, "RETRY_SECONDS", 0.01)
    host = Host(tmp_path)
    yield host
    host.close()


def event(record: bytes) -> DropEvent:
    return DropEvent(record.decode(), "guard", 1, "tap", 1, 60, datetime.now(UTC), b"")


def intent(*, running: bool = True) -> list[Any]:
    return [
        Network(id="net", name="net", vni=7),
        Subnet(id="sub", name="sub", network_id="net", number=1, cidr="10.0.0.0/24",
               gateway_ip="10.0.0.1"),
        Machine(id="vm", name="vm", machine_kind="vm", host=HOST, running=running),
        port(1),
    ]  # fmt: skip


def port(number: int, **fields: object) -> Port:
    wanted: dict[str, Any] = {
        "id": f"{number:011d}-port",
        "name": f"vm/{number}",
        "network_id": "net",
        "mac": f"fa:16:3e:00:00:{number:02x}",
        "fixed_ips": (FixedIp(subnet_id="sub", ip=f"10.0.0.{number + 9}"),),
        "machine_id": "vm",
        "nic": number,
        "host": HOST,
    }
    return Port(**(wanted | fields))


FIRST, SECOND = port(1), port(2)


async def eventually(condition: Callable[[], object]) -> None:
    while not condition():
        await asyncio.sleep(0.002)


def applied(host: Host, revision: int) -> Callable[[], bool]:
    return lambda: host.agent_fact.get("revision") == revision


def test_intent_goes_in_and_facts_come_out(host: Host) -> None:
    async def scenario(host: Host, agent: Agent) -> None:
        await eventually(lambda: host.fact("machine", "vm") == {
            "state": "running", "ready": True, "error": None})  # fmt: skip
        await eventually(lambda: host.fact("port", FIRST.id).get("state") == "active")
        assert host.fact("port", FIRST.id) == {
            "state": "active", "device": tap_name(FIRST.id), "ifindex": 2, "error": None,
        }  # fmt: skip
        host.want(SECOND)
        await eventually(lambda: host.fact("port", SECOND.id).get("state") == "active")
        host.want(gone=((Kind.PORT, FIRST.id),))
        await eventually(lambda: not host.fact("port", FIRST.id))
        assert {link.name for link in host.kernel.all_links.values()} == {tap_name(SECOND.id)}
        host.want(intent(running=False)[2])
        await eventually(lambda: host.fact("port", SECOND.id).get("state") == "down")

    host.want(*intent())
    host.run(scenario)
    assert host.agent_fact["state"] == "stopped"


def test_hosts_that_can_not_be_reached_are_told(host: Host) -> None:
    far = port(3, host="h2", machine_id="far")

    async def scenario(host: Host, agent: Agent) -> None:
        await eventually(lambda: host.agent_fact.get("hosts", {}).keys() == {HOST, "h2"})
        assert host.agent_fact["hosts"]["h2"].startswith("host h2: has ports in networks of this")
        host.want(gone=((Kind.PORT, far.id),))
        await eventually(lambda: host.agent_fact["hosts"] == {})
        assert not [key for key in host.store.statuses() if key[0] == "host"]

    host.want(*intent(), far)
    host.run(scenario)


def test_all_gone_leaves_no_facts_and_an_empty_kernel(host: Host) -> None:
    async def scenario(host: Host, agent: Agent) -> None:
        await eventually(lambda: host.fact("port", FIRST.id).get("state") == "active")
        everything = [(item.kind, item.id) for item in reversed(intent())]
        await eventually(applied(host, host.want(gone=tuple(everything))))
        await eventually(lambda: set(host.store.statuses()) == {("agent", HOST)})

    host.want(*intent())
    host.run(scenario)
    assert host.kernel.all_links == {}
    assert not any(rows for name, rows in host.kernel.tables.items() if name != "epochs")


def test_a_restart_writes_nothing(host: Host) -> None:
    async def settle(host: Host, agent: Agent) -> None:
        await eventually(applied(host, revision))
        await eventually(lambda: host.fact("port", FIRST.id).get("state") == "active")

    revision = host.want(*intent())
    host.run(settle)
    steps = list(host.kernel.steps)
    host.run(settle)
    assert host.kernel.steps == steps


def test_what_changed_while_it_was_dead_is_caught_up_with(host: Host) -> None:
    async def settle(host: Host, agent: Agent) -> None:
        await eventually(applied(host, revision))

    revision = host.want(*intent(), SECOND)
    host.run(settle)
    revision = host.want(gone=((Kind.PORT, FIRST.id),))
    host.run(settle)
    assert {link.name for link in host.kernel.all_links.values()} == {tap_name(SECOND.id)}
    assert not host.fact("port", FIRST.id)


def test_damage_is_repaired_and_told(host: Host) -> None:
    async def scenario(host: Host, agent: Agent) -> None:
        await eventually(applied(host, revision))
        rows = host.kernel.tables["macs"]
        before = dict(rows)
        rows.clear()
        host.notifications.tell()
        await eventually(lambda: rows == before)
        await eventually(lambda: host.agent_fact["repaired"] > 0)
        assert "macs" in host.agent_fact["repairs"][0]["what"]

    revision = host.want(*intent())
    host.run(scenario)


def test_what_fails_is_an_error_until_it_works(host: Host) -> None:
    async def scenario(host: Host, agent: Agent) -> None:
        await eventually(lambda: host.fact("port", FIRST.id).get("state") == "error")
        assert "refused" in host.fact("port", FIRST.id)["error"]
        assert tap_name(FIRST.id) in host.agent_fact["pending"]
        host.kernel.refuse = lambda step: False
        agent.reconcile()
        await eventually(lambda: host.fact("port", FIRST.id).get("state") == "active")
        await eventually(lambda: host.agent_fact["pending"] == {})

    host.kernel.refuse = lambda step: step.startswith("link +")
    host.want(*intent())
    host.run(scenario)


def test_an_object_that_makes_no_sense_is_an_error(host: Host) -> None:
    async def scenario(host: Host, agent: Agent) -> None:
        await eventually(lambda: host.fact("port", SECOND.id).get("state") == "error")
        await eventually(lambda: host.fact("port", FIRST.id).get("state") == "active")
        host.want(SECOND)
        await eventually(lambda: host.fact("port", SECOND.id).get("state") == "active")

    host.want(*intent(), SECOND.model_copy(update={"fixed_ips": FIRST.fixed_ips}))
    host.run(scenario)


def test_a_task_that_fails_is_begun_anew(host: Host) -> None:
    async def scenario(host: Host, agent: Agent) -> None:
        await eventually(lambda: host.agent_fact.get("errors") == {"machines": "out of order"})
        host.machines.failure = None
        await eventually(lambda: host.fact("machine", "vm").get("ready"))
        await eventually(lambda: host.agent_fact["errors"] == {})

    host.machines.failure = RuntimeError("out of order")
    host.want(*intent())
    host.run(scenario)


def test_the_intent_task_begins_anew_from_the_store(host: Host) -> None:
    """Whatever breaks in the middle: the next attempt reads everything."""

    async def scenario(host: Host, agent: Agent) -> None:
        await eventually(lambda: "intent" in host.agent_fact.get("errors", {}))
        host.kernel.links = kernel_links  # type: ignore[method-assign]
        await eventually(lambda: host.fact("port", FIRST.id).get("state") == "active")
        await eventually(lambda: host.agent_fact["errors"] == {})

    def broken() -> Any:  # noqa: ANN401
        raise RuntimeError("broken")

    kernel_links = host.kernel.links
    host.kernel.links = broken  # type: ignore[method-assign]
    host.want(*intent())
    host.run(scenario)


def test_a_new_failure_is_told_from_an_old_one(host: Host) -> None:
    """Who has mended something asks for another try, and must not be answered
    with what went wrong before."""

    async def scenario(host: Host, agent: Agent) -> None:
        await eventually(lambda: host.fact("machine", "vm").get("state") == "error")
        assert host.fact("machine", "vm")["revision"] == revision
        assert not host.machines.retried
        look = agent.reconcile()
        assert look > host.fact("machine", "vm")["look"]
        await eventually(lambda: host.fact("machine", "vm")["look"] >= look)
        assert host.machines.retried
        host.machines.broken = False
        agent.reconcile()
        await eventually(lambda: host.fact("machine", "vm").get("ready"))

    host.machines.broken = True
    revision = host.want(*intent())
    host.run(scenario)


def test_stopped_machines_wait_for_the_next_look(host: Host) -> None:
    """A change to a machine that is off must not cost a look at all of them."""

    async def scenario(host: Host, agent: Agent) -> None:
        await eventually(lambda: host.machines.asked)
        looks = len(host.machines.asked)
        await eventually(applied(host, host.want(*intent(running=False))))
        assert len(host.machines.asked) == looks
        await eventually(applied(host, host.want(*intent(running=True))))
        await eventually(lambda: len(host.machines.asked) > looks)

    host.run(scenario)


def test_drops_reach_every_listener(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """A listener that does not listen loses the oldest, and keeps nobody up."""

    async def scenario(host: Host, agent: Agent) -> None:
        quick, slow = agent.follow_events(), agent.follow_events()
        first = asyncio.ensure_future(anext(quick)), asyncio.ensure_future(anext(slow))
        await eventually(lambda: len(agent._listeners) == 2)
        host.drops.tell(b"NO_ROUTE")
        for waiting in first:
            assert (await waiting)["reason"] == "NO_ROUTE"
        for reason in (b"ONE", b"TWO", b"THREE"):
            host.drops.tell(reason)
            assert (await anext(quick))["reason"] == reason.decode()
        assert [(await anext(slow))["reason"] for _ in range(2)] == ["TWO", "THREE"]

    monkeypatch.setattr(loop, "EVENTS_QUEUED", 2)
    host.run(scenario)
