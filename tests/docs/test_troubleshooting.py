"""The messages that docs/troubleshooting.md quotes are those of the source."""

import ast
import functools
import re
from collections.abc import Iterator

import pytest

from tests.docs.documents import ROOT, text

SOURCES = ("experiments", "sweeps", "surfdiff", "packages/*/src")
VALUE = "\0"
"""Stands for a value in the text of an f-string."""


def quoted() -> list[list[str]]:
    """The quoted parts of the message in each row of the page's tables."""
    cells = re.findall(r"^\| (`.*?`) \| ", text("docs/troubleshooting.md"), re.M)
    return [re.findall(r"`([^`]+)`", cell) for cell in cells]


def strings(tree: ast.Module) -> Iterator[str]:
    """Yield the strings of a module, with VALUE where an f-string has a value."""
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield "".join(v.value if isinstance(v, ast.Constant) else VALUE for v in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


@functools.cache
def every_string() -> set[str]:
    """All strings of the project's source."""
    files = [file for source in SOURCES for file in ROOT.glob(f"{source}/**/*.py")]
    return {s for file in files for s in strings(ast.parse(file.read_text(encoding="utf-8")))}


@pytest.mark.parametrize("parts", quoted(), ids=" ... ".join)
def test_quoted_messages_are_in_the_source(parts):
    """A part of a message, several of them in order, or a message with its values filled in."""
    wanted = re.compile(".*".join(map(re.escape, parts)), re.S)
    long = [s for s in every_string() if len(s.replace(VALUE, "")) > 20]
    filled = (re.escape(s).replace(VALUE, ".+") for s in long)
    assert any(map(wanted.search, every_string())) or any(
        re.search(pattern, parts[0]) for pattern in filled
    )


def test_most_of_the_page_is_quoted_messages():
    assert len(quoted()) >= 20
