"""Somebody's own data in one line: platinum trimers on Pt(111), from a .traj that ASE wrote."""

import numpy as np
import pytest
import torch
from ase.io import read, write

from experiments.harness.generation.predict import predict
from experiments.harness.runs.run_folder import RunFolder
from experiments.harness.training import inspect
from experiments.harness.training.checkpoint import load_model
from guidance import ForceFieldCalculator
from sdedata import Graph
from tests.tiny import GUIDED, SEARCH, TRAIN, platinum, run

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def platinum_run(tmp_path_factory):
    home = tmp_path_factory.mktemp("platinum")
    frames = platinum(10)
    write(home / "mine.traj", frames)
    write(home / "slab.extxyz", frames[0][:18])
    for task in ("score", "forcefield"):
        run(
            "train", *TRAIN, f"task={task}", f"data.path={home}/mine.traj", "data.max_energy=100",
            "train.steps=5", f"output={home}",
        )  # fmt: skip
    return home


def test_own_data_train_sample_and_evaluate(platinum_run):
    home = platinum_run
    for task in ("score", "forcefield"):
        model = load_model(home / "train" / task)
        assert model.elements == (78,)
        assert model.card["compositions"] == ["Pt3"]
        assert model.card["structures"] == 10
    run(
        "sample", *GUIDED, f"score={home}/train/score", f"forcefield={home}/train/forcefield",
        f"template.slab={home}/slab.extxyz", "composition=Pt3", "n=2", f"output={home}",
    )  # fmt: skip
    folder = RunFolder.existing(home / "sample/Pt3")
    frames = folder.structures("generated")
    slab = read(home / "slab.extxyz")
    for atoms in frames:
        assert atoms.symbols.formula.count() == {"Pt": 21}
        assert atoms.constraints[0].index.tolist() == list(range(18))
        np.testing.assert_allclose(atoms.positions[:18], slab.positions, atol=1e-5)
        np.testing.assert_allclose(atoms.cell, slab.cell, atol=1e-5)
    summary = run("evaluate", *SEARCH, f"sample={folder.path}", "name=own", f"output={home}")
    assert summary["gen/n"] == 2
    assert "gen/hit_rate" not in summary  # nothing to compare with is shipped
    assert summary["gen_relaxed/energy_min"] == 0.0


def test_own_data_inspect(platinum_run):
    found = inspect.facts(platinum_run / "train/forcefield")
    assert found["elements"] == "Pt"
    assert found["progress"] == "step 5 of 5"
    assert found["z range"] == "1 to 5 Å above the slab"
    assert found["forcefield/force_mae"] > 0


def test_predictions_are_the_force_field_s_own(platinum_run):
    home = platinum_run
    output = home / "predicted.extxyz"
    energies, errors = predict(home / "train/forcefield", home / "mine.traj", output)
    network = load_model(home / "train/forcefield").network
    labelled, predicted = read(home / "mine.traj", ":"), read(output, ":")
    of_energies, of_forces = (
        [getattr(a, get)(apply_constraint=False) - getattr(b, get)(apply_constraint=False)
         for a, b in zip(predicted, labelled, strict=True)]
        for get in ("get_potential_energy", "get_forces")
    )  # fmt: skip
    assert errors.energy == pytest.approx(1000 * np.mean(np.abs(of_energies)) / 21, rel=1e-5)
    assert errors.force == pytest.approx(1000 * np.mean(np.abs(of_forces)), rel=1e-5)
    for energy, atoms in zip(energies.values(), predicted, strict=True):
        assert atoms.get_potential_energy() == pytest.approx(energy, abs=1e-6)
        forces = atoms.get_forces(apply_constraint=False)
        assert np.abs(forces[:18]).max() > 1e-3  # on fixed atoms, too
        atoms.calc = ForceFieldCalculator(network, lambda a: Graph.from_atoms(a, network.cutoff))
        assert atoms.get_potential_energy() == pytest.approx(energy, abs=1e-4)
        np.testing.assert_allclose(atoms.get_forces(apply_constraint=False), forces, atol=1e-4)
        with torch.no_grad():
            direct, _ = network(Graph.from_atoms(atoms, network.cutoff))
        assert float(direct) == pytest.approx(energy, abs=1e-4)
