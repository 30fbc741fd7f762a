"""Draw the figures of an experiment when its stages are done, each with a table of its numbers."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from ase import Atoms
from matplotlib.figure import Figure

from experiments.harness.comparison.rank import ENERGIES
from experiments.harness.comparison.ranking import above_lowest
from experiments.harness.figures import of_experiment
from experiments.harness.figures.plots import save
from experiments.harness.figures.ranking import scatter
from experiments.harness.generation.evaluate import RELAXED, SEARCH
from experiments.harness.pipeline.drawings import FIGURES, Drawing, Kind
from experiments.harness.pipeline.measures import absolute_energies, repeated, zero_of
from experiments.harness.pipeline.stages import Stage
from experiments.harness.runs.atomic_io import write_text
from experiments.harness.runs.run_folder import LABELLED, RunFolder
from experiments.harness.runs.statistics import Estimate, bootstrapped, proportion
from sdedata import StructureSet
from sdedata.similarity import unique

Drawn = tuple[Figure, pd.DataFrame]


def illustrate(
    drawings: Sequence[Drawing], stages: Sequence[Stage], folder: Path, seed: int
) -> None:
    """Write the figures of finished stages as PNG and SVG, and their tables as CSV."""
    for drawing in drawings:
        shown = [repeated(name, stages) for name in drawing.stages]
        figure, table = KINDS[drawing.kind](shown, seed)
        place = folder / FIGURES / drawing.name
        place.parent.mkdir(exist_ok=True)
        save(figure, place.with_suffix(".png"))
        write_text(place.with_suffix(".csv"), table.to_csv(index=False, float_format="%.4g"))


Shown = Sequence[Sequence[Stage]]
"""The stages of each series: a stage and its repeated trainings."""


def _energies(shown: Shown, seed: int) -> Drawn:
    first = shown[0][0]
    zero, words = zero_of(first)
    energies: dict[str, np.ndarray] = {}
    if (first.folder / SEARCH).is_file():
        searched = pd.read_csv(first.folder / SEARCH)["energy"].dropna()
        energies["random search"] = searched.to_numpy()
    middle: dict[str, tuple[Atoms, float]] = {}
    for same in shown:
        name = same[0].label or "generated"
        energies[name] = _values(same, "energy") - zero
        if len(energies[name]):
            median = float(np.median(energies[name]))
            middle[name] = _nearest(same[0], zero + median), median
    rows = [(name, energy) for name, values in energies.items() for energy in values]
    figure = of_experiment.energies_with_structures(energies, middle, words)
    return figure, pd.DataFrame(rows, columns=["series", "energy"])


def _lowest(shown: Shown, seed: int) -> Drawn:
    folder = RunFolder(shown[0][0].folder)
    frames = sorted(folder.iterate(LABELLED), key=lambda atoms: atoms.get_potential_energy())
    energies = np.array([atoms.get_potential_energy() for atoms in frames])
    energies -= energies[0]
    kept = [k for k, first in enumerate(unique(frames)) if first == k]
    examples = {f"surface {n}": (frames[k], energies[k]) for n, k in enumerate(kept, start=1)}
    figure = of_experiment.energies_with_structures(
        {"generated": energies}, examples, "the lowest of them"
    )
    index = [atoms.info.get("index", k) for k, atoms in enumerate(frames)]
    return figure, pd.DataFrame({"index": index, "energy": energies})


def _steps(shown: Shown, seed: int) -> Drawn:
    zero, words = zero_of(shown[0][0])
    rows = []
    for same in shown:
        sampler = RunFolder(same[0].folder).config["sampled"]["sampler"]
        noise = {"euler": "the paper's steps"}.get(sampler["noise"], "ancestral steps")
        series = (
            noise if sampler.get("solver", "euler") == "euler" else f"{sampler['solver']} steps"
        )
        for column, relaxed in (("energy_before", False), ("energy", True)):
            values = _values(same, column) - zero
            found = bootstrapped([values], np.median, seed)
            rows.append((series, sampler["steps"], relaxed, found.value, found.low, found.high))
    columns = ["series", "steps", "relaxed", "median", "low", "high"]
    table = pd.DataFrame(rows, columns=columns)
    return of_experiment.against_steps(table, words), table


def _settings(shown: Shown, seed: int) -> Drawn:
    zero, words = zero_of(shown[0][0])
    rows = []
    for same in shown:
        setting = same[0].label.replace("_", " ")
        for stage in same:
            table = absolute_energies(stage)
            measured = {
                "as generated": _median(table["energy_before"] - zero, seed),
                "relaxed": _median(table["energy"] - zero, seed),
                "valid": _share(table["valid"]),
            }
            if (stage.folder / SEARCH).is_file():
                measured["lowest minimum"] = _share(table["hit"])
            rows += [(setting, stage.name, name, *of[:3]) for name, of in measured.items()]
    table = pd.DataFrame(rows, columns=["setting", "stage", "quantity", "value", "low", "high"])
    values = {name: list(of["value"]) for name, of in table.groupby("quantity")}
    if values["as generated"] == values["relaxed"]:  # on the force field that the guide had
        table = table[table["quantity"] != "as generated"]
    if set(values["valid"]) == {1.0}:
        table = table[table["quantity"] != "valid"]
    return of_experiment.of_settings(table, words), table


def _median(energies: "pd.Series[float]", seed: int) -> Estimate:
    return bootstrapped([energies.dropna().to_numpy(float)], np.median, seed)


def _share(met: "pd.Series[Any]") -> Estimate:
    """Estimate a share; a structure that was lost counts, as none."""
    return proportion(int((met.astype(float) > 0).sum()), len(met))


def _ranking(shown: Shown, seed: int) -> Drawn:
    folder = RunFolder(shown[0][0].folder)
    reference, names = folder.config["reference"], list(folder.config["labels"])
    table = above_lowest(pd.read_csv(folder / ENERGIES), reference, names)
    return scatter(table, reference, [name for name in names if name != reference]), table


def _counts(shown: Shown, seed: int) -> Drawn:
    folder = shown[0][0].folder
    counts = json.loads((folder / "counts.json").read_text(encoding="utf-8"))
    minima = StructureSet.read(folder / "minima.npz")
    names = sorted(set(minima.compositions.tolist()))
    some = names[:: max(1, len(names) // of_experiment.SHOWN)][: of_experiment.SHOWN]
    examples = [(name, minima.atoms(_lowest_of(minima, name))) for name in some]
    figure = of_experiment.counts_with_structures(counts, examples)
    table = pd.DataFrame(counts).rename_axis("stoichiometry").reset_index()
    return figure, table


KINDS: dict[Kind, Callable[[Shown, int], Drawn]] = {
    "counts": _counts,
    "energies": _energies,
    "lowest": _lowest,
    "ranking": _ranking,
    "settings": _settings,
    "steps": _steps,
}


def _lowest_of(minima: StructureSet, composition: str) -> int:
    own = np.flatnonzero(minima.compositions == composition)
    return int(own[np.argmin(minima.energy[own])])


def _values(stages: Sequence[Stage], column: str) -> np.ndarray:
    """Return the energies of all trainings together, absolute, in eV."""
    found = [absolute_energies(stage)[column].dropna() for stage in stages]
    return np.concatenate([values.to_numpy(float) for values in found])


def _nearest(stage: Stage, energy: float) -> Atoms:
    """Return the relaxed structure of an evaluation whose energy is nearest to this one, eV."""
    frames = RunFolder(stage.folder).iterate(RELAXED)
    return min(frames, key=lambda atoms: abs(float(atoms.get_potential_energy()) - energy))
