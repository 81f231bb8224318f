"""Which hosts are up: leases, whatever the clocks say."""

from __future__ import annotations

import json
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest
from etcd_server import EtcdCluster
from store_places import EtcdPlace

from heddle.errors import ConflictError
from heddle.settings import EtcdSettings
from heddle.store.etcd import liveness
from heddle.store.etcd.client import EtcdClient
from heddle.store.etcd.layout import alive_key
from heddle.store.etcd.liveness import Pulse, read_lives
from heddle.store.etcd.messages import LEASE_REVOKE, lease_id
from heddle.store.reader import Life

NOTE = {"since": "2026-01-01T00:00:00+00:00", "pid": 7}


def end_lease(settings: EtcdSettings, host: str) -> None:
    """As time does when the agent is silent."""
    with closing(EtcdClient(settings)) as client:
        (item,) = client.range(alive_key(host)).items
        client.write(LEASE_REVOKE, lease_id(item.lease))


def test_a_host_is_up_from_its_first_beat_on(etcd_place: EtcdPlace) -> None:
    with closing(EtcdClient(etcd_place.settings)) as client:
        assert read_lives(client) == {}
        Pulse(client, "h1", "m1").beat(NOTE)
        Pulse(client, "h/2", "m2").beat(NOTE)
        assert read_lives(client) == dict.fromkeys(["h1", "h/2"], Life(True, NOTE["since"]))
    with closing(etcd_place.reader()) as reader:
        assert reader.lives()["h1"] == Life(True, str(NOTE["since"]))


def test_a_host_that_is_silent_is_down_since_then(etcd_place: EtcdPlace) -> None:
    with closing(EtcdClient(etcd_place.settings)) as client:
        pulse = Pulse(client, "h1", "m1")
        pulse.beat(NOTE)
        end_lease(etcd_place.settings, "h1")
        life = read_lives(client)["h1"]
        assert not life.up
        ago = datetime.now(UTC) - datetime.fromisoformat(life.since)
        assert timedelta(0) <= ago < timedelta(seconds=30)
        pulse.beat(NOTE)
        assert read_lives(client)["h1"].up


def test_the_lease_is_kept_by_beats_and_ends_without(
    etcd_place: EtcdPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(liveness, "ALIVE_SECONDS", 2)
    with closing(EtcdClient(etcd_place.settings)) as client:
        pulse = Pulse(client, "h1", "m1")
        pulse.beat(NOTE)
        (before,) = client.range(alive_key("h1")).items
        pulse.beat(NOTE)
        (after,) = client.range(alive_key("h1")).items
        assert before == after  # keeping it wrote nothing
        watched = after
        while watched is not None:  # etcd ends it by itself
            items = client.range(alive_key("h1")).items
            watched = items[0] if items else None
        assert not read_lives(client)["h1"].up


def test_another_machine_of_the_name_is_refused(etcd_place: EtcdPlace) -> None:
    with closing(EtcdClient(etcd_place.settings)) as client:
        Pulse(client, "h1", "machine-a").beat(NOTE)
        with pytest.raises(
            ConflictError, match=r"host h1: .* \(machine machine-a; this is machine-b"
        ):
            Pulse(client, "h1", "machine-b").beat(NOTE)


def test_a_restarted_agent_takes_over_at_once(etcd_place: EtcdPlace) -> None:
    with closing(EtcdClient(etcd_place.settings)) as client:
        Pulse(client, "h1", "machine-a").beat(NOTE)
        later = {**NOTE, "since": "2026-02-02T00:00:00+00:00"}
        Pulse(client, "h1", "machine-a").beat(later)
        assert read_lives(client)["h1"] == Life(True, str(later["since"]))
        (item,) = client.range(alive_key("h1")).items
        assert json.loads(item.value)["machine_id"] == "machine-a"


def test_beats_go_on_after_etcd_was_restarted(etcd: EtcdCluster, etcd_place: EtcdPlace) -> None:
    (member,) = etcd.members
    with closing(EtcdClient(etcd_place.settings)) as client:
        pulse = Pulse(client, "h1", "m1")
        pulse.beat(NOTE)
        member.kill()
        member.start()
        etcd.wait(etcd.settings)
        pulse.beat(NOTE)
        assert read_lives(client)["h1"].up
