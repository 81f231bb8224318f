"""heddle show paths: how this host, or another, reaches the others."""

from __future__ import annotations

from collections import Counter
from typing import Any

from heddle.agent.client import AgentClient
from heddle.cli.table import render, render_json
from heddle.cli.view import Item, View
from heddle.errors import AgentError, NotFoundError, StoreError
from heddle.events.fits import misfits, proven_paths, spread_of
from heddle.paths import host_name

_HEADERS = ("host", "vtep", "path", "since", "round trip", "mtu", "why")


def show_paths(name: str | None, *, as_json: bool) -> None:
    """The paths of a host; of this one as its agent knows them now, be the store
    out of reach or not."""
    host = name or host_name()
    live = _live(host)
    view = _view(needed=live is None)
    fact = live or _stored(view, host)
    if as_json:
        print(render_json(fact))
        return
    if not fact["paths"]:
        print(f"host {fact['host']} has no other host to reach")
        return
    print(render(_HEADERS, [_cells(path) for path in fact["paths"]]))
    for problem in path_problems(view) if view else ():
        print(problem)


def _view(*, needed: bool) -> View | None:
    """What is stored; None when it can't be read and is not needed."""
    try:
        return View()
    except StoreError:
        if needed:
            raise
        return None


def paths_of(view: View) -> list[Item]:
    """The paths of this host, as its agent last told."""
    paths: list[Item] = view.statuses.get(("path", host_name()), {}).get("paths", [])
    return paths


def path_lines(view: View) -> list[str]:
    """How the others are reached, in a line, and what does not pass between hosts."""
    ways = Counter(_way(path) for path in paths_of(view))
    told = ", ".join(f"{count} {way}" for way, count in sorted(ways.items()))
    line = [f"paths to other hosts: {told}"] if ways else []
    return [*line, *(f"  {problem}" for problem in path_problems(view))]


def path_problems(view: View) -> list[str]:
    """Networks whose packets don't pass between their hosts by now."""
    proven = proven_paths(view.statuses)
    if not proven:
        return []
    kinds = ("network", "router", "port")
    spread = spread_of(item for kind in kinds for item in view.of_kind(kind))
    return list(dict.fromkeys(map(str, misfits(spread, proven))))


def _stored(view: View | None, host: str) -> Item:
    statuses = view.statuses if view else {}
    if ("path", host) in statuses:
        return statuses["path", host]
    known = sorted(name for kind, name in statuses if kind == "path")
    there_is = f"known are: {', '.join(known)}" if known else "no host has other hosts to reach"
    raise NotFoundError(f"no paths of host {host!r}; {there_is}")


def _live(host: str) -> dict[str, Any] | None:
    """As the agent of this host says; None when it can't be asked."""
    if host != host_name():
        return None
    try:
        with AgentClient() as client:
            answer = client.request("paths")
    except (AgentError, TimeoutError):
        return None
    return {"host": host, "paths": answer["paths"]}


def _cells(path: Item) -> tuple[object, ...]:
    round_trip = path["round_trip_ms"]
    return (
        path["host"],
        path["vtep"],
        _way(path),
        path["since"],
        None if round_trip is None else f"{round_trip:.2f} ms",
        path["mtu"],
        path["why"],
    )


def _way(path: Item) -> str:
    return f"through {path['relay']}" if path["relay"] else str(path["state"])
