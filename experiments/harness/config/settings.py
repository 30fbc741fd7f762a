"""What a valid config is: unknown keys and values out of range are refused before any compute.

Hydra merges whatever it is given; these models are the check of the composed result. Nodes with a
`_target_` are checked by the object that they build.
"""

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal, Self

from annotated_types import Ge, Gt, Le, Lt
from pydantic import Field, model_validator

from experiments.harness.config.benchmark_settings import Benchmark
from experiments.harness.config.fields import (
    LARGEST,
    Count,
    Formula,
    Name,
    Natural,
    NonNegative,
    Positive,
    Section,
    Settings,
    Share,
    Target,
    Window,
)
from experiments.harness.config.renamed import former_keys, new_name


class Network(Target):
    """painnx's networks, whose layers would complain in torch's words."""

    features: Annotated[int, Ge(2), Le(LARGEST["features"])] = 64
    blocks: Annotated[int, Ge(1), Le(LARGEST["blocks"])] = 1
    n_radial: Annotated[int, Ge(2), Le(LARGEST["n_radial"])] = 20
    backend: Literal["auto", "eager", "numba", "inductor"] = "auto"


class Diffusion(Target):
    """vpsde compares the two."""

    beta_min: NonNegative = 0.0
    beta_max: NonNegative = 1.0


class Workers(Target):
    max_workers: Count = 1


class Tracking(Section):
    service: Literal["wandb", "trackio"] = "wandb"
    mode: Literal["online", "offline", "disabled"] | None = None
    id: str | None = None
    project: str | None = None
    entity: str | None = None
    group: str | None = None
    tags: list[str] = []


class Template(Section):
    slab: str
    z_range: Window | None


class Run(Section):
    name: Name
    output: str
    seed: Natural
    tracking: Tracking


class Relaxation(Section):
    fmax: Positive
    max_steps: Count
    max_step: Positive


class Surrogate(Section):
    model: str | None
    trust_radius: Positive | None
    first: Count
    growth: Annotated[float, Gt(1)]
    training: list[str]


class BasinHopping(Section):
    hops: Count
    temperature: Positive
    displacement: Positive


class GenerateData(Run):
    @model_validator(mode="after")
    def _hops_on_the_calculator(self) -> Self:
        if self.basin_hopping is not None and (self.surrogate or self.extend) is not None:
            raise ValueError("basin_hopping takes surrogate=null and extend=null")
        return self

    @model_validator(mode="before")
    @classmethod
    def _composition_is_compositions(cls, config: dict[str, Any]) -> dict[str, Any]:
        """One formula is a list of one, so that both ways to write it are the same run."""
        if (single := config.pop("composition", None)) is not None:
            config["compositions"] = [single]
        return config

    template: Template
    compositions: Annotated[list[Formula], Field(min_length=1)]
    n_per_composition: Count
    min_distances: dict[str, Positive]
    relaxation: Relaxation
    frames_per_minimum: Annotated[int, Ge(2)]
    task_size: Count
    surrogate: Surrogate | None
    basin_hopping: BasinHopping | None = None
    target: str | None = None
    extend: str | None
    calculator: Target
    executor: Workers


class TrustedModel(Section):
    model: str | None
    trust_radius: Positive


class SearchCost(Section):
    name: Name
    output: str
    tracking: Tracking
    extend: str
    surrogate: TrustedModel
    candidates: Annotated[int, Ge(2)]
    skip: Natural
    fmax: Annotated[list[Positive], Field(min_length=1)]
    max_steps: Count
    task_size: Count
    executor: Workers


class Keys(Section):
    energy: str | None = None
    forces: str | None = None


class Data(Section):
    path: str
    frames: str | None
    minus: str | None = None
    keys: Keys = Keys()
    constraints: str | None = None
    max_energy: Positive
    max_force: Positive = 0.2
    oxygen: Literal["all", "poor", "rich"]
    distinct: bool = True
    share: Annotated[float, Gt(0), Le(1)] | None = None
    z_range: Window
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
    validation_at_most: Count | None
    validate_every: Count
    checkpoint_every: Count
    log_every: Count


class ScoreTask(Section):
    kind: Literal["score"]
    network: Network
    time_power: Positive
    properties: Annotated[list[Literal["energy", "composition"]], Field(min_length=1)] | None = None


class ForceFieldTask(Section):
    kind: Literal["forcefield"]
    network: Network
    energy_weight: NonNegative
    force_weight: NonNegative


class Train(Run):
    data: Data
    task: ScoreTask | ForceFieldTask = Field(discriminator="kind")
    sde: Diffusion
    train: Optimisation
    cutoff: Annotated[float, Gt(0), Le(LARGEST["cutoff"])]
    neighbours: Literal["auto", "torch", "cluster"]
    device: str
    threads: Count | None


class Sampler(Section):
    steps: Count
    time_power: Positive
    noise: Literal["ancestral", "euler"]
    noisy_end: bool
    solver: Literal["euler", "multistep", "heun"] = "euler"
    corrector: Annotated[float, Gt(0), Le(1)] | None = None

    @model_validator(mode="after")
    def _of_one_kind(self) -> Self:
        if self.solver != "euler" and (self.noise != "ancestral" or self.noisy_end):
            raise ValueError(
                f"the solver {self.solver} has no noise of Eq. 2: take sampler=paper, or "
                "sampler=ancestral and its noise"
            )
        return self


class Guide(Section):
    eta_dt: NonNegative
    max_force: Positive | None
    descent_steps: Natural
    fmax: Positive | None = None


class Condition(Section):
    energy: NonNegative | None
    weight: NonNegative


class Sample(Run):
    score: str | None
    forcefield: str | None
    template: Template
    composition: Formula
    n: Count
    batch_size: Count
    sampler: Sampler
    guide: Guide | None
    condition: Condition | None = None
    allow_other_z_range: bool
    neighbours: Literal["auto", "torch", "cluster"]
    device: str
    compile: bool
    threads: Count | None


class Recall(Run):
    score: str | None
    forcefield: str | None
    structures: str
    lowest: Count
    draws: Count
    sigmas: Annotated[list[Positive], Field(min_length=1)]
    sampler: Sampler
    guide: Guide | None
    relaxation: Relaxation
    tolerance: Positive
    batch_size: Count
    neighbours: Literal["auto", "torch", "cluster"]
    device: str
    threads: Count | None


class Evaluate(Run):
    name: Name | None  # type: ignore[assignment]  # null: as the sample's
    sample: str | None
    reference: str | None
    target: str | None
    reference_keys: Keys = Keys()
    relaxation: Relaxation
    tolerance: Positive
    calculator: Target | None = None  # null: that of the data which the networks learned from
    executor: Workers


class FewSteps(Relaxation):
    max_steps: Natural  # type: ignore[assignment]  # 0: not at all


class Label(Run):
    name: Name | None  # type: ignore[assignment]  # null: as the file
    structures: str | None
    frames: Annotated[list[Natural], Field(min_length=1)] | None = None
    lowest: Count | None = None
    relaxation: FewSteps
    calculator: Target
    executor: Workers


class Poscar(Section):
    kind: Literal["poscar"]


class Vasp(Section):
    kind: Literal["vasp"]
    kpt_density: Positive
    potentials: dict[str, str]
    incar: dict[str, Any]


class Gpaw(Section):
    kind: Literal["gpaw"]
    ecut: Positive
    xc: str
    kpt_density: Positive
    width: NonNegative
    fmax: Positive
    max_steps: Count


class Convert(Section):
    name: Name | None
    output: str
    source: str | None
    n: Count
    format: Poscar | Vasp | Gpaw = Field(discriminator="kind")


class Rank(Run):
    labels: dict[str, str] | None
    structure: str | None = None
    reference: str | None


SCHEMAS: dict[str, type[Settings]] = {
    "generate_data": GenerateData,
    "search_cost": SearchCost,
    "train": Train,
    "sample": Sample,
    "evaluate": Evaluate,
    "recall": Recall,
    "label": Label,
    "rank": Rank,
    "convert": Convert,
    "benchmark": Benchmark,
}


def checked(entry: str, content: Mapping[str, Any], overrides: Iterable[str] = ()) -> Any:
    """Return the settings of a command, made of nested plain values.

    Raises ValueError, naming the first wrong key, for what is not valid for the command.
    """
    given = {key: value for key, value in content.items() if key != "experiment"}
    for key in former_keys(given):  # objects to build take any argument
        raise ValueError(f"there is no config key {key}{new_name(key)}")
    settings = SCHEMAS[entry].of(given)
    vars(settings)["overrides"] = tuple(overrides)
    return settings
