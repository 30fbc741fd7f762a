"""The command behind `surfdiff rank`: read labels, compare, write table, figure and numbers."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from ase import Atoms

from experiments.harness.comparison.ranking import (
    above_lowest,
    above_own_lowest,
    energies_of,
    force_errors,
    rank,
    tabulate,
)
from experiments.harness.config.settings import Rank
from experiments.harness.runs.atomic_io import write_text
from experiments.harness.runs.markdown import table as markdown
from experiments.harness.runs.run_folder import LABELLED, Observe, RunFolder

log = logging.getLogger(__name__)

RANKING, TABLE, ENERGIES = "ranking.json", "table.md", "energies.csv"
MAY_CHANGE = ("tracking", "output", "labels")


def run(config: Rank, observe: Observe | None = None) -> dict[str, Any]:
    """Compare labels of the same structures; returns the summary.

    Raises ValueError for folders that hold no labels, or labels of different structures.
    """
    from experiments.harness.figures.ranking import scatter
    from experiments.harness.tracking.tracker import Tracker

    labels = _labels(config)
    reference = config.reference
    if reference not in labels:
        raise ValueError(f"reference={reference} is none of the labels: {', '.join(labels)}")
    others = [name for name in labels if name != reference]
    energies = tabulate(labels)
    found = rank(energies, reference, others, config.seed)
    named = (
        {} if config.structure is None else energies_of(config.structure, energies, list(labels))
    )
    forces = dict(force_errors(labels, reference))
    folder = RunFolder(Path(config.output) / "rank" / config.name)
    plain = config.plain()
    with (
        folder.recording(plain, MAY_CHANGE, config.overrides),
        Tracker(folder, **plain["tracking"], name=config.name, observe=observe) as tracker,
    ):
        text = written(found, forces)
        write_text(folder / TABLE, text + "\n")
        write_text(folder / ENERGIES, energies.to_csv(index=False, float_format="%.6f"))
        rows = found.to_dict(orient="records")
        folder.write_json(RANKING, {"reference": reference, "forces": forces, "ranking": rows})
        tracker.table("ranking", list(found.columns), [list(row.values()) for row in rows])
        for name, above in above_own_lowest(energies, list(labels)).items():
            tracker.energies(str(name), above.tolist())
        relative = above_lowest(energies, reference, list(labels))
        tracker.figure("ranking", scatter(relative, reference, others))
        tracker.summary({
            f"rank/{row['calculator']}/{row['atoms']}/{key}": row[key]
            for row in rows
            for key in ("spearman", "mae", "truth", "lowest_true")
        } | {f"rank/{key}/structure": energy for key, energy in named.items()})  # fmt: skip
    print(text)
    log.info(f"look at {folder.path}/figures/ranking.png")
    return folder.summary


def written(found: pd.DataFrame, forces: dict[str, float]) -> str:
    """The comparison as a table in markdown."""
    header = [
        "calculator", "atoms", "n", "rank correlation (95 %)", "error of differences (eV)",
        "error of forces (eV/Å)", "puts lowest", "which lies above the right one by (eV)",
        "puts the right one above its own lowest by (eV)",
    ]  # fmt: skip
    return markdown(
        header,
        [
            [
                str(row.calculator), str(row.atoms), str(row.n),
                _interval(row), f"{row.mae:.3f}",
                f"{forces[str(row.calculator)]:.3f}", str(row.lowest), f"{row.lowest_true:.3f}",
                f"{row.truth:.3f}",
            ]
            for row in found.itertuples()
        ],
    )  # fmt: skip


def _interval(row: Any) -> str:
    known = np.isfinite(row.spearman)
    return f"{row.spearman:.2f} ({row.low:.2f} to {row.high:.2f})" if known else "–"


def _labels(config: Rank) -> dict[str, list[Atoms]]:
    """The labelled structures by calculator; ValueError if they are not the same structures."""
    given = config.labels or {}
    if len(given) < 2:
        raise ValueError("nothing to compare: give labels={NAME: FOLDER, ...} of surfdiff label")
    folders = {name: RunFolder.existing(path) for name, path in given.items()}
    digests = {name: folder.config.get("digest") for name, folder in folders.items()}
    first, *rest = digests
    for name in rest:
        if digests[name] is None or digests[name] != digests[first]:
            raise ValueError(f"{first} and {name} are labels of different structures")
    labels = {name: folder.structures(LABELLED) for name, folder in folders.items()}
    for name, frames in labels.items():
        if not frames:
            raise ValueError(f"{folders[name].path} holds no labels: has surfdiff label finished?")
    return labels
