"""The contract between C and Python, as the compiled object states it."""

from __future__ import annotations

import re
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from heddle.compiler import state
from heddle.datapath.abi import Abi
from heddle.datapath.loader import OBJECT, OBJECTS, PROGRAMS
from heddle.errors import KernelError
from heddle.intent import model

ABI_HEADER = Path(__file__).parents[3] / "bpf" / "shared" / "abi.h"
# Structs whose names do not follow from those of the rows.
ROWS: dict[type[Any], str] = {
    state.PortRow: "port",
    state.MacKey: "mac_key",
    state.EndpointRow: "endpoint",
    state.AddressKey: "address_key",
    state.NeighborRow: "neighbor",
    state.SourcePrefixKey: "source_prefix_key",
    state.RouterInterfaceKey: "router_interface_key",
    state.RouterInterfaceRow: "router_interface",
    state.RouteKey: "route_key",
    state.RouteRow: "route",
    state.PolicyGroupKey: "policy_group_key",
    state.PolicyGroupRow: "policy_group",
    state.SetRow: "set",
    state.SetMemberKey: "set_member_key",
    state.PolicyRemoteKey: "policy_remote_key",
    state.PolicyRemoteRow: "policy_remote",
    state.PolicyRuleKey: "policy_rule_key",
    state.Dhcp4TemplateRow: "dhcp4_template",
    state.Dhcp6TemplateRow: "dhcp6_template",
    state.RaTemplateRow: "ra_template",
    state.ThisHostRow: "this_host",
    state.VtepRow: "vtep",
    state.TunnelSenderKey: "tunnel_sender_key",
    state.TunnelNetworkRow: "tunnel_network",
    state.FloodHostKey: "flood_host_key",
}


@pytest.fixture(scope="module")
def abi() -> Abi:
    return Abi.from_object(OBJECT)


def declared(kind: str) -> dict[str, str]:
    """Names and bodies of the enums or structs in abi.h."""
    text = re.sub(r"/\*.*?\*/", "", ABI_HEADER.read_text(), flags=re.DOTALL)
    return dict(re.findall(rf"^{kind} (\w+) \{{(.*?)^\}}", text, flags=re.DOTALL | re.MULTILINE))


@pytest.mark.parametrize("name", sorted(declared("enum")))
def test_enum_of_the_header_is_in_the_object(abi: Abi, name: str) -> None:
    """clang drops an enum from BTF that nothing refers to: shared_types must list it."""
    names = re.findall(r"^\s*(\w+)", declared("enum")[name], flags=re.MULTILINE)
    assert list(abi.enum(name).__members__) == names


@pytest.mark.parametrize("name", sorted(declared("struct")))
def test_struct_of_the_header_is_in_the_object(abi: Abi, name: str) -> None:
    fields = re.findall(r"(\w+)(?:\[[^;]*\])?;", declared("struct")[name])
    assert [field.name for field in abi.codec(name).members] == fields


@pytest.mark.parametrize("name", sorted(declared("struct")))
def test_padding_is_explicit(abi: Abi, name: str) -> None:
    """The kernel compares keys byte by byte, so no byte may be left to the compiler."""
    codec, position = abi.codec(name), 0
    for field in codec.members:
        assert field.offset == position, f"hidden padding before {name}.{field.name}"
        position += field.size
    assert position == codec.size, f"hidden padding at the end of {name}"


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.__name__)
def test_rows_of_the_compiler_name_the_fields_of_the_struct(abi: Abi, row: type[Any]) -> None:
    assert set(row._fields) == {field.name for field in abi.codec(ROWS[row]).fields}


def test_every_row_type_is_compared() -> None:
    named = set(typing.get_args(state.RowKeyPart)) | set(typing.get_args(state.RowValue))
    assert named - {int, state.Device} == set(ROWS)


def test_every_table_that_the_compiler_writes_takes_its_rows(abi: Abi) -> None:
    structs = set(ROWS.values())
    for table in state.TABLE_ORDER:
        for codec in abi.table_types(table):
            assert getattr(codec, "name", "scalar") in structs | {"scalar"}


def test_every_table_has_a_layout(abi: Abi) -> None:
    assert set(state.TABLE_ORDER) < set(abi.table_names())
    layout = abi.table_layout("epochs")
    assert layout.max_entries == abi.value("EPOCH_SLOTS")
    assert [field.size for field in layout.key + layout.value] == [4, 4]


def test_numbers_of_the_model_are_those_of_the_data_plane(abi: Abi) -> None:
    assert abi.value("GROUP_HOSTS") == model.HOST_NUMBER_MAX + 1
    assert abi.value("PROBE_VNI") == model.PROBE_VNI


def test_a_timer_is_no_part_of_a_row(abi: Abi) -> None:
    codec = abi.codec("flow")
    assert codec.members[-1].name == "timer"
    assert codec.members[-1].size == 16
    assert "timer" not in codec.unpack(bytes(codec.size))


def test_bits_join_enumerators(abi: Abi) -> None:
    flags = abi.enum("port_flag")
    assert abi.bits("port_flag", ("PORT_PEER", "PORT_RA")) == (
        flags["PORT_PEER"] | flags["PORT_RA"]
    )
    assert abi.bits("port_flag", ()) == 0


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda abi: abi.enum("nothing"), "no enum nothing"),
        (lambda abi: abi.codec("nothing"), "no struct nothing"),
        (lambda abi: abi.value("NOTHING"), "no enumerator NOTHING"),
        (lambda abi: abi.table_types("nothing"), "no table nothing"),
        (lambda abi: abi.table_types("events"), "ring buffer"),
    ],
)
def test_what_the_object_lacks_is_named(
    abi: Abi, ask: Callable[[Abi], object], message: str
) -> None:
    with pytest.raises(KernelError, match=message):
        ask(abi)


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "scripts/build"), (b"", "no ELF file"), (b"\x7fELF" + bytes(100), "no .BTF|no ELF")],
    ids=["missing", "empty", "hollow"],
)
def test_bad_object_is_one_clear_error(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "bad.o"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(KernelError, match=message):
        Abi.from_object(path)


def test_all_objects_say_the_same(abi: Abi) -> None:
    """Python reads the first one alone, and they share the pinned maps."""
    for program in PROGRAMS:
        other = Abi.from_object(OBJECTS / f"{program}.bpf.o")
        assert other.layout_digest() == abi.layout_digest()
        for name in abi.enum_names():
            assert list(other.enum(name)) == list(abi.enum(name))


def test_an_enumerator_may_need_all_32_bits(abi: Abi) -> None:
    assert abi.value("TUNNEL_ZONE") == 1 << 31
