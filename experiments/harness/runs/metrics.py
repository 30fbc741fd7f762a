"""The registry of metrics: name, title, unit, direction and stage of every number that runs report.

Names are those of summary.json, metrics.jsonl and W&B.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Direction = Literal["minimize", "maximize"]
ENERGY_UNIT = "eV above the reference minimum"
SETS = {"gen": "generated", "gen_relaxed": "relaxed", "gen_predicted": "by the force field"}
STATISTICS = {
    "mean": "Mean energy",
    "min": "Lowest energy",
    "p10": "10 % quantile of energy",
    "median": "Median energy",
    "p90": "90 % quantile of energy",
    "std": "Standard deviation of energy",
}
STAGES = {
    "forcefield": "training the force field",
    "score": "training the score",
    "sample": "sampling",
    "evaluate": "evaluation",
}


@dataclass(frozen=True)
class Metric:
    """A number that a stage reports."""

    name: str
    title: str
    unit: str
    """Empty for a share or a number without one."""
    direction: Direction | None
    """Which values are better; None where neither is."""
    stage: str
    """Kind of the stage whose summary holds it; "all" for a pipeline's own."""
    compared: bool = False
    """Whether it needs a reference to compare with."""

    @property
    def label(self) -> str:
        """Title with the unit in brackets."""
        return f"{self.title} ({self.unit})" if self.unit else self.title


def _energies(name: str, stage: str, absolute: bool) -> list[Metric]:
    """Statistics of the energies of a set, and absolute energies where they are reported."""
    compared = stage == "evaluate"
    found = [
        Metric(
            f"{name}/energy_{key}", f"{title}, {SETS[name]}", "eV" if key == "std" else ENERGY_UNIT,
            None if key == "std" else "minimize", stage, compared,
        )
        for key, title in STATISTICS.items()
    ]  # fmt: skip
    if absolute:
        found += [
            Metric(
                f"{name}/energy_{key}_abs", f"{STATISTICS[key]}, {SETS[name]}, total", "eV",
                "minimize", stage,
            )
            for key in ("mean", "min", "p10", "median")
        ]  # fmt: skip
    return found


_RESULTS = [
    Metric("score/loss", "Validation loss of the score", "", "minimize", "score"),
    Metric("forcefield/loss", "Validation loss of the force field", "", "minimize", "forcefield"),
    Metric("forcefield/energy_mae", "Energy MAE", "meV/atom", "minimize", "forcefield"),
    Metric("forcefield/force_mae", "Force MAE", "meV/Å", "minimize", "forcefield"),
    Metric("gen/n", "Number of structures", "", None, "sample"),
    Metric("gen/frac_finite", "Share of finite structures", "", "maximize", "sample"),
    Metric("gen/structures_per_second", "Structures sampled per second", "", "maximize", "sample"),
    *_energies("gen_predicted", "sample", absolute=False),
    Metric("gen/frac_valid", "Share of valid structures", "", "maximize", "evaluate"),
    Metric("gen/frac_unique", "Share of different structures", "", "maximize", "evaluate"),
    Metric("gen/failed", "Number of failed relaxations", "", "minimize", "evaluate"),
    Metric("gen/relax_steps_mean", "Relaxation steps per structure", "", "minimize", "evaluate"),
    Metric("gen/hit_rate", "Hit rate", "", "maximize", "evaluate", True),
    Metric(
        "gen/frac_below_reference", "Share below random search's lowest", "", "maximize",
        "evaluate", True,
    ),
    Metric(
        "gen_relaxed/frac_converged", "Share of converged relaxations", "", "maximize", "evaluate"
    ),
    Metric(
        "gen_relaxed/frac_adsorbed", "Share that stays on the surface", "", "maximize", "evaluate"
    ),
    *_energies("gen", "evaluate", absolute=True),
    *_energies("gen_relaxed", "evaluate", absolute=True),
    Metric("label/n", "Number of labelled structures", "", None, "label"),
    Metric("label/failed", "Number of structures without a label", "", "minimize", "label"),
    Metric("label/cpu_seconds", "Time of all labels, CPU", "s", "minimize", "label"),
    Metric("rss/hit_rate", "Hit rate of random search", "", None, "evaluate", True),
    Metric("rss/n", "Number of minima of random search", "", None, "evaluate", True),
    Metric("rss/relax_steps_mean", "Relaxation steps of random search", "", None, "evaluate", True),
    Metric("rss/energy_mean", "Mean energy, random search", ENERGY_UNIT, None, "evaluate", True),
    Metric(
        "rss/energy_median", "Median energy, random search", ENERGY_UNIT, None, "evaluate", True
    ),
    *(Metric(f"seconds/{s}", f"Time of {t}", "s", "minimize", s) for s, t in STAGES.items()),
    Metric("seconds/all", "Time of the whole run", "s", "minimize", "all"),
]  # fmt: skip
METRICS = {metric.name: metric for metric in _RESULTS}

_TRAINING = frozenset({
    "train/step", "train/loss", "train/learning_rate", "train/grad_norm",
    "train/structures_per_second", "val/loss",
})  # fmt: skip
REPORTED: dict[str, frozenset[str]] = {
    "forcefield": _TRAINING | {"forcefield/energy_mae", "forcefield/force_mae"},
    "score": _TRAINING,
    "sample": frozenset(),
    "evaluate": frozenset(),
}
"""In the rows that a stage logs while it runs."""


def metric_title(name: str) -> str:
    """Return a metric's title with its unit; its own name if it is not in the registry."""
    return METRICS[name].label if name in METRICS else name


def metrics_of(stages: Iterable[str], guided: bool = True, compared: bool = True) -> frozenset[str]:
    """Return the names in the summary of a pipeline of these kinds of stages.

    Args:
        stages: kinds.
        guided: whether a force field predicts the energies of samples.
        compared: whether there is a reference. Without it energies are above the run's own lowest,
            and only the absolute ones compare between runs.
    """
    # an evaluation counts what was sampled again
    again = {"gen/n", "gen/frac_finite"}
    wanted = {*stages, "all"}
    found = {
        m.name
        for m in METRICS.values()
        if m.stage in wanted or ("evaluate" in wanted and m.name in again)
    }
    if not guided:
        found = {name for name in found if not name.startswith("gen_predicted/")}
    if not compared:
        found = {name for name in found if not METRICS[name].compared}
    return frozenset(found)
