"""Containers: what is inside their namespaces is set up, kept, and put back."""

from __future__ import annotations

import dataclasses
import itertools
import json
import secrets
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from heddle.compiler.state import MachineSpec, Nic
from heddle.hypervisor.containers import Containers
from heddle.hypervisor.machines import Machines, console_command, exec_in
from heddle.intent.names import namespace_name, veth_name


class Container:
    """A namespace with veths as the applier makes them, and the wanted state of it."""

    def __init__(self) -> None:
        self.name = "c" + secrets.token_hex(4)
        self.namespace = namespace_name(self.name)
        self.id = str(uuid.uuid4())
        self.nics: list[Nic] = []
        ip("netns", "add", self.namespace)

    def add_nic(self, *addresses: str, **wanted: Any) -> Nic:  # noqa: ANN401
        port_id = secrets.token_hex(16)
        device, number = veth_name(port_id), len(self.nics)
        mac = "fa:16:3e:" + secrets.token_bytes(3).hex(":")
        peer = f"peer name eth{number} netns {self.namespace} address {mac}"
        ip("link", "add", device, "up", "type", "veth", *peer.split())
        settings: dict[str, Any] = {"gateways": (), "routes": (), "dns": (), "mtu": 1450} | wanted
        nic = Nic(port_id=port_id, device=device, mac=mac, addresses=addresses, **settings)
        self.nics.append(nic)
        return nic

    @property
    def spec(self) -> MachineSpec:
        return MachineSpec(
            self.id, self.name, "container", "tiny", 1, 256 << 20, True, tuple(self.nics)
        )

    def addresses(self, device: str) -> set[str]:
        """Addresses of global scope."""
        shown = ip_json("-n", self.namespace, "address", "show", "dev", device)
        return {
            f"{entry['local']}/{entry['prefixlen']}"
            for entry in shown[0]["addr_info"]
            if entry["scope"] == "global"
        }

    def link(self, device: str) -> dict[str, Any]:
        link: dict[str, Any] = ip_json("-n", self.namespace, "link", "show", "dev", device)[0]
        return link

    def routes(self) -> set[tuple[str, str]]:
        """(destination, gateway) of the routes that have one."""
        shown = ip_json("-n", self.namespace, "route") + ip_json(
            "-n", self.namespace, "-6", "route"
        )
        return {(route["dst"], route["gateway"]) for route in shown if "gateway" in route}

    def remove(self) -> None:
        ip("netns", "delete", self.namespace)


def ip(*arguments: str) -> str:
    return subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True).stdout


def ip_json(*arguments: str) -> Any:  # noqa: ANN401
    return json.loads(ip("-json", *arguments) or "[]")


@pytest.fixture
def container() -> Iterator[Container]:
    container = Container()
    yield container
    container.remove()


@pytest.fixture
def containers() -> Containers:
    return Containers()


def reconcile(containers: Containers, container: Container) -> None:
    status = containers.reconcile({container.id: container.spec})[container.id]
    assert (status.state, status.ready, status.error) == ("running", True, None)


def test_everything_is_set_up(container: Container, containers: Containers) -> None:
    container.add_nic(
        "10.1.0.5/24",
        "fd00:1::5/64",
        gateways=("10.1.0.1", "fd00:1::1"),
        routes=(("10.9.0.0/16", "10.1.0.9"), ("fd00:9::/48", "fd00:1::9")),
        mtu=1400,
    )
    reconcile(containers, container)
    assert container.addresses("eth0") == {"10.1.0.5/24", "fd00:1::5/64"}
    assert container.routes() == {
        ("default", "10.1.0.1"),
        ("default", "fd00:1::1"),
        ("10.9.0.0/16", "10.1.0.9"),
        ("fd00:9::/48", "fd00:1::9"),
    }
    assert container.link("eth0")["mtu"] == 1400
    assert "UP" in container.link("eth0")["flags"]
    assert "UP" in container.link("lo")["flags"]


def test_addresses_work_at_once(container: Container, containers: Containers) -> None:
    container.add_nic("fd00:1::5/64")
    reconcile(containers, container)
    shown = ip_json("-n", container.namespace, "address", "show", "dev", "eth0")
    entry = next(e for e in shown[0]["addr_info"] if e["local"] == "fd00:1::5")
    assert not entry.get("tentative")


def test_the_first_nic_has_the_preferred_default_route(
    container: Container, containers: Containers
) -> None:
    container.add_nic("10.1.0.5/24", gateways=("10.1.0.1",))
    container.add_nic("10.2.0.5/24", gateways=("10.2.0.1",))
    reconcile(containers, container)
    used = ip_json("-n", container.namespace, "route", "get", "192.0.2.1")
    assert used[0]["gateway"] == "10.1.0.1"


def test_a_second_step_changes_nothing(container: Container, containers: Containers) -> None:
    container.add_nic("10.1.0.5/24", "fd00:1::5/64", gateways=("10.1.0.1",))
    reconcile(containers, container)
    monitor = ["ip", "-n", container.namespace, "monitor", "address", "route"]
    with subprocess.Popen(monitor, stdout=subprocess.PIPE, text=True) as process:
        reconcile(containers, container)
        # Something that the monitor is sure to report, after all that the step did.
        ip("-n", container.namespace, "address", "add", "192.0.2.7/32", "dev", "lo")
        assert process.stdout is not None
        reported = list(itertools.takewhile(lambda line: "192.0.2.7" not in line, process.stdout))
        process.terminate()
    assert not [line for line in reported if "10.1.0." in line or "fd00:1:" in line]


def test_what_was_altered_is_put_back(container: Container, containers: Containers) -> None:
    container.add_nic("10.1.0.5/24", gateways=("10.1.0.1",))
    reconcile(containers, container)
    ip("-n", container.namespace, "address", "flush", "dev", "eth0")
    ip("-n", container.namespace, "link", "set", "eth0", "mtu", "900", "down")
    reconcile(containers, container)
    assert container.addresses("eth0") == {"10.1.0.5/24"}
    assert container.routes() == {("default", "10.1.0.1")}
    assert container.link("eth0")["mtu"] == 1450


def test_a_link_made_anew_is_set_up_again(container: Container, containers: Containers) -> None:
    nic = container.add_nic("10.1.0.5/24")
    reconcile(containers, container)
    ip("link", "delete", nic.device)
    peer = f"peer name eth0 netns {container.namespace} address {nic.mac}"
    ip("link", "add", nic.device, "up", "type", "veth", *peer.split())
    reconcile(containers, container)
    assert container.addresses("eth0") == {"10.1.0.5/24"}


def test_what_left_the_intent_is_removed_and_what_is_not_ours_stays(
    container: Container, containers: Containers
) -> None:
    nic = container.add_nic("10.1.0.5/24", "10.1.1.5/24", routes=(("10.9.0.0/16", "10.1.0.9"),))
    reconcile(containers, container)
    ip("-n", container.namespace, "address", "add", "192.0.2.7/24", "dev", "eth0")
    ip("-n", container.namespace, "route", "add", "10.8.0.0/16", "via", "192.0.2.1")
    container.nics[0] = dataclasses.replace(nic, addresses=("10.1.0.5/24",), routes=())
    reconcile(containers, container)
    assert container.addresses("eth0") == {"10.1.0.5/24", "192.0.2.7/24"}
    assert container.routes() == {("10.8.0.0/16", "192.0.2.1")}


def test_name_servers_come_and_go(container: Container, containers: Containers) -> None:
    container.add_nic("10.1.0.5/24", dns=("10.1.0.53", "fd00::53"))
    reconcile(containers, container)
    seen = exec_in(container.spec, ["cat", "/etc/resolv.conf"])
    assert seen.out == b"nameserver 10.1.0.53\nnameserver fd00::53\n"
    containers.reconcile({})
    assert not Path("/etc/netns", container.namespace).exists()


def test_a_missing_link_is_waited_for(container: Container, containers: Containers) -> None:
    nic = container.add_nic("10.1.0.5/24")
    ip("link", "delete", nic.device)
    status = containers.reconcile({container.id: container.spec})[container.id]
    assert not status.ready
    assert "waits for its links" in (status.error or "")


def test_an_error_names_the_machine_and_is_not_tried_at_once(
    container: Container, containers: Containers
) -> None:
    container.add_nic("10.1.0.5/24", gateways=("172.31.0.1",))  # not on the link
    for _ in range(2):
        status = containers.reconcile({container.id: container.spec})[container.id]
        assert status.state == "error"
        assert (status.error or "").startswith(f"machine {container.name}: the kernel refuses")


def test_of_many_containers_each_has_its_turn(containers: Containers) -> None:
    """With the time for an audit used up, the others have their turn later."""
    others = [Container() for _ in range(30)]
    try:
        for number, other in enumerate(others):
            other.add_nic(f"10.1.0.{number}/24")
        specs = {other.id: other.spec for other in others}
        containers.reconcile(specs)
        for other in others:
            ip("-n", other.namespace, "address", "flush", "dev", "eth0")
        for _ in others:
            containers.reconcile(specs)
        assert all(other.addresses("eth0") for other in others)
    finally:
        for other in others:
            other.remove()


def test_exec_gives_code_and_output(container: Container) -> None:
    done = exec_in(container.spec, ["sh", "-c", "echo out; echo err >&2; exit 7"])
    assert done == (7, b"out\n", b"err\n")


def test_exec_is_in_the_namespace(container: Container, containers: Containers) -> None:
    container.add_nic("10.1.0.5/24")
    reconcile(containers, container)
    assert b"10.1.0.5/24" in exec_in(container.spec, ["ip", "address"]).out


def test_a_missing_command_is_127(container: Container) -> None:
    assert exec_in(container.spec, ["no-such-command"]).code == 127


def test_the_console_is_a_shell_inside(container: Container) -> None:
    command = console_command(container.spec)
    done = subprocess.run(command, input=b"ip netns identify\n", capture_output=True, check=True)
    assert done.stdout.decode().strip() == container.namespace


def test_machines_serves_containers_without_libvirt(container: Container) -> None:
    container.add_nic("10.1.0.5/24")
    statuses = Machines("h" + secrets.token_hex(4)).reconcile({container.id: container.spec})
    assert statuses[container.id].ready
