"""The registry of metrics: name, title, unit, direction and stage of every number that runs report.

Names are those of summary.json, metrics.jsonl and W&B.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

Direction = Literal["minimize", "maximize"]
ENERGY_UNIT = "eV above the reference minimum"
SHARE = "share"
"""The unit of a share of structures, which `count` turns into a number of them."""
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
    """`SHARE` for a share of structures; empty for a number without one."""
    direction: Direction | None
    """Which values are better; None where neither is."""
    stage: str
    """Kind of the stage whose summary holds it; "all" for a pipeline's own, "train" for rows that
    trainings log."""
    compared: bool = False
    """Whether it needs a reference to compare with."""
    targeted: bool = False
    """Whether it needs a target."""

    @property
    def label(self) -> str:
        """Title with the unit in brackets."""
        return f"{self.title} ({self.unit})" if self.unit not in ("", SHARE) else self.title


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
    Metric("gen/frac_finite", "Finite structures", SHARE, "maximize", "sample"),
    Metric("gen/structures_per_second", "Structures sampled per second", "", "maximize", "sample"),
    *_energies("gen_predicted", "sample", absolute=False),
    Metric("gen/frac_valid", "Valid structures", SHARE, "maximize", "evaluate"),
    Metric("gen/frac_unique", "Different structures", SHARE, "maximize", "evaluate"),
    Metric("gen/failed", "Number of failed relaxations", "", "minimize", "evaluate"),
    Metric("gen/relax_steps_mean", "Relaxation steps per structure", "", "minimize", "evaluate"),
    Metric(
        "gen/hit_rate", "Hits of random search's lowest minimum", SHARE, "maximize", "evaluate",
        True,
    ),
    Metric(
        "gen/frac_below_reference", "Below random search's lowest minimum", SHARE, "maximize",
        "evaluate", True,
    ),
    Metric(
        "gen_relaxed/frac_converged", "Converged relaxations", SHARE, "maximize", "evaluate"
    ),
    Metric(
        "gen_relaxed/frac_adsorbed", "Structures on the surface", SHARE, "maximize", "evaluate"
    ),
    *_energies("gen", "evaluate", absolute=True),
    *_energies("gen_relaxed", "evaluate", absolute=True),
    Metric("recall/structures", "Known structures that were noised", "", None, "recall"),
    Metric("recall/n", "Draws of the noise", "", None, "recall"),
    Metric("label/n", "Number of labelled structures", "", None, "label"),
    Metric("label/failed", "Number of structures without a label", "", "minimize", "label"),
    Metric("label/cpu_seconds", "Time of all labels, CPU", "s", "minimize", "label"),
    Metric("rss/hit_rate", "Hits of random search itself", SHARE, None, "evaluate", True),
    Metric("rss/n", "Number of minima of random search", "", None, "evaluate", True),
    Metric("rss/relax_steps_mean", "Relaxation steps of random search", "", None, "evaluate", True),
    Metric("rss/energy_mean", "Mean energy, random search", ENERGY_UNIT, None, "evaluate", True),
    Metric(
        "rss/energy_median", "Median energy, random search", ENERGY_UNIT, None, "evaluate", True
    ),
    Metric("target/n", "Structures compared with the target", "", None, "evaluate", False, True),
    Metric("target/hits", "Hits of the target", "", "maximize", "evaluate", False, True),
    Metric("target/closest", "Smallest distance to the target", "Å", "minimize", "evaluate",
           False, True),
    Metric("target/energy", "Energy of the target", ENERGY_UNIT, None, "evaluate", True, True),
    Metric("target/lower", "Different surfaces below the target", "", None, "evaluate", False,
           True),
    Metric("rss/target_hits", "Hits of the target by random search", "", None, "evaluate", True,
           True),
    *(Metric(f"seconds/{s}", f"Time of {t}", "s", "minimize", s) for s, t in STAGES.items()),
    Metric("seconds/all", "Time of the whole run", "s", "minimize", "all"),
]  # fmt: skip
_LOGGED = [
    Metric("train/step", "Step", "", None, "train"),
    Metric("train/loss", "Training loss", "", "minimize", "train"),
    Metric("train/learning_rate", "Learning rate", "", None, "train"),
    Metric("train/grad_norm", "Gradient norm", "", None, "train"),
    Metric("train/structures_per_second", "Structures per second", "", "maximize", "train"),
    Metric("val/loss", "Validation loss", "", "minimize", "train"),
]
METRICS = {metric.name: metric for metric in [*_RESULTS, *_LOGGED]}

_TRAINING = frozenset(metric.name for metric in _LOGGED)
REPORTED: dict[str, frozenset[str]] = {
    "forcefield": _TRAINING | {"forcefield/energy_mae", "forcefield/force_mae"},
    "score": _TRAINING,
    "sample": frozenset(),
    "evaluate": frozenset(),
}
"""In the rows that a stage logs while it runs."""


def metric(name: str) -> Metric:
    """Return a metric of the registry; that of a labelled stage has the label in its title.

    A name that is in no registry is its own title.
    """
    label, _, rest = name.partition("/")
    if name not in METRICS and rest in METRICS:
        return replace(METRICS[rest], name=name, title=f"{METRICS[rest].title}, {label}")
    return METRICS.get(name) or Metric(name, name, "", None, "")


def metric_title(name: str) -> str:
    """Return a metric's title with its unit (see `metric`)."""
    return metric(name).label


def common_title(names: Sequence[str]) -> str:
    """Return the title of what these metrics have in common: "Loss" of two losses."""
    words = [metric(name).title.split() for name in names]
    if len(words) == 1:
        return metric_title(names[0])
    same = [w[0] for w in zip(*(reversed(w) for w in words), strict=False) if len({*w}) == 1]
    return " ".join(reversed(same)).capitalize() or names[0].partition("/")[2]


def count(summary: Mapping[str, Any], name: str) -> tuple[int, int]:
    """Return how many structures a share stands for, and of how many it is.

    Of random search all but the lowest count: that is no hit of its own.
    """
    total = summary["rss/n"] - 1 if name.startswith("rss/") else summary["gen/n"]
    return round((summary[name] or 0) * total), total


NO_SURFACE = "off the surface or with overlapping atoms"
"""Relaxed structures that `gen_relaxed/frac_adsorbed` does not count."""


def target_text(summary: Mapping[str, Any]) -> str:
    """Return how often the target was found, in a sentence."""
    hits, n = summary["target/hits"], summary["target/n"]
    text = f"{hits} of {n} relaxed to the target at {summary['target/energy']:+.2f} eV"
    if summary.get("target/closest") is not None:
        text += f", the closest {summary['target/closest']:.2f} Å from it"
    if "rss/target_hits" in summary:
        text += f"; of random search {summary['rss/target_hits']} of {summary['rss/n']}"
    return f"{text}; {summary['target/lower']} different surfaces lie lower"


def metrics_of(
    kind: str, guided: bool = True, compared: bool = True, targeted: bool = False
) -> frozenset[str]:
    """Return the names in the summary of a stage of this kind.

    Args:
        kind: forcefield, score, sample or evaluate.
        guided: whether a force field predicts the energies of samples.
        compared: whether there is a reference. Without it energies are above the run's own lowest,
            and only the absolute ones compare between runs.
        targeted: whether there is a target.
    """
    found = {m.name for m in METRICS.values() if m.stage == kind}
    found -= {name for name in found if name.startswith("seconds/")}  # the pipeline's own
    if kind == "evaluate":  # it counts what was sampled again
        found |= {"gen/n", "gen/frac_finite"}
    if not guided:
        found = {name for name in found if not name.startswith("gen_predicted/")}
    if not compared:
        found = {name for name in found if not METRICS[name].compared}
    if not targeted:
        found = {name for name in found if not METRICS[name].targeted}
    return frozenset(found)
