"""Experiment files: how they are read, and that each of this project can be carried out."""

import json
from pathlib import Path

import pytest
import yaml

from experiments.harness.pipeline import runner
from experiments.harness.pipeline.claims import RANDOM_SEARCH, REPEAT
from experiments.harness.pipeline.experiment import read, shipped
from experiments.harness.pipeline.kinds import stage_name
from experiments.harness.publishing import index
from experiments.harness.runs.run_folder import RunFolder
from tests.tiny import NETWORK, SAMPLE, SEARCH, TRAIN, no_pictures


def written(folder: Path, **content) -> Path:
    """An experiment of a user."""
    whole = {"claim": "c", "reading": "r", "cost": "none", **content}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "experiment.yaml").write_text(yaml.safe_dump(whole))
    return folder


def tiny(experiment, world) -> dict[str, list[str]]:
    """Its stages, of several samplings the first, with the fewest numbers that go through them."""
    searched = any(stage_name(n).kind == "generate_data" for n in experiment.stages)
    data = [f"data.path={world.minima}", f"data.frames={world.frames}"]
    usual = ["data.max_energy=9", "data.oxygen=all"]  # the few minima are no subset's
    more = {
        "generate_data": [*SEARCH, "n_per_composition=2", "relaxation.fmax=2.0", "surrogate=null"],
        "forcefield": [*TRAIN, *data, *usual, "train.steps=2"],
        "score": [*TRAIN, *([] if searched else data), *usual, "train.steps=2"],
        "sample": [*SAMPLE, "n=1", "sampler.steps=2"],
        "evaluate": [*SEARCH, "relaxation.fmax=2.0"],  # as the search that it compares with
        "search_cost": [
            *SEARCH[1:], f"extend={world.minima}", "candidates=2", "fmax=[1.0]", "max_steps=40",
        ],
        "label": SEARCH,
        "recall": [
            *SAMPLE[:3], f"structures={world.minima}", "lowest=1", "draws=1", "sigmas=[0.1]",
            "sampler.steps=2", "relaxation.max_steps=2",
        ],
        "rank": [],
        "benchmark": [
            "rounds=1", "training_steps=1", "steps=1", "structures=1", "cells=[p3x3]",
            "network={features: 8, blocks: 2, n_radial: 6}", "cutoff=4.0", "batch_size=2",
            "relaxation={structures: 2, one_by_one: 1, fmax: 9, max_steps: 5, training_steps: 2}",
            "growth={repeats: [[1,1]], batches: [1], cutoffs: [3.0]}",
        ],
    }  # fmt: skip
    stages = {
        n: [*own, *more[stage_name(n).kind]]
        for n, own in experiment.stages.items()
        if REPEAT not in n
    }
    for name, own in stages.items():
        if any(o.startswith("data.minus") for o in own):  # of the labels of its own stages
            own[:] = [o for o in own if o not in data]
        if stage_name(name).kind in ("label", "evaluate"):  # by EMT, whatever its calculator
            own[:] = [o for o in own if not o.startswith("calculator") or o in SEARCH]
        if stage_name(name).kind == "sample" and "guide=none" not in own:
            own.append("guide.descent_steps=2")
    labels = [stage_name(n).label for n in stages if stage_name(n).kind == "sample"]
    return {n: own for n, own in stages.items() if stage_name(n).label not in labels[1:]}


@pytest.fixture
def undrawn():
    with no_pictures():
        yield


@pytest.mark.slow
@pytest.mark.parametrize("name", shipped())
def test_experiments_are_carried_out(name, world, tmp_path, undrawn):
    experiment = read(name)
    content = experiment.model_dump(include={"claim", "reading", "cost"})
    networks = {"score": world.score, "forcefield": world.forcefield}
    content["models"] = {n: str(networks[stage_name(n).kind]) for n in experiment.models}
    stages = tiny(experiment, world)
    claims = [
        claim.model_dump(exclude_none=True)
        for claim in experiment.claims
        if {claim.stage, claim.beside} <= {*stages, RANDOM_SEARCH, None}
    ]
    figures = [
        figure.model_dump() | {"stages": shown}
        for figure in experiment.figures
        if (shown := [name for name in figure.stages if name in stages])
    ]
    folder = written(tmp_path / "mine", **content, stages=stages, claims=claims, figures=figures)
    options = [f"output={tmp_path}/runs", "threads=1", "tracking_mode=disabled"]
    outcome = runner.run(folder, options)
    home = RunFolder.existing(tmp_path / "runs/mine")
    assert home.summary == outcome.summary
    prepared = runner.prepare(folder, options)
    for stage in prepared.stages:
        assert outcome.summary[f"seconds/{stage.name}"] >= 0
        assert (stage.folder / "summary.json").is_file()
    measured = home.path / "claims.json"
    found = json.loads(measured.read_text())["claims"] if claims else []
    assert [one["claim"] for one in found] == [claim["claim"] for claim in claims]
    drawn = {file.name for file in (home.path / "figures").glob("*")}
    endings = ("png", "svg", "csv")
    assert drawn == {f"{figure['name']}.{ending}" for figure in figures for ending in endings}
    for label in {s.label for s in prepared.stages if s.kind == "evaluate"}:
        assert outcome.summary[f"{label}/gen/n" if label else "gen/n"] == 1


@pytest.mark.parametrize("name", shipped())
def test_experiments_can_begin_in_full_and_small(name):
    """All configs compose, and no stage lacks what it needs."""
    full = runner.prepare(name).stages
    small = runner.prepare(name, ["small=true"])
    once = [stage.name for stage in full if REPEAT not in stage.name]
    assert [stage.name for stage in small.stages] == once
    assert small.home == Path("runs", f"{name.split('/')[-1]}_small")


def test_the_papers_four_models_differ_in_their_data_alone():
    stages = {s.name: s.config.data for s in runner.prepare("fig3_energy_histograms").stages[:4]}
    scores = {n: data for n, data in stages.items() if "score" in n}
    found = {n: (data.max_energy, data.oxygen, data.distinct) for n, data in scores.items()}
    assert found == {
        "score_D": (2.0, "all", False), "score_lowE": (0.5, "all", True),
        "score_lowE_ox": (0.5, "rich", True), "score_lowE_red": (0.5, "poor", True),
    }  # fmt: skip


def test_labels_decide_what_a_stage_is_given(tmp_path):
    stages = {
        "generate_data_reference": ["template.slab=ag111_p3x3"], "forcefield": [], "score": [],
        "score_low": [], "sample": [], "sample_low": [], "sample_7": ["guide=none"],
        "evaluate_low": [], "evaluate_7": [], "generate_data_7": [],
    }  # fmt: skip
    planned = {s.name: s for s in runner.prepare(written(tmp_path / "e", stages=stages)).stages}
    home = "runs/e"
    samples = {n: planned[f"sample{n}"].config for n in ("", "_low", "_7")}
    assert [samples[n].score for n in samples] == [
        f"{home}/train/score", f"{home}/train/score_low", f"{home}/train/score",
    ]  # fmt: skip
    assert [samples[n].forcefield for n in samples] == [*[f"{home}/train/forcefield"] * 2, None]
    low, seven = (planned[f"evaluate_{n}"] for n in ("low", "7"))
    assert (low.config.sample, seven.config.sample) == (f"{home}/sample/low", f"{home}/sample/7")
    assert low.config.reference == f"{home}/generate_data/reference/minima.npz"
    assert seven.config.reference == f"{home}/generate_data/7/minima.npz"
    assert low.folder == Path(home, "evaluate/low")
    assert planned["score"].config.data.path == "rss_c2x8"  # a reference is not learnt from


def test_stages_use_the_calculators_of_a_folder_of_the_users(tmp_path):
    mine = {"_target_": "ase.calculators.lj.LennardJones", "sigma": 2.5}
    file = tmp_path / "own/calculator/mine.yaml"
    file.parent.mkdir(parents=True)
    file.write_text(yaml.safe_dump(mine))
    folder = written(tmp_path / "e", stages={"generate_data": ["calculator=mine"]})
    (stage,) = runner.prepare(folder, directory=tmp_path / "own").stages
    assert stage.config.calculator.plain() == mine
    with pytest.raises(ValueError, match="mine"):
        runner.prepare(folder)


def test_a_search_without_a_label_is_learnt_from():
    stages = {s.name: s for s in runner.prepare("platinum_heptamer").stages}
    minima = "runs/platinum_heptamer/generate_data/pt/minima.npz"
    assert stages["score"].config.data.path == minima
    assert stages["evaluate"].config.reference == minima
    slab = Path(stages["sample"].config.template.slab)
    assert slab == shipped()["platinum_heptamer"].parent / "slab.extxyz"


@pytest.mark.parametrize(
    ("override", "reason"),
    [
        ("scor.train.steps=3", "there is no key scor: .*did you mean score?"),
        ("score.train.stepz=3", "stage score: there is no config key or group 'train.stepz'"),
        ("score", "cannot read 'score' as KEY=VALUE"),
        ("stages.dream=[]", "stages.dream: there is no stage 'dream'"),
        ("models.sample=here", "models.sample: only networks stand in for stages"),
        ("models.score_x=nowhere", "models.score_x: there is no trained network in nowhere"),
        ("score.data.path=nowhere", "stage score: data.path=nowhere is no file, and of the"),
        ("evaluate.reference=nowhere", "stage evaluate: reference=nowhere is no file"),
        ("sample.score=null", "stage sample: it needs a stage score before it, or models.score"),
        ("sample.forcefield=null", "stage sample: it is guided"),
        ("evaluate.sample=null", "stage evaluate: it needs a stage sample before it"),
        (
            "stages.label=[structures=no.xyz,calculator=emt]",
            "stage label: there is no structures=no.xyz, and no stage before makes it",
        ),
        (
            "stages.rank=['labels={a: runs/no}',reference=b]",
            "stage rank: reference=b is none of labels: a",
        ),
        (
            "stages.rank=['labels={a: runs/no}',reference=a]",
            "stage rank: there is no labels.a=runs/no",
        ),
        (
            "stages.recall=[structures=no.npz,score=silver_oxide,forcefield=silver_oxide]",
            "stage recall: structures=no.npz is no file",
        ),
        ("score.sde=vp", "stage sample: the solver multistep is one of Brownian motion: .*ancestr"),
        (
            "sample.sampler.noise=euler",
            "stage sample: .*the solver multistep has no noise of Eq. 2",
        ),
        ("threads=0", "threads: Input should be greater than or equal to 1"),
        ("seed=-1", "seed: Input should be greater than or equal to 0"),
        ("name=a/b", "name: String should match pattern"),
        ("small=maybe", "small: Input should be a valid boolean"),
    ],
)
def test_what_cannot_run_is_refused_before_any_stage(override, reason, tmp_path):
    with pytest.raises(ValueError, match=f"(?s){reason}"):
        runner.run("quickstart_ag6o3", [f"output={tmp_path}", override])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("sampler", ["ancestral", "paper"])
def test_a_score_of_the_papers_equation_is_sampled_by_its_solvers(sampler):
    overrides = ["score.sde=vp", f"sample.sampler={sampler}"]
    assert runner.prepare("quickstart_ag6o3", overrides).stages[-2].config.sampler.solver == "euler"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ({"stages": {}}, "config key stages: .*at least 1"),
        ({"stages": {"sampel": []}}, "stages.sampel: there is no stage 'sampel'.*mean sample?"),
        ({"stages": {"score": ["n"]}}, "stage score: .*'n'"),
        ({"stages": {"score": []}, "small": {"sample": []}}, "small: there is no stage sample"),
        ({"stages": {"score": []}, "clam": 1}, "there is no config key clam"),
        ({"stages": {"score": ["name=${oc.env:HOME}"]}}, "filled in from this machine"),
        ({"models": {"score": "${oc.env:HOME}"}, "stages": {"sample": []}}, "from this machine"),
        ({"stages": {"score": []}, "small": {"score": ["name=${${seed}:X}"]}}, "from this mach"),
        ({"claim": "", "stages": {"score": []}}, "config key claim: .*at least 1 character"),
        ({"stages": {"score": [], "score_a": ["name=score"]}}, "score and score_a have the same"),
    ],
)
def test_a_file_that_is_not_valid_is_refused_by_its_name(content, reason, tmp_path):
    folder = written(tmp_path / "mine", **content)
    small = "small=true" if "small" in content else "small=false"
    with pytest.raises(ValueError, match=reason) as refused:
        runner.prepare(folder, [small])
    if "stage " not in reason[:6]:
        assert "same" in reason or str(folder / "experiment.yaml") in str(refused.value)


def test_the_command_line_may_fill_in_from_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("SCORE_NAME", "mine")
    folder = written(tmp_path / "e", stages={"score": []})
    prepared = runner.prepare(folder, ["score.name=${oc.env:SCORE_NAME}"])
    assert prepared.stages[0].config.name == "mine"


def test_where_an_experiment_is_found(tmp_path, monkeypatch):
    folder = written(tmp_path / "mine", stages={"score": []})
    for source in (folder, folder / "experiment.yaml"):
        assert read(source).name == "mine"
    (tmp_path / "other.yaml").write_text((folder / "experiment.yaml").read_text())
    monkeypatch.chdir(tmp_path)
    assert read("other.yaml").name == "other"
    (tmp_path / "fig3_guidance").mkdir()  # a folder of results, say
    assert read("fig3_guidance").claim == read(shipped()["fig3_guidance"]).claim
    for source, reason in [("absent.yaml", "no file"), (tmp_path, "holds no"), ("x", "no experim")]:
        with pytest.raises(ValueError, match=reason):
            read(source)


def test_a_run_is_continued_and_another_config_refused(world, tmp_path):
    data = [f"data.path={world.minima}", f"data.frames={world.frames}"]
    stages = {"score": [*NETWORK, *data, "train.steps=2", "train.warmup=1"]}
    folder = written(tmp_path / "mine", stages=stages)
    options = [f"output={tmp_path}/runs", "tracking_mode=disabled"]
    first = runner.run(folder, [*options, "threads=1"]).summary
    rows = RunFolder(tmp_path / "runs/mine/train/score").rows()
    again = runner.run(folder, [*options, "threads=2"]).summary
    assert again["score/loss"] == first["score/loss"]
    assert RunFolder(tmp_path / "runs/mine/train/score").rows()[: len(rows)] == rows
    with pytest.raises(ValueError, match="another configuration .*seed was 0, is now 1"):
        runner.run(folder, [*options, "seed=1"])


def test_what_is_written_of_experiments_is_up_to_date():
    for file, text in index.documents().items():
        assert file.read_text(encoding="utf-8") == text, f"{file}: surfdiff publish writes it"


@pytest.mark.parametrize("name", shipped())
def test_results_are_of_finished_runs(name):
    file = shipped()[name].parent / "results.json"
    if file.is_file():
        results = json.loads(file.read_text(encoding="utf-8"))
        for one in results.values() if "record" not in results else [results]:
            assert one["environment"]["commit"]
            assert one.get("summary", one.get("record"))
