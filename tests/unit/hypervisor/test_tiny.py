"""What happens around the building of the tiny guest. (That it boots is tested
with real virtual machines.)"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from heddle import paths
from heddle.errors import HypervisorError
from heddle.hypervisor import packages
from heddle.hypervisor.tiny import ensure_tiny_image


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder in which programs are looked for."""
    monkeypatch.setenv("HEDDLE_ROOT", str(tmp_path / "root"))
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


def write_tool(tools: Path, name: str, script: str) -> None:
    tool = tools / name
    tool.write_text(f"#!/bin/sh\n{script}\n")
    tool.chmod(0o755)


def test_without_apt_the_error_offers_another_way(tools: Path) -> None:
    with pytest.raises(HypervisorError, match=r"apt-cache is missing.*give the machine an image"):
        ensure_tiny_image()
    assert os.listdir(paths.images_dir()) == [".lock"]  # nothing half made


def test_a_mirror_out_of_reach_is_one_clear_line(tools: Path) -> None:
    write_tool(tools, "apt-cache", "printf 'Package: x\\nDepends: linux-image-9-cloud\\n'")
    write_tool(tools, "apt-get", "echo 'E: Failed to fetch' >&2; exit 100")
    with pytest.raises(HypervisorError) as raised:
        ensure_tiny_image()
    assert "E: Failed to fetch" in str(raised.value)
    assert "run apt-get update" in str(raised.value)
    assert "\n" not in str(raised.value)
    assert os.listdir(paths.images_dir()) == [".lock"]


def test_leftovers_of_a_killed_build_go(tools: Path) -> None:
    leftover = paths.images_dir() / ".building-x"
    leftover.mkdir(parents=True)
    with pytest.raises(HypervisorError):
        ensure_tiny_image()
    assert not leftover.exists()


def test_what_is_built_already_is_taken(tools: Path) -> None:
    """Without any tool."""
    with pytest.raises(HypervisorError):
        ensure_tiny_image()
    from heddle.hypervisor.tiny import _recipe_hash

    image = paths.images_dir() / f"tiny-{_recipe_hash()}-9-cloud"
    image.mkdir()
    assert ensure_tiny_image().kernel == image / "vmlinuz"


def test_libraries_are_followed_and_nothing_else(
    tools: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = {
        "prog": "Section: net\nDepends: liba (>= 1) | other, daemon, virtual",
        "liba": "Section: libs\nDepends: libb:any, prog",
        "libb": "Section: contrib/libs",
        "daemon": "Section: admin\nDepends: libc",
        "libc": "Section: libs",
    }
    for name, record in records.items():
        (tools / f"{name}.record").write_text(f"Package: {name}\n{record}\nDescription: a\n b\n\n")
    write_tool(
        tools,
        "apt-cache",
        f"for name; do file={tools}/$name.record; [ ! -e $file ] || while read -r line; "
        'do echo "$line"; done <$file; done',
    )
    write_tool(tools, "apt-get", 'for name; do :>"$name.deb"; done')
    write_tool(tools, "dpkg-deb", ":")
    packages.unpack(["prog"], tmp_path / "tree")
    got = {path.stem for path in (tmp_path / "tree/packages").glob("[lpd]*.deb")}
    assert got == {"prog", "liba", "libb", "download"}
