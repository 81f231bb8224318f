"""The checks of `heddle doctor` that look at the store, and at what it tells of this host.

The store is asked once for all of them: one that hangs costs its time once.
"""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

from heddle.cli.checks import AS_ROOT, Finding, State
from heddle.cli.paths import path_problems, paths_of
from heddle.cli.policy import crowds, troubles
from heddle.cli.view import View
from heddle.errors import RequestError, StoreError
from heddle.paths import host_name, settings_file, store_file
from heddle.settings import EtcdSettings, read_settings

if TYPE_CHECKING:  # hosts without etcd do without
    from heddle.store.etcd.health import Health


def stored_findings() -> list[Finding]:
    """Of the store, then of what is read from it."""
    try:
        etcd = read_settings(settings_file()).etcd
    except RequestError as error:
        remedy = "correct the settings of this host, see docs/settings.md"
        return [Finding("store", State.MISSING, str(error), remedy)]
    is_root = os.geteuid() == 0
    store, trouble = _store(etcd, is_root=is_root)
    view = _view(trouble) if is_root else AS_ROOT
    hook = _libvirt_hook(view, alone=etcd is None)
    return [
        store,
        _carried_out(view),
        hook,
        _flow_table(view),
        _room(view),
        _paths(view),
    ]


def _view(trouble: str) -> View | str:
    """What there is, the store not asked again if it is in trouble; or why that is unknown."""
    try:
        return View(trouble)
    except StoreError as error:
        return str(error)


def _store(etcd: EtcdSettings | None, *, is_root: bool) -> tuple[Finding, str]:
    """And why it does not answer, if it doesn't."""
    if etcd is None:
        return Finding("store", State.OK, f"of this host alone, {store_file()}"), ""
    if not is_root:
        return Finding("store", State.UNKNOWN, AS_ROOT), ""  # passwords and keys are root's
    from heddle.store.etcd.health import examine

    health = examine(etcd)
    return _etcd(health), health.trouble


def _etcd(health: Health) -> Finding:
    members = len(health.versions) + len(health.silent)
    detail = f"etcd, {len(health.versions)} of {members} members answer"
    if health.trouble:
        remedy = "traffic goes on; start etcd's members, or correct [store] in heddle.toml"
        return Finding("store", State.MISSING, health.trouble, remedy)
    detail += f", in {health.milliseconds:.0f} ms; {health.size / 1e6:.0f} MB"
    if health.out_of_space:
        remedy = "compact and defragment etcd or raise its quota, then `etcdctl alarm disarm`"
        return Finding("store", State.FULL, f"{detail}; out of space (alarm NOSPACE)", remedy)
    if health.silent:
        return Finding("store", State.UNKNOWN, detail, "; ".join(health.silent.values()))
    return Finding("store", State.OK, detail)


def _carried_out(view: View | str) -> Finding:
    """What the agent can't do, such as to be known to others, or to believe an etcd."""
    name = "intent"
    if not isinstance(view, View):
        return Finding(name, State.UNKNOWN, view)
    agent = view.statuses.get(("agent", host_name()), {})
    found = {**agent.get("errors", {}), **agent.get("pending", {})}
    if agent.get("state") != "running" or not found:
        return Finding(name, State.OK, "nothing that the agent has failed to do")
    detail = "; ".join(f"{what}: {error}" for what, error in found.items())
    return Finding(name, State.BROKEN, detail, "`heddle show agent` tells when it is done")


def _libvirt_hook(view: View | str, *, alone: bool) -> Finding:
    """Needed where somebody else than heddle may begin a migration."""
    name = "libvirt hook"
    if shutil.which("libvirtd") is None:
        return Finding(name, State.OK, "not needed: no libvirt here")
    if alone:
        return Finding(name, State.OK, "not needed: this host is by itself")
    from heddle.hypervisor.libvirtd import hook_file, is_hooked

    if is_hooked():
        return Finding(name, State.OK, str(hook_file()))
    return Finding(
        name,
        State.MISSING if _has_vms(view) else State.HINT,
        f"{hook_file()} does not ask heddle",
        "install it as docs/migration.md says, if virsh migrate shall bring VMs here: until then "
        "libvirt refuses those; those of heddle migrate may come",
    )


def _has_vms(view: View | str) -> bool:
    """Of any host: each may come here."""
    return isinstance(view, View) and any(
        machine["machine_kind"] == "vm" for machine in view.of_kind("machine")
    )


def _flow_table(view: View | str) -> Finding:
    if not isinstance(view, View):
        return Finding("flow table", State.UNKNOWN, view)
    if view.usage is None:
        return Finding("flow table", State.OK, "no data plane is loaded")
    found = troubles(view)
    if found:
        remedy = "`heddle show flows` has what opens so many; `connections` of a NIC limits them"
        return Finding("flow table", State.FULL, "; ".join(found), remedy)
    detail = f"{view.usage.connections} of {view.usage.capacity} connections in use"
    return Finding("flow table", State.OK, detail)


def _room(view: View | str) -> Finding:
    """Of what packets tell: who is where, and why they were dropped."""
    name = "room in tables"
    if not isinstance(view, View):
        return Finding(name, State.UNKNOWN, view)
    found = crowds(view)
    if found:
        remedy = (
            "guests that had to make room are flooded for, addresses of pairs drop until they are "
            "announced again: put fewer at a port"
        )
        return Finding(name, State.HINT, "; ".join(found), remedy)
    ports = len(view.learned.guests) + len(view.learned.announced) if view.learned else 0
    return Finding(name, State.OK, f"addresses and guests of {ports} ports are known")


def _paths(view: View | str) -> Finding:
    if not isinstance(view, View):
        return Finding("paths", State.UNKNOWN, view)
    unreachable = [path["host"] for path in paths_of(view) if path["state"] == "unreachable"]
    problems = [f"host {host} is not reached" for host in unreachable] + path_problems(view)
    if problems:
        remedy = "mend the underlay, or lower `mtu` of the network; `heddle show paths` has more"
        return Finding("paths", State.BROKEN, "; ".join(problems), remedy)
    count = len(paths_of(view))
    return Finding("paths", State.OK, f"{count} other hosts" if count else "no other host")
