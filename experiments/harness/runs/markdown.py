"""Tables in Markdown, and Markdown files with generated blocks between markers."""

import re
from collections.abc import Iterable, Sequence


def table(header: Sequence[str], rows: Iterable[Sequence[str]], texts: int | None = None) -> str:
    """Write a table; one string per cell.

    With `texts`, columns line up, and those after the first `texts` are numbers, to the right.
    """
    if texts is None:
        return "\n".join(map(_row, [header, ["---"] * len(header), *rows]))
    cells = [list(header), *map(list, rows)]
    widths = [max(3, *map(len, column)) for column in zip(*cells, strict=True)]
    sides = [str.ljust] * texts + [str.rjust] * (len(header) - texts)
    rule = ["-" * (width - 1) + ("-" if k < texts else ":") for k, width in enumerate(widths)]
    padded = [[s(c, w) for s, c, w in zip(sides, line, widths, strict=True)] for line in cells]
    return "\n".join(map(_row, [padded[0], rule, *padded[1:]]))


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


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
