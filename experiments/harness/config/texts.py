"""Values that are text: paths, names and formulas, which the command line takes as they are typed.

Hydra would read `Pt(111)/O_p(2x2).extxyz` as a call, `run#3.traj` not at all and `NaN` as a number.
What key holds text is known from the schema of the command.
"""

import os
import re
from collections.abc import Iterator, Sequence
from functools import cache
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel

from experiments.harness.config.settings import SCHEMAS

PLAIN = re.compile(r"[A-Za-z_./][\w./-]*", re.ASCII)
CALL = re.compile(r"(choice|range|interval|glob|sort|shuffle|tag|str|json_str)\(.*\)")
OPEN, CLOSED, QUOTES = "([{", ")]}", "'\""


def quoted(text: str) -> str:
    """Write a text as an override needs it: in quotes if Hydra could read it as something else.

    A `${` gets a backslash, as it would begin an interpolation, in quotes too.
    """
    if PLAIN.fullmatch(text) and text.lower() not in ("null", "true", "false", "nan", "inf"):
        return text
    plain = re.sub(r"(\\*)\$\{", r"\1\1\\${", text)
    before_quotes = re.sub(r"(\\*)(?='|$)", r"\1\1", plain)
    return "'" + before_quotes.replace("'", "\\'") + "'"


def as_texts(overrides: Sequence[str], entry: str) -> list[str]:
    """Put quotes around values of keys that hold text, where they have none.

    Several values (a,b), lists, null, interpolations and quoted values keep their meaning in Hydra;
    a leading ~ is the home folder.
    """
    return [_as_text(override, entry) for override in overrides]


def _as_text(override: str, entry: str) -> str:
    key, equals, value = override.partition("=")
    kind = _texts(entry).get(key.lstrip("+"))
    if not equals or kind is None or "${" in value or CALL.fullmatch(value):
        return override
    if kind == "list":
        if not (value.startswith("[") and value.endswith("]")):
            return override
        return f"{key}=[{','.join(map(_one, _parts(value[1:-1])))}]"
    return f"{key}={','.join(map(_one, _parts(value)))}"


def _one(value: str) -> str:
    bare = value.strip()
    balanced = all(bare.count(a) == bare.count(b) for a, b in zip(OPEN, CLOSED, strict=True))
    if not bare or bare in ("null", "???") or bare[0] in QUOTES or not balanced:
        return value
    return quoted(from_home(bare))


def from_home(text: str) -> str:
    """Replace a leading ~ by the home folder; ~name stays where there is no such user."""
    return os.path.expanduser(text)


def _parts(value: str) -> list[str]:
    """Split at commas that are in no brackets and no quotes."""
    parts, depth, quote = [""], 0, ""
    for character in value:
        if quote:
            quote = "" if character == quote else quote
        elif character in QUOTES:
            quote = character
        else:
            depth += (character in OPEN) - (character in CLOSED)
        if character == "," and not quote and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return parts


@cache
def _texts(entry: str) -> dict[str, str]:
    """Return the keys of a command that hold text, or lists of it ("list")."""
    return texts_of(SCHEMAS[entry]) | ({"composition": "text"} if entry == SEARCH else {})


SEARCH = "generate_data"
"""The command that takes `composition` as one of its `compositions`."""


def texts_of(model: type[BaseModel]) -> dict[str, str]:
    """Return the keys of a schema that hold text, or lists of it ("list")."""
    return dict(_leaves(model, ""))


def _leaves(model: type[BaseModel], prefix: str) -> Iterator[tuple[str, str]]:
    for name, field in model.model_fields.items():
        for kind in _members(field.annotation):
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                yield from _leaves(kind, f"{prefix}{name}.")
            elif kind is str:
                yield f"{prefix}{name}", "text"
            elif get_origin(kind) is list and str in _members(get_args(kind)[0]):
                yield f"{prefix}{name}", "list"


def _members(annotation: Any) -> list[Any]:
    """Return the types of a union, without what is annotated to them."""
    if get_origin(annotation) is Annotated:
        return _members(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        return [kind for one in get_args(annotation) for kind in _members(one)]
    return [annotation]
