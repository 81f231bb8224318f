"""A wheel holds everything that heddle needs, and works in a fresh environment."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

import heddle

PACKAGE = Path(heddle.__file__).parent
CHECKOUT = PACKAGE.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*build, "--wheel-dir", folder, _copy_of_checkout(folder)], check=True)
    return next(folder.glob("heddle-*.whl"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The heddle command of an environment that has only the wheel, and this
    environment's libraries."""
    folder = tmp_path_factory.mktemp("installed")
    venv.create(folder, with_pip=False)
    python = folder / "bin" / "python"
    install = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps"]
    subprocess.run([*install, wheel], check=True)
    site_packages = next(folder.glob("lib/python*/site-packages"))
    # A path file of another folder is not followed, so this brings the
    # libraries, but not the editable install of the checkout.
    (site_packages / "libraries.pth").write_text(sysconfig.get_path("platlib"))
    return folder / "bin" / "heddle"


def test_holds_every_file_of_the_package(wheel: Path) -> None:
    wanted = {
        str(path.relative_to(CHECKOUT))
        for path in PACKAGE.rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    assert wanted - set(zipfile.ZipFile(wheel).namelist()) == set()


def test_holds_the_compiled_programs(wheel: Path) -> None:
    sources = {path.name.removesuffix(".c") for path in (CHECKOUT / "bpf").glob("*.bpf.c")}
    names = zipfile.ZipFile(wheel).namelist()
    assert sources
    assert {f"heddle/datapath/objects/{name}.o" for name in sources} == {
        name for name in names if name.endswith(".o")
    }


def test_holds_the_licences(wheel: Path) -> None:
    names = {Path(name).name for name in zipfile.ZipFile(wheel).namelist()}
    assert {"LICENSE", "LICENSE-GPL-2.0", "LICENSE-BSD-2-Clause"} <= names


def test_prints_its_version(installed: Path) -> None:
    assert _run(installed, "--version").stdout.strip() == f"heddle {heddle.__version__}"


def test_doctor_finds_the_compiled_programs(installed: Path) -> None:
    done = _run(installed, "doctor", "--json")
    assert done.returncode in {0, 1}, done.stderr  # 1: this machine lacks something
    assert "Traceback" not in done.stderr


def _copy_of_checkout(folder: Path) -> Path:
    """What a wheel is made from, so that the build leaves nothing in the
    checkout, and nothing left there by an earlier one gets into the wheel."""
    copy = folder / "checkout"
    for name in ("heddle", "bpf", "scripts"):
        ignored = shutil.ignore_patterns("__pycache__", "*.o")
        shutil.copytree(CHECKOUT / name, copy / name, ignore=ignored)
    for name in ("pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE"):
        shutil.copy(CHECKOUT / name, copy)
    return copy


def _run(command: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run outside of the checkout, so that only the wheel is found."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    return subprocess.run(
        [command, *arguments],
        check=False,
        cwd="/",
        env=environment,
        capture_output=True,
        text=True,
    )
