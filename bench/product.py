"""Heddle itself as a contender: the real command, agent and data plane."""

from __future__ import annotations

import sys
from pathlib import Path

from bench import private
from bench.commands import run
from bench.peers import Pair

HEDDLE = Path(sys.executable).with_name("heddle")

# Two containers in two subnets, a router between them.
_CONTAINERS = """\
version: 1
networks:
  left: {cidr: 10.83.1.0/24}
  right: {cidr: 10.83.2.0/24}
routers:
  main: {networks: [left, right]}
machines:
  sender: {kind: container, nics: [{network: left, address: 10.83.1.2}]}
  receiver: {kind: container, nics: [{network: right, address: 10.83.2.2}]}
"""


def heddle(*arguments: str) -> str:
    return run(str(HEDDLE), *arguments)


def up(topology: str) -> Path:
    """``heddle up`` of a topology on this private host; returns its file."""
    file = private.root() / "bench.yaml"
    file.write_text(topology, encoding="utf-8")
    heddle("up", str(file))
    return file


def container_pair() -> Pair:
    up(_CONTAINERS)
    host = private.HOST_NAMESPACE
    names = ("heddle-sender", "heddle-receiver")
    return Pair("heddle", *names, host, "10.83.1.2", "10.83.2.2").check()
