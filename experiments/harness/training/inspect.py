"""Describe a run or a model file: how far it is, its losses, z range, elements, cutoff."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ase.data import chemical_symbols

from experiments.harness.runs.records import read_record
from experiments.harness.runs.run_folder import RunFolder
from experiments.harness.training.checkpoint import Model, load_model


def facts(path: Path) -> dict[str, Any]:
    """Name and value of what there is to know; ValueError if the path is no run and no model."""
    if not path.is_dir():
        return _of_model(load_model(path))
    folder = RunFolder.existing(path)
    found = {"run": f"{path.resolve().parent.name} {path.resolve().name}"}
    if folder.config.get("train"):
        found |= _of_training(folder)
    else:
        found["progress"] = "finished" if folder.summary else "not finished"
    found |= folder.summary
    if (path / "model.pt").is_file():
        found |= _of_model(load_model(path))
    return found


def _of_training(folder: RunFolder) -> dict[str, Any]:
    """How far it is; the last loss of each kind; facts of its data."""
    rows = [row for row in folder.rows() if "train/step" in row]
    step = rows[-1]["train/step"] if rows else 0
    found = {"progress": f"step {step} of {folder.config['train'].get('steps')}"}
    found |= {k: v for row in rows for k, v in row.items() if k.split("/")[-1] == "loss"}
    facts, cutoff = read_record(folder.path / "data.json"), folder.config.get("cutoff")
    found |= _of_facts(facts) if facts else {}
    return found if cutoff is None else found | {"cutoff": f"{cutoff:g} Å"}


def _of_model(model: Model) -> dict[str, Any]:
    weights = sum(p.numel() for p in model.network.parameters())
    found = {"model": f"{model.kind}, {weights:,} parameters", "digest": model.digest}
    found |= {"steps": model.card["steps"], **model.card["losses"], **_of_facts(model.card)}
    found["cutoff"] = f"{model.card['cutoff']:g} Å"
    if model.kind == "score":
        found["sde"] = ", ".join(f"{k}={v}" for k, v in model.card["sde"].items())
    return found


def _of_facts(card: Mapping[str, Any]) -> dict[str, Any]:
    """Where the model may be used."""
    less = {"less": card["minus"]} if card.get("minus") else {}
    return {
        "trained on": f"{card['structures']} structures of {card['data']} ({card['digest']})",
        "z range": "{:g} to {:g} Å above the slab".format(*card["window"]),
        "elements": ", ".join(chemical_symbols[z] for z in card["elements"]),
        "compositions": ", ".join(card["compositions"]),
        "calculator": card.get("calculator") or "not recorded",
        **less,
    }
