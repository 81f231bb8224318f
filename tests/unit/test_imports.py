"""Imports follow the layers of ARCHITECTURE.md, and the compiler is pure."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import heddle

PACKAGE = Path(heddle.__file__).parent

# Low to high: a module imports from its own layer and those before it.
LAYERS = (
    {"errors", "paths"},
    {"intent"},
    {"settings"},
    {"store"},
    {"compiler"},
    {"datapath"},
    {"applier"},
    {"hypervisor"},
    {"events"},
    {"leaks"},
    {"agent"},
    {"lab"},
    {"cli"},
)
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}

# The compiler gets everything as arguments: no clock, chance, file or network.
COMPILER_MAY_IMPORT = {
    "__future__",
    "bisect",
    "collections",
    "dataclasses",
    "enum",
    "functools",
    "heapq",
    "heddle",
    "ipaddress",
    "itertools",
    "operator",
    "struct",
    "types",
    "typing",
}
# What is pure in modules that otherwise are not.
PURE_NAMES = {"socket.AF_INET", "socket.AF_INET6", "socket.inet_pton", "sys.intern", "sys.maxsize"}
IMPURE_CALLS = {"open", "print", "input", "eval", "exec", "__import__"}


class Import(NamedTuple):
    line: int
    module: str  # absolute, dotted


def imports_of(source: str, package: str) -> Iterator[Import]:
    """Every import statement, wherever it stands: also in functions and under
    TYPE_CHECKING. ``package`` is what a relative import starts from."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (Import(node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = _absolute(node, package)
            # `from heddle import paths` names a module in its second half.
            yield from (Import(node.lineno, f"{module}.{alias.name}") for alias in node.names)


def _absolute(node: ast.ImportFrom, package: str) -> str:
    if not node.level:
        return node.module or ""
    base = package.split(".")[: len(package.split(".")) - node.level + 1]
    return ".".join([*base, node.module] if node.module else base)


def back_edges(source: str, package: str, layer: str) -> list[Import]:
    """Imports of a module of ``layer`` from a layer above it."""
    return [
        found
        for found in imports_of(source, package)
        if _layer(found.module) is not None and RANK[str(_layer(found.module))] > RANK[layer]
    ]


def _layer(module: str) -> str | None:
    words = module.split(".")
    return words[1] if words[0] == "heddle" and len(words) > 1 and words[1] in RANK else None


def impurities(source: str, package: str) -> list[str]:
    """What a pure module must not contain."""
    found = [
        f"{line}: imports {module}"
        for line, module in imports_of(source, package)
        if module.split(".")[0] not in COMPILER_MAY_IMPORT and module not in PURE_NAMES
    ]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Global):
            found.append(f"{node.lineno}: global {', '.join(node.names)}")
        elif isinstance(node, ast.Call) and _called_name(node) in IMPURE_CALLS:
            found.append(f"{node.lineno}: calls {_called_name(node)}()")
    return found


def _called_name(call: ast.Call) -> str | None:
    return call.func.id if isinstance(call.func, ast.Name) else None


def _modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def _package(path: Path) -> str:
    return ".".join(("heddle", *path.relative_to(PACKAGE).parent.parts))


def _own_layer(path: Path) -> str:
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


@pytest.mark.parametrize("path", _modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_down(path: Path) -> None:
    if path == PACKAGE / "__init__.py":
        assert not list(imports_of(path.read_text(), "heddle"))
        return
    layer = _own_layer(path)
    assert layer in RANK, f"{layer}: say in LAYERS and ARCHITECTURE.md where it belongs"
    assert back_edges(path.read_text(), _package(path), layer) == []


@pytest.mark.parametrize("path", sorted((PACKAGE / "compiler").rglob("*.py")), ids=lambda p: p.name)
def test_compiler_is_pure(path: Path) -> None:
    source = path.read_text()
    assert impurities(source, _package(path)) == []
    layers = {_layer(found.module) for found in imports_of(source, _package(path))}
    assert layers <= {None, "compiler", "intent", "errors"}


@pytest.mark.parametrize(
    "source",
    [
        "from heddle.agent.loop import Agent",
        "import heddle.agent",
        "from heddle import agent",
        "from ..agent import loop",
        "from .. import agent",
        "def f():\n    from heddle.agent import loop",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import heddle.agent.loop",
    ],
)
def test_a_back_edge_is_found(source: str) -> None:
    assert back_edges(source, "heddle.store", "store")
    assert not back_edges(source, "heddle.cli", "cli")


@pytest.mark.parametrize(
    "source",
    [
        "import os",
        "from time import monotonic",
        "from socket import socket",
        "import random",
        "def f():\n    import socket",
        "def f():\n    global cache\n    cache = 1",
        "def f():\n    return open('/etc/hosts')",
    ],
)
def test_an_impurity_is_found(source: str) -> None:
    assert impurities(source, "heddle.compiler")
