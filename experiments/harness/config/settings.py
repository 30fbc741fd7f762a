"""What a valid config is: unknown keys and values out of range are refused before any compute.

Hydra merges whatever it is given; these models are the check of the composed result. Nodes with a
`_target_` are checked by the object that they build.
"""

from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Annotated, Any, Literal, Self

from annotated_types import Ge, Gt, Le, Lt
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    Strict,
    ValidationError,
    model_validator,
)

from experiments.harness.config.renamed import former_keys, new_name


def _above_the_slab(window: tuple[float, float]) -> tuple[float, float]:
    if not 0 < window[0] < window[1]:
        raise ValueError("a window is [low, high] with 0 < low < high, Å above the slab")
    return window


def _one_folder(name: str) -> str:
    if not name.strip() or name[0] in ".~-" or not name.isprintable() or set(name) & set("/\\"):
        raise ValueError("a name is that of one folder: letters, digits, _ . + - and no path")
    if len(name.encode()) > 200:
        raise ValueError("a name has at most 200 bytes")
    return name


Name = Annotated[str, AfterValidator(_one_folder)]
"""Of a run: its folder lies in the one of its command, and nowhere else."""
Count = Annotated[int, Ge(1)]
Natural = Annotated[int, Ge(0)]
Positive = Annotated[float, Gt(0)]
NonNegative = Annotated[float, Ge(0)]
Share = Annotated[float, Ge(0), Lt(1)]


def _readable(composition: str) -> str:
    from sdedata.composition import parse_formula  # brings numpy and ASE's tables

    parse_formula(composition)
    return composition


Formula = Annotated[str, AfterValidator(_readable)]
Window = Annotated[tuple[float, float], Strict(False), AfterValidator(_above_the_slab)]


class Settings(BaseModel):
    """A part of a config: typed, checked, immutable."""

    model_config = ConfigDict(frozen=True, protected_namespaces=())

    @cached_property
    def overrides(self) -> tuple[str, ...]:
        """What the command line, or a stage of an experiment, changed: KEY=VALUE. No field."""
        return ()

    def plain(self) -> dict[str, Any]:
        """Return the nested dict of the keys that were given: what config.yaml stores."""
        return self.model_dump(mode="json", by_alias=True, exclude_unset=True)

    def changed(self, values: Mapping[str, Any]) -> Self:
        """Return a checked copy with other values at dotted keys, such as "sampler.steps"."""
        content = self.plain()
        for key, value in values.items():
            *parents, last = key.split(".")
            where = content
            for parent in parents:
                if not isinstance(where.get(parent), dict):
                    raise ValueError(f"there is no config key {key}{new_name(key)}")
                where = where[parent]
            where[last] = value
        new = type(self).of(content)
        vars(new)["overrides"] = self.overrides
        return new

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> Self:
        """Check nested plain values; ValueError that names the first wrong key."""
        try:
            return cls.model_validate(content)
        except ValidationError as error:
            raise ValueError(in_words(error)) from error


class Section(Settings):
    """Keys that are all known."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class Target(Settings):
    """An object to build; its arguments are checked by itself."""

    model_config = ConfigDict(extra="allow")
    target: str = Field(alias="_target_")


class Network(Target):
    """painnx's networks, whose layers would complain in torch's words."""

    features: Annotated[int, Ge(2)] = 64
    blocks: Count = 1
    n_radial: Annotated[int, Ge(2)] = 20
    backend: Literal["auto", "eager", "numba", "inductor"] = "auto"


class Diffusion(Target):
    """vpsde compares the two."""

    beta_min: NonNegative = 0.0
    beta_max: NonNegative = 1.0


class Workers(Target):
    max_workers: Count = 1


class Tracking(Section):
    mode: Literal["online", "offline", "disabled"] | None
    id: str | None
    project: str | None
    entity: str | None
    group: str | None
    tags: list[str]


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


class GenerateData(Run):
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
    cutoff: Positive
    neighbours: Literal["auto", "torch", "cluster"]
    device: str
    threads: Count | None


class Sampler(Section):
    steps: Count
    time_power: Positive
    noise: Literal["ancestral", "euler"]
    noisy_end: bool
    solver: Literal["euler", "multistep", "heun"] = "euler"


class Guide(Section):
    eta_dt: NonNegative
    max_force: Positive | None
    descent_steps: Natural
    fmax: Positive | None = None


class Sample(Run):
    score: str | None
    forcefield: str | None
    template: Template
    composition: Formula
    n: Count
    batch_size: Count
    sampler: Sampler
    guide: Guide | None
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
    reference: str | None


class Peers(Section):
    agedi: str | None


class NetworkSize(Section):
    features: Annotated[int, Ge(2)]
    blocks: Count
    n_radial: Annotated[int, Ge(2)]


class TimedRelaxation(Section):
    structures: Count
    one_by_one: Count
    fmax: Positive
    max_steps: Count
    training_steps: Count
    potentials: list[str]
    potential_structures: Count


class Growth(Section):
    repeats: Annotated[list[Annotated[tuple[Count, Count], Strict(False)]], Field(min_length=1)]
    batches: Annotated[list[Count], Field(min_length=1)]
    cutoffs: Annotated[list[Positive], Field(min_length=1)]


class Benchmark(Section):
    name: Name
    output: str
    seed: Natural
    device: str
    threads: Count
    rounds: Count
    peers: Peers
    network: NetworkSize
    cutoff: Positive
    compile: bool | None
    batch_size: Count | None
    training_steps: Count
    cells: Annotated[list[Literal["p3x3", "p4x4", "p3x3_2x2", "p4x4_2x2"]], Field(min_length=1)]
    structures: Count | None
    steps: Count
    relaxation: TimedRelaxation
    growth: Growth


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


NOT_KEYS = ("bool", "int", "float", "str", "[key]")
"""What pydantic adds to the path of a value: the type that it tried, or that a key is wrong."""


def in_words(error: ValidationError) -> str:
    """The first thing that is wrong, with its key."""
    first = error.errors()[0]
    path = [str(part) for part in first["loc"] if part not in NOT_KEYS]
    if not path:
        return str(first["msg"]).removeprefix("Value error, ")
    if path[0] in ("task", "format"):
        del path[1:2]  # which of the two schemas it was
    key = ".".join(path)
    if first["type"] == "extra_forbidden":
        return f"there is no config key {key}{new_name(key)}"
    if first["type"] == "missing":
        return f"config key {key} is missing"
    return f"config key {key}: {first['msg'].removeprefix('Value error, ')}, got {first['input']!r}"
