"""YAML and JSON of plain values, from files that may be damaged or a stranger's."""

import json
from collections import Counter
from typing import Any, NoReturn

import yaml

DEEPEST = 50
"""Nested lists and mappings."""


def parse_json(text: str | bytes) -> Any:
    """Parse JSON; ValueError for NaN, which it does not know, and for what is nested too deeply."""
    return plain(json.loads(text, parse_constant=_no_number))


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """YAML as run folders write it: no tags, no merged keys, no key twice."""

    def flatten_mapping(self, node: Any) -> None:
        keys = Counter(key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode))
        twice = [key for key, number in keys.items() if number > 1]
        if "<<" in keys or twice:
            problem = "merged keys (<<)" if "<<" in keys else f"the key {twice[0]!r:.60} twice"
            raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark)


def parse_yaml(text: str) -> Any:
    """Parse YAML of plain values; ValueError or YAMLError for anything else."""
    return plain(yaml.load(text, _Loader))


def plain(content: Any) -> Any:
    """Return nested plain values; ValueError for others, for shared ones and for a deep nesting."""
    seen: set[int] = set()
    waiting = [(content, 0)]
    while waiting:
        value, depth = waiting.pop()
        if isinstance(value, (dict, list)):
            if id(value) in seen and value:
                raise ValueError("an anchor (&) is used twice")
            if depth > DEEPEST:
                raise ValueError("it is nested too deeply")
            seen.add(id(value))
            if isinstance(value, dict):
                odd = [key for key in value if not isinstance(key, str)]
                if odd:
                    raise ValueError(f"the key {odd[0]!r:.60} is no text")
            items = value.values() if isinstance(value, dict) else value
            waiting += [(item, depth + 1) for item in items]
        elif not isinstance(value, (str, bool, int, float, type(None))):
            raise ValueError(f"{value!r:.60} is no plain value")
    return content


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number of JSON")


def reason(error: BaseException) -> str:
    """Describe in one line why a text could not be parsed."""
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if isinstance(error, UnicodeDecodeError):
        return f"byte {error.start} is no text"
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        mark = error.problem_mark
        return f"{error.problem}, line {mark.line + 1}"
    return " ".join(str(error).split())[:200]
