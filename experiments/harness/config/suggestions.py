"""What to add to a complaint about an unknown name: the known one that it may stand for."""

import difflib
from collections.abc import Collection


def hint(name: str, known: Collection[str]) -> str:
    """Return a suggestion: the known name that is most like this one; empty if none is."""
    near = difflib.get_close_matches(name, sorted(known), 1)
    return f"; did you mean {near[0]}?" if near else ""


def key_hint(key: str, known: Collection[str]) -> str:
    """Return a suggestion for a dotted key: one with the same last part, or one that is like it."""
    last = key.rpartition(".")[2]
    same = sorted(one for one in known if one.rpartition(".")[2] == last)
    return hint(key, same) or (f"; did you mean {same[0]}?" if same else hint(key, known))
