"""What the summary of a pipeline will hold, known from its plan."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.harness.pipeline.stages import Stage
from experiments.harness.runs.metrics import metrics_of


def promised(stages: Iterable[Stage], referenced: bool = False) -> frozenset[str]:
    """Return the names of the metrics that these stages report, as `stages.run` calls them.

    referenced  as if every evaluation had a random search to compare with
    """
    stages = list(stages)
    found = {"seconds/all", *(f"seconds/{stage.name}" for stage in stages)}
    for stage in stages:
        guided = stage.kind == "sample" and stage.config.forcefield is not None
        compared = referenced or stage.kind != "evaluate" or is_compared(stage, stages)
        targeted = stage.kind == "evaluate" and stage.config.target is not None
        prefix = f"{stage.label}/" if stage.label else ""
        found |= {prefix + name for name in metrics_of(stage.kind, guided, compared, targeted)}
    return frozenset(found)


def is_compared(evaluation: Stage, stages: Sequence[Stage]) -> bool:
    """Return whether there is random search of the surface that one of the stages samples.

    False for an evaluation of other samples: their surface is not known before they are read.
    ValueError if the energies' calculator is not known.
    """
    from experiments.harness.generation.reference import reference_set  # here: it imports torch
    from sdedata import Template, parse_formula
    from sdedata.reading import Reading

    source = evaluation.config.sample
    sample = next((s for s in stages if s.kind == "sample" and str(s.folder) == source), None)
    if sample is None:
        return False
    calculator = _calculator(evaluation, sample, stages)
    if calculator is None:
        raise ValueError(
            f"stages: {evaluation.name} needs calculator=NAME, as the score's data do not record "
            "theirs"
        )
    template = Template.load(sample.config.template.slab, sample.config.template.z_range or (1, 5))
    count = sum(parse_formula(sample.config.composition).values())
    middle = np.tile([0.0, 0.0, sum(template.window) / 2], (count, 1))
    example = template.surface(sample.config.composition, middle)
    config = evaluation.config
    reading = Reading(**config.reference_keys.model_dump())
    relaxation = config.relaxation.plain()
    return reference_set(config.reference, example, calculator, relaxation, reading) is not None


def _calculator(evaluation: Stage, sample: Stage, stages: Sequence[Stage]) -> dict[str, Any] | None:
    """Return the evaluation's calculator, or that of the data which the score learns from."""
    from experiments.harness.training.checkpoint import load_model  # here: they import torch
    from experiments.harness.training.data import load_set

    if evaluation.config.calculator is not None:
        return evaluation.config.calculator.plain()
    score = Path(sample.config.score)
    training = next((one for one in stages if one.folder == score), None)
    if training is None:
        return load_model(score, "score").card["calculator"]
    data = training.config.data.path
    search = next((one for one in stages if one.folder in Path(data).parents), None)
    if search is None:
        return load_set(data).meta.get("calculator")
    return search.config.calculator.plain()
