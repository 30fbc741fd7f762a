"""Write one self-contained HTML page about a run: numbers, tables, figures, structures to turn.

Templates, style and scripts are in assets/. A page needs no network: all pictures and scripts are
in the file, and its content security policy forbids the browser to load or run anything else.
Jinja2 escapes every text that comes from data.
"""

import base64
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure

from experiments.harness.figures.images import Image, embed
from experiments.harness.figures.pictures import element_colours, paired_views
from experiments.harness.figures.viewer import facts_of, overlayer_formula, viewer_data
from experiments.harness.runs.atomic_io import write_text

ASSETS = Path(__file__).parent / "assets"
MOST = 120  # structures that a gallery shows; a page stays below 3 MB


@dataclass(frozen=True)
class Lead:
    """The page's first sentence, and a few numbers: each a value with its unit, what it is, and
    what to compare it with."""

    sentence: str
    numbers: Sequence[tuple[str, str, str]] = ()


@dataclass(frozen=True)
class Text:
    """A heading and one paragraph."""

    heading: str
    text: str


@dataclass(frozen=True)
class Table:
    """Named rows of one value each, or of one value per column."""

    heading: str
    rows: Mapping[str, Any]
    columns: Sequence[str] = ()


@dataclass(frozen=True)
class Responsive:
    """One figure drawn for a wide window, where it takes the full width, and for a phone."""

    wide: Figure
    narrow: Figure


@dataclass(frozen=True)
class Figures:
    """Matplotlib figures, or files of ones that were saved, by caption."""

    heading: str
    figures: Mapping[str, Figure | Path | Responsive]


@dataclass(frozen=True)
class Surfaces:
    """A few structures from above (``cells`` by ``cells`` unit cells) and from the side, at one
    scale, each with a bold label and a caption."""

    heading: str
    structures: Sequence[Atoms]
    captions: Sequence[tuple[str, str]]
    text: str = ""
    cells: int = 2


@dataclass(frozen=True)
class Gallery:
    """Structures to be turned and sorted. ``facts`` (one mapping per structure, such as energy,
    index, seed) are the captions and sorting keys; None reads these three from the atoms."""

    heading: str
    structures: Sequence[Atoms]
    facts: Sequence[Mapping[str, Any]] | None = None
    text: str = ""


@dataclass(frozen=True)
class Drawn:
    """What scripts of assets/, in their order, make of ``data``, plain values without NaN."""

    heading: str
    scripts: Sequence[str]
    data: Mapping[str, Any]


Section = Lead | Text | Table | Figures | Surfaces | Gallery | Drawn


@dataclass(frozen=True)
class Folded:
    """A section that is closed at first."""

    section: Section


def write_page(path: Path, title: str, *sections: Section | Folded, subtitle: str = "") -> Path:
    """Write the page and return its path.

    Raises:
        ValueError: if a gallery has another number of facts than of structures.
    """
    drawn = [name for one in sections if isinstance(one, Drawn) for name in one.scripts]
    names = dict.fromkeys(["viewer", *drawn])
    scripts = [(ASSETS / f"{name}.js").read_text(encoding="utf-8") for name in names]
    digests = [hashlib.sha256(script.encode()).digest() for script in scripts]
    allowed = " ".join(f"'sha256-{base64.b64encode(one).decode()}'" for one in digests)
    page = (
        _environment()
        .get_template("page.html.j2")
        .render(
            title=title,
            subtitle=subtitle,
            sections=sections,
            policy=(
                "default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
                f"script-src {allowed}"
            ),
            style=Markup((ASSETS / "page.css").read_text(encoding="utf-8")),
            scripts=[Markup(script) for script in scripts],
        )
    )
    write_text(path, page)
    return path


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(ASSETS),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "kind": lambda section: type(section).__name__.lower(),
        "values": lambda value: value if isinstance(value, (list, tuple)) else [value],
        "number": number,
        "image": _image,
        "gallery": _gallery,
        "views": _views,
        "element_colours": element_colours,
        "embedded": _embedded,
    }
    return environment


def _image(figure: Figure | Path | Responsive) -> dict[str, Image | None]:
    if isinstance(figure, Responsive):
        return {"wide": embed(figure.wide), "narrow": embed(figure.narrow)}
    return {"wide": embed(figure), "narrow": None}


def _views(surfaces: Surfaces) -> list[tuple[Image, Image]]:
    return [
        (embed(top, ("webp",)), embed(side, ("webp",)))
        for top, side in paired_views(surfaces.structures, surfaces.cells)
    ]


def _gallery(gallery: Gallery) -> dict[str, Any]:
    """The structures that are shown, their formulas and facts, and the script's data."""
    shown, total = gallery.structures[:MOST], len(gallery.structures)
    facts = gallery.facts if gallery.facts is not None else [facts_of(atoms) for atoms in shown]
    if gallery.facts is not None and len(facts) != total:
        raise ValueError(f"{total} structures need as many facts, not {len(facts)}")
    facts = [{key: _plain(value) for key, value in one.items()} for one in facts[: len(shown)]]
    return {
        "count": f"{total} structures" if total == len(shown) else f"the first {MOST} of {total}",
        "keys": list(dict.fromkeys(key for one in facts for key in one)),
        "items": list(zip(map(overlayer_formula, shown), facts, strict=True)),
        "data": viewer_data(shown, facts),
    }


def _embedded(data: Mapping[str, Any]) -> Markup:
    """Data for a script; inside of <script> only "<" could end the block."""
    text = json.dumps(data, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
    return Markup(text)


def _plain(value: Any) -> Any:
    """Return a value as JSON knows it: None for NaN and infinity, text for what is no number."""
    value = value.item() if isinstance(value, np.generic) else value
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if value is None or isinstance(value, (bool, int, float)) else str(value)


def number(value: Any) -> str:
    """Return a value as people read it, an en dash for none."""
    value = _plain(value)
    if value is None:
        return "\N{EN DASH}"
    if isinstance(value, float):
        return f"{value:.3f}" if 0.001 <= abs(value) < 10_000 else f"{value:.3g}"
    return str(value)
