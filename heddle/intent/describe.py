"""Objects and their changes in one line for a person."""

from __future__ import annotations

from collections.abc import Sequence

from heddle.intent.model import (
    AnyResource,
    FixedIp,
    HostRoute,
    Machine,
    Network,
    Port,
    Route,
    Router,
    RouterInterface,
    Subnet,
)


def describe(resource: AnyResource) -> str:
    """``port vm0/web: 172.17.17.2, mac fa:16:3e:00:00:01``."""
    return f"{resource.kind} {resource.name}: {', '.join(_facts(resource))}"


def describe_change(old: AnyResource, new: AnyResource, fields: Sequence[str]) -> str:
    """``network web: mtu 1450 -> 1400, domain none -> web.example``."""
    changes = (_field_change(name, getattr(old, name), getattr(new, name)) for name in fields)
    return f"{new.kind} {new.name}: {', '.join(changes)}"


def _facts(resource: AnyResource) -> list[str]:
    match resource:
        case Network():
            return [f"vni {resource.vni}", f"mtu {resource.mtu}"]
        case Subnet():
            dhcp = "dhcp" if resource.enable_dhcp else "no dhcp"
            return [f"gateway {resource.gateway_ip}", resource.ipv6_mode or dhcp]
        case Router():
            return [*map(_value, resource.interfaces), *map(_value, resource.routes)] or ["alone"]
        case Machine():
            if resource.machine_kind == "container":
                return ["container"]
            return [
                "vm",
                f"image {resource.image}",
                f"{resource.cpus} cpu",
                _size(resource.memory),
            ]
        case Port():
            return [*map(_value, resource.fixed_ips), f"mac {resource.mac}"]


def _field_change(name: str, old: object, new: object) -> str:
    label = name.removesuffix("_id").replace("_", " ")
    if isinstance(old, int) and isinstance(new, int) and name == "memory":
        return f"{label} {_size(old)} -> {_size(new)}"
    if not isinstance(old, tuple) or not isinstance(new, tuple):
        return f"{label} {_value(old)} -> {_value(new)}"
    gone = [f"-{_value(item)}" for item in old if item not in new]
    added = [f"+{_value(item)}" for item in new if item not in old]
    return " ".join([label, *(gone + added or ["in another order"])])


def _size(number: int) -> str:
    return f"{number >> 20}M"


def _value(value: object) -> str:
    match value:
        case RouterInterface():
            return f"interface {'/'.join(value.addresses)}"
        case Route() | HostRoute():
            return f"{value.destination} {'via ' + value.nexthop if value.nexthop else 'blackhole'}"
        case FixedIp():
            return value.ip
        case None | "":
            return "none"
        case bool():
            return "yes" if value else "no"
        case _:
            return str(value)
