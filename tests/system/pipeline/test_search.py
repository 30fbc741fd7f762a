"""Random structure search with a surrogate force field, in rounds, and that may be killed."""

import json
import signal
from itertools import pairwise

import numpy as np
import pytest
import torch
from ase.calculators.emt import EMT
from ase.io import write as write_frames

from experiments.harness.config import compose
from experiments.harness.pipeline.experiment import read as read_experiment
from experiments.harness.publishing.pages import documents
from experiments.harness.publishing.publish import publish
from experiments.harness.runs.run_folder import RunFolder
from experiments.harness.structure_search import cost_comparison, search_cost
from experiments.harness.structure_search.batch_relaxation import Surrogate
from experiments.harness.structure_search.generate_data import plan, rounds
from experiments.harness.structure_search.reference import Reference, labels_of
from experiments.harness.structure_search.search import read, search
from sdedata import Graph, StructureSet, Template, collate
from sdedata.dataset import distinct
from sdedata.similarity import same
from tests.docs.documents import empty_site
from tests.tiny import NETWORK, NoOxygen, run, start, wait_for

TRAINING = [*NETWORK, "train.steps=20", "train.batch_size=8", "threads=1", "train.warmup=5"]
SAME = [
    "calculator=emt", "tracking.mode=disabled", "compositions=[Ag,Ag2O]", "task_size=2",
    "template.slab=ag111_p3x3", "surrogate.first=4", "surrogate.growth=2",
    f"surrogate.training={TRAINING}",
]  # fmt: skip


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    """12 candidates: 4 by the calculator alone, 4 and 4 with a surrogate each."""
    home = tmp_path_factory.mktemp("search")
    summary = run(
        "generate_data", *SAME, "executor=threads", "n_per_composition=6", f"output={home}",
        "name=whole",
    )  # fmt: skip
    return home / "generate_data/whole", summary


def test_rounds():
    def surrogate(*more):
        given = ["surrogate.first=10", "surrogate.growth=3", *more]
        return compose.load("generate_data", given).surrogate

    assert list(rounds(0, 100, surrogate())) == [(0, 10), (10, 30), (30, 90), (90, 100)]
    assert list(rounds(0, 7, surrogate())) == [(0, 7)]
    assert list(rounds(40, 50, surrogate())) == [(40, 50)]
    assert list(rounds(0, 100, None)) == [(0, 100)]
    assert list(rounds(5, 5, surrogate())) == []
    slow = surrogate("surrogate.first=2", "surrogate.growth=1.1")
    assert list(rounds(0, 5, slow)) == [(0, 2), (2, 3), (3, 4), (4, 5)]
    trained_before = surrogate("surrogate.model=runs/train/forcefield")
    assert list(rounds(0, 100, trained_before)) == [(0, 100)]


def test_minima_are_those_of_the_calculator_whatever_the_surrogate(searched):
    folder, summary = searched
    minima = StructureSet.read(folder / "minima.npz")
    assert summary["data/candidates"] == 12
    assert sorted(minima.info["index"]) == list(range(12))
    assert sorted(p.name for p in (folder / "surrogate").iterdir()) == ["4", "8"]
    for atoms in minima.to_atoms():
        energy = atoms.get_potential_energy()
        atoms.calc = EMT()
        assert atoms.get_potential_energy() == pytest.approx(energy, abs=2e-3)
        assert np.linalg.norm(atoms.get_forces(), axis=1).max() < 0.1 + 2e-3


def test_frames_are_labelled_by_the_calculator(searched):
    folder, _ = searched
    frames = StructureSet.read(folder / "frames.npz")
    assert set(frames.info["index"]) == set(range(12))
    for i in range(0, len(frames), 5):
        atoms = frames.atoms(i)
        forces = atoms.get_forces(apply_constraint=False)
        atoms.calc = EMT()
        scale = max(1.0, np.abs(forces).max())
        np.testing.assert_allclose(
            atoms.get_forces(apply_constraint=False), forces, rtol=0, atol=2e-3 * scale
        )


def test_a_set_is_gone_on_from_and_never_mixed(searched, tmp_path):
    folder, _ = searched
    more = [f"output={tmp_path}", "executor=threads", f"extend={folder / 'minima.npz'}"]
    summary = run("generate_data", *SAME, *more, "n_per_composition=7", "name=more")
    assert summary["data/minima"] == 14
    before, after = (
        StructureSet.read(path / "minima.npz") for path in (folder, tmp_path / "generate_data/more")
    )
    assert before.digest == after.select(np.arange(12)).digest
    frames = StructureSet.read(tmp_path / "generate_data/more/frames.npz").info
    steps = dict(zip(frames["index"].tolist(), frames["relax_steps"].tolist(), strict=True))
    assert summary["data/relax_steps"] == sum(steps.values())
    new = RunFolder(tmp_path / "generate_data/more").rows()
    seconds = [row["cpu_seconds"] for row in new if row.get("event") == "candidate"]
    assert len(seconds) == 2, "those of the set that is extended are not counted"
    assert summary["data/cpu_seconds"] == pytest.approx(sum(seconds), abs=0.1)
    with pytest.raises(ValueError, match="has 12 candidates, .* give n_per_composition=6 or more"):
        run("generate_data", *SAME, *more, "n_per_composition=5", "name=fewer")
    assert after.meta["extend"] == str(folder / "minima.npz")
    for changed, reported in (
        ("seed=8", "seed=7, this search has seed=8"),
        ("template.slab=ag111_c2x8", "template="),
        ("calculator._target_=tests.tiny.NoOxygen", "calculator=EMT, .* calculator=NoOxygen"),
    ):
        with pytest.raises(ValueError, match=f"was made with {reported}.* are not put together"):
            run("generate_data", *SAME, *more, "n_per_composition=7", "name=other", changed)


def test_a_force_field_that_is_there_plans_from_the_first_on(searched, tmp_path):
    folder, _ = searched
    model = folder / "surrogate/8/train/forcefield"
    command = [*SAME, "executor=threads", f"output={tmp_path}", "name=given", "n_per_composition=2",
               f"surrogate.model={model}"]  # fmt: skip
    run("generate_data", *command)
    ours = StructureSet.read(tmp_path / "generate_data/given/minima.npz")
    plain = StructureSet.read(folder / "minima.npz")
    plain = plain.select(plain.info["index"] < 4)  # of the same starts, by the calculator alone
    assert set(ours.info["index"]) == set(plain.info["index"]) == set(range(4))
    assert ours.info["relax_steps"].tolist() != plain.info["relax_steps"].tolist()
    config = compose.load("generate_data", command)
    template = Template.load("ag111_p3x3", (1.0, 4.5))
    tasks = plan(config, template, tmp_path, range(4), Surrogate(str(model)))
    steps = {row["index"]: row["relax_steps"] for task in tasks for row in search(task)}
    assert ours.info["relax_steps"].tolist() == [steps[i] for i in ours.info["index"]]
    assert ours.meta["surrogate"]["model"].startswith("sha256:")
    assert not (tmp_path / "generate_data/given/surrogate").exists()
    with pytest.raises(ValueError, match="knows O, Ag, not Cu"):
        run("generate_data", *command, "name=other", "compositions=[Cu2]")


@pytest.mark.slow
def test_within_a_trust_radius_the_calculator_is_called_from_the_start_on(searched, tmp_path):
    folder, _ = searched
    minima, ways = {}, {}
    for leap in ("null", "0.2"):
        home = tmp_path / leap
        run(
            "generate_data", *SAME, "executor=threads", f"output={home}", "n_per_composition=2",
            f"surrogate.model={folder}/surrogate/8/train/forcefield",
            f"surrogate.trust_radius={leap}",
        )  # fmt: skip
        made = home / "generate_data/rss_c2x8"
        minima[leap] = StructureSet.read(made / "minima.npz")
        paths = [read(path)[0] for path in (made / "candidates").glob("*.npz")]
        ways[leap] = max(
            np.linalg.norm(after.positions - before.positions, axis=1).max()
            for frames in paths
            for before, after in pairwise(frames.to_atoms())
            if before.info["index"] == after.info["index"]
        )
    plain = StructureSet.read(folder / "minima.npz")
    plain = plain.select(plain.info["index"] < 4)  # of the same starts, by the calculator alone
    start = {way: one.info["energy_initial"] for way, one in minima.items()}
    np.testing.assert_allclose(start["0.2"], plain.info["energy_initial"])
    oxides = minima["0.2"].info["index"] % 2 == 1  # a single Ag stays where the surrogate has it
    assert not np.isclose(start["null"], start["0.2"])[oxides].any()
    assert minima["0.2"].meta["surrogate"]["trust_radius"] == 0.2
    assert ways["0.2"] == pytest.approx(0.2, abs=1e-4)  # as stored
    assert ways["null"] > 0.3
    assert (minima["0.2"].info["relax_steps"] != plain.info["relax_steps"]).any()


def test_frames_know_the_surface_in_which_their_path_ended(searched):
    folder, summary = searched
    minima, frames = (StructureSet.read(folder / f"{n}.npz") for n in ("minima", "frames"))
    surfaces = minima.info["surface_index"]
    index = {int(i): k for k, i in enumerate(minima.info["index"])}
    for k in range(len(minima)):
        first = index[int(surfaces[k])]
        assert first <= k
        assert same(minima.atoms(k), minima.atoms(first))
    assert len(distinct(minima)) == len(set(surfaces)) == summary["data/surfaces"] < len(minima)
    for i, surface in zip(frames.info["index"], frames.info["surface_index"], strict=True):
        assert surface == surfaces[index[int(i)]]


STAGES = (
    ("candidates by the calculator alone", "candidates/[0-9]*.npz", 1, signal.SIGTERM),
    ("a training", "surrogate/4/train/forcefield/checkpoints/last.pt", 1, signal.SIGKILL),
    ("candidates with a surrogate", "candidates/[0-9]*.npz", 3, signal.SIGTERM),
    ("the next training", "surrogate/8/train/forcefield/checkpoints/last.pt", 1, signal.SIGTERM),
    ("the last candidates", "candidates/[0-9]*.npz", 5, signal.SIGKILL),
)
"""What has just been written, how many of it, and how the command is ended then."""


def test_interruptions_in_any_stage_change_nothing(searched, tmp_path):
    folder, _ = searched
    command = [*SAME, "n_per_composition=6", f"output={tmp_path}", "name=whole",
               "executor.max_workers=2"]  # fmt: skip
    home = tmp_path / "generate_data/whole"
    for _, files, count, how in STAGES:
        process = start("generate_data", *command)
        wait_for(lambda files=files, count=count: len(list(home.glob(files))) >= count, process)
        process.send_signal(how)
        process.communicate()
        ended = -how if how == signal.SIGKILL else 128 + how
        assert process.returncode in (ended, 0)  # it may be done before the signal comes
    run("generate_data", *command[:-1], "executor=threads")
    for name in ("minima.npz", "frames.npz"):
        ours = StructureSet.read(tmp_path / "generate_data/whole" / name)
        assert ours.digest == StructureSet.read(folder / name).digest


COST = ["tracking.mode=disabled", "executor=threads", "task_size=2", "candidates=4"]


def cost(folder, *overrides):
    """Of the search in `folder`, with the last surrogate that was trained there."""
    model, minima = folder / "surrogate/8/train/forcefield", folder / "minima.npz"
    return run("search_cost", *COST, f"surrogate.model={model}", f"extend={minima}", *overrides)


@pytest.mark.slow
def test_the_cost_of_a_search_is_counted_on_the_same_new_starts(searched, tmp_path):
    folder, _ = searched
    asked = [f"output={tmp_path}", "max_steps=150", "fmax=[0.1,0.05]"]
    report = cost(folder, *asked)
    assert report["first"] == 12
    assert [result["fmax"] for result in report["results"]] == [0.1, 0.05]
    result = report["results"][0]
    known = StructureSet.read(folder / "minima.npz").to_atoms()
    for way, surrogate in {
        "prerelaxed": ["surrogate.trust_radius=null"],
        "trust_region": ["surrogate.trust_radius=0.3"],
        "alone": None,
    }.items():  # they are those of a search that continues
        model = [f"surrogate.model={folder}/surrogate/8/train/forcefield"]
        run(
            "generate_data", *SAME, f"extend={folder}/minima.npz", f"name={way}",
            f"output={tmp_path}", "n_per_composition=8", "executor=threads",
            *(["surrogate=null"] if surrogate is None else model + surrogate),
        )  # fmt: skip
        minima = StructureSet.read(tmp_path / f"generate_data/{way}/minima.npz")
        minima = minima.select(minima.info["index"] >= 12)
        assert sorted(minima.info["index"]) == list(range(12, 16))
        calls = (minima.info["relax_steps"] + 1).sum()
        assert result[way]["calls_per_minimum"] == pytest.approx(calls / 4)
        new = [not any(same(atoms, one) for one in known) for atoms in minima.to_atoms()]
        assert result[way]["new"] == pytest.approx(np.mean(new))
    for way in cost_comparison.WAYS:
        assert result[way]["converged"] == result["compared"] == 4
        assert 0 < result[way]["distinct"] <= 1
        further = report["results"][1][way]
        assert further["calls_per_minimum"] > result[way]["calls_per_minimum"]
    for way in set(cost_comparison.WAYS) - {cost_comparison.PLAIN}:
        ratio, low, high = result[way]["calls_saved"]
        plain = result[cost_comparison.PLAIN]["calls_per_minimum"]
        assert ratio == pytest.approx(plain / result[way]["calls_per_minimum"])
        assert low <= ratio <= high
        assert 0 <= result[way]["kolmogorov_smirnov_p"] <= 1
        mean, low, high = result[way]["energy_below"]
        assert low <= mean <= high
    for way in ("prerelaxed", "trust_region"):  # all converged, so differences of means add up
        ours, own = (result[w]["energy_below"][0] for w in (way, cost_comparison.OWN))
        assert result[way]["energy_below_alone"][0] == pytest.approx(ours - own)
    table = cost_comparison.table(report).splitlines()
    assert len(table) == 2 + 2 * len(cost_comparison.WAYS)
    home = RunFolder.existing(tmp_path / "search_cost/rss_c2x8")
    assert (
        home.summary["trust_region_fmax_0.1/calls_per_minimum"]
        == result["trust_region"]["calls_per_minimum"]
    )
    assert (home.path / "figures/energies_fmax_0.05.png").is_file()
    tasks = {path: path.stat().st_mtime_ns for path in home.path.glob("fmax_*/*/candidates/*")}
    assert cost(folder, *asked) == report
    assert len(tasks) == 2 * 4 * 2
    assert {path: path.stat().st_mtime_ns for path in tasks} == tasks  # nothing is done twice


@pytest.mark.slow
def test_starts_can_be_left_out_of_the_cost(searched, tmp_path, capsys):
    folder, _ = searched
    report = cost(folder, f"output={tmp_path}", "fmax=[0.1]", "skip=2", "candidates=2")
    assert report["first"] == 14
    assert "was trained on other frames than those of" in capsys.readouterr().err
    home = tmp_path / "search_cost/rss_c2x8/fmax_0.1_steps_1000"
    assert [path.name for path in sorted(home.glob("ase/candidates/*"))] == ["000014-000015.npz"]
    with pytest.raises(ValueError, match="another configuration .surrogate.trust_radius was 0.3"):
        cost(folder, f"output={tmp_path}", "surrogate.trust_radius=0.4")
    run = RunFolder(tmp_path)  # as `surfdiff run relaxation_cost` leaves it
    experiment = read_experiment("relaxation_cost", ["search_cost.skip=2"])
    run.save_config(
        {"experiment": "relaxation_cost", "small": False} | experiment.model_dump(exclude={"small"})
    )
    run.update_summary({"seconds/all": 1.0})
    root = empty_site(tmp_path / "root")
    published = json.loads(publish(tmp_path, root).read_text())
    page = documents(root)[root / "docs/searching.md"]
    assert cost_comparison.table(report) in page
    assert published["command"] == "surfdiff run relaxation_cost search_cost.skip=2"
    assert published["command"] in page
    assert published["record"] == report
    assert published["training"]["train"]["steps"] == 20
    assert not {"output", "tracking"} & set(published["training"])  # of this machine


def test_candidates_that_a_calculator_refuses_are_left_out_of_the_cost(searched, tmp_path):
    folder, _ = searched
    config = compose.load("generate_data", ["calculator._target_=tests.tiny.NoOxygen", *SAME[1:]])
    template = Template.load(config.template.slab, tuple(config.template.z_range))
    known = StructureSet.read(folder / "minima.npz").select([0])
    ways = {}
    for way in cost_comparison.WAYS:
        tasks = plan(config, template, tmp_path / way, range(4), None)
        for task in tasks:
            (search_cost.one_by_one if way == "ase" else search)(task)
        ways[way] = search_cost.found(tasks)
        assert sorted(ways[way]) == [0, 2]  # Ag; the others are Ag2O
    report, energies = cost_comparison.compare_ways(ways, known)
    assert report["compared"] == report["ase"]["converged"] == len(energies["ase"]) == 2
    for _, row in ways["ase"].values():
        row["converged"] = False
    with pytest.raises(ValueError, match="none of 2 candidates converged in all ways"):
        cost_comparison.compare_ways(ways, known)
    with pytest.raises(ValueError, match="no candidate came to an end"):
        cost_comparison.compare_ways(dict.fromkeys(cost_comparison.WAYS, {}), known)


def test_a_cost_that_cannot_be_counted_is_refused(searched, tmp_path):
    with pytest.raises(ValueError, match="surrogate.model=FOLDER"):
        run("search_cost", *COST, f"output={tmp_path}")
    with pytest.raises(ValueError, match="surrogate.trust_radius"):
        cost(searched[0], "surrogate.trust_radius=0")
    with pytest.raises(ValueError, match="fmax"):
        cost(searched[0], "fmax=[0.1,0]")
    other = tmp_path / "other.extxyz"
    write_frames(other, StructureSet.read(searched[0] / "minima.npz").to_atoms())
    with pytest.raises(ValueError, match="does not record with which seed it was made"):
        cost(searched[0], f"extend={other}", f"output={tmp_path}")
    assert not (tmp_path / "search_cost").exists()
    with pytest.raises(ValueError, match="structures failed, the last with not converged"):
        cost(searched[0], f"output={tmp_path}", "max_steps=1")


def test_what_is_gained_and_lost_from_the_same_starts_is_weighed():
    gained = np.array([True, True, True, False, True]), np.array([False, False, False, False, True])
    assert cost_comparison._mcnemar(*gained) == cost_comparison._mcnemar(*gained[::-1])
    assert cost_comparison._mcnemar(*gained) == pytest.approx(2 * 0.5**3)
    assert cost_comparison._mcnemar(gained[0], gained[0]) == 1.0


def test_structures_that_a_calculator_refuses_are_reported_and_cost_no_others(searched):
    images = [StructureSet.read(searched[0] / "minima.npz").atoms(i) for i in range(4)]
    graph = collate([Graph.from_atoms(image, 1.0, dtype=torch.float64) for image in images])
    reference = Reference(NoOxygen())
    energy, forces = reference(graph)
    refused = np.array(["O" in image.symbols for image in images])
    assert 0 < refused.sum() < 4
    assert energy.isnan().numpy().tolist() == refused.tolist()
    atoms = refused[graph.batch.numpy()]
    assert forces.isnan().all(1).numpy().tolist() == atoms.tolist()
    assert reference.reasons == ["RuntimeError: SCF did not converge"] * refused.sum()


def test_a_batch_that_fails_is_calculated_one_by_one():
    class Picky(NoOxygen):
        def batch(self, images):
            raise RuntimeError("one of them")

    template = Template.ag111("p3x3")
    images = [
        template.surface(c, np.array([[0.3, 0.2, template.top + 2.0]])) for c in ("Ag", "O", "Ag")
    ]
    first, second, third = labels_of(Picky(), images)
    assert isinstance(second, RuntimeError)
    assert first[0] == third[0]
