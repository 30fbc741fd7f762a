"""A sweep's file: what is wrong with it is said in one sentence, before any trial."""

import pytest
from omegaconf import OmegaConf
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from sweeps.definition.reader import read
from tests.integration.sweeps.tiny_sweep import (
    GRID,
    LOSS,
    MEDIAN,
    TPE,
    TRAINING,
    UNGUIDED,
    trained,
    write,
)
from tests.tiny import ROOT, SEARCH

SHIPPED = sorted((ROOT / "sweeps").glob("*.yaml"))
RATE, STEPS, ETA = "score.train.learning_rate", "score.train.steps", "sample.guide.eta_dt"
PRUNER = {"_target_": "optuna.pruners.MedianPruner"}
REPORT = {"stage": "score", "metric": "val/loss"}
GUIDED = {"stages": {"score": TRAINING, "sample": []}, "models": {"forcefield": "nowhere"}}


def space(name, **how):
    return {"space": {name: how}}


EVALUATED = {"score": TRAINING, "sample": UNGUIDED, "evaluate": SEARCH}
BAD = {
    "unknown key in a space": (
        space(RATE, low=0.001, hihg=0.01),
        r"there is no config key space\.score\.train\.learning_rate\.hihg",
    ),
    "unknown key": ({"objektives": {}}, "there is no config key objektives"),
    "trainings of an experiment": ({"trainings": 2}, "there is no config key trainings"),
    "claims of an experiment": ({"claims": []}, "there is no config key claims"),
    "figures of an experiment": ({"figures": []}, "there is no config key figures"),
    "an experiment's small form": ({"small": {"score": []}}, "there is no config key small"),
    "no question": ({"question": None}, "question"),
    "empty space": ({"space": {}}, "space: .*at least 1"),
    "no objective": ({"objectives": {}}, "objectives: .*at least 1"),
    "wrong direction": ({"objectives": {LOSS: "down"}}, "'minimize' or 'maximize', got 'down'"),
    "a parameter that no config has": (
        space("score.train.learning_rat", low=0.001, high=0.01),
        r"the parameter score\.train\.learning_rat; did you mean score\.train\.learning_rate\?",
    ),
    "a parameter of a stage that is not there": (
        space("evaluate.tolerance", low=0.1, high=1.0),
        r"evaluate\.tolerance names no stage of this sweep; .* of score, sample$",
    ),
    "a parameter of no stage": (
        space("learning_rate", low=0.1, high=1.0), "learning_rate names no stage of this sweep",
    ),
    "low above high": (space(RATE, low=0.1, high=0.01), r"low=0\.1, high=0\.01"),
    "low without high": (space(RATE, low=0.1), "a parameter needs low and high, or choices"),
    "a range and choices": (
        space(RATE, low=0.1, choices=[0.1]), "either choices, or low and high",
    ),
    "a choice twice": (space(RATE, choices=[0.1, 0.1]), "a choice is listed twice"),
    "the logarithm of zero": (space(RATE, low=0, high=0.1, log=True), "low > 0. must hold"),
    "half a step": (
        space(STEPS, low=1.5, high=4), r"space\.score\.train\.steps: .* must be whole numbers",
    ),
    "a value out of range": (
        GUIDED | space(ETA, choices=[-1, 0.001]),
        r"sample\.guide\.eta_dt=-1 cannot be used: .*greater than or equal to 0, got -1",
    ),
    "a range out of range": (
        GUIDED | space(ETA, low=-0.1, high=0.1), r"eta_dt=-0\.1 cannot be used: ",
    ),
    "a range of a number that may be left out": (
        {"stages": {"score": [], "sample": UNGUIDED}} | space("score.threads", low=1, high=4),
        r"score\.threads=1\.0 cannot be used: .*integer",
    ),
    "a choice that is none of a group": (
        space("sample.template.slab", choices=["a b,c"]), "template.slab=a b,c cannot be used",
    ),
    "an objective that is never reported": (
        {"objectives": {MEDIAN: "minimize"}},
        "objectives: no stage of this sweep reports gen_relaxed/energy_median",
    ),
    "an objective misspelt": (
        {"objectives": {"gen/frac_finit": "maximize"}}, r"did you mean gen/frac_finite\?",
    ),
    "a constraint that is never reported": (
        {"constraints": {"gen/frac_valid": {"at_least": 0.9}}},
        "constraints: no stage of this sweep reports gen/frac_valid",
    ),
    "a constraint without a bound": (
        {"constraints": {"gen/frac_finite": {}}}, "either at_least or at_most",
    ),
    "a report that is never made": (
        {"pruner": PRUNER, "report": REPORT | {"metric": "val/los"}},
        r"report: no stage of this sweep reports val/los; did you mean val/loss\?",
    ),
    "a report of a stage that is not there": (
        {"pruner": PRUNER, "report": REPORT | {"stage": "forcefield"}},
        "report: 'forcefield' is no stage of this sweep",
    ),
    "a pruner of several objectives": (
        {"objectives": {LOSS: "minimize", "seconds/all": "minimize"}, "pruner": PRUNER,
         "report": REPORT},
        "pruner: Optuna prunes no study of 2 objectives",
    ),
    "a pruner without report": ({"pruner": PRUNER}, "pruner and report belong together"),
    "a report without pruner": ({"report": REPORT}, "pruner and report belong together"),
    "a pruner that is none": (
        {"pruner": {"_target_": "optuna.pruners.Scissors"}, "report": REPORT},
        "sampler or pruner: .*Scissors",
    ),
    "a sampler that is none": ({"sampler": {"_target_": "dice"}}, "sampler or pruner: .*dice"),
    "an unknown argument of a sampler": (
        {"sampler": TPE | {"startup": 3}}, "sampler or pruner: .*startup",
    ),
    "no budget": ({"budget": None}, "budget is missing"),
    "a budget of nothing": ({"budget": 0}, "budget: .*greater than or equal to 1, got 0"),
    "a budget larger than the grid": (
        space(RATE, choices=[0.1, 0.01]) | {"sampler": GRID}, "the grid has 2 points, not 3",
    ),
    "a grid with a range": ({"sampler": GRID}, f"a grid needs choices, and {RATE} has a range"),
    "missing models": (
        {"models": {"forcefield": "nowhere/train"}},
        "models.forcefield: there is no trained network in nowhere/train",
    ),
    "a model that is none": ({"models": {"oracle": "x"}}, "there is no stage .oracle"),
    "a sample of no score": (
        {"stages": {"sample": UNGUIDED}, "space": {"sample.sampler.steps": {"low": 1, "high": 3}},
         "objectives": {"gen/frac_finite": "maximize"}},
        "stage sample: it needs a stage score before it, or models.score",
    ),
    "an evaluation of no sample": (
        {"stages": {"score": TRAINING, "evaluate": SEARCH}},
        "stage evaluate: it needs a stage sample before it",
    ),
    "an unknown stage": (
        {"stages": {"score": TRAINING, "dream": []}}, "there is no stage 'dream'",
    ),
    "an unknown key of a stage": (
        {"stages": {"score": [*TRAINING, "train.stepz=3"]}},
        "there is no config key or group .train.stepz",
    ),
    "relative energies without random search": (
        {"stages": EVALUATED, "objectives": {MEDIAN: "minimize"}},
        "gen_relaxed/energy_median needs random search .* give evaluate reference=FILE",
    ),
    "hits without random search": (
        {"stages": EVALUATED, "objectives": {"gen/hit_rate": "maximize"}},
        "gen/hit_rate needs random search",
    ),
    "what a force field would say, without one": (
        {"objectives": {"gen_predicted/energy_median": "minimize"}},
        "no stage of this sweep reports gen_predicted/energy_median",
    ),
    "a guide without a force field": (
        {"stages": {"score": TRAINING, "sample": [o for o in UNGUIDED if o != "guide=none"]}},
        "stage sample: it is guided: add a stage forcefield",
    ),
    "a parameter of the sweep": (space("score.output", choices=["a"]), "set by the sweep itself"),
    "a step of nothing": (space(RATE, low=0.1, high=0.2, step=0), r"step: .*greater than 0"),
    "a name that is no folder's": ({"name": "a/b"}, "name: .*match pattern"),
    "tracking that is none": ({"tracking": "disabled"}, "tracking"),
    "an unknown kind of tracking": ({"tracking": {"mode": "loud"}}, r"tracking\.mode"),
}  # fmt: skip


@pytest.mark.parametrize(("change", "said"), BAD.values(), ids=BAD)
def test_bad_input_is_reported_in_one_sentence(change, said, tmp_path):
    content = {k: v for k, v in trained(**change).items() if v is not None}
    path = write(tmp_path / "mine.yaml", content)
    with pytest.raises(ValueError, match=said) as error:
        read(path)
    reported = str(error.value)
    assert "Traceback" not in reported
    assert "pydantic" not in reported
    assert len(" ".join(reported.split())) < 400


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("space: [1, {", "cannot be read as YAML"),
        ("[" * 20000, "cannot be read as YAML: it is nested too deeply"),
        ("a: &a {b: *a}\n", "cannot be read as YAML: it is nested too deeply"),
        ("- a\n- b\n", "is no experiment"),
        ("", "config key claim is missing"),
        ("name: ${nowhere}\n", "name: .*match pattern"),
        ("1: 2\n", "config key claim is missing"),
    ],
)
def test_a_file_that_is_no_sweep(text, said, tmp_path):
    path = tmp_path / "broken.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=said) as error:
        read(path)
    assert "broken.yaml" in str(error.value)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(ValueError, match="there is no file .*nothing.yaml"):
        read(tmp_path / "nothing.yaml")
    with pytest.raises(ValueError, match="holds no experiment.yaml"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("bugdet=3", "there is no key bugdet"),
        ("trainings=2", "there is no key trainings"),
        ("tracking.mood=offline", "there is no config key tracking.mood"),
        ("budget=many", "budget: .*valid integer"),
        ("budget", "cannot read 'budget' as KEY=VALUE"),
        ("name.first=x", "name holds no keys"),
        ("budget=[", "cannot read the value"),
    ],
)
def test_bad_overrides(override, said, tmp_path):
    with pytest.raises(ValueError, match=said):
        read(write(tmp_path / "mine.yaml", trained()), [override])


def test_a_file_s_name_is_the_study_s_and_overrides_change_keys(tmp_path):
    path = write(tmp_path / "mine.yaml", trained(tracking={"project": "p"}))
    assert read(path).name == "mine"
    sweep = read(path, ["name=other", "budget=7", "tracking.mode=disabled", "retries=0"])
    assert (sweep.name, sweep.trials, sweep.retries) == ("other", 7, 0)
    assert (sweep.tracking.project, sweep.tracking.mode) == ("p", "disabled")


def test_a_range_is_of_the_kind_of_the_value_that_it_turns(tmp_path):
    """Whole numbers in the file make no whole number of what is none, and log stays log."""
    space = {
        STEPS: {"low": 10, "high": 1000, "log": True},
        "score.train.batch_size": {"low": 2, "high": 8, "step": 2},
        "score.task.time_power": {"low": 1, "high": 3},
        RATE: {"low": 0.001, "high": 0.01, "log": True},
        "score.data.oxygen": {"choices": ["poor", "all"]},
        "sample.sampler.noisy_end": {"choices": [True, False]},
    }
    stages = {"score": TRAINING, "sample": [*UNGUIDED, "sampler=ancestral"]}
    sweep = read(write(tmp_path / "mine.yaml", trained(space=space, stages=stages)))
    assert sweep.distributions == {
        STEPS: IntDistribution(10, 1000, log=True),
        "score.train.batch_size": IntDistribution(2, 8, step=2),
        "score.task.time_power": FloatDistribution(1.0, 3.0),
        RATE: FloatDistribution(0.001, 0.01, log=True),
        "score.data.oxygen": CategoricalDistribution(["poor", "all"]),
        "sample.sampler.noisy_end": CategoricalDistribution([True, False]),
    }
    params = {STEPS: 20, RATE: 0.002, "score.data.oxygen": "poor", "sample.sampler.noisy_end": True}
    plan = sweep.plan(params)
    assert plan["score"].config.train.steps == 20
    assert plan["score"].config.train.learning_rate == 0.002
    assert plan["score"].config.data.oxygen == "poor"
    assert plan["sample"].config.sampler.noisy_end is True


def test_shipped_sweeps_are_there():
    assert {path.stem for path in SHIPPED} >= {
        "beta_range", "eta", "steps", "repeats", "joint", "smoke",
    }  # fmt: skip


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_every_shipped_sweep_can_be_run(path, monkeypatch):
    monkeypatch.chdir(ROOT)
    content = OmegaConf.to_container(OmegaConf.load(path))
    for key in ("question", "claim", "reading", "cost"):
        assert len(content[key]) > 4
    sweep = read(path)
    assert sweep.name == path.stem
    assert len(sweep.distributions) == len(sweep.space)
    assert path.read_text().startswith("# ")  # the question, as a title


def test_online_tracking_needs_a_key(tmp_path, monkeypatch):
    for variable in ("WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE", "NETRC"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    path = write(tmp_path / "mine.yaml", trained(tracking={"mode": "online"}))
    with pytest.raises(ValueError, match="online needs a W&B key: run `wandb login`"):
        read(path)


def test_metrics_of_labelled_stages_have_the_label_before_their_names(world, tmp_path):
    stages = {"score_a": TRAINING, "sample_a": UNGUIDED}
    stages["evaluate_a"] = [*SEARCH, f"reference={world.reference}"]
    space = {"evaluate_a.tolerance": {"low": 0.1, "high": 0.5}}
    names = ("a/gen_relaxed/energy_median", "a/score/loss", "seconds/evaluate_a")
    labelled = {"stages": stages, "space": space, "objectives": dict.fromkeys(names, "minimize")}
    assert read(write(tmp_path / "a.yaml", trained(**labelled))).trials == 3
    labelled["objectives"] = {MEDIAN: "minimize"}
    with pytest.raises(ValueError, match=f"reports {MEDIAN}; did you mean a/{MEDIAN}"):
        read(write(tmp_path / "b.yaml", trained(**labelled)))
