"""Files that a kill cannot spoil: replaced whole, or appended so that a cut end can be found.

And a lock that a kill releases.
"""

import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

try:
    import fcntl
except ImportError:  # Windows has no such locks
    fcntl = None  # type: ignore[assignment]


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside ``path`` that takes its place only if the block succeeds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        with naming(path):
            yield part
            with open(part, "rb") as written:
                os.fsync(written.fileno())  # else a power cut may keep the name, lose the content
            os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


UNFINISHED = re.compile(r"\..+\.\d+(\.partial)?(\.\w+)?")
"""Names of temporary files, of `replacing` and of `StructureSet.write`."""


def remove_unfinished(folder: Path) -> None:
    """Remove temporary files that a kill has left in a folder, in which nobody else may write."""
    for path in folder.glob(".*"):
        if UNFINISHED.fullmatch(path.name):
            path.unlink(missing_ok=True)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Put the path on what the system refuses inside: of a full disk it names none."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = str(path)
        raise


def write_text(path: Path, text: str) -> None:
    """Replace a text file whole."""
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8")


class Busy(ValueError):
    """Another process holds what this one needs."""


@contextmanager
def alone(path: Path, refusal: str) -> Iterator[None]:
    """Inside, nobody else holds the lock on ``path``: Busy(refusal) if somebody does.

    The system's lock, which ends with its process however that ends. A file system without locks
    gives no protection. The file stays: removed, it could be locked twice.
    """
    with open(path, "a") as file:
        if fcntl is not None:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise Busy(refusal) from None
            except OSError:
                pass
        yield


def last_whole_line(content: bytes) -> int:
    """Where the last line that was written to its end stops."""
    return content.rfind(b"\n") + 1


def whole_frames(file: BinaryIO) -> Iterator[bytes]:
    """Yield the complete frames (count, comment, that many atoms) at the beginning of an extxyz."""
    while (count := file.readline()).strip().isdigit() and len(count.strip()) < 13:
        lines = [count]
        for _ in range(1 + int(count)):
            lines.append(file.readline())
            if not lines[-1].endswith(b"\n"):
                return
        yield b"".join(lines)


def file_digest(path: Path) -> str:
    """Return the first 12 digits of the SHA-256 of a file's content."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:12]
