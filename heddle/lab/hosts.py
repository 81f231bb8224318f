"""A host of a lab: its files, and its agent."""

from __future__ import annotations

import contextlib
import hashlib
import os
import subprocess
import sys
import uuid
from collections.abc import Mapping
from pathlib import Path

from heddle import paths
from heddle.agent.client import AgentClient
from heddle.agent.daemon import is_held
from heddle.errors import AgentError, RequestError
from heddle.lab.folder import LabFolder
from heddle.lab.plan import LabHost, LabPlan
from heddle.lab.spaces import Space

_SETTINGS = """\
# Written by `heddle lab up`.
{host}
[store]
etcd = [{endpoints}]
"""
_LONGEST_SOCKET = "run/libvirt/libvirt-sock"
_SOCKET_PATH_MAX = 107  # sun_path of unix(7), less its end
_HOST = """\
[host]
vtep = "{vtep}"
udp_port = {udp_port}

[migration]
uri = "qemu+tcp://{{address}}/system"
data = "plain"
"""
# The underlay of a lab is its own: whoever is in it may move VMs.
_LIBVIRT = """\
listen_tls = 0
listen_tcp = 1
auth_tcp = "none"
listen_addr = "{vtep}"
host_uuid = "{uuid}"
"""


def check_names(lab: LabFolder, plan: LabPlan) -> None:
    """RequestError when the path of a socket of a host would be too long."""
    for host in plan.own_hosts():
        path = lab.root(host.name) / _LONGEST_SOCKET
        if len(os.fsencode(path)) > _SOCKET_PATH_MAX:
            raise RequestError(
                f"host {host.name}: {path} is too long for a socket ({_SOCKET_PATH_MAX} bytes): "
                "give the lab (--name) or the host a shorter name"
            )


def write_files(lab: LabFolder, plan: LabPlan, host: LabHost) -> None:
    """What is in a host's root before its agent starts."""
    root = lab.root(host.name)
    told = _HOST.format(vtep=host.vtep, udp_port=plan.udp_port)
    _write_settings(root, told, plan)
    identity = hashlib.sha256(f"{plan.name}/{host.name}".encode()).hexdigest()[:32]
    (root / "etc/machine-id").write_text(f"{identity}\n")
    libvirt = root / "etc/libvirt/libvirtd.conf"
    libvirt.parent.mkdir(parents=True, exist_ok=True)
    libvirt.write_text(_LIBVIRT.format(vtep=host.vtep, uuid=uuid.UUID(identity)))
    images = root / "var/lib/heddle/images"
    images.parent.mkdir(parents=True, exist_ok=True)
    if not images.is_symlink():  # a cache, which all hosts may share
        paths.images_dir().mkdir(parents=True, exist_ok=True)
        images.symlink_to(paths.images_dir().resolve())


def write_control_files(root: Path, plan: LabPlan) -> None:
    """The same for who is no host, but uses the lab's store."""
    _write_settings(root, "", plan)


def _write_settings(root: Path, host: str, plan: LabPlan) -> None:
    file = root / "etc/heddle/heddle.toml"
    file.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    endpoints = ", ".join(f'"{endpoint}"' for endpoint in plan.endpoints)
    file.write_text(_SETTINGS.format(host=host, endpoints=endpoints))


def environment(lab: LabFolder, host: str) -> dict[str, str]:
    """Of commands of a host: they find its agent and its store, and ``heddle``
    is the one that runs now."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    root = str(lab.root(host))
    return {**os.environ, "HEDDLE_ROOT": root, "HEDDLE_HOST": host, "PATH": path}


def start_agent(lab: LabFolder, space: Space) -> subprocess.Popen[bytes] | None:
    """Start it, unless it runs; it answers some time later."""
    root = lab.root(space.name)
    if is_held(root / "run/heddle/agent.pid"):
        return None
    log = root / "var/lib/heddle/agent.log"
    argv = [sys.executable, "-m", "heddle.cli.main", "agent"]
    return space.start(argv, environment(lab, space.name), log)


def agent_status(lab: LabFolder, host: str) -> Mapping[str, object] | None:
    """What a host's agent says of itself; None when it does not answer."""
    with contextlib.suppress(AgentError, TimeoutError), AgentClient(socket_of(lab, host)) as client:
        return client.request("status")
    return None


def socket_of(lab: LabFolder, host: str) -> Path:
    return lab.root(host) / "run/heddle/agent.sock"


def last_words(lab: LabFolder, host: str) -> str:
    """The end of an agent's log, for errors."""
    log = lab.root(host) / "var/lib/heddle/agent.log"
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    return lines[-1].removeprefix("heddle: ") if lines else "no word in its log"
