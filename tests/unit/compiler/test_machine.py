"""A machine and its NICs."""

from __future__ import annotations

from compiler_intents import (
    HOST,
    dual_stack,
    host_route,
    interface,
    machine,
    network,
    port,
    router,
    subnet4,
    subnet6,
)

from heddle.compiler.host import compile_host
from heddle.compiler.state import MachineSpec, Nic
from heddle.intent.model import AnyResource


def nics(objects: list[AnyResource]) -> tuple[Nic, ...]:
    return compile_host(objects, HOST).machines["machine-m1"].nics


def test_machine() -> None:
    vm = machine(image="disk.qcow2", cpus=3, memory=128 << 20, running=True)
    state = compile_host([vm], HOST)
    assert state.machines == {
        "machine-m1": MachineSpec(
            id="machine-m1",
            name="m1",
            machine_kind="vm",
            image="disk.qcow2",
            cpus=3,
            memory=128 << 20,
            running=True,
            nics=(),
        )
    }
    assert state.namespaces == set()


def test_container_has_a_namespace() -> None:
    assert compile_host([machine("m1", "container")], HOST).namespaces == {"heddle-m1"}


def test_nic() -> None:
    objects = [
        network(1, mtu=1400),
        subnet4(1, dns=("9.9.9.9",), host_routes=(host_route("10.8.0.0/16", "10.1.0.9"),)),
        subnet6(1, dns=("fd00::53", "9.9.9.9")),
        router(interface(1)),
        machine("m1", "container"),
        port(1, 2),
    ]
    assert nics(objects) == (
        Nic(
            port_id="0001-0002-port",
            device="hdl0001-0002-p",
            mac="fa:16:3e:01:01:02",
            mtu=1400,
            addresses=("10.1.0.2/24", "fd00:1::2/64"),
            gateways=("10.1.0.1", "fd00:1::1"),
            routes=(("10.8.0.0/16", "10.1.0.9"),),
            dns=("9.9.9.9", "fd00::53"),
        ),
    )


def test_gateways_that_no_router_has_are_not_given() -> None:
    objects = [network(1), subnet4(1), subnet6(1), machine(), port(1, 2)]
    assert nics(objects)[0].gateways == ()
    assert nics([*objects, router(interface(1, "10.1.0.1"))])[0].gateways == ("10.1.0.1",)


def test_nics_are_in_the_order_of_their_numbers() -> None:
    objects = [
        *dual_stack(1, 2),
        machine(),
        port(1, 2, nic=2),
        port(1, 3, nic=0),
        port(2, 2, nic=1),
    ]
    assert [nic.port_id for nic in nics(objects)] == [
        "0001-0003-port",
        "0002-0002-port",
        "0001-0002-port",
    ]


def test_nic_without_its_network_is_left_out() -> None:
    assert nics([machine(), port(1, 2)]) == ()
