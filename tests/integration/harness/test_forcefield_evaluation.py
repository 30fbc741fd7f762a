"""Evaluation on a force field: its energies alone are compared, and a target is a structure."""

import numpy as np
import pandas as pd
import pytest
from ase.io import write

from experiments.harness.commands.main import main as surfdiff
from experiments.harness.comparison.run_reader import read
from experiments.harness.generation.relaxation import relax
from experiments.harness.pipeline.claims import COLUMNS
from experiments.harness.runs.run_folder import RunFolder
from experiments.harness.training.checkpoint import load_model
from sdedata import Graph, StructureSet, collate
from sdedata.similarity import distance
from sdedata.template import Template
from tests.tiny import GUIDED, SAMPLE, TRAIN, run

FIELD = ["calculator=forcefield", "executor=threads", "tracking.mode=disabled"]
FEW = ["relaxation.max_steps=8"]


def energies_of(model, frames):
    """By the network itself."""
    graph = collate([Graph.from_atoms(atoms, model.network.cutoff) for atoms in frames])
    return model.network(graph)[0].numpy()


@pytest.fixture(scope="module")
def guided(world):
    run("sample", *GUIDED, *world.networks, f"output={world.output}", "name=gf", "composition=Ag2O")
    return world.output / "sample/gf"


@pytest.fixture(scope="module")
def evaluated(world, guided):
    """On the force field that guided the sample; the target is what structure 2 relaxes to."""
    two = RunFolder(guided).structures("generated")[2]
    target = world.output / "target.extxyz"
    write(target, relax([two], world.forcefield, max_steps=8))
    run(
        "evaluate", *FIELD, *FEW, f"output={world.output}", f"sample={guided}", "name=field",
        f"reference={world.reference}", f"target={target}",
    )  # fmt: skip
    return RunFolder.existing(world.output / "evaluate/field")


def test_energies_are_those_of_the_force_field_that_guided(world, evaluated):
    model = load_model(world.forcefield)
    recorded = evaluated.config["calculator"]
    assert (recorded["path"], recorded["digest"]) == (str(world.forcefield), model.digest)
    assert "labelled by EMT" in recorded["learned_from"]
    for name in ("evaluated", "relaxed", "reference", "target"):
        frames = evaluated.structures(name)
        stored = [atoms.get_potential_energy() for atoms in frames]
        np.testing.assert_allclose(stored, energies_of(model, frames), atol=1e-3)
    assert len(evaluated.structures("relaxed")) == 4


def test_random_search_is_relaxed_on_it_too(world, evaluated):
    known = StructureSet.read(world.reference)
    minima = evaluated.structures("reference")
    assert len(minima) == len(known)
    expected = relax(known.to_atoms(), world.forcefield, max_steps=8)
    for ours, theirs in zip(minima, expected, strict=True):
        assert distance(ours, theirs) < 1e-3
    table = pd.read_csv(evaluated.path / "random_search.csv")
    lowest = min(atoms.get_potential_energy() for atoms in minima)
    assert table["energy"].min() == pytest.approx(0)
    assert evaluated.summary["gen_relaxed/energy_min_abs"] == pytest.approx(
        lowest + evaluated.summary["gen_relaxed/energy_min"]
    )
    assert len(read(evaluated.path, 1).reference.energies) == len(known)


def test_random_search_is_relaxed_once_for_all_evaluations_of_a_folder(world, guided, evaluated):
    once = [
        *FIELD, *FEW, f"output={world.output}", f"sample={guided}", f"reference={world.reference}"
    ]  # fmt: skip
    run("evaluate", *once, "name=second")
    second = RunFolder.existing(world.output / "evaluate/second")
    events = [row.get("event") for row in second.rows()]
    assert "relaxed" in events
    assert "reference" not in events
    for name in ("gen_relaxed/energy_median_abs", "rss/energy_median"):
        assert second.summary.get(name) == evaluated.summary.get(name)
    one, two = (pd.read_csv(r.path / "random_search.csv") for r in (second, evaluated))
    pd.testing.assert_frame_equal(one, two[one.columns])
    run("evaluate", *once, "name=other", "relaxation.max_steps=2")
    other = RunFolder.existing(world.output / "evaluate/other")
    assert "reference" in [row.get("event") for row in other.rows()]


def test_the_target_is_found_by_its_structure(evaluated):
    summary, table = evaluated.summary, pd.read_csv(evaluated.path / "structures.csv")
    assert list(table) == ["index", *COLUMNS["evaluate"]]
    searched = set(pd.read_csv(evaluated.path / "random_search.csv")) - {"index"}
    assert searched == set(COLUMNS["random_search"]) - {"steps"}, "steps only of searches of ours"
    target = evaluated.structures("target")[0]
    frames = {a.info["index"]: a for a in evaluated.structures("relaxed")}
    away = [distance(frames[k], target) for k in range(4)]
    np.testing.assert_allclose(table["target_distance"], away, atol=1e-6)
    assert np.argmin(away) == 2
    assert summary["target/closest"] == pytest.approx(away[2])
    assert summary["target/hits"] == sum(d <= 0.6 for d in away) >= 1
    assert summary["target/n"] == 4
    assert summary["rss/target_hits"] == sum(
        distance(a, target) <= 0.6 for a in evaluated.structures("reference")
    )
    zero = min(a.get_potential_energy() for a in evaluated.structures("reference"))
    assert summary["target/energy"] == pytest.approx(target.get_potential_energy() - zero)
    page = (evaluated.path / "report.html").read_text()
    assert "relax to the target" in page


def test_a_folder_is_of_one_force_field_wherever_it_lies(world, guided, evaluated, tmp_path):
    file = tmp_path / "moved.pt"
    file.write_bytes((world.forcefield / "model.pt").read_bytes())
    again = [
        *FIELD, *FEW, f"output={world.output}", f"sample={guided}", "name=field",
        f"reference={world.reference}", f"target={world.output}/target.extxyz",
    ]  # fmt: skip
    before = evaluated.rows()
    run("evaluate", *again, f"calculator.path={file}")
    assert not [r for r in evaluated.rows()[len(before) :] if r.get("event") == "relaxed"]
    run(
        "train", *TRAIN, "task=forcefield", "train.steps=2", f"output={tmp_path}",
        f"data.path={world.minima}", f"data.frames={world.frames}",
    )  # fmt: skip
    with pytest.raises(ValueError, match=r"calculator\.digest was sha256"):
        run("evaluate", *again, f"calculator.path={tmp_path}/train/forcefield")


def test_other_structures_in_a_file_of_the_same_name_are_not_mixed_in(world, guided, tmp_path):
    reference, slab = tmp_path / "minima.npz", tmp_path / "slab.extxyz"
    known = StructureSet.read(world.reference)
    known.write(reference)
    again = [*FIELD, *FEW, f"output={tmp_path}", f"sample={guided}", f"reference={reference}"]
    run("evaluate", *again)
    known.select(np.arange(len(known))[::-1]).write(reference)
    with pytest.raises(ValueError, match=r"digests\.reference was"):
        run("evaluate", *again)
    atoms = Template.load("ag111_p3x3").slab
    write(slab, atoms)
    sampled = [*GUIDED, *world.networks, f"output={tmp_path}", "name=on", "composition=Ag2O",
               f"template.slab={slab}"]  # fmt: skip
    run("sample", *sampled, "n=1")
    atoms.positions[:, 0] += 0.7
    write(slab, atoms)
    with pytest.raises(ValueError, match=r"digests\.slab was"):
        run("sample", *sampled, "n=2")


def test_a_pinned_force_field_is_the_one_or_none(world, guided):
    pinned = [
        *FIELD, f"sample={guided}", f"output={world.output}", "name=pinned",
        f"calculator.path={world.forcefield}", "+calculator.digest='sha256:000000000000'",
    ]  # fmt: skip
    with pytest.raises(ValueError, match="not sha256:000000000000"):
        run("evaluate", *pinned)


def test_a_sample_that_nothing_guided_needs_a_path(world):
    more = ["composition=Ag2O", "guide=none", "name=free", f"output={world.output}", "n=1"]
    run("sample", *SAMPLE, f"score={world.score}", *more)
    sample = f"sample={world.output}/sample/free"
    with pytest.raises(ValueError, match="no force field guided"):
        run("evaluate", *FIELD, sample, f"output={world.output}")


@pytest.mark.parametrize(
    ("target", "reason"),
    [("ag6_p4x4", "another cell or substrate"), ("rss_ag6o3_p3x3", "a target is one")],
)
def test_another_target_is_refused(world, guided, target, reason):
    given = [*FIELD, f"sample={guided}", f"output={world.output}", "name=none", f"target={target}"]
    with pytest.raises(ValueError, match=reason):
        run("evaluate", *given)
    assert not (world.output / "evaluate/none").exists()


def test_labels_of_a_force_field(world, guided, tmp_path):
    file = guided / "structures/generated.extxyz"
    field = f"calculator.path={world.forcefield}"
    surfdiff(["label", f"structures={file}", f"output={tmp_path}", *FIELD, field])
    folder = RunFolder.existing(tmp_path / "label/generated")
    frames = folder.structures("labelled")
    model = load_model(world.forcefield)
    stored = [atoms.get_potential_energy() for atoms in frames]
    np.testing.assert_allclose(stored, energies_of(model, frames), atol=1e-3)
    assert folder.config["calculator"]["digest"] == model.digest
