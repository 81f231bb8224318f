"""A network namespace with a data plane of its own, and what the applier makes there.

The test process itself enters it, as the agent of a lab does.
"""

from __future__ import annotations

import ctypes
import json
import os
import secrets
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from heddle.applier import namespaces
from heddle.applier.applier import Applier
from heddle.applier.linux import LinuxKernel
from heddle.compiler.host import compile_host
from heddle.compiler.state import TABLE_ORDER, HostState
from heddle.datapath.loader import Datapath
from heddle.intent.model import AnyResource, FixedIp, Machine, Network, Port, Subnet
from heddle.intent.names import derived_mac, namespace_name, tap_name, veth_name

_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass
class Intent:
    """One network with a port per machine; ids differ from test to test, so
    that names in /run/netns do too."""

    salt: str = field(default_factory=lambda: secrets.token_hex(3))
    mtu: int = 1450
    cpus: int = 1

    def state(self, *machines: str) -> HostState:
        """Machines whose names begin with c are containers, others are VMs."""
        network = Network(id="net", name="net", vni=7, mtu=self.mtu)
        subnet = Subnet(
            id="sub",
            name="net/4",
            network_id="net",
            number=1,
            cidr="10.0.0.0/16",
            gateway_ip="10.0.0.1",
        )
        resources: list[AnyResource] = [network, subnet]
        for machine in machines:
            resources += self._machine(machine)
        return compile_host(resources, "here")

    def name(self, machine: str) -> str:
        return f"{machine}-{self.salt}"

    def port_id(self, machine: str) -> str:
        return f"{_number(machine):04x}{self.salt}0-0000-0000-0000-000000000000"

    def device(self, machine: str) -> str:
        name_of = veth_name if machine.startswith("c") else tap_name
        return name_of(self.port_id(machine))

    def namespace(self, machine: str) -> str:
        return namespace_name(self.name(machine))

    def mac(self, machine: str) -> str:
        return derived_mac("test", self.name(machine))

    def _machine(self, machine: str) -> Iterator[AnyResource]:
        number = _number(machine)
        yield Machine(
            id=self.name(machine),
            name=self.name(machine),
            machine_kind="container" if machine.startswith("c") else "vm",
            host="here",
            cpus=self.cpus,
        )
        fixed_ip = FixedIp(subnet_id="sub", ip=f"10.0.{number // 200 + 1}.{number % 200 + 2}")
        yield Port(
            id=self.port_id(machine),
            name=machine,
            network_id="net",
            mac=self.mac(machine),
            fixed_ips=(fixed_ip,),
            machine_id=self.name(machine),
            host="here",
        )


@dataclass
class ApplierHost:
    """What the tests look at and damage, with tools other than the applier's."""

    name: str
    root: Path
    datapath: Datapath
    kernel: LinuxKernel

    def start(self) -> Applier:
        """The applier of an agent that has just started."""
        return Applier(self.kernel)

    def links(self) -> dict[str, dict[str, Any]]:
        found = json.loads(run("ip", "-json", "-details", "link"))
        return {link["ifname"]: link for link in found if link["ifname"] != "lo"}

    def filters(self, device: str) -> list[dict[str, Any]]:
        found = json.loads(run("tc", "-json", "filter", "show", "dev", device, "ingress"))
        return [entry["options"] | entry for entry in found if "options" in entry]

    def block(self, device: str) -> str:
        """The block that the link's ingress qdisc has its filters in; "" if none."""
        found = json.loads(run("tc", "-json", "qdisc", "show", "dev", device))
        return "".join(str(qdisc.get("ingress_block", "")) for qdisc in found)

    def rows(self, table: str) -> dict[Any, Any]:
        """Unpacked; a key that is a struct becomes the tuple of its fields."""
        key_codec, value_codec = self.datapath.abi.table_types(table)
        return {
            _hashable(key_codec.unpack(key)): value_codec.unpack(value)
            for key, value in self.datapath.table(table).items()
        }

    def everything(self) -> dict[str, Any]:
        """All that the applier is responsible for, to compare before and after."""
        links = {
            name: [link[key] for key in ("ifindex", "ifalias", "mtu", "flags")]
            + [self.filters(name)]
            for name, link in self.links().items()
        }
        tables = {table: self.rows(table) for table in (*TABLE_ORDER, "epochs")}
        return {"links": links, "tables": tables, "namespaces": namespaces.ours()}

    def assert_has(self, state: HostState) -> None:
        """Links, filters, namespaces and the number of rows are the state's; what
        the rows hold, a fresh applier finds right."""
        found = self.links()
        assert sorted(found) == sorted(state.links)
        for name, link in state.links.items():
            assert (found[name]["ifalias"], found[name]["mtu"]) == (link.alias, link.mtu)
            assert "UP" in found[name]["flags"]
            assert [entry["prog"]["id"] for entry in self.filters(name)] == [
                self.datapath.from_vm.id
            ]
        assert namespaces.ours() == dict.fromkeys(state.namespaces, True)
        for table in TABLE_ORDER:
            assert len(self.rows(table)) == sum(row.table == table for row in state.rows)
        assert not self.start().synchronize(state)


@contextmanager
def applier_host(root: Path) -> Iterator[ApplierHost]:
    """Enter a namespace of our own; leave nothing behind."""
    name = f"applier-{secrets.token_hex(4)}"
    with _own_network(), _variable("HEDDLE_ROOT", str(root)):
        datapath = Datapath.load(name)
        kernel = LinuxKernel(datapath)
        try:
            yield ApplierHost(name, root, datapath, kernel)
        finally:
            for namespace in namespaces.ours():
                namespaces.remove(namespace)
            kernel.close()
            datapath.close()
            Datapath.unpin(name)


def run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@contextmanager
def _own_network() -> Iterator[None]:
    before = os.open(f"/proc/self/task/{threading.get_native_id()}/ns/net", os.O_RDONLY)
    if _libc.unshare(_CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "unshare")
    try:
        yield
    finally:
        _libc.setns(before, _CLONE_NEWNET)
        os.close(before)


@contextmanager
def _variable(name: str, value: str) -> Iterator[None]:
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        del os.environ[name]
        if before is not None:
            os.environ[name] = before


def _number(machine: str) -> int:
    """Of a machine's address: containers come after the VMs."""
    return int(machine[1:]) + (10_000 if machine.startswith("c") else 0)


def _hashable(key: Any) -> Any:  # noqa: ANN401  # int or dict, as codecs give it
    return tuple(key.values()) if isinstance(key, dict) else key
