"""Many agents that register at the same time, in etcd."""

from __future__ import annotations

from contextlib import closing, suppress
from functools import partial

import pytest
from store_places import EtcdPlace
from store_processes import exit_code, in_child

from heddle.agent.registration import register
from heddle.errors import ConflictError
from heddle.intent.model import Host, Kind
from heddle.settings import HostSettings
from heddle.store.interface import Store

AGENTS = 12


def hosts(store: Store) -> dict[str, Host]:
    found = store.snapshot(Kind.HOST).objects[Kind.HOST].values()
    return {host.name: host for host in found if isinstance(host, Host)}


def test_a_common_start_gives_each_host_a_number(
    etcd_place: EtcdPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("heddle.intent.hosts.HOST_NUMBER_MAX", AGENTS)  # as many as are wanted

    def start(number: int) -> None:
        settings = HostSettings(vtep=f"192.0.2.{number + 1}", etcd=etcd_place.settings)
        with closing(etcd_place.open()) as store:
            register(store, f"h{number}", settings)

    pids = [in_child(partial(start, number)) for number in range(AGENTS)]
    assert [exit_code(pid) for pid in pids] == [0] * AGENTS
    with closing(etcd_place.open()) as store:
        assert {host.number for host in hosts(store).values()} == set(range(1, AGENTS + 1))


def test_of_hosts_with_one_vtep_the_first_is_known(etcd_place: EtcdPlace) -> None:
    def start(number: int) -> None:
        settings = HostSettings(vtep="192.0.2.1", etcd=etcd_place.settings)
        with closing(etcd_place.open()) as store, suppress(ConflictError):
            register(store, f"h{number}", settings)

    pids = [in_child(partial(start, number)) for number in range(4)]
    assert [exit_code(pid) for pid in pids] == [0] * 4
    with closing(etcd_place.open()) as store:
        (first,) = hosts(store)
        settings = HostSettings(vtep="192.0.2.1", etcd=etcd_place.settings)
        with pytest.raises(ConflictError, match=f"h9: VTEP 192.0.2.1 is taken by host {first}"):
            register(store, "h9", settings)
