"""Validates data against the schema and explains what does not fit.

Objects that do not fit are reported and left out, so that the rest can still
be checked and all problems are shown together.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from heddle.intent.problems import KeyPath, Problems, suggestion
from heddle.intent.schema import TopologySpec
from heddle.intent.schema_base import Spec

_EXPECTED = {
    "string_type": "text",
    "int_type": "a whole number",
    "bool_type": "true or false",
    "list_type": "a list",
    "dict_type": "a mapping of names",
    "model_type": "a mapping of keys",
    "model_attributes_type": "a mapping of keys",
}
_VERSION_REMEDY = 'start the file with "version: 1"'


@dataclass(frozen=True, slots=True)
class Shape:
    """What fits the schema, and the objects (section, name) that don't."""

    spec: TopologySpec
    broken: set[tuple[str, str]] = field(default_factory=set)


def validate(data: object, problems: Problems) -> Shape:
    """Report what does not fit the schema; return the rest."""
    if data is None:
        data = {}
    if not isinstance(data, dict):
        problems.add((), f"is {_describe(data)}; {_VERSION_REMEDY}")
        return Shape(TopologySpec(version=1))
    try:
        return Shape(TopologySpec.model_validate(data))
    except ValidationError as error:
        details = error.errors(include_url=False)
    for detail in details:
        problems.add(detail["loc"], _explain(detail))
    broken = {(str(loc[0]), str(loc[1])) for loc in (d["loc"] for d in details) if len(loc) > 1}
    whole_keys = {str(detail["loc"][0]) for detail in details if len(detail["loc"]) == 1}
    return Shape(TopologySpec.model_validate(_without(data, broken, whole_keys)), broken)


def _without(
    data: dict[str, Any], broken: set[tuple[str, str]], whole_keys: set[str]
) -> dict[str, Any]:
    kept = {
        section: {name: item for name, item in value.items() if (section, name) not in broken}
        if isinstance(value, dict)
        else value
        for section, value in data.items()
        if section not in whole_keys
    }
    return {**kept, "version": 1}


def _explain(detail: ErrorDetails) -> str:
    """What is wrong; what would be right."""
    kind, loc, given = detail["type"], detail["loc"], detail["input"]
    context = detail.get("ctx", {})
    match kind:
        case "value_error":
            what = str(context["error"])
        case "extra_forbidden":
            what = _explain_unknown_key(loc)
        case "missing":
            what = f'key "{loc[-1]}" is missing; {_example(loc)}'
        case "literal_error":
            what = _explain_choice(loc, given, str(context["expected"]))
        case "too_long":
            what = f"has {context['actual_length']} items; give at most {context['max_length']}"
        case "greater_than_equal":
            what = f"is {given}; give {context['ge']} or more"
        case "less_than_equal":
            what = f"is {given}; give {context['le']} or less"
        case "string_type" if isinstance(given, int | float):
            what = f'is {_describe(given)}, must be text; put it in quotes: "{given}"'
        case _:
            expected = _EXPECTED.get(kind, detail["msg"])
            what = f"is {_describe(given)}, must be {expected}; {_example(loc)}"
    return what


def _explain_choice(loc: KeyPath, given: object, expected: str) -> str:
    if loc == ("version",):
        return f"is {_describe(given)}, which this heddle can't read; {_VERSION_REMEDY}"
    choices = [choice.strip("'") for choice in expected.replace(" or ", ", ").split(", ")]
    return f'"{given}" is not known; {suggestion(str(given), choices)}'


def _explain_unknown_key(loc: KeyPath) -> str:
    model = _model_at(loc[:-1])
    known = list(model.model_fields) if model else []
    return f'key "{loc[-1]}" is not known; {suggestion(str(loc[-1]), known)}'


def _example(loc: KeyPath) -> str:
    if loc == ("version",):
        return _VERSION_REMEDY
    for end in range(len(loc), 0, -1):
        model = _model_at(loc[: end - 1])
        info = model.model_fields.get(str(loc[end - 1])) if model else None
        if info and info.examples:
            return f'for example "{loc[end - 1]}: {info.examples[0]}"'
    return "see docs/topology-file.md"


def _model_at(loc: KeyPath) -> type[Spec] | None:
    """The schema's model of the mapping at a place of the file."""
    annotation: object = TopologySpec
    for key in loc:
        annotation = _step(annotation, key)
    model = _plain(annotation)
    return model if isinstance(model, type) and issubclass(model, Spec) else None


def _step(annotation: object, key: str | int) -> object:
    plain = _plain(annotation)
    if isinstance(plain, type) and issubclass(plain, Spec):
        info: FieldInfo | None = plain.model_fields.get(str(key))
        return info.annotation if info else None
    arguments = get_args(plain)
    return arguments[-1] if arguments else None  # of dict[str, X] or list[X]


def _plain(annotation: object) -> object:
    """Without Annotated and without "or None"."""
    while True:
        if get_origin(annotation) not in (Annotated, Union, UnionType):
            return annotation
        annotation = get_args(annotation)[0]


def _describe(value: object) -> str:
    if value is None:
        return "empty"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return f"the number {value}"
    if isinstance(value, str):
        return f'the text "{value}"'
    return "a list" if isinstance(value, list) else "a mapping"
