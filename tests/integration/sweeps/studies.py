"""Studies as sweeps leave them, with known truths behind them."""

import math

import numpy as np
import optuna
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState, create_trial

from sweeps.analysis.table import Trials, load
from sweeps.execution.study import SLOT

MEDIAN, SECONDS = "gen_relaxed/energy_median", "seconds/all"
ETA, STEPS, SEED = "sample.guide.eta_dt", "sample.sampler.steps", "sample.seed"
GRID = {ETA: [0.0, 0.0001, 0.0003, 0.001, 0.003, 0.01]}
THREE = {
    ETA: {"low": 1e-4, "high": 1e-2, "log": True},
    STEPS: {"low": 25, "high": 400, "log": True},
    "sample.sampler.noise": {"choices": ["ancestral", "euler"]},
}
CONSTRAINT = "gen/frac_finite"


def study(space, objectives=None, **more) -> optuna.Study:
    """An empty study with the definition that a sweep stores."""
    objectives = objectives or {MEDIAN: "minimize"}
    made = optuna.create_study(directions=list(objectives.values()))
    definition = {
        "question": "How strongly should the force field pull?", "claim": "Somewhat.",
        "reading": "Look.", "space": space, "objectives": objectives,
        "constraints": {CONSTRAINT: {"at_least": 0.95}}, "stages": {"sample": []},
    }  # fmt: skip
    made.set_user_attr("definition", definition | more)
    return made


def distribution(how):
    if "choices" in how:
        return CategoricalDistribution(how["choices"])
    kind = IntDistribution if isinstance(how["low"], int) else FloatDistribution
    return kind(how["low"], how["high"], log=how["log"])


def add(made, slot, params, state=TrialState.COMPLETE, energies=None, finite=1.0, **more):
    """Add the trial of a slot; its objectives are those of its metrics."""
    definition, values, attrs = made.user_attrs["definition"], None, {SLOT: slot}
    if state == TrialState.COMPLETE:
        found = {k: np.asarray(v, float).tolist() for k, v in (energies or {}).items()}
        metrics = {
            **{f"{k}/energy_median": float(np.median(v)) for k, v in found.items()},
            "gen/n": len(next(iter(found.values()), [])), CONSTRAINT: finite,
            "gen/hit_rate": 0.04, "rss/energy_median": 0.91, SECONDS: 20.0 + slot,
        } | more.pop("metrics", {})  # fmt: skip
        attrs |= {"metrics": metrics, "energies": found}
        values = [metrics[name] for name in definition["objectives"]]
    attrs |= more.pop("user_attrs", {})
    space = {name: distribution(definition["space"][name]) for name in params}
    more |= {"values": values, "user_attrs": attrs}
    made.add_trial(create_trial(state=state, params=params, distributions=space, **more))
    return made.trials[-1]


def level(eta: float) -> float:
    """The true scale of relaxed energies (eV): lowest near eta dt = 0.001."""
    return 0.35 + 0.25 * abs(math.log10(max(eta, 2e-5) / 0.001))


def grid(n=24, seeds=(0, 1), rng=0, objectives=None, shift=1.0) -> Trials:
    """Every choice of one parameter with every seed; the strongest pull is not feasible."""
    rng = np.random.default_rng(rng)
    space = {name: {"choices": choices} for name, choices in GRID.items()}
    made = study(space | {SEED: {"choices": list(seeds)}}, objectives)
    points = [(eta, seed) for eta in GRID[ETA] for seed in seeds]
    for slot, (eta, seed) in enumerate(points):
        relaxed = shift * level(eta) + rng.normal(0, 0.02, n)
        energies = {"gen": relaxed + 1.0 + rng.gamma(4, 0.05, n), "gen_relaxed": relaxed}
        finite = 0.8 if eta == 0.01 else 1.0
        add(made, slot, {ETA: eta, SEED: seed}, energies=energies, finite=finite)
    return load(made)


def search(trials=40, objectives=None, rng=0) -> Trials:
    """Random points of three parameters, with some pruned, failed and not feasible, one running."""
    rng = np.random.default_rng(rng)
    made = study(THREE, objectives)
    for slot in range(trials):
        eta, steps = float(10 ** rng.uniform(-4, -2)), int(rng.integers(25, 400))
        params = {ETA: eta, STEPS: steps, "sample.sampler.noise": ["ancestral", "euler"][slot % 2]}
        state, more = TrialState.COMPLETE, {}
        if slot % 10 == 7:
            state, more = TrialState.FAIL, {"user_attrs": {"failure": "ValueError: none is finite"}}
        elif slot % 10 == 4:
            state, more = TrialState.PRUNED, {"intermediate_values": {30: 2.0}}
        energies = {"gen_relaxed": rng.gamma(3.0, level(eta) / 2.7, 24)}
        add(made, slot, params, state, energies, 0.9 if slot % 8 == 5 else 1.0, **more)
    add(made, trials, params, TrialState.RUNNING)
    made.add_trial(create_trial(state=TrialState.WAITING, user_attrs={SLOT: trials + 1}))
    made.add_trial(create_trial(state=TrialState.FAIL))  # belongs to no slot
    return load(made)
