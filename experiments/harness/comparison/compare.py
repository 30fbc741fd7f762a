"""The page behind `surfdiff compare`: what differs between runs, what came out, structures."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.harness.comparison.config_diff import table, unit
from experiments.harness.comparison.run_reader import Run, find, read, short_names
from experiments.harness.config.instantiate import identity
from experiments.harness.figures.page import (
    MOST,
    Drawn,
    Figures,
    Gallery,
    Section,
    Text,
    write_page,
)
from experiments.harness.figures.style import COLOURS
from experiments.harness.runs.energies import EDGES
from experiments.harness.runs.metrics import metric
from experiments.harness.runs.run_folder import RunFolder

FINE = np.arange(EDGES[0], EDGES[-1] + 0.01, (EDGES[1] - EDGES[0]) / 2)
"""Each common bin in two halves; the page puts them together again, or does not."""
EACH = 4  # structures of a run that are shown, fewer if there are more than 30 runs
POINTS = 300  # of a learning curve
CALCULATOR = "evaluate.calculator."
ENERGIES = ("gen", "gen_relaxed")


def compare(
    paths: Sequence[Path], output: Path | None = None, names: Sequence[str] = ()
) -> tuple[Path, int]:
    """Write the page and return its path and the number of runs.

    Raises:
        ValueError: for a path without runs, or for names that do not fit.
    """
    folders, sweeps = find(paths)
    if names and len(names) != len(folders):
        raise ValueError(f"--names gives {len(names)} names, but there are {len(folders)} runs")
    if len(set(names)) != len(names):
        raise ValueError("--names must give every run another name")
    named = list(names) or short_names(folders)
    each = max(1, min(EACH, MOST // len(folders)))
    runs = [read(folder, each) for folder in folders]
    if output is None:
        output = (
            paths[0].parent if (paths[0] / "config.yaml").is_file() else paths[0]
        ) / "compare.html"
    elif output.is_dir():
        raise ValueError(f"{output} is a folder: -o wants the name of a page, such as compare.html")
    sections = [
        *(_question(folder) for folder in sweeps),
        Drawn("Runs", ("chart", "compare"), data(named, runs)),
        *_gallery(named, runs, each),
        *(plots for folder in sweeps if (plots := _plots(folder)).figures),
    ]
    count = f"{len(runs)} runs" if len(runs) > 1 else "1 run"
    return write_page(output, f"{count} compared", *sections), len(runs)


def data(names: Sequence[str], runs: Sequence[Run]) -> dict[str, Any]:
    """Return what the page's script draws, as plain values."""
    references = list({id(r.reference): r.reference for r in runs if r.reference}.values())
    columns, same = table(runs)
    return {
        "runs": [
            {
                "name": name,
                "path": str(run.path),
                "energies": {k: histogram(v) for k, v in run.energies.items() if k in ENERGIES},
                "calculator": calculator(run.config),
                # Without random search an evaluation takes its own lowest for zero.
                "own_zero": run.results.get("rss/n") is None,
                "reference": next(
                    (i for i, r in enumerate(references) if r is run.reference), None
                ),
            }
            for name, run in zip(names, runs, strict=True)
        ],
        "columns": columns,
        "same": same,
        "edges": FINE.tolist(),
        "references": [{"name": r.name, **histogram(r.energies)} for r in references],
        "curves": curves(runs),
        "colours": list(COLOURS),
    }


def calculator(config: Mapping[str, Any]) -> str | None:
    """Name what a run's energies are of, with its settings; None if there is no record."""
    found = identity(
        {key.rpartition(CALCULATOR)[2]: v for key, v in config.items() if CALCULATOR in key}
    )
    target = found.pop("_target_", None)
    if target is None:
        return None
    return " ".join([str(target).rpartition(".")[2], *(f"{k}={v}" for k, v in found.items())])


def histogram(energies: np.ndarray) -> dict[str, Any]:
    """Return counts below the first edge of FINE, in each of its bins, and above the last."""
    counts = np.histogram(energies, [-np.inf, *FINE, np.inf])[0]
    return {"counts": counts.tolist(), "n": len(energies), "median": float(np.median(energies))}


def curves(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """Return, for every kind of network and metric, the curves of the runs that have it."""
    panels: dict[tuple[str, str], dict[str, Any]] = {}
    for number, run in enumerate(runs):
        for (role, name), curve in run.curves.items():
            title = metric(name).title if name.startswith(role) else f"{role}: {metric(name).title}"
            empty = {"title": title, "unit": unit(name), "lines": []}
            panel = panels.setdefault((role, name), empty)
            steps, values = list(curve), list(curve.values())
            count = min(len(steps), POINTS)
            kept = np.linspace(0, len(steps) - 1, count).round().astype(int).tolist()
            line = {"steps": [steps[i] for i in kept], "values": [values[i] for i in kept]}
            panel["lines"].append({"run": number, **line})
    order = ("train/loss", "val/loss")
    return [panels[key] for key in sorted(panels, key=lambda k: (k[0], k[1] not in order, k[1]))]


def _gallery(names: Sequence[str], runs: Sequence[Run], each: int) -> list[Section]:
    shown = [
        (atoms, {"run": name, "rank": rank, **facts})
        for name, run in zip(names, runs, strict=True)
        for rank, (atoms, facts) in enumerate(run.structures, start=1)
    ]
    if not shown:
        return []
    heading = f"Structures: of each run the {each} lowest" if each > 1 else "The lowest structures"
    return [Gallery(heading, [atoms for atoms, _ in shown], [facts for _, facts in shown])]


def _question(folder: Path) -> Text:
    """The sweep's question, its claim and how to read the results."""
    sweep = RunFolder(folder).config["sweep"]
    stated = sweep if isinstance(sweep, dict) else {}
    keys = ("question", "claim", "hypothesis", "reading")
    parts = [f"{key.capitalize()}: {str(stated[key]).strip()}" for key in keys if stated.get(key)]
    return Text(f"Sweep {_sweep_name(folder)}", " ".join(parts))


def _plots(folder: Path) -> Figures:
    """A sweep's plots as they are saved, each as the smaller file."""
    files: dict[str, Path] = {}
    for file in sorted((folder / "figures").glob("[!.]*")):
        if file.suffix in (".svg", ".png"):
            smallest = files.get(file.stem, file)
            files[file.stem] = min(smallest, file, key=lambda one: one.stat().st_size)
    plots: dict[str, Any] = {stem.replace("_", ": ", 1): file for stem, file in files.items()}
    return Figures(f"Plots of the sweep {_sweep_name(folder)}", plots)


def _sweep_name(folder: Path) -> str:
    return folder.resolve().parent.name
