"""Files that a kill cannot spoil: replaced whole, or appended so that a cut end can be found."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside ``path`` that takes its place only if the block succeeds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        yield part
        with open(part, "rb") as written:
            os.fsync(written.fileno())  # else a power cut may keep the name and lose the content
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Replace a text file whole."""
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8")


def last_whole_line(content: bytes) -> int:
    """Where the last line that was written to its end stops."""
    return content.rfind(b"\n") + 1


def last_whole_frame(content: bytes) -> int:
    """Where the last complete extxyz frame (count, comment, that many atoms) stops."""
    lines = content[: last_whole_line(content)].splitlines(keepends=True)
    start = end = 0
    while start < len(lines) and lines[start].strip().isdigit():
        stop = start + 2 + int(lines[start])
        if stop > len(lines):
            break
        end += sum(map(len, lines[start:stop]))
        start = stop
    return end
