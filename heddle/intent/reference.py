"""Renders the tables of docs/topology-file.md from the schema.

Run ``python -m heddle.intent.reference docs/topology-file.md`` after a change
of the schema; a test fails until the page agrees with it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from heddle.intent.addresses import parse_domain, parse_mac, parse_prefix_or_address
from heddle.intent.protocols import parse_ports, parse_protocol
from heddle.intent.rates import parse_bit_rate, parse_burst
from heddle.intent.schema import (
    HostRouteSpec,
    JoinSpec,
    MachineSpec,
    NetworkSpec,
    NicSpec,
    RouterSpec,
    RouteSpec,
    SubnetSpec,
    TopologySpec,
    parse_size,
)
from heddle.intent.schema_base import NOT_YET, Spec
from heddle.intent.schema_hosts import ForeignSpec, HostSpec, UnderlaySpec
from heddle.intent.schema_policy import (
    AddressPairSpec,
    RateSpec,
    RuleSpec,
    SecurityGroupSpec,
    parse_entry,
)

TABLES: dict[str, type[Spec]] = {
    "topology": TopologySpec,
    "host": HostSpec,
    "underlay": UnderlaySpec,
    "network": NetworkSpec,
    "subnet": SubnetSpec,
    "host-route": HostRouteSpec,
    "foreign-member": ForeignSpec,
    "router": RouterSpec,
    "router-interface": JoinSpec,
    "route": RouteSpec,
    "machine": MachineSpec,
    "nic": NicSpec,
    "address-pair": AddressPairSpec,
    "rate": RateSpec,
    "security-group": SecurityGroupSpec,
    "rule": RuleSpec,
}

_PARSED: dict[Callable[[object], object], str] = {
    parse_size: "size",
    parse_domain: "domain",
    parse_mac: "MAC",
    parse_prefix_or_address: "prefix",
    parse_entry: "prefix",
    parse_protocol: "name or number",
    parse_ports: "port or range",
    parse_bit_rate: "bit rate",
    parse_burst: "bytes",
}

NOTHING = "-"

_TYPE_NAMES = {
    "str": "text",
    "int": "whole number",
    "bool": "true or false",
    "IPv4Address": "address",
    "IPv4Network": "prefix",
}


def render_page(page: str) -> str:
    """The page with each table between its markers made anew."""
    for name, model in TABLES.items():
        begin, end = f"<!-- table: {name} -->", f"<!-- end: {name} -->"
        before, has_begin, rest = page.partition(begin)
        _, has_end, after = rest.partition(end)
        if not has_begin or not has_end:
            raise ValueError(f"the page has no place for table {name}; add {begin} and {end}")
        page = f"{before}{begin}\n{render_table(model)}\n{end}{after}"
    return page


def render_table(model: type[Spec]) -> str:
    """A row per key: name, type, default, example, meaning."""
    rows = ["| key | type | default | example | meaning |", "|---|---|---|---|---|"]
    for key, info in model.model_fields.items():
        cells = (f"`{key}`", _type(info), _default(info), _example(info), _meaning(info))
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def _type(info: FieldInfo) -> str:
    if NOT_YET in info.metadata:
        return NOTHING
    return _parsed_type(info.metadata) or _type_name(info.annotation)


def _parsed_type(metadata: Sequence[object]) -> str | None:
    """The name of what a parser of text makes a number or text of."""
    parsers = {getattr(item, "func", None) for item in metadata}
    return next((name for parser, name in _PARSED.items() if parser in parsers), None)


def _type_name(annotation: Any) -> str:  # noqa: ANN401 - what typing gives
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin in (Annotated, Union, UnionType):
        return _parsed_type(arguments[1:]) or _type_name(arguments[0])
    if origin is Literal:
        return " or ".join(f"`{choice}`" for choice in arguments)
    if origin is list:
        return f"list of {_plural(_type_name(arguments[0]))}"
    if origin is dict:
        keys = "names" if arguments[0] is str else _plural(_type_name(arguments[0]))
        return f"mapping of {keys} to {_plural(_type_name(arguments[1]))}"
    if isinstance(annotation, type) and issubclass(annotation, Spec):
        return _spec_name(annotation)
    return _TYPE_NAMES[annotation.__name__]


def _spec_name(model: type[Spec]) -> str:
    names = {spec: name.replace("-", " ") for name, spec in TABLES.items()}
    return names.get(model, "empty mapping")


def _plural(name: str) -> str:
    if name.startswith("list of "):
        return "lists" + name.removeprefix("list")
    return name + ("es" if name.endswith(("s", "x")) else "s")


def _default(info: FieldInfo) -> str:
    if info.is_required():
        return "required"
    if info.default in (None, "", [], {}) or isinstance(info.default, Spec):
        return NOTHING
    if isinstance(info.default, bool):
        return f"`{str(info.default).lower()}`"
    if isinstance(info.default, list):
        return f"`[{', '.join(info.default)}]`"
    if _parsed_type(info.metadata) == "size":
        return f"`{info.default >> 20}M`"
    return f"`{info.default}`"


def _example(info: FieldInfo) -> str:
    return f"`{info.examples[0]}`" if info.examples else NOTHING


def _meaning(info: FieldInfo) -> str:
    refused = "Not in this release: refused. " if NOT_YET in info.metadata else ""
    limits = [
        words.format(getattr(item, name))
        for item in info.metadata
        for name, words in (("ge", "at least {}"), ("le", "at most {}"))
        if hasattr(item, name)
    ]
    range_ = f" From {limits[0][9:]} to {limits[1][8:]}." if len(limits) == 2 else ""
    return f"{refused}{info.description or ''}{range_}"


if __name__ == "__main__":
    file = Path(sys.argv[1])
    file.write_text(render_page(file.read_text()))
