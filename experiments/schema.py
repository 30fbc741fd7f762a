"""What a valid config is: unknown keys and values out of range are refused before any compute.

Hydra merges whatever it is given; these models are the check of the composed result. Nodes with a
`_target_` are checked by the object that they build.
"""

from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Lt
from omegaconf import DictConfig, OmegaConf
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

Count = Annotated[int, Ge(1)]
Natural = Annotated[int, Ge(0)]
Positive = Annotated[float, Gt(0)]
NonNegative = Annotated[float, Ge(0)]
Share = Annotated[float, Ge(0), Lt(1)]
Window = tuple[float, float]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=False, protected_namespaces=())


class Target(BaseModel):
    """An object to build; its arguments are checked by itself."""

    model_config = ConfigDict(extra="allow")
    target: str = Field(alias="_target_")


class Tracking(Section):
    mode: Literal["online", "offline", "disabled"] | None
    project: str
    entity: str | None
    group: str | None
    tags: list[str]


class Template(Section):
    slab: str
    window: Window | None

    @model_validator(mode="after")
    def ordered(self) -> "Template":
        if self.window is not None and not self.window[0] < self.window[1]:
            raise ValueError(f"window must be [low, high] with low < high, not {self.window}")
        return self


class Run(Section):
    name: str
    output: str
    seed: Natural
    tracking: Tracking


class Relaxation(Section):
    fmax: Positive
    max_steps: Count
    max_step: Positive


class GenerateData(Run):
    template: Template
    compositions: Annotated[list[str], Field(min_length=1)]
    n_per_composition: Count
    min_distances: dict[str, Positive]
    relaxation: Relaxation
    frames_per_minimum: Annotated[int, Ge(2)]
    calculator: Target
    executor: Target


class Data(Section):
    path: str
    frames: str | None
    within: Positive
    oxygen: Literal["all", "poor", "rich"]
    window: Window
    max_repeats: Count


class Optimisation(Section):
    steps: Count
    batch_size: Count
    learning_rate: Positive
    weight_decay: NonNegative
    warmup: Natural
    clip: Positive
    ema: Share
    validation_share: Annotated[float, Gt(0), Lt(1)]
    validate_every: Count
    checkpoint_every: Count
    log_every: Count


class ScoreTask(Section):
    kind: Literal["score"]
    network: Target
    refine_times: Positive


class ForceFieldTask(Section):
    kind: Literal["forcefield"]
    network: Target
    energy_weight: NonNegative
    force_weight: NonNegative


class Train(Run):
    data: Data
    task: ScoreTask | ForceFieldTask = Field(discriminator="kind")
    sde: Target
    train: Optimisation
    cutoff: Positive
    neighbours: Literal["torch", "cluster"]
    device: str
    threads: Count | None


class Sampler(Section):
    steps: Count
    refine: Positive
    noise: Literal["ancestral", "euler"]
    noisy_end: bool


class Guide(Section):
    eta_dt: NonNegative
    max_force: Positive | None
    descent_steps: Natural


class Sample(Run):
    score: str | None
    forcefield: str | None
    template: Template
    composition: str
    n: Count
    batch_size: Count
    sampler: Sampler
    guide: Guide | None
    allow_other_window: bool
    neighbours: Literal["torch", "cluster"]
    device: str
    threads: Count | None


class Evaluate(Run):
    sample: str | None
    reference: str | None
    relaxation: Relaxation
    tolerance: Positive
    calculator: Target
    executor: Target


class Quickstart(Section):
    name: str
    output: str
    seed: Natural
    threads: Count | None
    tracking_mode: Literal["online", "offline", "disabled"] | None
    forcefield: list[str]
    score: list[str]
    sample: list[str]
    evaluate: list[str]


SCHEMAS: dict[str, type[BaseModel]] = {
    "generate_data": GenerateData,
    "train": Train,
    "sample": Sample,
    "evaluate": Evaluate,
    "quickstart": Quickstart,
}


def check(entry: str, config: DictConfig) -> None:
    """ValueError, naming the first wrong key, unless the config is valid for the entry point."""
    plain: Any = OmegaConf.to_container(config, resolve=True)
    plain.pop("experiment", None)
    try:
        SCHEMAS[entry].model_validate(plain)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"] if part not in ("score", "forcefield"))
        got = "" if first["type"] in ("extra_forbidden", "missing") else f", got {first['input']!r}"
        raise ValueError(f"config key {key}: {first['msg']}{got}") from error
