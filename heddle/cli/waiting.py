"""Waits for the agent to have done something, by following its facts."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

from heddle.agent.client import AgentClient
from heddle.cli.elsewhere import Elsewhere
from heddle.cli.progress import Progress
from heddle.errors import HypervisorError, OperationError
from heddle.paths import host_name

Facts = dict[tuple[str, str], dict[str, Any]]
Missing = Callable[[Facts, int], str]
"""What is still missing, in words, given the facts and the first look at machines
that counts; nothing missing is the empty string."""

_RUNNING = ("booting", "running")  # states of machines


def wait_for(
    missing: Missing,
    progress: Progress,
    seconds: float,
    socket: Path | None = None,
    hosts: Iterable[str] = (),
) -> None:
    """Until nothing is missing. OperationError says what was, in the end.
    ``socket`` is that of another agent than this host's; ``hosts`` are those of
    a cluster that have a part in it."""
    deadline = time.monotonic() + seconds
    facts: Facts = {}
    words = "no word from the agent"
    try:
        with closing(Elsewhere(hosts)) as elsewhere, AgentClient(socket) as client:
            look = client.request("reconcile")["look"]  # now rather than in some seconds
            for message in client.stream("facts", deadline, elsewhere.pause):
                _take(facts, message.get("facts", ()))
                words = missing({**elsewhere.facts(), **facts}, look)
                if not words:
                    return
                progress.say(words)
    except TimeoutError:
        raise OperationError(
            f"not done after {seconds:.0f} s: {words}; the agent goes on, `heddle show` tells how"
        ) from None


def applied(revision: int, hosts: Iterable[str] = ()) -> Missing:
    """Missing until the kernels of these hosts (none given: of this one) are as
    this revision of intent wants it."""
    agents = {("agent", host): host for host in set(hosts) or {host_name()}}

    def missing(facts: Facts, look: int) -> str:
        for agent, host in agents.items():
            reached = facts.get(agent, {}).get("revision")
            if reached is None or reached < revision:
                where = f" on {host}" if host != host_name() else ""
                return f"applying revision {revision}{where}"
        return ""

    return missing


def ready(
    revision: int, machines: dict[str, str], ports: dict[str, str], hosts: Iterable[str] = ()
) -> Missing:
    """Missing until these machines and ports (id to name) of these hosts work.

    Raises HypervisorError when the agent fails to start a machine meanwhile.
    """
    is_applied = applied(revision, hosts)

    def missing(facts: Facts, look: int) -> str:
        if words := is_applied(facts, look):
            return words
        troubles = _port_troubles(facts, ports)
        for machine_id, name in machines.items():
            fact = facts.get(("machine", machine_id), {})
            if fact.get("look", 0) >= look and fact["revision"] >= revision:
                raise HypervisorError(
                    f"{troubles or _machine_trouble(name, fact['error'])} "
                    "(the agent keeps trying; `heddle down` ends that)"
                )
        waiting = [n for i, n in machines.items() if not _is_ready(facts.get(("machine", i), {}))]
        if waiting:
            words = _words("machines", "ready", machines, waiting)
            return f"{words}; {troubles}" if troubles else words
        waiting = [n for i, n in ports.items() if not _is_active(facts.get(("port", i), {}))]
        words = _words("ports", "active", ports, waiting) if waiting else ""
        return f"{words}; {troubles}" if troubles else words

    return missing


def runs(revision: int, machine_id: str, name: str, hosts: Iterable[str] = ()) -> Missing:
    """Missing until a machine runs, ready or not. HypervisorError as of ``ready``."""
    is_applied = applied(revision, hosts)
    is_ready = ready(revision, {machine_id: name}, {}, hosts)

    def missing(facts: Facts, look: int) -> str:
        words = is_ready(facts, look)
        state = facts.get(("machine", machine_id), {}).get("state")
        return words if is_applied(facts, look) or state not in _RUNNING else ""

    return missing


def _port_troubles(facts: Facts, ports: dict[str, str]) -> str:
    """What the first port that has an error says."""
    found = ((name, facts.get(("port", i), {}).get("error")) for i, name in ports.items())
    return next((f"port {name}: {error}" for name, error in found if error), "")


def _machine_trouble(name: str, error: str) -> str:
    return error if error.startswith(f"machine {name}") else f"machine {name}: {error}"


def in_state(
    revision: int, machine_id: str, name: str, state: str, hosts: Iterable[str] = ()
) -> Missing:
    """Missing until a machine is in this state."""
    is_applied = applied(revision, hosts)

    def missing(facts: Facts, look: int) -> str:
        now = facts.get(("machine", machine_id), {}).get("state", "unknown")
        return is_applied(facts, look) or ("" if now == state else f"machine {name} is {now}")

    return missing


def gone(revision: int, objects: Iterable[tuple[str, str]], hosts: Iterable[str] = ()) -> Missing:
    """Missing until no fact is left of these objects (kind, id) of these hosts."""
    keys = list(objects)
    is_applied = applied(revision, hosts)

    def missing(facts: Facts, look: int) -> str:
        left = sum(key in facts for key in keys)
        return is_applied(facts, look) or (_left(left, len(keys)) if left else "")

    return missing


def _left(left: int, count: int) -> str:
    return f"{left} of {count} machines and ports still there"


def _take(facts: Facts, changes: list[Any]) -> None:
    for kind, name, fact in changes:
        if fact is None:
            facts.pop((kind, name), None)
        else:
            facts[(kind, name)] = fact


def _is_ready(fact: dict[str, Any]) -> bool:
    return fact.get("state") == "running" and bool(fact.get("ready"))


def _is_active(fact: dict[str, Any]) -> bool:
    return fact.get("state") == "active"


def _words(what: str, state: str, wanted: dict[str, str], waiting: list[str]) -> str:
    some = ", ".join(sorted(waiting)[:5]) + (", ..." if len(waiting) > 5 else "")
    return f"{len(wanted) - len(waiting)} of {len(wanted)} {what} {state}, waiting for {some}"
