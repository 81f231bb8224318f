"""Checks what NICs say of security and of bandwidth."""

from __future__ import annotations

from collections.abc import Iterator

from heddle.intent.addresses import Prefix, is_never_a_source
from heddle.intent.check_context import Context
from heddle.intent.problems import KeyPath
from heddle.intent.rates import BURST_SECONDS_MAX, bytes_text, rate_text
from heddle.intent.schema import MTU, NetworkSpec, NicSpec
from heddle.intent.schema_policy import AddressPairSpec, RateSpec

ETHERNET_BYTES = 14


def check_nic_policies(context: Context) -> None:
    for name, machine in context.spec.machines.items():
        for index, nic in enumerate(machine.nics):
            path = ("machines", name, "nics", index)
            _check_groups(context, nic, (*path, "security_groups"))
            _check_pairs(context, nic, (*path, "allowed_address_pairs"))
            if nic.rate is not None:
                network = context.spec.networks.get(nic.network)
                for key, what in _rate_problems(nic.rate, network):
                    context.problems.add((*path, "rate", key), what)


def _check_groups(context: Context, nic: NicSpec, path: KeyPath) -> None:
    for index, name in enumerate(nic.security_groups):
        what = context.missing("security_groups", name)
        if what is None and name in nic.security_groups[:index]:
            what = f'security group "{name}" is given twice; keep one'
        if what is not None:
            context.problems.add((*path, index), what)
    given = "security_groups" in nic.model_fields_set and nic.security_groups
    if given and not nic.port_security:
        what = "have no effect with port_security: false; remove one of the two"
        context.problems.add(path, what)


def _check_pairs(context: Context, nic: NicSpec, path: KeyPath) -> None:
    if nic.allowed_address_pairs and not nic.port_security:
        what = "have no effect with port_security: false; remove one of the two"
        context.problems.add(path, what)
    seen: set[tuple[Prefix, str | None]] = set()
    for index, pair in enumerate(nic.allowed_address_pairs):
        twice = "is given twice; keep one" if (pair.address, pair.mac) in seen else None
        problem = twice or _pair_problem(nic, pair)
        if problem is not None:
            context.problems.add((*path, index), f"{pair.address} {problem}")
        seen.add((pair.address, pair.mac))


def _pair_problem(nic: NicSpec, pair: AddressPairSpec) -> str | None:
    if is_never_a_source(pair.address):
        return "is never the source of a packet; remove it"
    if pair.mac in (None, nic.mac) and _is_own(nic, pair.address):
        return "is an address of this NIC anyway; remove it"
    return None


def _is_own(nic: NicSpec, prefix: Prefix) -> bool:
    return prefix.num_addresses == 1 and prefix.network_address in nic.address


def _rate_problems(rate: RateSpec, network: NetworkSpec | None) -> Iterator[tuple[str, str]]:
    limits = [(key, limit) for key in ("from_vm", "to_vm") if (limit := getattr(rate, key))]
    if rate.burst is not None:
        yield from (("burst", what) for what in _burst_problems(rate.burst, limits, network))
    packet_limits = (rate.packets_from_vm, rate.packets_to_vm)
    if rate.packet_burst is not None and packet_limits == (None, None):
        what = "has no effect alone; add packets_from_vm or packets_to_vm"
        yield "packet_burst", what
    if rate.minimum is not None and rate.from_vm is not None and rate.minimum > rate.from_vm:
        what = f"{rate_text(rate.minimum)} can't be had under from_vm: {rate_text(rate.from_vm)}"
        yield "minimum", f"{what}; give at most that"


def _burst_problems(
    burst: int, limits: list[tuple[str, int]], network: NetworkSpec | None
) -> Iterator[str]:
    if not limits:
        yield "has no effect alone; add from_vm or to_vm"
    mtu = (network.mtu or MTU) if network is not None else 0
    least = mtu + ETHERNET_BYTES
    if network is not None and burst < least:
        # It could never pass: tokens for it never come together.
        what = f"{bytes_text(burst)} is less than a packet (mtu {mtu} and Ethernet)"
        yield f"{what}; give {least} or more"
    for key, limit in limits:
        most = limit // 8 * BURST_SECONDS_MAX
        if burst > most:
            what = f"{bytes_text(burst)} at {key}: {rate_text(limit)} last longer than the kernel"
            yield f"{what} can count; give {most} or less"
