"""Experiment files: a claim and the stages that test it.

`experiments/NAME/experiment.yaml` is one. The file of a sweep is a claim and its stages too, with
other keys beside them, and is read here as well (`sweeps.definition.sweep.Sweep`).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Self, TypeVar

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import AfterValidator, Field, ValidationError, model_validator
from yaml import YAMLError

from experiments.harness.config.fields import Count, Natural, Section, in_words
from experiments.harness.config.renamed import former_keys, new_name
from experiments.harness.config.suggestions import hint
from experiments.harness.config.texts import QUOTES, from_home, texts_of
from experiments.harness.config.trust import require_no_resolver
from experiments.harness.pipeline import drawings
from experiments.harness.pipeline.claims import REPEAT, Claim, require_stages
from experiments.harness.pipeline.drawings import Drawing
from experiments.harness.pipeline.kinds import NETWORKS, stage_name
from experiments.harness.runs.strict_parsing import reason

FOLDER = Path(__file__).parents[2]
"""Where the experiments of this project are, in the checkout and in the installed package."""
FILE = "experiment.yaml"


def _stage(name: str) -> str:
    stage_name(name)
    return name


def _network(name: str) -> str:
    if stage_name(name).kind not in NETWORKS:
        raise ValueError(f"only networks stand in for stages: {', '.join(NETWORKS)}")
    return name


TRAINING = "{training}"
"""In the override of a stage: the end of the names of its training's stages."""
REPEATED = ("score", "sample", "evaluate", "recall")
"""Kinds of stages that are repeated for each training."""
Text = Annotated[str, Field(min_length=1)]
Stage = Annotated[str, AfterValidator(_stage)]
Network = Annotated[str, AfterValidator(_network)]


class ClaimAndStages(Section):
    """A claim, the stages that test it, and how to read what they find."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+$")]
    claim: Text
    paper: str | None = None
    """Figure or equation of the paper."""
    reading: Text
    cost: Text
    seed: Natural = 0
    models: dict[Network, str] = {}
    """Networks that no stage trains: the stage each stands for, and its folder or file."""
    stages: Annotated[dict[Stage, list[str]], Field(min_length=1)]
    """The overrides of each stage's command; {folder} in them is the folder of the file."""


class Experiment(ClaimAndStages):
    """A claim and its stages, with repeated trainings and what is measured and drawn in the end."""

    trainings: Count = 1
    """How often each score is trained, sampled and evaluated, with a seed of its own each time."""
    small: dict[Stage, list[str]] = {}
    """Further overrides of stages for a run that takes minutes, of one training each."""
    claims: list[Claim] = []
    """What is measured when the stages are done."""
    figures: list[Drawing] = []
    """What is drawn then."""

    @model_validator(mode="after")
    def _claims_and_figures_have_stages(self) -> Self:
        require_stages(self.claims, list(self.stages))
        drawings.require_stages(self.figures, list(self.stages))
        return self


E = TypeVar("E", bound=ClaimAndStages)
S = TypeVar("S", bound=Section)


def read(
    source: str | Path,
    overrides: Sequence[str] = (),
    small: bool = False,
    form: type[E] = Experiment,  # type: ignore[assignment]
) -> E:
    """Read an experiment and change it; ValueError, in one sentence, for one that is not valid.

    source     an experiment's folder, a YAML file, or the name of an experiment of this project
    overrides  STAGE.KEY=VALUE, appended to the overrides of that stage, or KEY=VALUE for a key of
               the file
    small      append the overrides under `small` to those of their stages first, and _small to
               the name of the file
    form       what the file holds: an experiment, or what is built on it
    """
    path = find(source)
    content = _content(path)
    content = {"name": name_of(path).split("/")[-1]} | content
    try:
        for key in former_keys(content):
            raise ValueError(f"there is no config key {key}{new_name(key)}")
        if small:
            _make_small(content)
        for override in overrides:
            _change(content, override, form)
        _repeat(content)
        _locate(content, path.parent.resolve())
        return form.model_validate(content)
    except ValidationError as error:
        raise ValueError(f"{path}: {in_words(error)}") from error
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def shipped() -> dict[str, Path]:
    """The experiments of this project: name (folder below `experiments/`) and file."""
    files = sorted(FOLDER.rglob(FILE))
    return {file.parent.relative_to(FOLDER).as_posix(): file for file in files}


def name_of(path: Path) -> str:
    """How the experiment in a file is called: as its folder, or as a file of another name.

    An experiment of this project is called by its place below `experiments/`.
    """
    known = {file: name for name, file in shipped().items()}
    resolved = path.resolve()
    own = resolved.parent.name if path.name == FILE else path.stem
    return known.get(resolved, own)


def find(source: str | Path) -> Path:
    """The file of an experiment; ValueError if there is none."""
    path = Path(source)
    if path.is_file():
        return path
    if (path / FILE).is_file():
        return path / FILE
    known = shipped()
    if str(source) in known:
        return known[str(source)]
    if path.is_dir():
        raise ValueError(f"{source} holds no {FILE}")
    if path.suffix in (".yaml", ".yml"):
        raise ValueError(f"there is no file {source}")
    raise ValueError(
        f"there is no experiment {source}: give a folder with {FILE}, a YAML file, or a name of "
        f"{', '.join(known)}{hint(str(source), known)}"
    )


def parsed(text: str) -> Any:
    """A value as YAML has it: 0.1 is a number, [a, b] a list, null None; ValueError otherwise."""
    try:
        content: Any = OmegaConf.to_container(OmegaConf.create(f"value: {text}"))
    except (YAMLError, OmegaConfBaseException) as error:
        raise ValueError(f"cannot read the value {text!r}") from error
    return content["value"]


def split_off(form: type[S], arguments: Sequence[str]) -> tuple[S, list[str]]:
    """Return the settings among KEY=VALUE arguments, checked, and the other arguments."""
    texts, given, rest = texts_of(form), dict[str, Any](), []
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if not equals or key not in form.model_fields:
            rest.append(argument)
        elif key in texts and value != "null" and not value.startswith(tuple(QUOTES)):
            given[key] = from_home(value)  # as typed: `sqlite:///:memory:` is no YAML
        else:
            given[key] = parsed(value)
    try:
        return form.model_validate(given), rest
    except ValidationError as error:
        raise ValueError(in_words(error)) from error


def _content(path: Path) -> dict[str, Any]:
    try:
        content: Any = OmegaConf.to_container(OmegaConf.load(path))
    except (YAMLError, ValueError, RecursionError, OmegaConfBaseException, OSError) as error:
        raise ValueError(f"{path} cannot be read as YAML: {reason(error)}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} is no experiment: it holds no KEY: VALUE")
    require_no_resolver(content, str(path))
    return content


def _stages(content: dict[str, Any]) -> dict[str, Any]:
    stages = content.get("stages")
    return stages if isinstance(stages, dict) else {}


def _make_small(content: dict[str, Any]) -> None:
    """Append the overrides under `small` to those of the stages."""
    small, stages = content.pop("small", None), _stages(content)
    if not isinstance(small, dict) or not small:
        raise ValueError("this experiment has no small form")
    for name, more in small.items():
        if name not in stages:
            raise ValueError(f"small: there is no stage {name}{hint(name, stages)}")
        stages[name] = [*(stages[name] or []), *more]
    content["name"] = f"{content['name']}_small"
    content["trainings"] = 1


def _repeat(content: dict[str, Any]) -> None:
    """Add the stages of further trainings, `score_a_seed1` to `score_a`, with other seeds.

    They count from the seed of the first: the stage's own, or that of the experiment.
    """
    trainings, seed, stages = content.get("trainings", 1), content.get("seed", 0), _stages(content)
    if not (type(trainings) is type(seed) is int):
        return  # the schema names what is wrong
    for name, own in list(stages.items()):
        if str(name).split("_")[0] not in REPEATED or not isinstance(own, list | None):
            continue
        texts = [str(o) for o in own or []]
        stages[name] = [text.replace(TRAINING, "") for text in texts]
        if trainings == 1:
            continue
        given = [text.removeprefix("seed=") for text in texts if text.startswith("seed=")]
        first = (given or [str(seed)])[-1]
        if not first.isdecimal():
            raise ValueError(f"stage {name}: seed={first} is no whole number from 0 on")
        for k in range(1, trainings):
            repeated = [text.replace(TRAINING, f"{REPEAT}{k}") for text in texts]
            stages[f"{name}{REPEAT}{k}"] = [*repeated, f"seed={int(first) + k}"]


def _change(content: dict[str, Any], override: str, form: type[ClaimAndStages]) -> None:
    """Apply one override of the command line."""
    key, equals, value = override.partition("=")
    if not equals:
        raise ValueError(f"cannot read {override!r} as KEY=VALUE")
    first, _, rest = key.partition(".")
    stages = _stages(content)
    if first in stages and rest:
        stages[first] = [*(stages[first] or []), f"{rest}={value}"]
    elif first in form.model_fields:
        _set(content, key, parsed(value))
    else:
        keys = [*form.model_fields, *stages]
        raise ValueError(
            f"there is no key {first}: there are the stages {', '.join(stages)} and the keys "
            f"{', '.join(form.model_fields)}{hint(first, keys)}"
        )


def _locate(content: dict[str, Any], folder: Path) -> None:
    """Replace {folder} in the overrides of stages."""
    for name, overrides in _stages(content).items():
        if isinstance(overrides, list):
            content["stages"][name] = [
                o.replace("{folder}", str(folder)) if isinstance(o, str) else o for o in overrides
            ]


def _set(content: dict[str, Any], key: str, value: Any) -> None:
    *parents, last = key.split(".")
    where: Any = content
    for parent in parents:
        where = where.setdefault(parent, {})
        if not isinstance(where, dict):
            raise ValueError(f"{key}: {parent} holds no keys")
    where[last] = value
