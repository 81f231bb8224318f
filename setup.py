"""Puts the compiled BPF objects into the wheel; everything else is in pyproject.toml."""

import shutil
import subprocess
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
OBJECTS = ROOT / "heddle" / "datapath" / "objects"


def compile_objects() -> None:
    """Bring heddle/datapath/objects up to date. Without clang, objects that an
    earlier build left there do as well."""
    if shutil.which("clang-14") or shutil.which("clang"):
        subprocess.run([ROOT / "scripts" / "build"], check=True)
    elif not any(OBJECTS.glob("*.o")):
        raise SystemExit(
            "heddle: the BPF programs are not compiled and clang is missing; "
            "run `apt-get install clang-14 llvm-14 libbpf-dev`, or install a ready wheel"
        )


class BuildWithObjects(build_py):
    """An editable install does without: there scripts/setup compiles them."""

    def run(self) -> None:
        if not self.editable_mode:
            compile_objects()
        super().run()


setup(cmdclass={"build_py": BuildWithObjects})
