"""Meters written in C: built when first needed, told what to do by environment
variables, answering with one line of JSON (each source says which)."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import threading
from collections.abc import Iterable
from pathlib import Path

from bench.commands import BenchError, run

SOURCES = Path(__file__).parent
OUTPUT = SOURCES.parent / "out"
PROGRAMS = dict.fromkeys(("flows", "flood", "handshakes"), "flows")  # of others: "meters"


def meter(name: str, **settings: object) -> dict[str, int]:
    """Run a meter; settings become environment variables in upper case. Its BPF
    programs are its own, where it has any, or else those that meters share."""
    environment = {key.upper(): str(value) for key, value in settings.items()}
    answer = run(str(_program(name)), env={"PROGRAMS": str(_programs(name)), **environment})
    return {key: int(value) for key, value in json.loads(answer).items()}


def start_meter(name: str, **settings: object) -> subprocess.Popen[str]:
    """The same for one that runs until it is ended, and says so when it is ready."""
    environment = {key.upper(): str(value) for key, value in settings.items()}
    return subprocess.Popen(
        [_program(name)], env={**os.environ, **environment}, stdout=subprocess.PIPE, text=True
    )


def ns_per_frame(name: str, **settings: object) -> float:
    """CPU nanoseconds per delivered frame; BenchError when frames were lost."""
    answer = meter(name, **settings)
    if answer["delivered"] < answer["sent"] * 0.999:
        raise BenchError(f"meter {name}: {answer['delivered']} of {answer['sent']} frames arrived")
    return answer["cpu_ns"] / answer["delivered"]


def _program(name: str) -> Path:
    built = OUTPUT / name
    source = SOURCES / f"{name}.c"
    if not _is_current(built, (source, *SOURCES.glob("*.h"))):
        compile_ = ("gcc", "-O2", "-Wall", "-Wextra", "-Werror", str(source), "-lbpf")
        _make(built, compile_)
    return built


def _programs(name: str) -> Path:
    source = SOURCES / f"{PROGRAMS.get(name, 'meters')}.bpf.c"
    built = OUTPUT / source.with_suffix(".o").name
    if not _is_current(built, (source, *SOURCES.glob("*.h"))):
        headers = f"/usr/include/{platform.machine()}-linux-gnu"
        compile_ = ("clang-14", "-O2", "-g", "-target", "bpf", "-I", headers, "-c", str(source))
        _make(built, compile_)
    return built


def _make(built: Path, compile_: tuple[str, ...]) -> None:
    """Another thread may do the same, or run what is already built."""
    new = built.with_name(f"{built.name}.{threading.get_native_id()}")
    run(*compile_, "-o", str(new))
    new.replace(built)


def _is_current(built: Path, sources: Iterable[Path]) -> bool:
    OUTPUT.mkdir(exist_ok=True)
    if not built.exists():
        return False
    return all(source.stat().st_mtime < built.stat().st_mtime for source in sources)
