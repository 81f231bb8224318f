"""ARCHITECTURE.md against the code: folders, layers, stages, maps, dependencies."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import heddle
from tests.unit.test_imports import LAYERS

CHECKOUT = Path(heddle.__file__).parent.parent
PAGE = (CHECKOUT / "ARCHITECTURE.md").read_text()
PROJECT = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]


def section(title: str) -> str:
    """The text under a heading of second level."""
    return PAGE.split(f"\n## {title}\n")[1].split("\n## ")[0]


def first_cells(text: str) -> list[str]:
    """Names in backticks in the first column of the tables of ``text``."""
    rows = re.findall(r"^\| (`[^|]*`) \|", text, re.MULTILINE)
    return [name.strip("` ") for row in rows for name in row.split(",")]


def test_folders_exist() -> None:
    folders = [name for name in first_cells(section("Map of folders")) if "/" in name]
    assert [name for name in folders if not (CHECKOUT / name).is_dir()] == []
    packages = {f"heddle/{path.parent.name}/" for path in CHECKOUT.glob("heddle/*/__init__.py")}
    assert packages <= set(folders)


def test_reading_starts_at_files_that_exist() -> None:
    rows = re.findall(
        r"^\| `([^`]+/)` \|[^|]*\|([^|]*)\|$", section("Map of folders"), re.MULTILINE
    )
    assert rows
    named = [Path(folder) / name for folder, cell in rows for name in re.findall(r"`(.*?)`", cell)]
    assert [str(path) for path in named if not (CHECKOUT / path).exists()] == []


def test_paths_in_the_text_exist() -> None:
    paths = re.findall(r"`((?:bpf|heddle|tests|scripts|docs)/[\w./]+)`", PAGE)
    assert [path for path in paths if not (CHECKOUT / path).exists()] == []


def test_layers_are_those_of_the_import_test() -> None:
    line = re.search(r"^errors, paths < .*$", PAGE, re.MULTILINE)
    assert line
    assert [set(layer.split(", ")) for layer in line[0].split(" < ")] == list(LAYERS)


def test_stages_are_those_of_the_data_plane() -> None:
    header = (CHECKOUT / "bpf/shared/abi.h").read_text()
    stages = [name.lower() for name in re.findall(r"^\tSTAGE_(\w+),", header, re.MULTILINE)]
    named = re.findall(r"^\| (\w+) \| `bpf/stages/", section("Packets"), re.MULTILINE)
    assert set(stages) - {"count"} <= set(named)


def test_maps_are_those_of_the_data_plane() -> None:
    source = "".join(path.read_text() for path in (CHECKOUT / "bpf").rglob("*.h"))
    maps = re.findall(r"^TABLE\((\w+),|^} (\w+) SEC\(\"\.maps\"\)", source, re.MULTILINE)
    named = first_cells(section("Packets").split("| map |")[1])
    assert {one or other for one, other in maps} == set(named)


def test_dependencies_are_those_of_the_project() -> None:
    text = section("Dependencies")
    run_time = text.split("\nFor development:")[0]
    assert _names(PROJECT["dependencies"]) == set(first_cells(run_time))
    development = text.split("\nFor development:")[1].split("\nNot used")[0]
    listed = set(re.findall(r"`([^`]+)`", development))
    assert _names(PROJECT["optional-dependencies"]["dev"]) == listed


def _names(requirements: list[str]) -> set[str]:
    return {re.split(r"[<>=\[; ]", requirement)[0] for requirement in requirements}
