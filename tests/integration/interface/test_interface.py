"""The method from Python: four calls, and the structures that the commands make."""

import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from ase import Atoms
from ase.build import add_adsorbate, fcc111
from ase.calculators.calculator import Calculator
from ase.calculators.emt import EMT
from ase.constraints import FixAtoms, FixedPlane

import surfdiff
from experiments.harness.config import compose
from experiments.harness.config.settings import Guide, Sampler
from experiments.harness.runs.run_folder import RunFolder
from experiments.harness.training.checkpoint import load_model
from guidance import LBFGS, ForceFieldCalculator
from sdedata import Graph, StructureSet, Template, rss
from surfdiff import Generator, evaluate, relax, train
from tests.tiny import GUIDED, TRAIN, platinum, run

STEPS = {
    "steps": 4, "eta_dt": 0.001, "descent_steps": 10, "fmax": None, "threads": 1, "device": "cpu",
}  # fmt: skip
TINY = {
    "cutoff": 4.0, "task.network.features": 8, "task.network.blocks": 2,
    "task.network.n_radial": 6, "threads": 1, "device": "cpu", "data.max_repeats": 1,
    "train.steps": 4, "train.batch_size": 4, "train.warmup": 2, "data.z_range": (1.0, 4.0),
}  # fmt: skip


@pytest.fixture(scope="module")
def slab():
    return Template.load("ag111_p3x3").slab


@pytest.fixture
def generator(world):
    return Generator.load(world.score, world.forcefield, **STEPS)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A score and a force field of platinum, from frames in memory."""
    home = tmp_path_factory.mktemp("python")
    frames = platinum(12)
    return [train(frames, task, output=home, changes=TINY) for task in ("score", "forcefield")]


def test_importing_the_package_takes_nothing_that_is_not_used():
    reported = "import sys, surfdiff; print('torch' in sys.modules, *dir(surfdiff))"
    run = subprocess.run(
        [sys.executable, "-c", reported], capture_output=True, text=True, check=True
    )
    assert run.stdout.split() == ["False", *sorted(surfdiff.__all__)]
    with pytest.raises(AttributeError, match="no attribute 'Sampler'"):
        _ = surfdiff.Sampler


def test_defaults_are_those_of_the_command(world):
    config = compose.load("sample")
    generator = Generator.load(world.score, world.forcefield)
    assert (generator.sampler, generator.guide) == (config.sampler, config.guide)
    assert isinstance(generator.sampler, Sampler)
    assert isinstance(generator.guide, Guide)
    assert Generator.load(world.score).guide is None


def test_structures_are_those_of_the_command(world, generator, slab, tmp_path):
    run("sample", *GUIDED, *world.networks, f"output={tmp_path}", "composition=Ag2O", "seed=3")
    written = RunFolder(tmp_path / "sample/Ag2O").structures("generated")
    surfaces = generator.sample(slab, "Ag2O", n=4, seed=3, batch_size=3)
    for ours, theirs in zip(surfaces, written, strict=True):
        np.testing.assert_allclose(ours.positions, theirs.positions, atol=1e-6)
        energy = theirs.info.pop("energy_forcefield")
        assert ours.get_potential_energy() == pytest.approx(energy, abs=1e-4)
        assert ours.info.pop("energy_forcefield") == ours.get_potential_energy()
        assert ours.info == theirs.info


def test_a_surface_is_the_slab_under_its_constraint_and_the_overlayer(generator, slab):
    (atoms,) = generator.sample(slab, "Ag2O", seed=1)
    assert atoms.get_chemical_symbols() == ["Ag"] * 18 + ["Ag", "Ag", "O"]
    (constraint,) = atoms.constraints
    assert isinstance(constraint, FixAtoms)
    assert list(constraint.index) == list(range(18))
    np.testing.assert_allclose(atoms.positions[:18], slab.positions, atol=1e-12)
    np.testing.assert_allclose(atoms.cell, slab.cell, atol=1e-12)
    assert {"index": 0, "seed": 1, "finite": True}.items() <= atoms.info.items()


def test_a_slab_is_atoms_a_file_or_a_name(generator, slab, tmp_path):
    slab.write(tmp_path / "slab.extxyz")
    three = [generator.sample(s, "Ag2O")[0] for s in (slab, tmp_path / "slab.extxyz", "ag111_p3x3")]
    for other in three[1:]:
        np.testing.assert_allclose(other.positions, three[0].positions, atol=1e-4)


def test_an_old_overlayer_is_replaced(generator, slab):
    (first,) = generator.sample(slab, "Ag2O", seed=2)
    (again,) = generator.sample(first, "Ag2O", seed=2)
    np.testing.assert_allclose(again.positions, first.positions, atol=1e-4)


class Buckingham(Calculator):
    """Repulsion exp(-r / 0.3 Å) between the last two atoms, and an attraction that wins nearby."""

    implemented_properties = ("energy", "forces")

    def calculate(self, atoms=None, properties=("energy",), system_changes=()):
        super().calculate(atoms, properties, system_changes)
        bond = self.atoms.positions[-1] - self.atoms.positions[-2]
        r = np.linalg.norm(bond)
        force = 1000 / 0.3 * np.exp(-r / 0.3) - 120 * r / (r**2 + 0.16) ** 4
        forces = np.zeros((len(self.atoms), 3))
        forces[-1] = force * bond / (r + 1e-9)
        forces[-2] = -forces[-1]
        energy = 1000 * np.exp(-r / 0.3) - 20 / (r**2 + 0.16) ** 3
        self.results = {"energy": energy, "forces": forces}


@pytest.mark.parametrize(("apart", "failed"), [(1.3, False), (0.5, True)])
def test_what_falls_into_a_hole_of_the_calculator_is_no_surface(slab, apart, failed):
    atoms = slab.copy()
    top = slab.positions[:, 2].max()
    atoms += Atoms("O2", [[3.0, 3.0, top + 1.5], [3.0 + apart, 3.0, top + 1.5]])
    (relaxed,) = relax([atoms], Buckingham(), fmax=0.05)
    assert ("failed" in relaxed.info) == failed
    found = evaluate([atoms], [relaxed])
    assert bool(found["adsorbed"][0]) != failed
    assert np.isnan(found["energy"][0]) == failed  # thousands of eV deep: no part of a mean
    assert found.attrs["summary"]["gen/frac_unique"] == (0 if failed else 1)


class Kink(Calculator):
    """2 |r - 0.5 Å| eV between the last two atoms, whose force never ends."""

    implemented_properties = ("energy", "forces")

    def calculate(self, atoms=None, properties=("energy",), system_changes=()):
        super().calculate(atoms, properties, system_changes)
        bond = self.atoms.positions[-1] - self.atoms.positions[-2]
        r, forces = np.linalg.norm(bond), np.zeros((len(self.atoms), 3))
        forces[-1] = -2 * np.sign(r - 0.5) * bond / r
        forces[-2] = -forces[-1]
        self.results = {"energy": 2 * abs(r - 0.5), "forces": forces}


@pytest.mark.parametrize(("max_steps", "failed"), [(5, False), (120, True)])
def test_atoms_that_overlap_after_many_steps_are_no_surface(slab, max_steps, failed):
    atoms, top = slab.copy(), slab.positions[:, 2].max()
    atoms += Atoms("O2", [[3.0, 3.0, top + 1.5], [3.6, 3.0, top + 1.5]])
    (relaxed,) = relax([atoms], Kink(), max_steps=max_steps)
    assert ("failed" in relaxed.info) == failed


def test_a_relaxation_that_its_steps_end_keeps_its_lowest_frame():
    """The fourth step of this one leads 0.11 eV uphill."""
    adatom = fcc111("Pt", (2, 2, 2), vacuum=8.0)
    adatom.set_constraint(FixAtoms(range(8)))
    add_adsorbate(adatom, "Pt", 2.24, (3.2, 0.8))
    adatom.pbc = True
    path = rss.relax(adatom, EMT(), 0.01, max_steps=4, max_step=0.4, optimizer=LBFGS)
    assert path.energies[4] > path.energies[3] + 0.1
    (relaxed,) = relax([adatom], EMT(), fmax=0.01, max_steps=4, max_step=0.4)
    assert not relaxed.info["converged"]
    assert relaxed.get_potential_energy() == pytest.approx(path.energies[3], abs=1e-9)
    np.testing.assert_allclose(relaxed.positions, path.positions[3], atol=1e-9)


def test_the_folder_of_a_pipeline_holds_both_networks(world):
    found = Generator.load(world.output)
    assert found.digests == Generator.load(world.score, world.forcefield).digests


def thin(slab):
    atoms = slab.copy()
    atoms.cell[2, 2] = 11.0  # 3.6 Å between the window and the next slab
    return atoms


@pytest.mark.parametrize(
    ("slab_of", "composition", "more", "reported"),
    [
        (lambda slab: fcc111("Au", (2, 2, 2), vacuum=9.0), "Ag2O", {}, "knows O, Ag, not Au"),
        (lambda slab: slab, "Ag2Pt", {}, "knows O, Ag, not Pt"),
        (thin, "Ag2O", {}, "add vacuum"),
        (lambda slab: slab, "Ag2O", {"z_range": (1.0, 9.0)}, "is not the training's"),
        (lambda slab: slab, "Ag2O", {"n": 0}, "at least 1"),
        (lambda slab: "nowhere.cif", "Ag2O", {}, "no slab 'nowhere.cif'"),
    ],
)
def test_what_cannot_be_generated_is_a_sentence(
    generator, slab, slab_of, composition, more, reported
):
    with pytest.raises(ValueError, match=reported):
        generator.sample(slab_of(slab), composition, **more)


def test_networks_must_fit_together(world, trained):
    with pytest.raises(ValueError, match="needed here|holds a forcefield"):
        Generator.load(world.forcefield)
    with pytest.raises(ValueError, match="steps"):
        Generator.load(world.score, steps=0)
    field = replace(load_model(world.forcefield), network=SimpleNamespace(cutoff=5.0))
    with pytest.raises(ValueError, match="cutoff is 5 Å, the score's 4 Å"):
        Generator.load(world.score, field)


def test_relaxation_with_any_calculator(slab):
    frames = platinum(2)
    frames.append(frames[0].copy())
    frames[2].symbols[-1] = "U"  # which EMT does not know
    relaxed = relax(frames, EMT(), fmax=0.05)
    for before, after in zip(frames[:2], relaxed, strict=False):
        assert after.info["converged"]
        assert after.info["energy_initial"] == pytest.approx(before.get_potential_energy())
        assert after.get_potential_energy() < before.get_potential_energy()
        assert np.abs(after.get_forces()).max() < 0.05
        assert np.abs(after.get_forces(apply_constraint=False)[:18]).max() > 0.05
        assert np.array_equal(after.positions[:18], before.positions[:18])
    assert relaxed[2].calc is None
    assert "EMT" in relaxed[2].info["failed"] or "U" in relaxed[2].info["failed"]
    assert np.array_equal(relaxed[2].positions, frames[2].positions)


def test_a_batch_on_the_force_field_is_as_one_by_one(world, generator, slab):
    surfaces = generator.sample(slab, "Ag2O", n=3)
    network = load_model(world.forcefield).network

    def graph(atoms):
        return Graph.from_atoms(atoms, network.cutoff)

    options = {"fmax": 0.02, "max_steps": 5}
    batch = relax(surfaces, world.forcefield, **options)
    alone = [relax([a], ForceFieldCalculator(network, graph), **options)[0] for a in surfaces]
    for one, other in zip(batch, alone, strict=True):
        np.testing.assert_allclose(one.positions, other.positions, atol=1e-4)
        assert one.get_potential_energy() == pytest.approx(other.get_potential_energy(), abs=1e-3)
        assert one.info["relax_steps"] == other.info["relax_steps"]
    surfaces[0].set_constraint(FixedPlane(0, (0, 0, 1)))
    with pytest.raises(ValueError, match="structure 0 is under FixedPlane"):
        relax(surfaces, world.forcefield)
    with pytest.raises(ValueError, match="knows O, Ag, not Pt"):
        relax(platinum(1), world.forcefield)


def test_the_table_counts_what_was_found():
    """Two of three are the reference's minimum, one of these as a mirror image's translation."""
    frames = platinum(3)
    frames[1] = frames[0].copy()
    frames[1].positions[18:] += frames[0].cell[0] / 3
    frames[2].symbols[-1] = "U"
    relaxed = relax(frames, EMT(), fmax=0.01)
    found = evaluate(frames, relaxed, relaxed[:2])
    assert list(found["formula"]) == ["Pt3", "Pt3", found["formula"][2]]
    assert list(found["surface"]) == [0, 0, -1]
    assert list(found["hit"]) == [True, True, False]
    assert list(found["failed"].astype(bool)) == [False, False, True]
    assert list(found["converged"]) == [True, True, False]
    assert np.isnan(found["energy"][2])
    energies = [atoms.get_potential_energy() for atoms in relaxed[:2]]
    assert list(found["energy"][:2]) == pytest.approx(energies)
    summary = found.attrs["summary"]
    assert summary["gen/hit_rate"] == pytest.approx(2 / 3)
    assert summary["gen/frac_unique"] == pytest.approx(1 / 3)
    assert summary["gen/failed"] == 1
    assert summary["gen_relaxed/energy_min"] == pytest.approx(0.0)
    alone = evaluate(frames, EMT(), fmax=0.01)
    assert list(alone["energy"][:2]) == pytest.approx(energies)
    assert "gen/hit_rate" not in alone.attrs["summary"]


def test_what_cannot_be_evaluated_is_a_sentence():
    frames = platinum(2)
    with pytest.raises(ValueError, match="2 surfaces, but 1 relaxed"):
        evaluate(frames, frames[:1])
    with pytest.raises(ValueError, match="no surfaces"):
        evaluate([], [])
    with pytest.raises(ValueError, match="no such overlayer"):
        evaluate(frames, frames, "rss_ag6o3_p3x3")


def test_training_from_frames_in_memory(trained, tmp_path):
    score, field = trained
    assert (score.kind, field.kind) == ("score", "forcefield")
    assert score.elements == field.elements == (78,)
    assert score.window == (1.0, 4.0)
    assert score.card["digest"] == StructureSet.from_atoms(platinum(12)).digest
    slab = fcc111("Pt", (3, 3, 2), vacuum=8.0)
    surfaces = Generator.load(score, field, **STEPS).sample(slab, "Pt3", n=2)
    assert [len(atoms) for atoms in surfaces] == [21, 21]
    relaxed = relax(surfaces, field, max_steps=3)
    assert all(np.isfinite(atoms.get_potential_energy()) for atoms in relaxed)
    unlabelled = [atoms.copy() for atoms in platinum(2)]
    with pytest.raises(ValueError, match="frame 0: no energy"):
        train(unlabelled, output=tmp_path)
    with pytest.raises(ValueError, match="no config key train.stepps"):
        train(platinum(8), output=tmp_path, changes=TINY | {"train.stepps": 3})


@pytest.fixture(scope="module")
def asked(world, tmp_path_factory):
    """A score that has learned energies and compositions."""
    home = tmp_path_factory.mktemp("asked")
    changes = [*TRAIN, "train.steps=4", "task.properties=[energy,composition]", f"output={home}"]
    run("train", *changes, f"data.path={world.minima}")
    return home / "train/score"


def test_a_score_is_asked_for_an_energy_by_command_and_from_python(asked, world, slab, tmp_path):
    networks = [f"score={asked}", f"forcefield={world.forcefield}"]
    wanted = ["condition=energy", "condition.energy=0.1", "condition.weight=2.0"]
    run("sample", *GUIDED, *networks, *wanted, f"output={tmp_path}", "composition=Ag2O", "seed=3")
    written = RunFolder(tmp_path / "sample/Ag2O").structures("generated")
    generator = Generator.load(asked, world.forcefield, **STEPS)
    surfaces = generator.sample(
        slab, "Ag2O", n=4, seed=3, batch_size=3, energy=0.1, condition_weight=2.0
    )
    others = [
        generator.sample(slab, "Ag2O", n=4, seed=3, **more)
        for more in ({}, {"energy": 0.1, "condition_weight": 0.0}, {"condition_weight": 2.0})
    ]
    for ours, theirs in zip(surfaces, written, strict=True):
        np.testing.assert_allclose(ours.positions, theirs.positions, atol=1e-6)
        assert (ours.info["asked_energy"], ours.info["condition_weight"]) == (0.1, 2.0)
    for other in others:
        assert np.abs(other[0].positions - surfaces[0].positions).max() > 1e-4


def test_a_score_is_asked_only_for_what_it_has_learned(asked, generator, slab, world):
    assert load_model(asked).properties == ("energy", "composition")
    assert load_model(world.score).properties == ()
    with pytest.raises(ValueError, match=r"knows no properties.*task\.properties=\[energy"):
        generator.sample(slab, "Ag2O", energy=0.0)
    with pytest.raises(ValueError, match="cannot be asked for the composition"):
        generator.sample(slab, "Ag2O", condition_weight=1.0)
