"""What the files of a run folder may hold, and the one way in which they are read.

A run folder is input: it may be damaged, or a stranger's. A file that does not hold what it should
is refused in one sentence: which file, where in it, what is wrong, and what to do about it.
"""

from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn, Self

import yaml
from annotated_types import Ge, Gt, Le
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    RootModel,
    Strict,
    ValidationError,
    model_validator,
)

from experiments.harness.runs.strict_parsing import parse_json, parse_yaml, reason

LARGEST = 50_000_000
"""Bytes of a YAML or JSON file."""
CURVES = ("train/", "val/", "forcefield/")
"""Beginnings of the names of metrics that have a value per step."""

Natural = Annotated[int, Ge(0)]
Positive = Annotated[float, Gt(0)]
Number = float | int | None
Element = Annotated[int, Ge(1), Le(118)]


def _ordered(window: tuple[float, float]) -> tuple[float, float]:
    if not 0 < window[0] < window[1]:
        raise ValueError("a z range is [low, high] with 0 < low < high")
    return window


def _inside(path: str) -> str:
    if Path(path).is_absolute() or ".." in Path(path).parts or "\0" in path:
        raise ValueError("the path leads out of the folder")
    return path


Window = Annotated[tuple[float, float], Strict(False), AfterValidator(_ordered)]
Inside = Annotated[str, AfterValidator(_inside)]
Target = dict[str, JsonValue]


class Record(BaseModel):
    """Known keys have their types; others are plain values."""

    model_config = ConfigDict(strict=True, extra="allow", allow_inf_nan=False)
    __pydantic_extra__: dict[str, JsonValue]


class Steps(Record):
    steps: Natural | None = None


class Labels(Record):
    """By which names a file's labels are known."""

    model_config = ConfigDict(strict=True, extra="forbid")
    energy: str | None = None
    forces: str | None = None


class Recorded(Record):
    """config.yaml."""

    n: Natural | None = None
    cutoff: Positive | None = None
    window: Window | None = None
    tracking: "Tracked | None" = None
    train: Steps | None = None
    task: Target | None = None
    calculator: Target | None = None
    relaxation: dict[str, JsonValue] | None = None
    reference: str | None = None
    reference_keys: Labels | None = None
    sampled: dict[str, JsonValue] | None = None
    stages: dict[str, JsonValue] | None = None


class Tracked(Record):
    """tracking.json: which W&B run this is, and how it ended."""

    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)
    id: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")] | None = None
    service: str | None = None
    mode: str | None = None
    project: str | None = None
    entity: str | None = None
    group: str | None = None
    job_type: str | None = None
    name: str | None = None
    tags: list[str] | None = None
    exit_code: int | None = None


class Row(Record):
    """A line of metrics.jsonl."""

    event: str | None = None
    step: Annotated[Natural, Field(alias="train/step")] = 0
    name: str | None = None
    energies: list[Number] | None = None
    file: str | None = None
    type: str | None = None
    picture: Inside | None = None
    captions: list[str] | None = None
    columns: list[str] | None = None
    rows: list[list[JsonValue]] | None = None
    indices: list[Natural] | None = None
    seconds: Annotated[float, Ge(0)] | None = None

    @model_validator(mode="after")
    def _complete(self) -> Self:
        needed = {
            "energies": ("name", "energies"), "figure": ("name", "file"), "batch": ("indices",),
            "structures": ("name", "file"), "table": ("name", "columns", "rows"),
            "page": ("name", "file"), "makes": ("name", "file", "type"), "uses": ("name", "type"),
        }.get(self.event or "", ())  # fmt: skip
        missing = [name for name in needed if getattr(self, name) is None]
        if missing:
            raise ValueError(f"an event {self.event!r} needs {missing[0]}")
        if self.file is not None:
            _inside(self.file)
        for key, value in (self.__pydantic_extra__ or {}).items():
            if key.startswith(CURVES) and not isinstance(value, Number):
                raise ValueError(f"{key} is {value!r:.40}, not a number")
        return self


class Summary(RootModel[dict[str, str | bool | float | int | None]]):
    """summary.json: flat."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False)


class Facts(Record):
    """data.json: what a network learns from."""

    data: str
    digest: str
    structures: Natural
    elements: Annotated[list[Element], Field(min_length=1)]
    compositions: list[str]
    window: Window
    calculator: Target | str | None = None
    minus: Target | None = None
    """What the labels had subtracted: those of this calculator."""


class Card(Facts):
    """The card of a model: what it was trained on, and where it may be used."""

    cutoff: Positive
    steps: Natural
    losses: dict[str, Number]
    sde: Target
    properties: list[Literal["energy", "composition"]] | None = None


class Overrides(RootModel[list[str]]):
    """overrides.yaml: KEY=VALUE."""

    model_config = ConfigDict(strict=True)


FORMS: dict[str, tuple[type[BaseModel], str]] = {
    "config.yaml": (Recorded, "restore it, or remove the folder and start anew"),
    "summary.json": (Summary, "delete it and repeat the command, which writes it anew"),
    "tracking.json": (Tracked, "delete it: the run is then mirrored under the name of its place"),
    "overrides.yaml": (Overrides, "delete it"),
    "environment.json": (Record, "delete it and repeat the command, which writes it anew"),
    "data.json": (Facts, "delete it and repeat the command, which writes it anew"),
}
"""What each file holds, and what helps if it does not."""


def read_record(path: Path) -> Any:
    """Read one of the files in `FORMS`; empty if there is none.

    Raises ValueError for one that is too large, no YAML or JSON, or not of its form.
    """
    if not path.is_file():
        return {}
    form, remedy = FORMS[path.name]
    if path.stat().st_size > LARGEST:
        refuse(path, f"has more than {LARGEST // 10**6} MB", remedy)
    try:
        text = path.read_text(encoding="utf-8")
        content = parse_yaml(text) if path.suffix == ".yaml" else parse_json(text)
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        refuse(path, f"cannot be read: {reason(error)}", remedy)
    return checked_as(form, content, str(path), remedy)


def checked_as(form: type[BaseModel], content: Any, where: str, remedy: str) -> Any:
    """Return plain values that are of a form; ValueError, beginning with `where`, otherwise."""
    if content is None or (form is Recorded and not content):
        refuse(where, "is empty", remedy)
    try:
        form.model_validate(content)
    except ValidationError as error:
        refuse(where, invalid(error), remedy)
    except RecursionError:
        refuse(where, "is nested too deeply", remedy)
    return content


def refuse(where: str | Path, what: str, remedy: str) -> NoReturn:
    """Raise ValueError: where, what is wrong, and what to do."""
    raise ValueError(f"{where} {what}; {remedy}")


def invalid(error: ValidationError) -> str:
    """Describe the first fault that pydantic found: the key, what is wrong, what is there."""
    first = error.errors()[0]
    parts = [str(part) for part in first["loc"]]
    key = ".".join(part for part in parts if not part.startswith(("tuple[", "list[")))
    what = first["msg"].removeprefix("Value error, ")
    at = f"is wrong at {key}: " if key else "is wrong: "
    if first["type"] == "missing":
        return f"lacks {key}"
    return f"{at}{what}, got {first['input']!r:.60}"
