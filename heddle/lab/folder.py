"""Where a lab keeps things: everything is under one folder, which ``lab down``
removes last.

==================  ===========================================================
``lab.json``        the plan, written before anything is made
``spaces/NAME/``    the namespaces of a host, of etcd and of the underlay, each
                    kept alive by a mount, so that no process has to
``NAME/``           HEDDLE_ROOT of a host
``etcd/``           data, log and pid files of the etcd servers
``control/``        HEDDLE_ROOT of ``lab up`` itself: how to reach etcd
==================  ===========================================================
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from heddle import paths
from heddle.errors import NotFoundError, OperationError, RequestError
from heddle.lab.plan import LabPlan, from_json

# No host can be called so: their names begin with a letter or digit.
UNDERLAY = "_underlay"
ETCD = "_etcd"
CONTROL = "_control"


class LabFolder:
    """The folder of one lab, which need not exist."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.path = labs_dir() / name
        self.spaces = self.path / "spaces"
        self.etcd = self.path / "etcd"

    @property
    def record(self) -> Path:
        return self.path / "lab.json"

    def root(self, host: str) -> Path:
        """HEDDLE_ROOT of a host."""
        return self.path / host

    def plan(self) -> LabPlan | None:
        """None when there is no lab, or it died before it began."""
        try:
            return from_json(self.record.read_text())
        except FileNotFoundError:
            return None

    def write_plan(self, plan: LabPlan) -> None:
        """At one stroke."""
        self.path.mkdir(mode=0o755, parents=True, exist_ok=True)
        new = self.record.with_suffix(".new")
        new.write_text(plan.to_json())
        new.replace(self.record)


def labs_dir() -> Path:
    """Without symbolic links, as the kernel tells of mounts."""
    return (paths.state_dir() / "labs").resolve()


def labs() -> list[LabFolder]:
    """All there are, also those that died half made."""
    if not labs_dir().is_dir():
        return []
    return [LabFolder(path.name) for path in sorted(labs_dir().iterdir()) if path.is_dir()]


def find_lab(name: str | None) -> LabFolder:
    """The lab of a name, or of a file; without one, the only lab there is."""
    there = labs()
    if name is None:
        if len(there) == 1:
            return there[0]
        names = ", ".join(lab.name for lab in there)
        raise RequestError(f"which lab: {names}?" if names else "no lab is up")
    file = str(Path(name).resolve())
    for lab in there:
        plan = lab.plan()
        if lab.name == name or (plan is not None and plan.file == file):
            return lab
    names = ", ".join(lab.name for lab in there) or "none"
    raise NotFoundError(f"no lab {name!r}; there is: {names}")


def plan_of(lab: LabFolder) -> LabPlan:
    """The plan of a lab that is up."""
    plan = lab.plan()
    if plan is None:
        raise OperationError(f"lab {lab.name} is half made: `heddle lab down {lab.name}`")
    return plan


@contextmanager
def locked(name: str) -> Iterator[int]:
    """Change a lab alone. Yields a descriptor: whoever holds it keeps the lock,
    so that what a killed ``lab up`` has begun ends before anything else does."""
    labs_dir().mkdir(parents=True, exist_ok=True)
    path = labs_dir() / f"{name}.lock"
    descriptor = _lock(path)
    try:
        yield descriptor
    finally:
        if not (labs_dir() / name).exists():
            path.unlink(missing_ok=True)
        os.close(descriptor)


def _lock(path: Path) -> int:
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        try:
            if os.path.samestat(os.fstat(descriptor), path.stat()):
                return descriptor
        except FileNotFoundError:
            pass
        os.close(descriptor)  # of one who has removed it meanwhile: make it anew
