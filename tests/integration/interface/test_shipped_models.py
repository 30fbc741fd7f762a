"""Networks that the package carries generate without any training, by their name."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from ase.io import read

from experiments.harness.commands.main import main as surfdiff
from experiments.harness.config.fields import Target
from experiments.harness.config.instantiate import build
from experiments.harness.publishing.package_model import LARGEST, package
from experiments.harness.runs import shipped_models
from experiments.harness.training.calculator import identified
from experiments.harness.training.checkpoint import digest, load_model
from sdedata.frozen import frozen_mask
from surfdiff import Generator, relax

EXPERIMENTS = Path(__file__).parents[3] / "experiments"
KINDS = ("score", "forcefield")
CORRECTED = {"_target_": "experiments.harness.training.calculator.corrected"}
SHORT = ["sampler.steps=3", "n=2", "guide.descent_steps=2", "tracking.mode=disabled"]


@pytest.fixture
def shipped(world, tmp_path, monkeypatch):
    """A model called tiny, of the tiny networks, beside the package's own."""
    folder = tmp_path / "models"
    shutil.copytree(shipped_models.FOLDER, folder)
    monkeypatch.setattr(shipped_models, "FOLDER", folder)
    return package("tiny", [world.score, world.forcefield], folder)


def test_the_packages_own_model_is_whole():
    assert {shipped_models.DEFAULT, shipped_models.CORRECTIONS} <= set(shipped_models.names())
    for name in shipped_models.names():
        assert shipped_models.networks(name)
        for network in shipped_models.networks(name):
            file = shipped_models.FOLDER / f"{network}.pt"
            assert file.stat().st_size < LARGEST
            model = load_model(network)
            assert model.digest == digest(file)
            card = (file.parent / "README.md").read_text(encoding="utf-8")
            assert model.digest in card
            assert model.card["digest"] in card, "of what it learned from"
    model = load_model(f"{shipped_models.DEFAULT}/score")
    assert (model.kind, model.elements) == ("score", (8, 47))


def test_the_shipped_correction_gives_the_published_energies_of_surfaces_it_has_not_seen():
    """Those in p(4x4) of `calculator_contest`, which `dft_correction` holds out."""
    pytest.importorskip("sevenn")
    folder = EXPERIMENTS / "dft_correction"
    table = pd.read_csv(folder / "figures/ranking.csv").set_index("index")
    surfaces = read(EXPERIMENTS / "calculator_contest/structures.extxyz", ":")
    some = [15, 22, 24, 26]
    calculator = build(identified(Target.of(CORRECTED)))
    energies = np.array([energy for energy, _ in calculator.batch([surfaces[k] for k in some])])
    assert surfaces[26].info["name"] == "Ag6 model"
    published = (table.corrected - table.corrected[26])[some]
    np.testing.assert_allclose(energies - energies[-1], published, atol=2e-3)


def test_the_shipped_correction_brings_forces_to_those_of_dft():
    """Those that it has learned from, on atoms that may move."""
    pytest.importorskip("sevenn")
    frames = read(EXPERIMENTS / "dft_correction/pbe.extxyz", "::8")
    dft = [atoms.get_forces(apply_constraint=False) for atoms in frames]
    calculator = build(identified(Target.of(CORRECTED)))
    errors = {}
    for name, found in {"sum": calculator, "base": calculator.base}.items():
        forces = [f for _, f in found.batch([atoms.copy() for atoms in frames])]
        free = [~frozen_mask(atoms) for atoms in frames]
        gaps = [np.abs(f - d)[k] for f, d, k in zip(forces, dft, free, strict=True)]
        errors[name] = np.concatenate(gaps).mean()
    assert errors["sum"] < 0.5 * errors["base"], errors


@pytest.mark.parametrize(
    ("name", "column"), [("dft_correction", None), ("calculator_contest", "gpaw")]
)
def test_labels_of_dft_are_of_the_structures_of_their_experiment(name, column):
    labelled = read(EXPERIMENTS / name / "pbe.extxyz", ":")
    given = read(EXPERIMENTS / name / "structures.extxyz", ":")
    assert [atoms.info["index"] for atoms in labelled] == list(range(len(given)))
    for atoms, other in zip(labelled, given, strict=True):
        assert np.array_equal(atoms.numbers, other.numbers)
        np.testing.assert_allclose(atoms.positions, other.positions, atol=1e-4)
        net = atoms.get_forces(apply_constraint=False).mean(axis=0)
        assert np.abs(net).max() < 0.05  # eV/Å: of a grid of 0.2 Å, not zero
    if column is not None:
        table = pd.read_csv(EXPERIMENTS / name / "figures/ranking.csv").set_index("index")
        for _, rows in table.groupby("atoms"):
            energies = np.array([labelled[k].get_potential_energy() for k in rows.index])
            np.testing.assert_allclose(energies - energies.min(), rows[column], atol=1e-3)


def test_a_name_stands_for_both_networks(shipped, world):
    of_name = Generator.load("tiny", steps=2)
    of_files = Generator.load(world.score, world.forcefield, steps=2)
    assert of_name.digests == of_files.digests
    slab = "ag111_p3x3"
    one, other = (g.sample(slab, "Ag2O", n=1, seed=3)[0] for g in (of_name, of_files))
    assert np.array_equal(one.positions, other.positions)
    assert one.get_potential_energy() == other.get_potential_energy()


def test_a_command_that_names_no_network_takes_the_shipped_ones(shipped, tmp_path, monkeypatch):
    monkeypatch.setattr("experiments.harness.generation.sample.DEFAULT", "tiny")
    common = ["sample", "composition=Ag2O", *SHORT]
    surfdiff([*common, f"output={tmp_path / 'a'}"])
    networks = ["score=tiny", f"forcefield={shipped / 'forcefield.pt'}"]
    surfdiff([*common, *networks, f"output={tmp_path / 'b'}"])
    a, b = (read(tmp_path / f"{run}/sample/Ag2O/structures/generated.extxyz", ":") for run in "ab")
    assert len(a) == len(b) == 2
    for one, other in zip(a, b, strict=True):
        assert np.array_equal(one.positions, other.positions)


def test_a_name_that_is_none_is_refused(shipped, tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        surfdiff(["sample", "score=nothing", *SHORT, f"output={tmp_path}"])
    assert ended.value.code == 2
    assert "there is no checkpoint nothing" in capsys.readouterr().err


def test_networks_that_do_not_belong_together_are_not_packaged(world, tmp_path):
    with pytest.raises(ValueError, match="no name of a model"):
        package("../else", [world.score, world.forcefield], tmp_path)
    with pytest.raises(ValueError, match="these are score, score"):
        package("twice", [world.score, world.score], tmp_path)
    foreign = load_model(shipped_models.DEFAULT, "forcefield")
    assert foreign.card["calculator"] != load_model(world.score).card["calculator"]
    (tmp_path / "foreign").mkdir()
    shutil.copy(
        shipped_models.FOLDER / shipped_models.DEFAULT / "forcefield.pt",
        tmp_path / "foreign/model.pt",
    )
    with pytest.raises(ValueError, match="do not belong together"):
        package("mixed", [world.score, tmp_path / "foreign"], tmp_path)
    assert not (tmp_path / "mixed").exists()


def test_without_a_pull_the_force_field_relaxes_what_the_score_alone_made():
    """guide=relaxation: L-BFGS on the force field from where the unguided process ends."""
    score, field = (shipped_models.file_of("silver_oxide", kind) for kind in KINDS)
    settings = {"steps": 10, "threads": 1, "device": "cpu"}
    surfaces = Generator.load(score, field, **settings, eta_dt=0.0, fmax=0.05).sample(
        "ag111_p3x3", "Ag6O3", n=3
    )
    alone = Generator.load(score, **settings).sample("ag111_p3x3", "Ag6O3", n=3)
    expected = relax(alone, field, fmax=0.05, max_steps=100)
    for atoms, other in zip(surfaces, expected, strict=True):
        assert other.info["converged"]
        np.testing.assert_allclose(atoms.positions, other.positions, atol=2e-3)
        assert atoms.get_potential_energy() == pytest.approx(other.get_potential_energy(), abs=1e-3)
