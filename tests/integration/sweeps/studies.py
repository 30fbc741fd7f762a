"""Studies as sweeps leave them, made through Optuna itself, with known truths behind."""

import math

import numpy as np
import optuna
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState, create_trial

optuna.logging.set_verbosity(optuna.logging.ERROR)
MEDIAN, SECONDS = "gen_relaxed/energy_median", "seconds/all"
ETA = {"sample.guide.eta_dt": CategoricalDistribution((0.0, 0.0001, 0.0003, 0.001, 0.003, 0.01))}
STEPS = {"sample.sampler.steps": CategoricalDistribution((25, 50, 100, 200, 400))}
SEED = {"sample.seed": CategoricalDistribution((0, 1))}
THREE = {
    "sample.guide.eta_dt": FloatDistribution(1e-4, 1e-2, log=True),
    "sample.sampler.steps": IntDistribution(25, 400, log=True),
    "sample.sampler.noise": CategoricalDistribution(("ancestral", "euler")),
}


def study(objectives=None, question="How strongly should the force field pull?", space=None):
    objectives = objectives or {MEDIAN: "minimize"}
    made = optuna.create_study(directions=list(objectives.values()))
    definition = {
        "question": question,
        "objectives": objectives,
        "space": dict.fromkeys(space or {}),
    }
    made.set_user_attr("definition", definition)
    return made


def level(params) -> float:
    """The true scale of relaxed energies (eV): lowest near eta dt = 0.001, better with steps."""
    eta = params.get("sample.guide.eta_dt", 0.001)
    off = abs(math.log10(max(eta, 2e-5) / 0.001))
    steps = params.get("sample.sampler.steps", 200)
    euler = params.get("sample.sampler.noise") == "euler"
    return 0.35 + 0.25 * off + 12 / steps + 0.1 * euler


def energies(params, rng, n=24):
    relaxed = rng.gamma(3.0, level(params) / 2.7, n)
    return {"gen": (relaxed + rng.gamma(4, 0.25, n)).tolist(), "gen_relaxed": relaxed.tolist()}


def add(made, params, space, rng, state=TrialState.COMPLETE, finite=1.0, n=24, **more):
    """One trial at `params`; its objectives are those of its metrics."""
    attrs: dict = {}
    values = None
    if state == TrialState.COMPLETE:
        found = energies(params, rng, n)
        metrics = {
            "gen_relaxed/energy_median": float(np.median(found["gen_relaxed"])),
            "gen/energy_median": float(np.median(found["gen"])),
            "gen/frac_finite": finite, "gen/frac_valid": 0.97, "gen/frac_unique": 0.9,
            "gen/hit_rate": 0.04, "rss/energy_median": 0.91,
            "seconds/all": 20 + 0.6 * params.get("sample.sampler.steps", 200) + rng.normal(0, 2),
        }  # fmt: skip
        attrs = {"metrics": metrics, "energies": found}
        names = made.user_attrs["definition"]["objectives"]
        values = [metrics[name] for name in names]
        more.setdefault("constraints", {"gen/frac_finite": 0.95 - finite})
    if state == TrialState.FAIL and "user_attrs" not in more:
        attrs = {"failure": "ValueError: no structure is finite"}
    attrs |= more.pop("user_attrs", {})
    trial = create_trial(state=state, values=values, params=params, distributions=space,
                         user_attrs=attrs, **more)  # fmt: skip
    made.add_trial(trial)
    return made.trials[-1]


def grid(space=ETA, repeats=SEED, objectives=None, n=24, rng=0):
    """Every choice of one knob, each with every seed; the strongest pull is not feasible."""
    rng = np.random.default_rng(rng)
    made = study(objectives, space={**space, **repeats})
    ((name, choices),) = ((k, d.choices) for k, d in space.items())
    seeds = [{key: seed} for key, d in repeats.items() for seed in d.choices] or [{}]
    for value in choices:
        for seed in seeds:
            finite = 0.8 if value == 0.01 else 1.0
            add(made, {name: value, **seed}, {**space, **repeats}, rng, finite=finite, n=n)
    return made


def search(trials=60, objectives=None, space=None, rng=0):
    """Random points of three knobs, with some pruned, failed and not feasible, one running."""
    rng = np.random.default_rng(rng)
    space = space or THREE
    sampler = optuna.samplers.RandomSampler(seed=int(rng.integers(1000)))
    source = optuna.create_study(sampler=sampler)
    made = study(objectives, "Which settings are best?", space)
    for i in range(trials):
        params = source.ask(space).params
        if i % 10 == 7:
            add(made, params, space, rng, TrialState.FAIL)
        elif i % 10 == 4 and len(made.directions) == 1:
            add(made, params, space, rng, TrialState.PRUNED, intermediate_values={30: 2.0})
        else:
            add(made, params, space, rng, finite=0.9 if i % 8 == 5 else 1.0)
    if trials > 3:
        add(made, source.ask(space).params, space, rng, TrialState.RUNNING)
        made.add_trial(create_trial(state=TrialState.WAITING))
    return made
