"""Files out of distribution packages that stay uninstalled."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path

from heddle.errors import HypervisorError

_APT_REMEDY = "run apt-get update, and check that a package mirror is reachable"


def unpack(packages: Iterable[str], into: Path) -> None:
    """Download ``packages`` with the libraries that they need, and unpack all.

    Raises HypervisorError when apt does not know or cannot fetch one.
    """
    names = sorted(_with_libraries(packages))
    download = into / "packages"
    download.mkdir(parents=True)
    # As root, apt would drop to a user that can't write to our folder.
    _run(["apt-get", "download", "-qq", "-o", "APT::Sandbox::User=root", *names], cwd=download)
    for archive in download.iterdir():
        _run(["dpkg-deb", "--extract", str(archive), str(into)])


def dependency_matching(package: str, prefix: str) -> str:
    """The package starting with ``prefix`` that ``package`` depends on."""
    for record in _records([package]):
        for name in _dependencies(record):
            if name.startswith(prefix):
                return name
    raise HypervisorError(f"package {package} depends on no {prefix}*: {_APT_REMEDY}")


def _with_libraries(packages: Iterable[str]) -> set[str]:
    """``packages`` and, at any depth, the packages of section libs they depend on."""
    wanted = set(packages)
    fresh = wanted
    seen: set[str] = set(wanted)
    while fresh:
        named = {name for record in _records(fresh) for name in _dependencies(record)} - seen
        seen |= named
        fresh = {record["Package"] for record in _records(named) if _is_library(record)}
        wanted |= fresh
    return wanted


def _is_library(record: dict[str, str]) -> bool:
    return record.get("Section", "").rpartition("/")[2] == "libs"


def _records(packages: Iterable[str]) -> Iterator[dict[str, str]]:
    """Control records of the candidate versions; virtual packages have none."""
    names = sorted(packages)
    if not names:
        return
    output = _run(["apt-cache", "show", "--no-all-versions", "--quiet=0", *names])
    for paragraph in output.strip().split("\n\n"):
        lines = (line.partition(": ") for line in paragraph.splitlines() if line[:1].strip())
        yield {key: value for key, _, value in lines}


def _dependencies(record: dict[str, str]) -> Iterator[str]:
    """Names that a record depends on, taking the first of alternatives."""
    for clause in record.get("Depends", "").split(","):
        if words := clause.split("|")[0].split():
            yield words[0].partition(":")[0]


def _run(command: list[str], cwd: Path | None = None) -> str:
    try:
        done = subprocess.run(command, cwd=cwd, check=True, capture_output=True, text=True)
    except FileNotFoundError as error:
        raise HypervisorError(
            f"{command[0]} is missing: the tiny guest is built on Debian or Ubuntu only; "
            "give the machine an image of its own instead"
        ) from error
    except subprocess.CalledProcessError as error:
        reason = (error.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise HypervisorError(
            f"{command[0]} could not get the packages of the tiny guest ({reason}): {_APT_REMEDY}"
        ) from error
    return done.stdout
