"""Checks a topology as a whole: names, hosts, and what each kind of object needs."""

from __future__ import annotations

import re
from pathlib import Path

from heddle.intent.check_context import Context
from heddle.intent.check_hosts import check_hosts
from heddle.intent.check_machines import check_machines
from heddle.intent.check_networks import check_networks
from heddle.intent.check_nic_policy import check_nic_policies
from heddle.intent.check_routers import check_routers
from heddle.intent.check_rules import check_groups
from heddle.intent.problems import KeyPath, Problems
from heddle.intent.schema import keys_not_yet
from heddle.intent.schema_base import Spec
from heddle.intent.shape import Shape

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,62}")
# A machine's name is its hostname (RFC 952, 1123) and part of a namespace's.
_HOSTNAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?")


def check(shape: Shape, problems: Problems, folder: Path) -> list[str]:
    """Report what is wrong; return warnings. ``folder`` is the one that relative
    image paths start from."""
    context = Context(shape.spec, shape.broken, problems, folder)
    _check_names(context)
    _check_not_yet(context)
    check_hosts(context)
    check_networks(context)
    check_routers(context)
    check_groups(context)
    check_machines(context)
    check_nic_policies(context)
    return context.warnings


def _check_names(context: Context) -> None:
    for section, names in context.names.items():
        pattern, rule = (
            (_HOSTNAME, "letters, digits and -, at most 63, no - at either end")
            if section == "machines"
            else (_NAME, "letters, digits, _, - and ., at most 63, the first no - or .")
        )
        for name in names:
            if not pattern.fullmatch(name):
                what = f'"{name}" is no usable name; use {rule}'
                context.problems.add((section, name), what + _name_hint(name, pattern))
    _check_case(context)


def _name_hint(name: str, pattern: re.Pattern[str]) -> str:
    meant = re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-")
    return f': "{meant}"' if pattern.fullmatch(meant) else ""


def _check_case(context: Context) -> None:
    """Hostnames don't tell upper from lower case (RFC 4343)."""
    seen: dict[str, str] = {}
    for name in context.names["machines"]:
        other = seen.setdefault(name.lower(), name)
        if other != name:
            what = f'differs from machine "{other}" only in case; choose another name'
            context.problems.add(("machines", name), what)


def _check_not_yet(context: Context) -> None:
    spec = context.spec
    _refuse_keys(context, spec, ())
    for section, items in (
        ("networks", spec.networks),
        ("routers", spec.routers),
        ("machines", spec.machines),
    ):
        for name, item in items.items():
            _refuse_keys(context, item, (section, name))
    for name, machine in spec.machines.items():
        for index, nic in enumerate(machine.nics):
            _refuse_keys(context, nic, ("machines", name, "nics", index))
    for name, network in spec.networks.items():
        if network.mode != "overlay":
            what = f'"{network.mode}" is not in this release; use overlay'
            context.problems.add(("networks", name, "mode"), what)


def _refuse_keys(context: Context, spec: Spec, path: KeyPath) -> None:
    for key in keys_not_yet(spec):
        context.problems.add((*path, key), f'"{key}" is not in this release; remove it')
