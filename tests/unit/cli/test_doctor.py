"""The checks of the machine: what is missing comes with a remedy."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from heddle.cli import checks
from heddle.cli.checks import CHECKS, Finding, State
from heddle.cli.main import main
from heddle.cli.stored_checks import stored_findings

ABOUT_THE_STORE = ("store", "intent", "libvirt hook", "flow table", "room in tables", "paths")


@pytest.fixture(autouse=True)
def no_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEDDLE_ROOT", str(tmp_path))
    monkeypatch.setattr(os, "geteuid", lambda: 1000)


def test_without_root_it_checks_what_it_can(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--json"]) == 1
    findings = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert len(findings) == len(CHECKS) + len(ABOUT_THE_STORE)
    assert findings["root"]["state"] == "missing"
    assert findings["root"]["remedy"] == "run heddle with sudo"
    assert findings["agent"]["state"] == "unknown"
    assert findings["kernel"] == {
        "name": "kernel", "state": "ok", "detail": os.uname().release, "remedy": "",
    }  # fmt: skip


def test_the_table_ends_with_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    main(["doctor"])
    out = capsys.readouterr().out
    assert out.startswith("CHECK ")
    assert "\nwhat to do:\n  root: run heddle with sudo\n" in out


def test_all_well_but_for_a_hint_is_exit_code_0(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    well = Finding("kernel", State.OK, "6.18")
    monkeypatch.setattr("heddle.cli.doctor.CHECKS", (lambda: well,))
    hint = Finding("libvirt hook", State.HINT, "none", "install it")
    monkeypatch.setattr("heddle.cli.doctor.stored_findings", lambda: [hint])
    assert main(["doctor"]) == 0
    assert "what to do:\n  libvirt hook: install it\n" in capsys.readouterr().out


def test_an_old_kernel_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    old = os.uname_result(("Linux", "host", "5.10.0-30-amd64", "#1", "x86_64"))
    monkeypatch.setattr(os, "uname", lambda: old)
    finding = checks._kernel()
    assert (finding.state, finding.detail) == (State.MISSING, "5.10.0-30-amd64 is too old")
    assert "Linux 6.1" in finding.remedy


def test_a_missing_program_comes_with_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda *_, **__: None)
    for check in (checks._qemu, checks._libvirt, checks._clsact):
        assert "apt-get install" in check().remedy


def test_what_the_kernel_refuses_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    refused = subprocess.CompletedProcess([], 2, b"", b"Error: Specified qdisc kind is unknown.\n")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: refused)
    finding = checks._clsact()
    assert finding.state is State.MISSING
    assert finding.detail == "Error: Specified qdisc kind is unknown."
    assert "CONFIG_NET_CLS_ACT" in finding.remedy


HOOKS = {
    "none": (None, 0o755, State.HINT),
    "another's": ("#!/bin/sh\nexit 0\n", 0o755, State.HINT),
    "not executable": ('exec heddle libvirt-hook "$@"\n', 0o644, State.HINT),
    "heddle's": ('exec heddle libvirt-hook "$@"\n', 0o755, State.OK),
}


@pytest.mark.parametrize("case", HOOKS)
def test_a_host_of_a_cluster_may_need_the_hook_of_libvirt(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text, mode, state = HOOKS[case]
    monkeypatch.setattr("shutil.which", lambda *_, **__: "/usr/sbin/libvirtd")
    settings = tmp_path / "etc/heddle/heddle.toml"
    settings.parent.mkdir(parents=True)
    settings.write_text('[store]\netcd = ["http://192.0.2.1:2379"]\n')
    hook = tmp_path / "etc/libvirt/hooks/qemu"
    if text is not None:
        hook.parent.mkdir(parents=True)
        hook.write_text(text)
        hook.chmod(mode)
    finding = _finding("libvirt hook")
    assert finding.state is state
    assert str(hook) in finding.detail
    assert ("docs/migration.md" in finding.remedy) is (state is State.HINT)


def test_a_host_by_itself_needs_no_hook(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda *_, **__: "/usr/sbin/libvirtd")
    assert _finding("libvirt hook").detail == "not needed: this host is by itself"


def _finding(name: str) -> Finding:
    return next(finding for finding in stored_findings() if finding.name == name)
