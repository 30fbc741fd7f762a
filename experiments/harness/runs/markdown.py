"""Tables in Markdown, and Markdown files with generated blocks between markers."""

import re
from collections.abc import Iterable, Sequence


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Write a table; one string per cell."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def fill(text: str, name: str, block: str) -> str:
    """Replace what stands between ``<!-- name -->`` and ``<!-- /name -->``.

    Raises:
        ValueError: unless the text has exactly one such pair of markers.
    """
    first, last = f"<!-- {name} -->", f"<!-- /{name} -->"
    new, count = re.subn(
        f"{first}\n.*?{last}", lambda _: f"{first}\n{block}\n{last}", text, flags=re.S
    )
    if count != 1:
        raise ValueError(f"the text needs one block from {first} to {last}")
    return new
