"""From random search to the page: one command after the other, and what each leaves on disk."""

import html
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from ase.calculators.emt import EMT
from ase.io import read

from experiments.harness.generation import sample
from experiments.harness.generation.evaluation import is_valid
from experiments.harness.generation.reference import reference_set
from experiments.harness.pipeline import runner
from experiments.harness.runs.metrics import metric_title
from experiments.harness.runs.run_folder import RunFolder
from experiments.harness.training.checkpoint import load_model, save_model
from experiments.harness.training.data import SPLIT_STREAM
from sdedata import StructureSet, shipped
from sdedata.adsorption import adsorbed
from sdedata.dataset import split
from tests.tiny import GUIDED, NETWORK, SAMPLE, SEARCH, TRAIN, run
from vpsde import generators

METRICS = {
    *(
        f"{name}/energy_{key}{unit}"
        for name in ("gen", "gen_relaxed")
        for key in ("mean", "min", "p10", "median")
        for unit in ("", "_abs")
    ),
    "gen/energy_std", "gen_relaxed/energy_std", "gen/frac_finite", "gen/frac_valid",
    "gen/frac_unique", "gen/hit_rate", "gen/relax_steps_mean", "gen/n",
    "gen/structures_per_second",
}  # fmt: skip


@pytest.fixture(scope="module")
def guided(world):
    run("sample", *GUIDED, *world.networks, f"output={world.output}", "composition=Ag2O")
    return RunFolder.existing(world.output / "sample/Ag2O")


@pytest.fixture(scope="module")
def evaluated(world, guided):
    run(
        "evaluate", *SEARCH, "name=guided", f"output={world.output}", f"sample={guided.path}",
        f"reference={world.reference}",
    )  # fmt: skip
    return RunFolder.existing(world.output / "evaluate/guided")


def test_random_search_leaves_labelled_minima_with_their_history(world):
    folder = RunFolder.existing(world.output / "generate_data/c2x8")
    minima, frames = StructureSet.read(world.minima), StructureSet.read(world.frames)
    assert sorted(minima.info["index"]) == list(range(8))
    assert minima.compositions.tolist() == ["Ag3", "Ag2O"] * 4
    assert minima.meta["calculator"] == {"_target_": "ase.calculators.emt.EMT"}
    assert minima.meta["seed"] == 7
    for i in range(len(minima)):
        atoms = minima.atoms(i)
        stored = atoms.get_forces(apply_constraint=False)
        energy = atoms.get_potential_energy()
        atoms.calc = EMT()
        assert atoms.get_potential_energy() == pytest.approx(energy, abs=1e-4)
        forces = atoms.get_forces(apply_constraint=False)
        np.testing.assert_allclose(stored, forces, atol=1e-3)
        assert np.abs(forces[:16]).max() > 0.01  # the substrate feels the overlayer
        assert np.linalg.norm(atoms.get_forces(), axis=1).max() < 0.1 + 1e-3
        of_same = frames.info["index"] == i
        assert 2 <= of_same.sum() <= 8
        assert frames.energy[of_same].min() == pytest.approx(minima.energy[i], abs=1e-3)
    rows = [row for row in folder.rows() if row.get("event") == "candidate"]
    assert sorted(row["index"] for row in rows) == list(range(8))
    read_back = read(folder.path / "minima.extxyz", ":")
    assert [len(a.constraints[0].index) for a in read_back] == [16] * 8
    counts = json.loads((folder.path / "counts.json").read_text())
    assert sum(counts["D"].values()) == len(minima)
    assert (folder.path / "figures/counts.png").is_file()


def test_training_keeps_loss_card_and_data_facts(world):
    for folder, kind in ((world.score, "score"), (world.forcefield, "forcefield")):
        model = load_model(folder, kind)
        assert model.elements == (8, 47)
        assert model.window == (1.0, 5.0)
        assert model.card["cutoff"] == model.network.cutoff == 4.0
        assert model.card["calculator"] == {"_target_": "ase.calculators.emt.EMT"}
        rows = [row for row in RunFolder(folder).rows() if "train/step" in row]
        assert [row["train/step"] for row in rows] == list(range(1, 13))
        summary = RunFolder(folder).summary
        assert {"train/loss", "val/loss"} <= set(summary)
        assert {key.split("/")[0] for key in summary} <= {"train", "val", "forcefield"}
        assert [key for key in summary if key.startswith("train/")] == ["train/loss"]
        assert RunFolder(folder).config["digest"] == model.card["digest"]
    assert {"forcefield/energy_mae", "forcefield/force_mae"} <= set(summary)


def test_no_structure_is_on_both_sides_of_the_split(world):
    def halves(share, seed, at_most=None):
        return split(frames, share, torch.Generator().manual_seed(seed), at_most)

    frames = StructureSet.read(world.frames)
    train, val = halves(0.3, 0)
    assert sorted(train + val) == list(range(len(frames)))
    for key in ("index", "surface_index"):
        unit = frames.info[key]
        assert not set(unit[train]) & set(unit[val])
    assert len(set(unit[val])) == round(0.3 * len(set(unit)))
    few = halves(0.9, 0, at_most=len(frames) // 2)[1]
    assert len(set(unit[few])) == round(len(set(unit)) * (len(frames) // 2) / len(frames))
    assert halves(0.3, 0) == (train, val)
    assert halves(0.3, 1) != (train, val)


def test_the_split_of_a_seed_stays(world):
    """A model is judged by structures that it has not seen: those that its training held out."""
    one = StructureSet.read(world.minima).select([0] * 70)
    (generator,) = generators(3, [SPLIT_STREAM])
    _, val = split(replace(one, info={"surface_index": np.arange(70)}), 0.1, generator, 500)
    assert val == [2, 18, 32, 41, 49, 55, 58]


def test_samples_record_where_they_come_from(world, guided):
    frames = guided.structures("generated")
    score, field = load_model(world.score), load_model(world.forcefield)
    assert [atoms.info["index"] for atoms in frames] == [0, 1, 2, 3]
    for atoms in frames:
        assert atoms.info["seed"] == 0
        assert atoms.info["steps"] == 4
        assert atoms.info["score"] == score.digest
        assert atoms.info["forcefield"] == field.digest
        assert atoms.info["finite"]
        assert atoms.constraints[0].index.tolist() == list(range(18))
        assert atoms.symbols.formula.count() == {"Ag": 20, "O": 1}
        height = atoms.positions[18:, 2] - atoms.positions[:18, 2].max()
        # the short relaxation may leave the window by its own length
        assert (height > 0.8).all()
        assert (height < 5.2).all()
    substrate = [atoms.positions[:18] for atoms in frames]
    assert all(np.array_equal(substrate[0], other) for other in substrate)
    path = guided.structures("path")
    assert [atoms.info["t"] for atoms in path] == [1.0, 0.5, 0.0]
    assert {atoms.info["index"] for atoms in path} == {0}
    assert (guided.path / "figures/path.png").is_file()


def test_structure_k_is_the_same_in_any_batch(world, guided):
    run(
        "sample", *GUIDED, *world.networks, f"output={world.output}", "composition=Ag2O",
        "name=singly", "batch_size=1", "n=3",
    )  # fmt: skip
    singly = RunFolder.existing(world.output / "sample/singly").structures("generated")
    together = guided.structures("generated")
    for a, b in zip(singly, together, strict=False):
        # float32 sums over a batch in another order; four steps multiply that by about ten
        np.testing.assert_allclose(a.positions, b.positions, atol=2e-4)
    assert np.abs(together[0].positions - together[1].positions).max() > 0.5


def test_guidance_is_felt(world, guided):
    """The same seed with and without: other structures, and the force field prefers the former."""
    run(
        "sample", *SAMPLE, f"score={world.score}", "guide=none", f"output={world.output}",
        "composition=Ag2O", "name=unguided",
    )  # fmt: skip
    folder = RunFolder.existing(world.output / "sample/unguided")
    free = folder.structures("generated")
    assert {atoms.info["forcefield"] for atoms in free} == {"none"}
    start = [f.structures("path")[0].positions for f in (folder, guided)]
    np.testing.assert_array_equal(*start)
    assert not np.allclose(free[0].positions, guided.structures("generated")[0].positions)
    model = load_model(world.forcefield)
    from sdedata import Graph, collate

    def energy(frames):
        graph = collate([Graph.from_atoms(a, model.network.cutoff) for a in frames])
        return float(model.network(graph)[0].mean())

    assert energy(guided.structures("generated")) < energy(guided.structures("diffused"))


def test_the_summary_has_the_names_that_comparisons_rely_on(evaluated):
    summary = evaluated.summary
    assert set(summary) >= METRICS
    assert all(isinstance(summary[name], float | int) for name in METRICS)
    assert summary["gen/n"] == 4
    assert summary["gen_relaxed/energy_mean"] < summary["gen/energy_mean"]


def test_evaluated_energies_are_the_calculator_s(world, evaluated):
    reference = StructureSet.read(world.reference)
    relaxed = evaluated.structures("relaxed")
    energies = []
    for atoms in relaxed:
        stored = atoms.get_potential_energy()
        atoms.calc = EMT()
        assert atoms.get_potential_energy() == pytest.approx(stored, abs=1e-5)
        energies.append(stored)
    lowest = min(energies) - reference.energy.min()
    assert evaluated.summary["gen_relaxed/energy_min"] == pytest.approx(lowest, abs=1e-6)
    assert evaluated.summary["gen_relaxed/energy_min_abs"] == pytest.approx(min(energies), abs=1e-6)
    rows = [row for row in evaluated.rows() if row.get("event") == "relaxed"]
    assert sorted(row["index"] for row in rows) == [0, 1, 2, 3]


def test_the_page_shows_it_all_in_one_file(evaluated):
    page = html.unescape((evaluated.path / "report.html").read_text())
    assert all(metric_title(name) in page for name in METRICS)
    assert page.count("data:image") + page.count("<svg") >= 2
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert (evaluated.path / "figures/energies.png").is_file()
    assert (evaluated.path / "figures/relaxed_structures.png").is_file()


def test_valid_means_no_overlap_and_inside_the_window(guided):
    atoms = StructureSet.read(guided.path.parents[1] / "generate_data/p3x3/minima.npz").atoms(0)
    assert is_valid(atoms, [1.0, 5.0])
    top = atoms.positions[:18, 2].max()
    low, high = np.sort(atoms.positions[18:, 2])[[0, -1]] - top
    assert is_valid(atoms, [low - 0.01, high + 0.01])
    assert not is_valid(atoms, [low + 0.01, high + 0.01])
    assert not is_valid(atoms, [low - 0.01, high - 0.01])
    across = atoms.copy()  # two Ag a short way apart, through the cell's border
    across.positions[18] = [0.5, 0.5, top + 3]
    across.positions[19] = across.positions[18] - [1.0, 0, 0] + across.cell[0]
    assert not is_valid(across, [1.0, 5.0])
    close = atoms.copy()
    close.positions[18] = close.positions[0] * [1, 1, 0] + [0, 0, top + 1.0]
    assert not is_valid(close, None)


class Poisoned(torch.nn.Module):
    """A network that fails for one structure, in the middle of the way."""

    def __init__(self, network, structure):
        super().__init__()
        self.network, self.structure, self.cutoff = network, structure, network.cutoff

    def forward(self, graph, t):
        score = self.network(graph, t)
        if t[0] < 0.6 and graph.n_structures > self.structure:
            score[graph.batch == self.structure] = torch.nan
        return score


def test_a_structure_that_turns_nan_is_frozen_and_counted(world, guided, monkeypatch, capsys):
    prepare = sample.prepare

    def poisoned(config):
        generation = prepare(config)
        score = generation.process.score
        score = replace(score, network=Poisoned(score.network, structure=1))
        return replace(generation, process=replace(generation.process, score=score))

    monkeypatch.setattr(sample, "prepare", poisoned)
    summary = run(
        "sample", *GUIDED, *world.networks, f"output={world.output}", "composition=Ag2O",
        "name=poisoned", "guide.descent_steps=0",
    )  # fmt: skip
    assert summary["gen/frac_finite"] == 0.75
    assert "1 turned non-finite" in capsys.readouterr().err
    folder = RunFolder.existing(world.output / "sample/poisoned")
    frames = folder.structures("generated")
    assert [bool(atoms.info["finite"]) for atoms in frames] == [True, False, True, True]
    assert all(np.isfinite(atoms.positions).all() for atoms in frames)
    healthy = guided.structures("diffused")
    for k in (0, 2, 3):
        np.testing.assert_allclose(frames[k].positions, healthy[k].positions, atol=2e-4)
    result = run(
        "evaluate", *SEARCH, "name=poisoned", f"output={world.output}", f"sample={folder.path}",
        f"reference={world.reference}",
    )  # fmt: skip
    assert result["gen/frac_finite"] == 0.75
    assert result["gen/frac_valid"] <= 0.75


def test_a_network_of_nan_ends_in_numbers_too(world, tmp_path):
    model = load_model(world.score)
    for weights in model.network.parameters():
        weights.data.fill_(torch.nan)
    save_model(tmp_path / "nan.pt", "score", model.network, model.card)
    common = ["composition=Ag2O", f"output={tmp_path}"]
    summary = run("sample", *SAMPLE, *common, f"score={tmp_path}/nan.pt", "guide=none", "n=2")
    assert summary["gen/frac_finite"] == 0.0
    result = run(
        "evaluate", *SEARCH, f"output={tmp_path}", f"sample={tmp_path}/sample/Ag2O",
        f"reference={world.reference}",
    )  # fmt: skip
    assert result["gen/frac_finite"] == result["gen/frac_valid"] == result["gen/hit_rate"] == 0.0
    assert result["gen/energy_mean"] is None


def test_more_structures_of_the_same_run_join_the_first(world, tmp_path):
    common = [*SAMPLE, f"output={tmp_path}", f"score={world.score}", "guide=none"]
    run("sample", *common, "composition=Ag2O", "n=1")
    folder = RunFolder.existing(tmp_path / "sample/Ag2O")
    first = folder.structures("generated")[0]
    assert run("sample", *common, "composition=Ag2O", "n=3")["gen/n"] == 3
    frames = folder.structures("generated")
    assert [atoms.info["index"] for atoms in frames] == [0, 1, 2]
    np.testing.assert_array_equal(frames[0].positions, first.positions)
    with pytest.raises(ValueError, match="n=2 is less"):
        run("sample", *common, "composition=Ag2O", "n=2")


def test_a_calculator_that_fails_costs_these_structures_only(tmp_path):
    common = [*SEARCH, f"output={tmp_path}", "calculator._target_=tests.tiny.NoOxygen"]
    summary = run(
        "generate_data", *common, "compositions=[Ag,Ag2,AgO]", "n_per_composition=1", "name=some"
    )
    assert (summary["data/minima"], summary["data/failed"]) == (2, 1)
    rows = RunFolder(tmp_path / "generate_data/some").rows()
    (row,) = [row for row in rows if "failed" in row]
    assert row["failed"] == "RuntimeError: SCF did not converge"
    with pytest.raises(ValueError, match="10 of 10 structures failed, the last with RuntimeError"):
        run("generate_data", *common, "compositions=[AgO]", "n_per_composition=12", "name=all")
    with pytest.raises(ValueError, match="2 of 2 structures failed"):
        run("generate_data", *common, "compositions=[AgO]", "n_per_composition=2", "name=few")


def test_what_converges_in_the_vacuum_is_no_minimum(tmp_path):
    """EMT's forces end before the first drop: atoms up there are at rest at once."""
    where = [*SEARCH, f"output={tmp_path}", "template.z_range=[8.0,8.8]", "composition=Ag"]
    with pytest.raises(ValueError, match="2 of 2 structures failed, the last with atoms have left"):
        run("generate_data", *where, "n_per_composition=2", "name=far")


def test_energies_of_two_calculators_are_not_compared(world, guided):
    emt = {"_target_": "ase.calculators.emt.EMT"}
    theirs = shipped.load("rss_ag6o3_p3x3").meta["calculator"]
    relaxation = {"fmax": 0.1, "max_steps": 150, "max_step": 0.2}
    ours, own = shipped.load("rss_ag6o3_p3x3"), StructureSet.read(world.reference)
    oxide, example = own.atoms(0), ours.atoms(0)
    assert len(reference_set(str(world.reference), oxide, emt, relaxation)) == len(own)
    other = {"_target_": "experiments.calculators.sevennet", "model": "7net-0"}
    with pytest.raises(ValueError, match="was made with another calculator"):
        reference_set(str(world.reference), oxide, other, relaxation)
    assert reference_set(None, example, other, relaxation) is None
    with pytest.raises(ValueError, match="was made with another relaxation"):
        reference_set(str(world.reference), oxide, emt, relaxation | {"fmax": 0.2})
    with pytest.raises(ValueError, match="holds no such overlayer on this substrate and cell"):
        reference_set(str(world.reference), example, emt, relaxation)
    on_the_surface = int(adsorbed(ours).sum())
    assert len(reference_set(None, example, theirs, relaxation)) == on_the_surface
    assert reference_set(None, example, emt, relaxation) is None
    wider = example.copy()
    wider.cell[0] *= 1.1
    assert reference_set(None, wider, theirs, relaxation) is None
    shifted = example.copy()  # another registry of overlayer and substrate
    shifted.set_constraint()
    shifted.positions[:18, 0] += 0.5
    shifted.set_constraint(example.constraints)
    assert reference_set(None, shifted, theirs, relaxation) is None


def test_what_the_networks_learned_from_relaxes_what_they_generate(world, guided, tmp_path):
    quick = ["executor=threads", "tracking.mode=disabled", f"output={tmp_path}"]
    run("evaluate", *quick, f"sample={guided.path}", "relaxation.max_steps=1", "reference=null")
    folder = RunFolder.existing(tmp_path / "evaluate" / guided.name)
    assert folder.config["calculator"] == {"_target_": "ase.calculators.emt.EMT"}
    for atoms in folder.structures("relaxed"):
        stored, atoms.calc = atoms.get_potential_energy(), EMT()
        assert atoms.get_potential_energy() == pytest.approx(stored, abs=1e-5)


@pytest.mark.parametrize(
    ("calculator", "reported"),
    [
        (None, "does not record which calculator its networks learned from: give one, calculator="),
        ({"_target_": "os.system", "command": "touch x"}, "which is not built unasked; give calc"),
    ],
)
def test_a_calculator_that_is_not_known_is_asked_for(world, tmp_path, calculator, reported):
    model = load_model(world.score)
    card = model.card | {"calculator": calculator}
    save_model(tmp_path / "model.pt", "score", model.network, card)
    where = [f"output={tmp_path}", "tracking.mode=disabled"]
    made = ["composition=Ag2O", f"score={tmp_path}/model.pt", "guide=none", "n=1"]
    run("sample", *SAMPLE, *where, *made)
    with pytest.raises(ValueError, match=reported):
        run("evaluate", *where, f"sample={tmp_path}/sample/Ag2O")
    assert not (tmp_path / "evaluate").exists()
    given = ["calculator._target_=ase.calculators.emt.EMT", "relaxation.max_steps=1"]
    run("evaluate", *where, "executor=threads", f"sample={tmp_path}/sample/Ag2O", *given)


def test_elements_that_the_calculator_does_not_know_are_refused_first(guided, tmp_path):
    where = [f"output={tmp_path}", "tracking.mode=disabled", "calculator=emt"]
    with pytest.raises(ValueError, match="the calculator EMT does not know Ti"):
        run("generate_data", *where, "composition=Ti2")
    assert not any(tmp_path.iterdir())


def test_a_force_field_without_calm_frames_to_validate_on_can_be_used(world, tmp_path):
    frames = StructureSet.read(world.frames)
    pulled = frames.forces + np.where(frames.fixed[:, None], 0.0, 50.0)
    replace(frames, forces=pulled).write(tmp_path / "frames.npz")
    where = [f"data.path={tmp_path}/frames.npz", f"output={tmp_path}", "train.steps=1"]
    summary = run("train", *TRAIN, *where, "task=forcefield")
    assert "forcefield/energy_mae" not in summary
    model = load_model(tmp_path / "train/forcefield")
    assert model.card["losses"] == {"val/loss": pytest.approx(summary["val/loss"])}


def test_frames_and_minima_of_two_calculators_are_not_put_together(world, tmp_path):
    minima = StructureSet.read(world.minima)
    other = {"_target_": "experiments.calculators.chgnet", "model": "0.3.0"}
    replace(minima, meta=minima.meta | {"calculator": other}).write(tmp_path / "minima.npz")
    data = [f"data.path={tmp_path}/minima.npz", f"data.frames={world.frames}"]
    with pytest.raises(ValueError, match="sets of two calculators are not put together"):
        run("train", *TRAIN, *data, "task=forcefield", f"output={tmp_path}", "train.steps=1")


@pytest.mark.slow
def test_the_quickstart_at_its_smallest(world, tmp_path):
    data = [f"data.path={world.minima}", f"data.frames={world.frames}"]
    small = [*NETWORK, *data, "train.steps=2", "train.batch_size=2"]
    outcome = runner.run(
        "quickstart_ag6o3",
        [
            "name=ag6o3", f"output={tmp_path}", "threads=1", "tracking_mode=disabled",
            *(f"{network}.{o}" for network in ("forcefield", "score") for o in small),
            "sample.composition=Ag2O", "sample.n=2", "sample.sampler.steps=3",
            "evaluate.calculator=emt", "evaluate.executor=threads",
        ],
        parent="quickstart",
    )  # fmt: skip
    home, summary = tmp_path / "quickstart/ag6o3", outcome.summary
    assert (home / "table.md").read_text() == outcome.table + "\n"
    folder = RunFolder.existing(home)
    assert folder.summary == summary
    expected = {"gen/n", "gen_relaxed/energy_median", "forcefield/force_mae", "score/loss"}
    assert expected | {"seconds/all"} <= set(summary)
    assert list(home.glob("evaluate/*/report.html"))
    assert folder.config["seed"] == 0
    assert (home / "environment.json").is_file()


def test_train_resumed_after_its_end_changes_nothing(world):
    before = load_model(world.score)
    data = RunFolder(world.score).config["data"]  # where it was when this world was made
    run(
        "train", *TRAIN, "task=score", f"output={world.output}", "train.steps=12",
        f"data.path={data['path']}", f"data.frames={data['frames']}",
    )  # fmt: skip
    after = load_model(world.score)
    assert after.card == before.card
    assert after.digest == before.digest  # else a sampling run of it could not be resumed
    state = after.network.state_dict()
    assert all(torch.equal(v, state[k]) for k, v in before.network.state_dict().items())
    steps = [r["train/step"] for r in RunFolder(world.score).rows() if "train/step" in r]
    assert steps == list(range(1, 13))
