"""Objects and their changes in one line for a person."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from heddle.intent.model import (
    VXLAN_PORT,
    AddressPair,
    AnyResource,
    BandwidthLimit,
    Detour,
    FixedIp,
    ForeignMac,
    ForeignMember,
    Host,
    HostRoute,
    Machine,
    Network,
    PacketRateLimit,
    Port,
    QosPolicy,
    Route,
    Router,
    RouterInterface,
    SecurityGroup,
    Subnet,
)
from heddle.intent.names import DEFAULT_GROUP
from heddle.intent.rates import bytes_text, rate_text

_LIMITS = (
    "bandwidth_from_vm",
    "bandwidth_to_vm",
    "packet_rate_from_vm",
    "packet_rate_to_vm",
    "minimum_bandwidth",
    "dscp",
)


def title(resource: AnyResource) -> str:
    """``security group web``."""
    return f"{resource.kind.replace('_', ' ')} {resource.name}"


def describe(resource: AnyResource, names: Mapping[str, str]) -> str:
    """``port vm0/web: 172.17.17.2, mac fa:16:3e:00:00:01``. ``names`` holds
    those of security groups by id."""
    return ": ".join(filter(None, (title(resource), ", ".join(_facts(resource, names)))))


def describe_change(
    old: AnyResource, new: AnyResource, fields: Sequence[str], names: Mapping[str, str]
) -> str:
    """``network web: mtu 1450 -> 1400, domain none -> web.example``. The home of a
    machine that moves says no more than its host does."""
    told = [name for name in fields if name != "home" or "host" not in fields]
    changes = (_field_change(name, getattr(old, name), getattr(new, name), names) for name in told)
    return f"{title(new)}: {', '.join(changes)}"


def _facts(resource: AnyResource, names: Mapping[str, str]) -> Iterator[str]:
    match resource:
        case Host():
            yield from _host(resource)
        case Detour():
            yield f"through {resource.relay}"
        case Network():
            yield from _network(resource)
        case Subnet():
            dhcp = "dhcp" if resource.enable_dhcp else "no dhcp"
            yield from (f"gateway {resource.gateway_ip}", resource.ipv6_mode or dhcp)
        case Router():
            parts = (*resource.interfaces, *resource.routes)
            yield from map(_value, parts) if parts else ["alone"]
        case SecurityGroup() if not resource.stateful:
            yield "stateless"
        case QosPolicy():
            yield from _limits(resource)
        case Machine():
            yield from _machine(resource)
        case Port():
            yield from map(_value, resource.fixed_ips)
            yield f"mac {resource.mac}"
            yield from _guard(resource, names)
        # Of the other kinds the names say it all.


def _host(host: Host) -> Iterator[str]:
    if host.foreign:
        yield "foreign"
    yield f"vtep {host.vtep}" if host.vtep else "no vtep"
    yield f"number {host.number}"
    if host.udp_port != VXLAN_PORT:
        yield f"udp port {host.udp_port}"


def _network(network: Network) -> Iterator[str]:
    yield from (f"vni {network.vni}", f"mtu {network.mtu}")
    if network.flood_group:
        yield f"flood group {network.flood_group}"
    yield from map(_value, network.foreign_members)


def _machine(machine: Machine) -> Iterator[str]:
    yield machine.machine_kind
    if machine.machine_kind == "vm":
        yield from (f"image {machine.image}", f"{machine.cpus} cpu", _size(machine.memory))
        if machine.pin == "off":
            yield "not pinned"


def _guard(port: Port, names: Mapping[str, str]) -> Iterator[str]:
    """What differs from a port of which the file says nothing."""
    groups = [names.get(one, one) for one in port.security_group_ids]
    if not port.port_security:
        yield "no port security"
    elif groups != [DEFAULT_GROUP]:
        yield f"security groups {' '.join(groups)}" if groups else "no security groups"
    if port.address_pairs:
        yield f"address pairs {' '.join(map(_value, port.address_pairs))}"
    if port.connections_max:
        yield f"connections max {port.connections_max}"


def _limits(policy: QosPolicy) -> Iterator[str]:
    for name in _LIMITS:
        value = getattr(policy, name)
        if value is not None:
            yield f"{_label(name)} {_text(name, value, {})}"


def _field_change(name: str, old: object, new: object, names: Mapping[str, str]) -> str:
    label = _label(name)
    if not isinstance(old, tuple) or not isinstance(new, tuple):
        return f"{label} {_text(name, old, names)} -> {_text(name, new, names)}"
    gone = [f"-{_text(name, item, names)}" for item in old if item not in new]
    added = [f"+{_text(name, item, names)}" for item in new if item not in old]
    return " ".join([label, *(gone + added or ["in another order"])])


def _label(name: str) -> str:
    """``security groups`` for ``security_group_ids``."""
    plural = name.removesuffix("_ids") + "s" if name.endswith("_ids") else name
    return plural.removesuffix("_id").replace("_", " ")


def _text(name: str, value: object, names: Mapping[str, str]) -> str:
    """A value of the named field."""
    if isinstance(value, int) and name == "memory":
        return _size(value)
    if isinstance(value, int) and name == "minimum_bandwidth":
        return rate_text(value)
    if isinstance(value, str) and name.endswith(("_id", "_ids")):
        return names.get(value, value)
    return _value(value)


def _size(number: int) -> str:
    return f"{number >> 20}M"


def _value(value: object) -> str:
    """A part of an object, or a plain value."""
    text = _part(value)
    if text is not None:
        return text
    if value is None or value == "":
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)


def _part(value: object) -> str | None:
    text = None
    match value:
        case RouterInterface():
            text = f"interface {'/'.join(value.addresses)}"
        case Route() | HostRoute():
            way = f"via {value.nexthop}" if value.nexthop else "blackhole"
            text = f"{value.destination} {way}"
        case FixedIp():
            text = value.ip
        case ForeignMember():
            known = [*map(_value, value.macs), *(["learns"] if value.learn else [])]
            text = f"foreign {value.host} ({', '.join(known) or 'nothing known'})"
        case ForeignMac():
            text = value.mac + (f" {value.address}" if value.address else "")
        case AddressPair():
            text = value.cidr + (f" mac {value.mac}" if value.mac else "")
        case BandwidthLimit():
            text = f"{rate_text(value.rate)} burst {bytes_text(value.burst)}"
        case PacketRateLimit():
            text = f"{value.rate} per second burst {value.burst}"
    return text
