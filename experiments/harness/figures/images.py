"""Pictures as data URIs, so that a page holds them itself."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from experiments.harness.figures.style import STYLE

MIME = {"svg": "image/svg+xml", "png": "image/png", "webp": "image/webp"}
DPI = 144  # of pixel pictures: 1.5 pixels for each of the browser's
QUALITY = 82  # of WebP, in percent


@dataclass(frozen=True)
class Image:
    """A picture to embed: its data URI, and its width in CSS pixels where that is known."""

    source: str
    width: int | None = None


def embed(figure: Figure | Path, formats: Sequence[str] = ("svg", "png")) -> Image:
    """Encode a figure in whichever of ``formats`` is smallest, or a picture's file as it is."""
    if isinstance(figure, Path):
        return Image(_uri(figure.suffix[1:], figure.read_bytes()))
    written = {kind: _written(figure, kind) for kind in formats}
    kind, content = min(written.items(), key=lambda item: len(item[1]))
    return Image(_uri(kind, content), round(96 * figure.get_figwidth()))


def _written(figure: Figure, kind: str) -> bytes:
    options: dict[str, Any] = {"dpi": DPI}
    if kind == "svg":
        options["metadata"] = {"Date": None}  # the same figure is the same file
    if kind == "webp":
        options["pil_kwargs"] = {"quality": QUALITY, "method": 6}
    file = io.BytesIO()
    with matplotlib.rc_context(STYLE):
        figure.savefig(file, format=kind, **options)
    return file.getvalue()


def _uri(kind: str, content: bytes) -> str:
    return f"data:{MIME[kind]};base64,{base64.b64encode(content).decode()}"
