"""The settings of `surfdiff benchmark`."""

from typing import Annotated, Literal

from annotated_types import Ge
from pydantic import Field, Strict

from experiments.harness.config.fields import Count, Name, Natural, Positive, Section


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
