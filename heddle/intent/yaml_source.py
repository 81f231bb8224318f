"""Reads a YAML file into plain data and remembers the line of everything.

A subset of YAML 1.2 without surprises: ``on``, ``no`` and ``12:34:56`` are
text, keys are always text, a key given twice is an error, and so are tags.
Anchors and aliases work.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from yaml._yaml import CParser
from yaml.resolver import BaseResolver

from heddle.errors import TopologyError
from heddle.intent.problems import KeyPath, Problems, SourceMap

# Aliases of aliases can make a small file huge. Without them there are fewer
# values than characters.
VALUES_MAX = 500_000
_MERGE = "<<"

_NULL, _BOOL, _INT, _FLOAT, _TEXT = (
    f"tag:yaml.org,2002:{name}" for name in ("null", "bool", "int", "float", "str")
)


class _Composer(CParser, BaseResolver):
    """libyaml's parser, with the plain scalars that are not text."""

    def __init__(self, text: str) -> None:
        CParser.__init__(self, text)
        BaseResolver.__init__(self)


# Plain scalars that are not text: how they look, and their first characters.
_PATTERNS = {
    _NULL: re.compile(r"(~|null|Null|NULL|)\Z"),
    _BOOL: re.compile(r"(true|True|TRUE|false|False|FALSE)\Z"),
    _INT: re.compile(r"([-+]?(0|[1-9][0-9]{0,18})|0x[0-9a-fA-F]{1,16})\Z"),
    _FLOAT: re.compile(r"[-+]?[0-9]{1,18}\.[0-9]{0,18}\Z"),
}
_NUMBER = list("-+0123456789")
_FIRST = {_NULL: ["", "~", "n", "N"], _BOOL: list("tTfF"), _INT: _NUMBER, _FLOAT: _NUMBER}

for _tag, _pattern in _PATTERNS.items():
    _Composer.add_implicit_resolver(_tag, _pattern, _FIRST[_tag])


def read_yaml(file: Path) -> tuple[Any, Problems]:
    """The data of a file, and the problems found so far with their source map.

    TopologyError when the file can't be read or is no YAML.
    """
    text = _read_text(file)
    node = _compose(file, text)
    lines: dict[KeyPath, int] = {(): 1}
    problems = Problems(SourceMap(file, lines))
    converter = _Converter(problems, lines, VALUES_MAX + len(text))
    data = None if node is None else converter.convert(node, ())
    return data, problems


def _read_text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise TopologyError(
            f"{file}: {error.strerror}; give the path of a readable topology file"
        ) from error
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise TopologyError(f"{file}:{line}: this is not UTF-8 text; save it as UTF-8") from error


def _compose(file: Path, text: str) -> yaml.Node | None:
    try:
        parser = _Composer(text)
        try:
            node: yaml.Node | None = parser.get_single_node()
        finally:
            parser.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        raise TopologyError(f"{file}:{line}: {_explain(error, text, line)}") from error
    except yaml.YAMLError as error:
        reason = " ".join(str(error).split())
        raise TopologyError(f"{file}:1: not YAML: {reason}; save it as plain text") from error
    return node


def _explain(error: yaml.MarkedYAMLError, text: str, line: int) -> str:
    source_line = [*text.splitlines(), ""][line - 1 : line]
    if source_line and "\t" in source_line[0]:
        remedy = "indent with spaces, never with tabs"
    elif error.problem == "found unexpected ':'":
        remedy = 'put quotes around IPv6 addresses: "fd00::2"'
    elif error.context == "expected a single document in the stream":
        return "a second document starts here; keep one per file"
    else:
        remedy = 'check indentation and brackets, and quote text that holds ": " or " #"'
    context = f"{error.context}, " if error.context else ""
    return f"not valid YAML: {context}{error.problem}; {remedy}"


class _Converter:
    """Turns nodes into dicts, lists and scalars, and notes their lines."""

    def __init__(self, problems: Problems, lines: dict[KeyPath, int], values_max: int) -> None:
        self._problems = problems
        self._lines = lines
        self._values_max = values_max
        self._open: set[int] = set()  # nodes being converted, to find an alias of itself

    def convert(self, node: yaml.Node, path: KeyPath) -> Any:  # noqa: ANN401 - what YAML holds
        self._lines.setdefault(path, node.start_mark.line + 1)
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, path)
        if id(node) in self._open or len(self._lines) > self._values_max:
            what = "aliases make this endless; write the values out"
            raise TopologyError(self._problems.source.message(path, what))
        self._open.add(id(node))
        try:
            return self._collection(node, path)
        finally:
            self._open.remove(id(node))

    def _collection(self, node: yaml.Node, path: KeyPath) -> Any:  # noqa: ANN401
        self._check_tag(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self.convert(item, (*path, index)) for index, item in enumerate(node.value)]
        return dict(self._items(node, path))

    def _items(self, node: yaml.Node, path: KeyPath) -> Iterator[tuple[str, Any]]:
        first_lines: dict[str, int] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                what = "a key must be text; write a name before the colon"
                self._problems.add(path, what, line=line)
                continue
            key = key_node.value
            if key == _MERGE:
                what = 'merging with "<<" is not part of YAML 1.2; write the keys out'
                self._problems.add(path, what, line=line)
                continue
            if key in first_lines:
                self._repeated(path, key, line, first_lines[key])
                continue
            first_lines[key] = line
            self._lines[(*path, key)] = line
            yield key, self.convert(value_node, (*path, key))

    def _repeated(self, path: KeyPath, key: str, line: int, first_line: int) -> None:
        what = f'"{key}" is given twice, first on line {first_line}; keep one of them'
        self._problems.add(path, what, line=line)

    def _scalar(self, node: yaml.ScalarNode, path: KeyPath) -> Any:  # noqa: ANN401
        text: str = node.value
        if node.tag not in _PATTERNS or not _PATTERNS[node.tag].match(text):
            self._check_tag(node, path)
            return text
        if node.tag == _NULL:
            return None
        if node.tag == _BOOL:
            return text.lower() == "true"
        if node.tag == _INT:
            return int(text, 0)
        return float(text)

    def _check_tag(self, node: yaml.Node, path: KeyPath) -> None:
        known = (_TEXT, "tag:yaml.org,2002:map", "tag:yaml.org,2002:seq")
        if node.tag not in known:
            self._problems.add(path, f'tag "{node.tag}" is not known; remove it')
