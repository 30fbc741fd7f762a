"""Rows of the run folder as what W&B can draw. ``wandb`` is handed in: only tracking imports it."""

from collections.abc import Mapping
from io import StringIO
from typing import Any

import numpy as np

from experiments.harness.runs.energies import EDGES, bin_counts, finite
from experiments.harness.runs.run_folder import RunFolder
from experiments.harness.tracking.artifacts import link, upload
from experiments.harness.tracking.run_id import identity

MEDIA = ("energies", "figure", "structures", "table", "page", "makes", "uses")
"""Events that are no numbers in time."""
HISTOGRAM = "wandb/histogram/v0"
"""W&B's chart that draws the values of several runs over each other."""


def as_media(wandb: Any, run: Any, folder: RunFolder, row: Mapping[str, Any]) -> dict[str, Any]:
    """What ``run.log`` shall draw for one row."""
    match row.get("event"):
        case "energies":
            return _energies(wandb, row)
        case "figure" | "structures" | "page" if not (folder.path / row["file"]).is_file():
            return {}  # a folder that was made smaller is still worth showing
        case "figure":
            name = row["name"]
            return {f"figures/{name}": wandb.Image(str(folder / row["file"]), caption=name)}
        case "structures":
            return _structures(wandb, run, folder, row)
        case "table":
            # Cells of any type in a column: a trial's reason is a text, or nothing.
            cells = [[_cell(wandb, folder, cell) for cell in line] for line in row["rows"]]
            table = wandb.Table(columns=row["columns"], data=cells, allow_mixed_types=True)
            return {f"tables/{row['name']}": table}
        case "page":
            html = (folder.path / row["file"]).read_text(encoding="utf-8")
            return {f"pages/{row['name']}": wandb.Html(html, inject=False)}
        case "makes" | "uses":
            link(wandb, run, folder, row)
            return {}
        case _:
            return {shown_name(key): value for key, value in row.items() if value is not None}


def as_config(folder: RunFolder) -> dict[str, Any]:
    """Return what made a run: its configuration, what of it was overridden, code and versions."""
    more = {"overrides": folder.overrides, "environment": folder.environment}
    return folder.config | {key: value for key, value in more.items() if value}


def shown_name(name: str) -> str:
    """The name of a number in W&B, where a dot would mean a value inside another one."""
    return name.replace(".", "_")


def _energies(wandb: Any, row: Mapping[str, Any]) -> dict[str, Any]:
    """Three ways, since W&B draws its own histograms of several runs beside, not over, each other:
    that histogram, a table that its chart overlays, and numbers (quantiles, counts in bins)."""
    name, values = row["name"], finite(row["energies"])
    shown: dict[str, Any] = {
        key: value for key, value in row.items() if key.startswith(f"{name}/") and value is not None
    }
    shown |= bin_counts(name, values)
    if len(values):
        inside = np.histogram(values, EDGES)
        table = wandb.Table(columns=["energy"], data=[[float(value)] for value in values])
        shown[f"{name}/energy_histogram"] = wandb.Histogram(np_histogram=inside)
        shown[_chart(name)] = wandb.plot_table(
            HISTOGRAM, table, {"value": "energy"}, {"title": f"{name}: E - E_ref (eV)"}
        )
    return shown


def _chart(name: str) -> str:
    return f"{name}/energy_chart"


def chart_table(name: str) -> str:
    """Where W&B keeps the values behind the chart of these energies."""
    return f"{_chart(name)}_table"


def _structures(wandb: Any, run: Any, folder: RunFolder, row: Mapping[str, Any]) -> dict[str, Any]:
    name, run_id = row["name"], identity(folder)["id"]
    artifact = wandb.Artifact(f"{run_id}-{name.replace('/', '-')}", type="structures")
    upload(run, artifact, folder / row["file"], f"{name}.extxyz")
    molecules = [
        wandb.Molecule(_pdb(atoms), caption=caption, file_type="pdb")
        for atoms, caption in zip(folder.structures(name), row["captions"], strict=False)
        if np.isfinite(atoms.positions).all()
    ]
    shown: dict[str, Any] = {f"{name}/molecules": molecules} if molecules else {}
    if row.get("picture") and (folder.path / row["picture"]).is_file():
        shown[f"{name}/structures"] = wandb.Image(str(folder / row["picture"]), caption=name)
    return shown


def _cell(wandb: Any, folder: RunFolder, cell: Any) -> Any:
    """A table's cell; {"picture": FILE} is a picture, nothing where the file is gone."""
    if not isinstance(cell, Mapping):
        return cell
    path = (folder.path / cell["picture"]).resolve()
    inside = path.is_relative_to(folder.path.resolve())  # a stranger's table may name any file
    return wandb.Image(str(path)) if inside and path.is_file() else None


def _pdb(atoms: Any) -> StringIO:
    """Two by two cells, because W&B's viewer knows no periodic images."""
    from ase.io import write

    text = StringIO()
    repeats = [2 if periodic else 1 for periodic in atoms.pbc[:2]]
    write(text, atoms.repeat((*repeats, 1)), format="proteindatabank")
    text.seek(0)
    return text
