"""Makes a lab, and takes it away. Both can be repeated from wherever they ended."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import NoReturn

from heddle.errors import OperationError
from heddle.lab import etcd, hosts, spaces, underlay
from heddle.lab.folder import CONTROL, ETCD, UNDERLAY, LabFolder
from heddle.lab.plan import LabPlan
from heddle.lab.spaces import Space, require_root_mount

Say = Callable[[str], None]
Agents = Mapping[str, subprocess.Popen[bytes] | None]  # None: it ran before

_AGENT_SECONDS = 60.0
_POLL_SECONDS = 0.05
_AT_ONCE = 8  # spaces made at the same time


def build(lab: LabFolder, plan: LabPlan, lock: int, say: Say) -> None:
    """All but what the file says of networks and machines: spaces, underlay,
    etcd, and an agent for each host that follows intent. ``lock`` is that of the
    lab. OperationError."""
    etcd.require_etcd()
    require_root_mount()
    lab.write_plan(plan)
    say(f"making {len(plan.hosts)} hosts")
    all_spaces = _make_spaces(lab, plan, lock)
    underlay.build_switch(all_spaces[UNDERLAY], lock)
    underlay.connect(all_spaces[UNDERLAY], all_spaces, plan, lock)
    say("starting etcd")
    etcd.start_members(all_spaces[ETCD], lab.etcd, plan)
    etcd.wait_for_members(all_spaces[ETCD], lab.etcd, plan)
    agents = {h.name: hosts.start_agent(lab, all_spaces[h.name]) for h in plan.own_hosts()}
    _wait_for_agents(lab, agents, say)


def space_of(lab: LabFolder, name: str) -> Space:
    """A host's, etcd's or the underlay's. OperationError when it is not there."""
    space = Space(lab.spaces, name)
    if not space.exists():
        raise OperationError(f"lab {lab.name}: {name} is not up: `heddle lab up` again")
    return space


def remove_hosts(lab: LabFolder, names: Iterable[str], lock: int) -> None:
    """Take hosts away that the lab's file has lost."""
    for name in names:
        underlay.unplug(space_of(lab, UNDERLAY), name, lock)
        Space(lab.spaces, name).destroy()
        shutil.rmtree(lab.root(name), ignore_errors=True)


def destroy(lab: LabFolder, say: Say) -> None:
    """End and remove all there is of a lab. OperationError when a process stays."""
    say(f"ending the processes of lab {lab.name}")
    spaces.destroy_all(lab.spaces)
    if lab.path.exists():
        shutil.rmtree(lab.path)


def _make_spaces(lab: LabFolder, plan: LabPlan, lock: int) -> dict[str, Space]:
    spaces.prepare(lab.spaces)
    names = [UNDERLAY, ETCD, *(host.name for host in plan.hosts)]
    found = {name: Space(lab.spaces, name) for name in names}
    hosts.write_control_files(lab.root(CONTROL), plan)
    for host in plan.hosts:
        hosts.write_files(lab, plan, host)
    missing = [space for space in found.values() if not space.exists()]
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        list(pool.map(lambda space: space.make(lab.root(space.name), lock), missing))
    return found


def _wait_for_agents(lab: LabFolder, agents: Agents, say: Say) -> None:
    """Until each agent has carried out what the store holds."""
    deadline = time.monotonic() + _AGENT_SECONDS
    waiting = list(agents)
    while waiting := [name for name in waiting if not _follows(lab, name)]:
        trouble = _trouble(lab, waiting[0])
        say(f"agents connected: {len(agents) - len(waiting)} of {len(agents)}{trouble}")
        for name in waiting:
            agent = agents[name]
            if agent is not None and agent.poll() is not None:
                _give_up(lab, name, "the agent did not start")
        if time.monotonic() > deadline:
            what = f"the agent is not ready after {_AGENT_SECONDS:.0f} s"
            raise OperationError(f"host {waiting[0]}: {what}{_trouble(lab, waiting[0])}")
        time.sleep(_POLL_SECONDS)
    for agent in filter(None, agents.values()):
        agent.returncode = 0  # it lives on by itself: Popen need not warn about that


def _trouble(lab: LabFolder, host: str) -> str:
    """What an agent says is wrong, to be put after other words."""
    status = hosts.agent_status(lab, host) or {}
    errors = status.get("errors")
    words = "; ".join(errors.values()) if isinstance(errors, dict) else ""
    return f"; {host}: {words}" if words else ""


def _give_up(lab: LabFolder, host: str, what: str) -> NoReturn:
    raise OperationError(f"host {host}: {what}: {hosts.last_words(lab, host)}")


def _follows(lab: LabFolder, host: str) -> bool:
    status = hosts.agent_status(lab, host)
    return status is not None and status.get("revision") is not None
