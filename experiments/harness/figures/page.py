"""One self-contained HTML page about a run: tables, figures, structures that can be turned.

No network, no library: the style, the script (assets/) and all pictures are in the file, and its
content security policy lets the browser load and run nothing else. Text from data is escaped.
"""

import base64
import hashlib
import html
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from ase import Atoms
from ase.data import chemical_symbols
from ase.data.colors import jmol_colors
from matplotlib.figure import Figure

from experiments.harness.figures.pictures import drawn_radii, substrate
from experiments.harness.figures.style import STYLE
from experiments.harness.runs.atomic_io import write_text

ASSETS = Path(__file__).parent / "assets"
MOST = 120  # structures that a gallery shows; a page stays below 3 MB


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
class Figures:
    """Matplotlib figures, or files of ones that were saved, by caption."""

    heading: str
    figures: Mapping[str, Figure | Path]


@dataclass(frozen=True)
class Gallery:
    """Structures to be turned and sorted. ``facts`` (one mapping per structure, such as energy,
    index, seed) are the captions and sorting keys; None reads these three from the atoms."""

    heading: str
    structures: Sequence[Atoms]
    facts: Sequence[Mapping[str, Any]] | None = None


@dataclass(frozen=True)
class Drawn:
    """What scripts of assets/, in their order, make of ``data``, plain values without NaN."""

    heading: str
    scripts: Sequence[str]
    data: Mapping[str, Any]


Section = Text | Table | Figures | Gallery | Drawn


def write_page(path: Path, title: str, *sections: Section, subtitle: str = "") -> Path:
    """Write the page and return its path."""
    drawn = [name for one in sections if isinstance(one, Drawn) for name in one.scripts]
    names = dict.fromkeys(["viewer", *drawn])
    scripts = [(ASSETS / f"{name}.js").read_text(encoding="utf-8") for name in names]
    style = (ASSETS / "page.css").read_text(encoding="utf-8")
    digests = [hashlib.sha256(script.encode()).digest() for script in scripts]
    allowed = " ".join(f"'sha256-{base64.b64encode(one).decode()}'" for one in digests)
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
    policy += f"script-src {allowed}"
    run = "\n".join(f"<script>{script}</script>" for script in scripts)
    body = "\n".join(_section(section) for section in sections)
    content = f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<title>{_text(title)}</title>
<style>
{style}</style>
</head>
<body>
<header><h1>{_text(title)}</h1><p class="quiet">{_text(subtitle)}</p></header>
<main>
{body}
</main>
{run}
</body>
</html>
"""
    write_text(path, content)
    return path


def _section(section: Section) -> str:
    match section:
        case Text():
            inside = f"<p>{_text(section.text)}</p>"
        case Table():
            inside = _table(section)
        case Figures():
            drawn = "\n".join(_figure(*item) for item in section.figures.items())
            inside = f'<div class="figures">{drawn}</div>'
        case Gallery():
            inside = _gallery(section)
        case Drawn():
            inside = _embedded(section.data) + "\n<noscript>This needs JavaScript.</noscript>"
    kind = type(section).__name__.lower()
    return f'<section class="{kind}"><h2>{_text(section.heading)}</h2>\n{inside}\n</section>'


def _table(table: Table) -> str:
    head = "".join(f'<th scope="col">{_text(name)}</th>' for name in table.columns)
    rows = []
    for name, value in table.rows.items():
        values = value if isinstance(value, (list, tuple)) else [value]
        cells = "".join(f"<td>{_text(_number(one))}</td>" for one in values)
        rows.append(f'<tr><th scope="row">{_text(name)}</th>{cells}</tr>')
    header = f"<thead><tr><th></th>{head}</tr></thead>" if head else ""
    return f'<div class="wide"><table>{header}<tbody>{"".join(rows)}</tbody></table></div>'


def _figure(caption: str, figure: Figure | Path) -> str:
    """As vectors or as pixels, whichever is smaller."""
    if isinstance(figure, Path):
        kind = "svg+xml" if figure.suffix == ".svg" else figure.suffix[1:]
        data = base64.b64encode(figure.read_bytes()).decode()
        return _image(caption, kind, data)
    written = {}
    for kind in ("svg+xml", "png"):
        file = io.BytesIO()
        with matplotlib.rc_context(STYLE):
            metadata = {"Date": None} if kind == "svg+xml" else {}
            figure.savefig(file, format=kind[:3], dpi=144, metadata=metadata)
        written[kind] = base64.b64encode(file.getvalue()).decode()
    kind, data = min(written.items(), key=lambda item: len(item[1]))
    return _image(caption, kind, data, f' width="{round(96 * figure.get_figwidth())}"')


def _image(caption: str, kind: str, data: str, size: str = "") -> str:
    caption, source = _text(caption), f"data:image/{kind};base64,{data}"
    image = f'<img alt="{caption}"{size} src="{source}">'
    return f"<figure>{image}<figcaption>{caption}</figcaption></figure>"


def _gallery(gallery: Gallery) -> str:
    shown = gallery.structures[:MOST]
    facts = gallery.facts if gallery.facts is not None else [_facts(atoms) for atoms in shown]
    if len(facts) != len(gallery.structures) and gallery.facts is not None:
        raise ValueError(
            f"{len(gallery.structures)} structures need as many facts, not {len(facts)}"
        )
    facts = [{key: _plain(value) for key, value in one.items()} for one in facts[: len(shown)]]
    data = {
        "elements": _elements(shown),
        "structures": [
            {**_structure(atoms), "facts": one} for atoms, one in zip(shown, facts, strict=True)
        ],
    }
    keys = list(dict.fromkeys(key for one in facts for key in one))
    options = "".join(f'<option value="{_text(key)}">{_text(key)}</option>' for key in keys)
    total = len(gallery.structures)
    count = f"{total} structures" if total == len(shown) else f"the first {len(shown)} of {total}"
    figures = "\n".join(
        _canvas(atoms, number, one)
        for number, (atoms, one) in enumerate(zip(shown, facts, strict=True), start=1)
    )
    return f"""<p class="quiet">{count}. Drag or use the arrow keys to turn, the wheel or + and - to
enlarge; T top, S side, 0 back, R repeat. The frozen substrate is fainter.</p>
<div class="controls">
<label>Sort by <select name="sort"><option value="">given order</option>{options}</select></label>
<label>View <select name="view"><option>tilted</option><option>top</option><option>side</option>
</select></label>
<label><input type="checkbox" name="repeat"> 2 × 2 cells</label>
</div>
{_embedded(data)}
<div class="grid">
{figures}
</div>
<noscript>Turning the structures needs JavaScript.</noscript>"""


def _embedded(data: Mapping[str, Any]) -> str:
    """Data for a script; inside of <script> only "<" could end the block."""
    text = json.dumps(data, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
    return f'<script type="application/json">{text}</script>'


def _canvas(atoms: Atoms, number: int, facts: Mapping[str, Any]) -> str:
    formula = atoms[~substrate(atoms).astype(bool)].get_chemical_formula()
    told = ", ".join(f"{_text(key)} {_text(_number(value))}" for key, value in facts.items())
    label = f"Structure {number}: {_text(formula)}, {told}"
    return (
        f'<figure class="structure"><canvas tabindex="0" role="img" aria-label="{label}"></canvas>'
        f"<figcaption><b>{_text(formula)}</b> {told}</figcaption></figure>"
    )


def _structure(atoms: Atoms) -> dict[str, Any]:
    """What the viewer draws: finite atoms, wrapped in the plane, and the edges of the cell."""
    finite = np.isfinite(atoms.positions).all(axis=1)
    fixed = substrate(atoms)[finite]
    atoms = Atoms(atoms.numbers[finite], atoms.positions[finite], cell=atoms.cell, pbc=atoms.pbc)
    atoms.pbc = [*atoms.pbc[:2], False]
    atoms.wrap(eps=1e-4)
    return {
        "numbers": atoms.numbers.tolist(),
        "positions": atoms.positions.round(3).tolist(),
        "fixed": fixed.tolist(),
        "cell": atoms.cell[:].round(4).tolist(),
        "edges": _edges(atoms) if atoms.pbc[:2].all() and len(atoms) else [],
    }


def _edges(atoms: Atoms) -> list[Any]:
    """The twelve edges of the cell, no higher than the atoms are (the rest is vacuum)."""
    a, b = atoms.cell[0], atoms.cell[1]
    height = atoms.positions[:, 2]
    floor = np.array([0, 0, height.min() - 1.3])
    up = np.array([0, 0, height.max() - height.min() + 2.6])
    corners = [floor, floor + a, floor + a + b, floor + b]
    lower = [[corners[i], corners[(i + 1) % 4]] for i in range(4)]
    edges = lower + [[p + up, q + up] for p, q in lower] + [[p, p + up] for p in corners]
    return np.round(edges, 3).tolist()


def _elements(structures: Sequence[Atoms]) -> dict[str, Any]:
    numbers = sorted({int(number) for atoms in structures for number in atoms.numbers})
    return {
        str(number): {
            "symbol": chemical_symbols[number],
            "radius": round(float(drawn_radii(np.array([number]))[0]), 3),
            "colour": (255 * jmol_colors[number]).round().astype(int).tolist(),
        }
        for number in numbers
    }


def _facts(atoms: Atoms) -> dict[str, Any]:
    energy = atoms.calc.results.get("energy") if atoms.calc else None
    found = {"energy": energy, "index": atoms.info.get("index"), "seed": atoms.info.get("seed")}
    return {key: value for key, value in found.items() if value is not None}


def _plain(value: Any) -> Any:
    """A value as JSON knows it; what is no number becomes text."""
    value = value.item() if isinstance(value, np.generic) else value
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if value is None or isinstance(value, (bool, int, float)) else str(value)


def _number(value: Any) -> str:
    value = _plain(value)
    if value is None:
        return "\N{EN DASH}"
    if isinstance(value, float):
        return f"{value:.3f}" if 0.001 <= abs(value) < 10_000 else f"{value:.3g}"
    return str(value)


def _text(value: Any) -> str:
    return html.escape(str(value), quote=True)
