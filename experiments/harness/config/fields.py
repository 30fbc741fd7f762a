"""Of what settings are made: typed fields, sections that know all their keys, errors in words."""

from collections.abc import Mapping
from functools import cached_property
from typing import Annotated, Any, Self

from annotated_types import Ge, Gt, Le, Lt
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, Strict, ValidationError

from experiments.harness.config.renamed import new_name


def _above_the_slab(window: tuple[float, float]) -> tuple[float, float]:
    if not 0 < window[0] < window[1]:
        raise ValueError("a z range is [low, high] with 0 < low < high, Å above the slab")
    return window


def _one_folder(name: str) -> str:
    if not name.strip() or name[0] in ".~-" or not name.isprintable() or set(name) & set("/\\"):
        raise ValueError("a name is that of one folder: letters, digits, _ . + - and no path")
    if len(name.encode()) > 200:
        raise ValueError("a name has at most 200 bytes")
    return name


Name = Annotated[str, AfterValidator(_one_folder)]
"""Of a run: its folder lies in the one of its command, and nowhere else."""
MOST, LAST_SEED = 10_000_000, 2**32 - 1
LARGEST = {"features": 4096, "blocks": 100, "n_radial": 1024, "cutoff": 50.0, "properties": 200}
"""Of a network, in a file or a config: larger ones are refused."""
Count = Annotated[int, Ge(1), Le(MOST)]
"""Of structures, steps or workers: more fill the memory before anything is done."""
Natural = Annotated[int, Ge(0), Le(LAST_SEED)]
"""A seed, as NumPy's and Optuna's may be, or a number of steps."""
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
