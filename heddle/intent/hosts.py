"""The hosts of a cluster: what registers one, and what the envelope costs."""

from __future__ import annotations

from heddle.errors import ConflictError
from heddle.intent.allocate import assign_numbers
from heddle.intent.conflicts import AGENT_ORIGIN
from heddle.intent.model import HOST_NUMBER_MAX, VXLAN_PORT, EnvelopeWay, Host, Kind
from heddle.intent.names import PROJECT, object_id
from heddle.intent.stored import Stored, stored_of

_INNER_ETHERNET = 14
_VXLAN = 8  # RFC 7348 section 5
_UDP = 8
_IPV4, _IPV6 = 20, 40


def host_id(name: str) -> str:
    return object_id(PROJECT, Kind.HOST, name)


def envelope_bytes(vtep: str) -> int:
    """What the overlay adds to a guest's packet in an underlay of this address
    family: 50 or 70 bytes."""
    return _INNER_ETHERNET + _VXLAN + _UDP + (_IPV6 if ":" in vtep else _IPV4)


def registered_host(
    stored: Stored,
    name: str,
    *,
    vtep: str,
    udp_port: int = VXLAN_PORT,
    machine_id: str = "",
    envelopes: EnvelopeWay = EnvelopeWay.DIRECT,
) -> Host:
    """The object by which an agent registers its host, to be committed against
    the same revision. A host that is there keeps its number. ConflictError, with
    both named, when another machine has the name, or another host the VTEP."""
    hosts = stored_of(stored, Host)
    old = hosts.pop(host_id(name), None)
    if old is not None:
        _check_same(old, vtep, machine_id)
    for other in hosts.values():
        if vtep and other.vtep == vtep:
            raise ConflictError(
                f"host {name}: VTEP {vtep} is taken by host {other.name}; set another vtep in the "
                "[host] section of heddle.toml"
            )
    numbers = assign_host_numbers(stored, [name])
    return Host(
        id=host_id(name),
        name=name,
        origin=AGENT_ORIGIN,
        number=numbers[name],
        vtep=vtep,
        udp_port=udp_port,
        machine_id=machine_id,
        envelopes=envelopes,
    )


def assign_host_numbers(stored: Stored, names: list[str]) -> dict[str, int]:
    """Numbers of these hosts; those in the store keep theirs."""
    ids = {host_id(name): name for name in names}
    held = {key: host.number for key, host in stored_of(stored, Host).items()}
    numbers = assign_numbers(ids, given={}, held=held, maximum=HOST_NUMBER_MAX)
    return {ids[key]: number for key, number in numbers.items()}


def _check_same(old: Host, vtep: str, machine_id: str) -> None:
    """A machine that was installed anew has the old VTEP."""
    if old.foreign:
        raise ConflictError(
            f"host {old.name}: is a foreign VTEP of {old.origin} already; set HEDDLE_HOST to "
            "give this host another name"
        )
    is_other = "" not in (old.machine_id, machine_id) and old.machine_id != machine_id
    if is_other and old.vtep != vtep:
        raise ConflictError(
            f"host {old.name}: another machine has this name already (VTEP {old.vtep or 'none'}, "
            f"machine {old.machine_id}; here VTEP {vtep or 'none'}, machine {machine_id}); set "
            "HEDDLE_HOST to give one of them another name"
        )
