"""The sweeps of this folder for W&B's own agents: surfdiff sweep agents

Writes sweeps/agents/NAME.yaml of every sweeps/NAME.yaml, for `wandb sweep sweeps/agents/NAME.yaml`
and `wandb agent`. W&B knows one metric and no constraints: it gets the first objective.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from sweeps.definition.reader import load
from sweeps.definition.sweep import Sweep

FOLDER = Path(__file__).parents[1]
HEAD = """# Made of sweeps/{name}.yaml by `surfdiff sweep agents`: change that one.
# {question}
"""


def wandb_sweep(sweep: Sweep, file: str) -> dict[str, Any]:
    """What `wandb sweep` reads."""
    name, direction = next(iter(sweep.objectives.items()))
    return {
        "name": sweep.name,
        "method": "grid" if sweep.is_grid else "bayes",
        "metric": {"name": name, "goal": direction},
        "parameters": {k: parameter(d) for k, d in sweep.distributions().items()},
        "run_cap": sweep.trials,
        "command": [
            "${env}", "${interpreter}", "-m", "experiments", "sweep", "trial", file,
            "${args_no_hyphens}",
        ],
    }  # fmt: skip


def parameter(distribution: BaseDistribution) -> dict[str, Any]:
    """A knob in W&B's words."""
    match distribution:
        case CategoricalDistribution(choices=choices):
            return {"values": list(choices)}
        case IntDistribution(low=low, high=high, log=log, step=step):
            kind = "q_log_uniform_values" if log else "q_uniform" if step > 1 else "int_uniform"
            steps = {"q": step} if kind != "int_uniform" else {}
            return {"distribution": kind, "min": low, "max": high, **steps}
        case FloatDistribution(low=low, high=high, log=log, step=step):
            kind = "log_uniform_values" if log else "uniform" if step is None else "q_uniform"
            return {"distribution": kind, "min": low, "max": high, **({"q": step} if step else {})}
    raise ValueError(f"W&B knows no {distribution}")


def written(sweep: Sweep) -> str:
    """The file."""
    content = yaml.safe_dump(
        wandb_sweep(sweep, f"sweeps/{sweep.name}.yaml"), sort_keys=False, width=100
    )
    return HEAD.format(name=sweep.name, question=sweep.question) + content


def main(arguments: Sequence[str]) -> None:
    if {"--help", "-h"} & set(arguments):
        print((__doc__ or "").strip())
        return
    for path in sorted(FOLDER.glob("*.yaml")):
        target = FOLDER / "agents" / path.name
        target.parent.mkdir(exist_ok=True)
        target.write_text(written(load(path)), encoding="utf-8")
        print(target.relative_to(FOLDER.parent))
