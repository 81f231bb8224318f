"""An agent whose store is etcd: it goes on without it, and after it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from etcd_server import EtcdCluster, etcd_cluster

from heddle.agent.loop import Agent
from heddle.intent.model import Kind
from heddle.intent.names import tap_name
from heddle.store.etcd.client import EtcdClient
from heddle.store.etcd.liveness import Pulse, read_lives
from heddle.store.etcd.store import EtcdStore
from heddle.store.interface import Transaction
from tests.unit.agent.test_loop import FIRST, HOST, SECOND, Host, eventually, intent

Scenario = Callable[["EtcdHost", Agent], Awaitable[None]]


class EtcdHost(Host):
    """The host of the agent's own tests, with its store in etcd."""

    def __init__(self, folder: Path, cluster: EtcdCluster) -> None:
        super().__init__(folder)
        self.store.close()
        self.cluster = cluster
        self.cache = folder / "state" / "cache.sqlite"
        self.open()

    def open(self) -> None:
        """A new process begins with a new client."""
        self.store = EtcdStore(self.cluster.settings, HOST, self.cache)  # type: ignore[assignment]

    @property
    def member(self) -> Any:  # noqa: ANN401
        return self.cluster.members[0]

    @property
    def devices(self) -> set[str]:
        return {link.name for link in self.kernel.all_links.values()}

    async def elsewhere(self, *put: Any, gone: tuple[tuple[Kind, str], ...] = ()) -> int:  # noqa: ANN401
        """Commit as another host does."""

        def commit() -> int:
            with closing(EtcdStore(self.cluster.settings, "h9")) as store:
                return store.commit(Transaction(put=put, delete=gone))

        return await asyncio.to_thread(commit)

    async def restart_etcd(self) -> None:
        self.member.start()
        await asyncio.to_thread(self.cluster.wait, self.cluster.settings)


@pytest.fixture
def host(tmp_path: Path) -> Iterator[EtcdHost]:
    with etcd_cluster(tmp_path / "etcd" / "data") as cluster:
        host = EtcdHost(tmp_path, cluster)
        yield host
        host.close()


def has(host: EtcdHost, *ports: Any) -> Callable[[], bool]:  # noqa: ANN401
    """That the kernel has these ports, and no others."""
    wanted = {tap_name(port.id) for port in ports}
    return lambda: {name for name in host.devices if name.startswith("tap")} == wanted


def test_what_changes_while_etcd_is_gone_is_applied_when_it_returns(host: EtcdHost) -> None:
    async def scenario(host: Any, agent: Agent) -> None:  # noqa: ANN401
        await host.elsewhere(*intent())
        await eventually(has(host, FIRST))
        host.member.kill()
        await eventually(lambda: "store" in agent.describe()["errors"])
        assert has(host, FIRST)()
        assert "Connection refused" in agent.describe()["errors"]["store"]
        await host.restart_etcd()
        await host.elsewhere(SECOND)
        await eventually(has(host, FIRST, SECOND))
        await eventually(lambda: agent.describe()["errors"] == {})

    host.run(scenario)


def test_an_agent_that_starts_without_etcd_keeps_and_repairs_its_ports(host: EtcdHost) -> None:
    async def before(host: Any, agent: Agent) -> None:  # noqa: ANN401
        await host.elsewhere(*intent())
        await eventually(has(host, FIRST))

    async def without(host: Any, agent: Agent) -> None:  # noqa: ANN401
        await eventually(lambda: agent.describe()["revision"] is not None)
        await eventually(has(host, FIRST))
        await host.restart_etcd()
        await host.elsewhere(SECOND)
        await eventually(has(host, FIRST, SECOND))
        await eventually(lambda: host.fact("agent", HOST).get("state") == "running")

    host.run(before)
    host.store.close()
    host.member.kill()
    host.kernel.destroy(tap_name(FIRST.id))
    host.open()
    host.run(without)


def test_an_agent_is_seen_to_be_up(host: EtcdHost) -> None:
    async def scenario(host: Any, agent: Agent) -> None:  # noqa: ANN401
        with closing(EtcdClient(host.cluster.settings)) as client:
            await eventually(lambda: HOST in read_lives(client))
            assert read_lives(client)[HOST].up

    host.run(scenario)


def test_a_name_that_another_machine_has_is_told(host: EtcdHost) -> None:
    client = EtcdClient(host.cluster.settings)
    Pulse(client, HOST, "another machine").beat({"since": "2026-01-01T00:00:00+00:00"})
    client.close()

    async def scenario(host: Any, agent: Agent) -> None:  # noqa: ANN401
        await eventually(lambda: "alive" in agent.describe()["errors"])
        error = agent.describe()["errors"]["alive"]
        assert "another machine with this name is up (machine another machine" in error

    host.run(scenario)


def test_who_waits_for_a_revision_learns_that_nothing_was_for_this_host(host: EtcdHost) -> None:
    async def scenario(host: Any, agent: Agent) -> None:  # noqa: ANN401
        await eventually(lambda: agent.describe()["revision"] is not None)
        revision = await host.elsewhere(SECOND.model_copy(update={"host": "h9"}))
        agent.reconcile()
        await eventually(lambda: agent.describe()["revision"] >= revision)
        assert host.devices == set()

    host.run(scenario)


def test_facts_of_other_hosts_are_left_alone(host: EtcdHost) -> None:
    other = EtcdStore(host.cluster.settings, "h9")
    other.put_status({("port", "theirs"): {"state": "active"}})

    async def scenario(host: Any, agent: Agent) -> None:  # noqa: ANN401
        await host.elsewhere(*intent())
        await eventually(lambda: host.fact("port", FIRST.id) != {})

    host.run(scenario)
    assert host.fact("port", "theirs") == {"state": "active"}
    assert other.statuses("h9") == {("port", "theirs"): {"state": "active"}}
    other.close()
