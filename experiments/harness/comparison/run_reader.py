"""Finished, running and killed runs, read from their folders as plain values to be compared.

A run is a folder with config.yaml; run folders inside of it (the stages of a pipeline, of a sweep's
trial) are its parts, and what it does not hold itself is taken from them. Nothing outside of the
folder is read, except a shipped random search of the same surface.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from experiments.harness.runs.config_keys import flattened
from experiments.harness.runs.energies import finite
from experiments.harness.runs.run_folder import RunFolder

OWN_FILES = {"wandb", "structures", "checkpoints", "figures"}  # folders of a run that hold no run
CURVES = ("train/loss", "val/", "forcefield/")
ENERGY = "E - E_ref (eV)"
RELAXED, GENERATED = "relaxed", "generated"

Curve = dict[float, float | None]
"""Values by step."""


@dataclass(frozen=True)
class Reference:
    """A random search of the same surface: relaxed energies, eV above its minimum."""

    name: str
    energies: np.ndarray


@dataclass(frozen=True)
class Run:
    """``config`` and ``results`` are flat; a key of ``config`` begins with its stage.

    energies    by name (gen, gen_relaxed), eV above the reference minimum, finite ones
    curves      of each trained network, by metric
    structures  the lowest first, with what is known of each
    """

    path: Path
    config: dict[str, Any]
    results: dict[str, Any]
    energies: dict[str, np.ndarray]
    curves: dict[tuple[str, str], Curve]
    structures: list[tuple[Atoms, dict[str, Any]]]
    reference: Reference | None


def find(paths: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """The run folders at or, the topmost ones, below ``paths``, and those of whole sweeps."""
    runs: dict[Path, Path] = {}
    sweeps: dict[Path, Path] = {}
    for path in paths:
        if not path.is_dir():
            raise ValueError(f"{path} is not a folder: give folders of runs, or folders with them")
        found = list(_topmost(path))
        if not found:
            raise ValueError(f"{path} holds no run: a run is a folder with config.yaml")
        for folder in found:
            (sweeps if _is_sweep(folder) else runs).setdefault(folder.resolve(), folder)
    if not runs:
        raise ValueError(f"{paths[0]} is a sweep without trials")
    return list(runs.values()), list(sweeps.values())


def short_names(paths: Sequence[Path]) -> list[str]:
    """Of each path the shortest end that no other has."""
    parts = [path.resolve().parts for path in paths]

    def name(own: tuple[str, ...]) -> str:
        for length in range(1, len(own)):
            if sum(other[-length:] == own[-length:] for other in parts) == 1:
                return "/".join(own[-length:])
        return str(Path(*own))

    return [name(own) for own in parts]


def read(path: Path, most: int) -> Run:
    """A run with at most ``most`` of its structures; ValueError for a file that is not readable."""
    folders = [RunFolder.existing(path), *map(RunFolder, parts(path))]
    configs = [folder.config for folder in folders]
    roles = [_role(config) for config in configs]
    rows = [folder.rows() for folder in folders]
    results = _results(folders, roles)
    evaluations = [
        i for i, config in enumerate(configs) if {"calculator", "relaxation"} <= {*config}
    ]
    return Run(
        path,
        _config(configs, roles, path),
        results,
        _energies(rows),
        _curves(rows, roles),
        _structures(folders, results, most),
        next((found for i in evaluations if (found := _reference(folders[i], configs[i]))), None),
    )


def _topmost(path: Path) -> Iterator[Path]:
    if (path / "config.yaml").is_file():
        yield path
        return
    for inside in _folders(path):
        yield from _topmost(inside)


def parts(path: Path) -> Iterator[Path]:
    """Yield the run folders inside of a folder."""
    for inside in _folders(path):
        if (inside / "config.yaml").is_file():
            yield inside
        yield from parts(inside)


def _folders(path: Path) -> list[Path]:
    inside = (p for p in path.iterdir() if p.is_dir() and not p.is_symlink())
    return sorted(p for p in inside if p.name not in OWN_FILES and not p.name.startswith("."))


def _is_sweep(path: Path) -> bool:
    return "sweep" in RunFolder(path).config


def _role(config: Mapping[str, Any]) -> str:
    """The stage that a run is: forcefield, score, sample or evaluate; "" if it is none of them."""
    task = config.get("task")
    if isinstance(task, dict):
        return str(task.get("kind", ""))
    return "evaluate" if "sampled" in config else "sample" if "sampler" in config else ""


def _config(
    configs: Sequence[Mapping[str, Any]], roles: Sequence[str], path: Path
) -> dict[str, Any]:
    """Name each key after its stage, as the parameters of a trial: sample.guide.eta_dt.

    A pipeline's lists of what it changes in a stage are left out where that stage is there. Paths
    into the run's own folder are made relative to it, as they are the same for every trial.
    """
    flat: dict[str, Any] = {}
    own = "/".join(path.resolve().parts[-2:]) + "/"
    for config, role in zip(configs, roles, strict=True):
        for key, value in flattened(config).items():
            name = key.removeprefix("params.").removeprefix("stages.")
            name = f"{role}.{name}" if role else name
            if isinstance(value, str) and own in value:
                value = value.split(own, 1)[1]
            flat.setdefault(re.sub(r"^evaluate\.sampled\.", "sample.", name), value)
    return {key: value for key, value in flat.items() if key not in roles}


def _results(folders: Sequence[RunFolder], roles: Sequence[str]) -> dict[str, Any]:
    """The own summary, and what parts add to it under the names that a pipeline gives."""
    results: dict[str, Any] = {}
    for folder, role in zip(folders, roles, strict=True):
        summary = folder.summary
        if folder is not folders[0] and role in ("forcefield", "score"):
            reached = ("val/", "forcefield/")
            summary = {f"{role}/{k.split('/')[-1]}": v for k, v in summary.items()
                       if k.startswith(reached)}  # fmt: skip
        results = summary | results
    return {key: value for key, value in results.items() if not key.startswith(("param/", "knob/"))}


def _energies(rows: Iterable[Sequence[Mapping[str, Any]]]) -> dict[str, np.ndarray]:
    """Of every name the last ones, the run's own before those of its parts."""
    found: dict[str, np.ndarray] = {}
    for one in rows:
        named = {r["name"]: finite(r["energies"]) for r in one if r.get("event") == "energies"}
        found = named | found
    return {name: values for name, values in found.items() if len(values)}


def _curves(
    rows: Iterable[Sequence[Mapping[str, Any]]], roles: Sequence[str]
) -> dict[tuple[str, str], Curve]:
    """A step that was repeated after an interruption counts as it was the last time."""
    curves: dict[tuple[str, str], Curve] = {}
    for one, role in zip(rows, roles, strict=True):
        own: dict[tuple[str, str], Curve] = {}
        for row in (r for r in one if "train/step" in r):
            for key, value in row.items():
                if key.startswith(CURVES):
                    own.setdefault((role, key), {})[row["train/step"]] = value
        curves = own | curves
    return {key: dict(sorted(curve.items())) for key, curve in curves.items()}


def _structures(
    folders: Sequence[RunFolder], results: Mapping[str, Any], most: int
) -> list[tuple[Atoms, dict[str, Any]]]:
    """The lowest relaxed ones, those so far of an evaluation that was killed; else samples."""
    for folder in folders:
        if relaxed := folder.lowest(RELAXED, most):
            return [(atoms, _facts(atoms, RELAXED, results)) for atoms in relaxed]
    for folder in folders:
        if generated := folder.structures(GENERATED, most):
            return [(atoms, _facts(atoms, GENERATED, results)) for atoms in generated]
    return []


def _facts(atoms: Atoms, name: str, results: Mapping[str, Any]) -> dict[str, Any]:
    energy = atoms.calc.results.get("energy") if atoms.calc else None
    low, absolute = (results.get(f"gen_relaxed/energy_min{end}") for end in ("", "_abs"))
    facts: dict[str, Any] = {}
    if name == GENERATED:
        facts["state"] = "as generated"
    elif energy is not None and low is not None and absolute is not None:
        facts[ENERGY] = round(float(energy) - (absolute - low), 3)
    elif energy is not None:
        facts["energy (eV)"] = round(float(energy), 3)
    return facts | {key: atoms.info[key] for key in ("index",) if key in atoms.info}


_references: dict[str, Reference | None] = {}


def _reference(folder: RunFolder, config: Mapping[str, Any]) -> Reference | None:
    """The random search that an evaluation compared with, None if it cannot be had here."""
    from experiments.harness.generation.reference import compared_with

    frames = folder.structures(RELAXED, 1)
    if not frames:
        return None
    wanted = (config.get("reference"), config["calculator"], config["relaxation"])
    formula = frames[0].get_chemical_formula()
    keys = config.get("reference_keys") or {}
    key = json.dumps([*wanted, keys, formula, np.round(frames[0].cell[:], 2).tolist()])
    if key not in _references:
        try:
            data = compared_with(folder, frames[0])
        except (ValueError, OSError):
            data = None
        _references[key] = None if data is None else Reference(
            f"random search, {len(data)} relaxed", np.asarray(data.relative_energy)
        )  # fmt: skip
    return _references[key]
