"""Commands of a host whose store is etcd, as a user gives them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from etcd_server import EtcdCluster, etcd_cluster

from heddle.cli.checks import Finding, State
from heddle.cli.elsewhere import Elsewhere
from heddle.cli.main import main
from heddle.cli.stored_checks import stored_findings
from heddle.intent.hosts import registered_host
from heddle.intent.model import AnyResource, Kind
from heddle.settings import EtcdSettings
from heddle.store.cache import IntentCache
from heddle.store.etcd import messages
from heddle.store.etcd.client import EtcdClient
from heddle.store.etcd.layout import wake_key
from heddle.store.etcd.liveness import Pulse
from heddle.store.etcd.store import EtcdStore
from heddle.store.interface import Snapshot, Transaction
from heddle.store.open import open_store

TOPOLOGY = """
version: 1
networks:
  web: {cidr: 10.0.0.0/24}
machines:
  a: {kind: container, nics: [{network: web}]}
"""


DOCTOR_SECONDS = 6.0  # for what asks the store; it gives up after 3


class Root:
    """A host's HEDDLE_ROOT, and the settings there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.settings = folder / "etc/heddle/heddle.toml"
        self.cache = folder / "var/lib/heddle/intent-cache.sqlite"
        self.settings.parent.mkdir(parents=True)

    def use(self, settings: EtcdSettings) -> None:
        urls = json.dumps([member.url for member in settings.endpoints])
        self.settings.write_text(f"[store]\netcd = {urls}\n")


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Root:
    monkeypatch.setenv("HEDDLE_ROOT", str(tmp_path / "root"))
    monkeypatch.setenv("HEDDLE_HOST", "h1")
    return Root(tmp_path / "root")


@pytest.fixture
def shared(root: Root, etcd: EtcdCluster) -> EtcdCluster:
    """The host uses the empty etcd of all tests."""
    etcd.clear()
    root.use(etcd.settings)
    return etcd


@pytest.fixture
def own(root: Root, tmp_path: Path) -> Iterator[EtcdCluster]:
    """The host uses an etcd of its own, which may be stopped."""
    with etcd_cluster(tmp_path / "etcd" / "data") as cluster:
        root.use(cluster.settings)
        yield cluster


def shown(capsys: pytest.CaptureFixture[str], *words: str) -> Any:  # noqa: ANN401
    capsys.readouterr()
    assert main(["show", *words, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_what_is_applied_here_is_shown_there(
    shared: EtcdCluster,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    file = tmp_path / "web.yaml"
    file.write_text(TOPOLOGY)
    assert main(["apply", str(file)]) == 0
    monkeypatch.setenv("HEDDLE_HOST", "h2")
    assert [item["name"] for item in shown(capsys, "network")] == ["web"]
    assert [item["host"] for item in shown(capsys, "machine")] == ["h1"]
    assert main(["apply", str(file), "--dry-run"]) == 0


def test_hosts_are_up_or_down_since_some_time(
    shared: EtcdCluster, capsys: pytest.CaptureFixture[str]
) -> None:
    with closing(open_store()) as store:
        for name in ("h1", "h2"):
            host = registered_host(store.snapshot(), name, vtep=f"192.0.2.{name[1]}")
            store.commit(Transaction(put=[host]))
    with closing(EtcdClient(shared.settings)) as client:
        Pulse(client, "h1", "m").beat({"since": "2026-01-01T00:00:00+00:00"})
    agents = {item["name"]: item["agent"] for item in shown(capsys, "host")}
    assert agents == {"h1": "up since 2026-01-01T00:00:00+00:00", "h2": ""}
    assert main(["show", "host"]) == 0
    assert "up since 2026-01-01" in capsys.readouterr().out


def test_without_etcd_the_last_that_was_seen_is_shown(
    own: EtcdCluster, root: Root, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "web.yaml"
    file.write_text(TOPOLOGY)
    assert main(["apply", str(file)]) == 0
    with closing(open_store()) as store:
        snapshot = store.snapshot()
    own.stop()
    assert main(["show"]) == 1
    assert "Connection refused" in capsys.readouterr().err
    networks: dict[Kind, dict[str, AnyResource]] = {
        Kind.NETWORK: dict(snapshot.objects[Kind.NETWORK])
    }
    IntentCache(root.cache).replace(Snapshot(snapshot.revision, networks))
    assert main(["show", "network"]) == 0
    output = capsys.readouterr()
    assert "web" in output.out
    assert "Connection refused" in output.err
    assert "this is what the agent of this host has seen last" in output.err
    assert main(["apply", str(file)]) == 1
    assert "etcd does not answer" in capsys.readouterr().err


def test_what_can_not_be_read_is_named(
    shared: EtcdCluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "web.yaml"
    file.write_text(TOPOLOGY)
    assert main(["apply", str(file)]) == 0
    key = "/heddle/intent/host/h1/machine/spoilt"
    with closing(EtcdClient(shared.settings)) as client:
        for value in (b"no JSON", b"{}", b"[1]"):
            client.overwrite([messages.put(key.encode(), value)])
            capsys.readouterr()
            assert main(["show", "machine"]) == 1
            assert f"{key}: holds a machine that can't be read" in capsys.readouterr().err
        client.overwrite([messages.delete(key.encode())])
        spoilt = [
            messages.put(b"/heddle/alive/h1", b"x{"),
            messages.put(b"/heddle/status/h1/p/1", b""),
        ]
        client.overwrite(spoilt)
    assert [machine["host"] for machine in shown(capsys, "machine")] == ["h1"]
    assert main(["show", "host"]) == 0


def test_doctor_looks_at_the_members(own: EtcdCluster, root: Root) -> None:
    finding = findings()["store"]
    assert finding.state is State.OK
    assert finding.detail.startswith("etcd, 1 of 1 members answer, in ")
    own.stop()
    finding = findings()["store"]
    assert finding.state is State.MISSING
    assert "Connection refused" in finding.detail
    assert finding.remedy.startswith("traffic goes on; start etcd's members")


def test_doctor_tells_what_the_agent_can_not_do(shared: EtcdCluster, root: Root) -> None:
    fact = {"state": "running", "errors": {"store": "its data is lost"}, "pending": {"tap1": "no"}}
    with closing(EtcdStore(shared.settings, "h1")) as store:
        for state, expected in (("running", State.BROKEN), ("stopped", State.OK)):
            store.put_status({("agent", "h1"): {**fact, "state": state}})
            assert findings()["intent"].state is expected
        store.put_status({("agent", "h1"): fact})
    assert findings()["intent"].detail == "store: its data is lost; tap1: no"


def test_doctor_names_a_member_that_is_silent(root: Root, tmp_path: Path) -> None:
    with etcd_cluster(tmp_path / "etcd" / "data", members=3) as cluster:
        root.use(cluster.settings)
        cluster.members[1].kill()
        finding = findings()["store"]
    assert finding.state is State.UNKNOWN
    assert finding.detail.startswith("etcd, 2 of 3 members answer")
    assert cluster.members[1].url in finding.remedy


def test_doctor_asks_an_etcd_that_hangs_once(root: Root, tmp_path: Path) -> None:
    with etcd_cluster(tmp_path / "etcd" / "data", members=3) as cluster:
        root.use(cluster.settings)
        for member in cluster.members:
            member.freeze(True)
        began = time.monotonic()
        found = findings()
        seconds = time.monotonic() - began
        for member in cluster.members:
            member.freeze(False)
    assert found["store"].state is State.MISSING
    assert "no answer within" in found["store"].detail
    assert found["paths"] == Finding("paths", State.UNKNOWN, found["store"].detail)
    assert found["flow table"].state is State.UNKNOWN
    assert seconds < DOCTOR_SECONDS


def test_vms_need_the_hook_for_virsh(
    shared: EtcdCluster, root: Root, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.which", lambda *_, **__: "/usr/sbin/libvirtd")
    assert findings()["libvirt hook"].state is State.HINT
    file = tmp_path / "vm.yaml"
    file.write_text(TOPOLOGY.replace("kind: container", "kind: vm"))
    assert main(["apply", str(file)]) == 0
    assert findings()["libvirt hook"].state is State.MISSING


def findings() -> dict[str, Finding]:
    return {finding.name: finding for finding in stored_findings()}


def test_doctor_tells_wrong_settings(root: Root) -> None:
    root.settings.write_text("[store]\netcd = 5\n")
    finding = findings()["store"]
    assert finding.state is State.MISSING
    assert finding.detail.startswith(f"{root.settings}: store.etcd: a list is wanted")
    assert "docs/settings.md" in finding.remedy


def test_who_waits_hears_of_other_hosts_and_wakes_them(shared: EtcdCluster) -> None:
    with (
        closing(EtcdStore(shared.settings, "h2")) as theirs,
        closing(EtcdClient(shared.settings)) as client,
    ):
        theirs.put_status({("machine", "m"): {"state": "running"}})
        with closing(Elsewhere(["h1", "h2"])) as elsewhere:
            assert elsewhere.facts() == {("machine", "m"): {"state": "running"}}
            assert elsewhere.pause
            theirs.put_status({("machine", "m"): {"state": "stopped"}})
            while elsewhere.facts()["machine", "m"] == {"state": "running"}:
                pass  # until it is read again
        assert client.range(wake_key("h2")).items
        assert not client.range(wake_key("h1")).items  # which is this host


def test_a_host_by_itself_hears_of_nobody(root: Root) -> None:
    with closing(Elsewhere(["h2"])) as elsewhere:
        assert (elsewhere.facts(), elsewhere.pause) == ({}, None)


def loaded_by(command: str) -> set[str]:
    """Modules that a command loads, in a process of its own."""
    program = (
        "import sys; from heddle.cli.main import main; "
        f"main({command.split()!r}); print(' '.join(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=os.environ
    )
    return set(done.stderr.splitlines()[-1].split())


def test_who_has_no_etcd_does_not_load_its_client(root: Root) -> None:
    assert not {name for name in loaded_by("show --json") if "h2" in name or "etcd" in name}


def test_who_reads_from_etcd_does_not_load_the_model(shared: EtcdCluster) -> None:
    loaded = loaded_by("show --json")
    assert "h2" in loaded
    assert not loaded & {"pydantic", "asyncio", "heddle.intent.model"}
