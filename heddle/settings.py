"""What the operator of a host says of it, in heddle.toml (docs/settings.md).

No file says nothing: one host, with a store of its own.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

from heddle.errors import RequestError

_ENDPOINT = re.compile(r"(https?)://(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::(\d{1,5}))?/?")
_ETCD_PORT = 2379
_VXLAN_PORT = 4789  # RFC 7348, section 5
_PORT_MAX = 65535

T = TypeVar("T")


class Member(NamedTuple):
    """Where a member of an etcd cluster listens to clients."""

    url: str
    host: str
    port: int
    tls: bool


class EtcdSettings(NamedTuple):
    """``[store]``: how to reach etcd."""

    endpoints: tuple[Member, ...]
    user: str = ""
    password_file: Path | None = None
    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None


class MigrationSettings(NamedTuple):
    """``[migration]``. ``uri``: of another host's libvirt, with ``{host}`` for its name
    and ``{address}`` for its underlay address. ``data``: how the memory goes."""

    uri: str = "qemu+tls://{host}/system"
    data: Literal["tunnel", "tls", "plain"] = "tunnel"
    timeout: float = 600.0  # seconds, for the hypervisor's part


class HostSettings(NamedTuple):
    """``capacity``: what the ports of the host may send together, in bits per
    second; 0: not said. ``vtep``: its address in the underlay; "": it has no
    part in overlays. ``envelopes``: who makes those that it sends, the data plane or
    the host's stack. ``etcd``: None, when the store is a file of this host."""

    capacity: int = 0
    vtep: str = ""
    udp_port: int = _VXLAN_PORT
    envelopes: Literal["direct", "stack"] = "direct"
    etcd: EtcdSettings | None = None
    migration: MigrationSettings = MigrationSettings()


def read_settings(file: Path) -> HostSettings:
    """What the file says. RequestError, which names file and key, when it is wrong."""
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        return HostSettings()
    except OSError as error:
        raise RequestError(f"{file}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise RequestError(f"{file}: {error}; it must be TOML, see docs/settings.md") from error
    import tomllib  # most hosts have no such file, and read commands are in a hurry

    try:
        return _settings(tomllib.loads(text), file.parent)
    except tomllib.TOMLDecodeError as error:
        raise RequestError(f"{file}: {error}; it must be TOML, see docs/settings.md") from error
    except ValueError as error:
        raise RequestError(f"{file}: {error}") from error


def _settings(found: Mapping[str, Any], folder: Path) -> HostSettings:
    _only(found, "", ("capacity", "host", "store", "migration"))
    host, store = _table(found, "host"), _table(found, "store")
    _only(host, "host.", ("vtep", "udp_port", "envelopes"))
    return HostSettings(
        capacity=_value(found, "", "capacity", _bit_rate, 0),
        vtep=_value(host, "host.", "vtep", _address, ""),
        udp_port=_value(host, "host.", "udp_port", _port, _VXLAN_PORT),
        envelopes=_value(host, "host.", "envelopes", _envelope_way, "direct"),
        etcd=_etcd(store, folder) if store else None,
        migration=_migration(_table(found, "migration")),
    )


def _migration(table: Mapping[str, Any]) -> MigrationSettings:
    _only(table, "migration.", MigrationSettings._fields)
    defaults = MigrationSettings()
    return MigrationSettings(
        uri=_value(table, "migration.", "uri", _libvirt_uri, defaults.uri),
        data=_value(table, "migration.", "data", _data_way, defaults.data),
        timeout=_value(table, "migration.", "timeout", _seconds, defaults.timeout),
    )


def _libvirt_uri(value: object) -> str:
    text = _text(value)
    try:
        named = text.format(host="h", address="192.0.2.1") != text
    except (KeyError, IndexError, ValueError):
        named = False
    if not named:
        raise ValueError('it must name the other host, such as "qemu+tls://{host}/system"')
    return text


def _data_way(value: object) -> Literal["tunnel", "tls", "plain"]:
    if value not in ("tunnel", "tls", "plain"):
        raise ValueError(f"{value!r} is none of tunnel, tls, plain")
    return value


def _envelope_way(value: object) -> Literal["direct", "stack"]:
    if value not in ("direct", "stack"):
        raise ValueError(f"{value!r} is none of direct, stack")
    return value


def _seconds(value: object) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or value <= 0:
        raise ValueError(f"{value!r} is no number of seconds")
    return float(value)


def _etcd(store: Mapping[str, Any], folder: Path) -> EtcdSettings:
    _only(store, "store.", ("etcd", *EtcdSettings._fields[1:]))

    def path(value: object) -> Path:
        return folder / _text(value)  # an absolute one stays as it is

    found = EtcdSettings(
        endpoints=_value(store, "store.", "etcd", _members, ()),
        user=_value(store, "store.", "user", _text, ""),
        password_file=_value(store, "store.", "password_file", path, None),
        ca=_value(store, "store.", "ca", path, None),
        cert=_value(store, "store.", "cert", path, None),
        key=_value(store, "store.", "key", path, None),
    )
    if not found.endpoints:
        raise ValueError('store.etcd is missing, such as etcd = ["http://192.0.2.10:2379"]')
    for one, other in (("user", "password_file"), ("cert", "key")):
        if bool(getattr(found, one)) != bool(getattr(found, other)):
            raise ValueError(f"store.{one} and store.{other} go together: give both or neither")
    if (found.ca or found.cert) and not all(member.tls for member in found.endpoints):
        raise ValueError("store.ca and store.cert are for https:// endpoints; store.etcd has http:")
    return found


def _only(found: Mapping[str, Any], prefix: str, known: tuple[str, ...]) -> None:
    for key in found:
        if key not in known:
            raise ValueError(f"unknown key {prefix}{key}; known: {', '.join(known)}")


def _table(found: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    table = found.get(name, {})
    if not isinstance(table, dict):
        raise ValueError(f"{name} is a table: write [{name}] above its keys")
    return table


def _value(
    found: Mapping[str, Any], prefix: str, key: str, read: Callable[[Any], T], default: T
) -> T:
    if key not in found:
        return default
    try:
        return read(found[key])
    except ValueError as error:
        raise ValueError(f"{prefix}{key}: {error}") from error


def _bit_rate(value: object) -> int:
    from heddle.intent.rates import parse_bit_rate

    return parse_bit_rate(value)


def _text(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError("a text in quotes is wanted")
    return value


def _address(value: object) -> str:
    address = ipaddress.ip_address(_text(value))
    if address.is_multicast or address.is_unspecified or address.is_loopback:
        raise ValueError(f"{address} is no address that other hosts could reach")
    if address.version == 6 and address.is_link_local:
        raise ValueError(f"{address} holds on one link only; take a global or unique local one")
    return str(address)


def _port(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value <= _PORT_MAX:
        raise ValueError(f"{value} is no UDP port: 1 to {_PORT_MAX}")
    return value


def _members(value: object) -> tuple[Member, ...]:
    if not isinstance(value, list) or not value:
        raise ValueError('a list is wanted, such as ["http://192.0.2.10:2379"]')
    return tuple(_member(one) for one in value)


def _member(value: object) -> Member:
    found = _ENDPOINT.fullmatch(value) if isinstance(value, str) else None
    port = int(found[3] or _ETCD_PORT) if found else 0
    if found is None or not 0 < port <= _PORT_MAX:
        raise ValueError(f"{value!r} is no endpoint, such as http://192.0.2.10:2379")
    url = f"{found[1]}://{found[2]}:{port}"
    return Member(url, found[2].strip("[]"), port, found[1] == "https")
