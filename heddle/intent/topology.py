"""Loads a topology file: all of it is right, or TopologyError says all that is wrong."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from heddle.intent.check import check
from heddle.intent.collection import paused_collection
from heddle.intent.problems import SourceMap
from heddle.intent.schema import TopologySpec
from heddle.intent.shape import validate
from heddle.intent.yaml_source import read_yaml


@dataclass(frozen=True, slots=True)
class Topology:
    """A checked topology file."""

    spec: TopologySpec
    source: SourceMap
    warnings: tuple[str, ...] = ()
    """What is likely not meant, as ``file:line: object: what; remedy``."""

    @property
    def folder(self) -> Path:
        """Where relative paths in the file start."""
        return self.source.file.resolve().parent

    @property
    def origin(self) -> str:
        """Who owns the objects made from this file."""
        return str(self.source.file.resolve())


def load_topology(path: Path) -> Topology:
    """Read and check a topology file.

    TopologyError holds one line ``file:line: object: what; remedy`` per problem.
    """
    with paused_collection():
        data, problems = read_yaml(path)
        shape = validate(data, problems)
        warnings = check(shape, problems, path.resolve().parent)
    problems.raise_if_any()
    return Topology(shape.spec, problems.source, tuple(warnings))
