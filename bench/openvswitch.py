"""Open vSwitch in user space, in a folder and a network namespace of its own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bench.commands import run

_FOLDER_VARIABLES = ("OVS_RUNDIR", "OVS_DBDIR", "OVS_LOGDIR", "OVS_SYSCONFDIR")
_SCHEMA = "/usr/share/openvswitch/vswitch.ovsschema"


@dataclass(frozen=True, slots=True)
class OpenVSwitch:
    """A running one; it ends with the private host at the latest."""

    folder: Path
    pid: int  # of ovs-vswitchd

    def vsctl(self, *arguments: str) -> None:
        _run(self.folder, "ovs-vsctl", "--timeout=20", *arguments)

    def add_bridge(self, name: str) -> None:
        self.vsctl("add-br", name, "--", "set", "bridge", name, "datapath_type=netdev")

    def add_flows(self, bridge: str, flows: str) -> None:
        _run(self.folder, "ovs-ofctl", "add-flows", bridge, "-", stdin=flows)


def start(folder: Path, namespace: str) -> OpenVSwitch:
    """Database and daemon, up and configured. ``folder`` must not exist."""
    folder.mkdir()
    _run(folder, "ovsdb-tool", "create", str(folder / "conf.db"), _SCHEMA)
    _run(folder, "ovsdb-server", f"--remote=punix:{folder}/db.sock", "--pidfile", "--detach")
    _run(folder, "ovs-vsctl", "--timeout=20", "--no-wait", "init")
    daemon = ("ovs-vswitchd", "--pidfile", "--detach", "--log-file")
    _run(folder, "ip", "netns", "exec", namespace, *daemon)
    return OpenVSwitch(folder, int((folder / "ovs-vswitchd.pid").read_text()))


def _run(folder: Path, *argv: str, stdin: str | None = None) -> str:
    return run(*argv, env=dict.fromkeys(_FOLDER_VARIABLES, str(folder)), stdin=stdin)
