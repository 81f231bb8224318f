"""Files with very many values."""

from __future__ import annotations

import gc
from pathlib import Path

import pytest

from heddle.errors import TopologyError
from heddle.intent import yaml_source
from heddle.intent.topology import load_topology


def write(folder: Path, rules: int) -> Path:
    """A file with so many rules, and as many entries of an address group."""
    addresses = [f"10.{index >> 8}.{index & 255}.1" for index in range(rules)]
    rows = [f"  - {{direction: to_vm, protocol: tcp, remote: {one}}}" for one in addresses]
    text = ["version: 1", "address_groups:", f"  many: [{', '.join(addresses)}]"]
    text += ["security_groups:", "  web:", *rows]
    file = folder / "many.yaml"
    file.write_text("\n".join(text))
    return file


def test_ten_thousand_rules(tmp_path: Path) -> None:
    spec = load_topology(write(tmp_path, 10_000)).spec
    assert len(spec.security_groups["web"].rules) == 10_000
    assert len(spec.address_groups["many"]) == 10_000


def test_only_aliases_make_too_many_values(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(yaml_source, "VALUES_MAX", 100)
    load_topology(write(tmp_path, 200))
    again = "{" + ", ".join(f"x{index}: *a" for index in range(2000)) + "}"
    file = tmp_path / "again.yaml"
    file.write_text(
        f"version: 1\naddress_groups:\n  a: &a [{'10.0.0.1, ' * 50}]\nmachines: {again}"
    )
    with pytest.raises(TopologyError, match="aliases make this endless"):
        load_topology(file)


def test_the_garbage_collector_goes_on_afterwards(tmp_path: Path) -> None:
    load_topology(write(tmp_path, 1))
    assert gc.isenabled()
    with pytest.raises(TopologyError):
        load_topology(tmp_path / "missing.yaml")
    assert gc.isenabled()
    gc.disable()
    try:
        load_topology(write(tmp_path, 1))
        assert not gc.isenabled()
    finally:
        gc.enable()
