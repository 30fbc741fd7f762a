"""Overrides of a config in Hydra's syntax: what they may be, and what an error about them means."""

import re
import shlex
from collections.abc import Callable, Collection, Sequence
from itertools import product

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob, Override
from hydra.errors import OverrideParseException
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import (
    GrammarParseError,
    InterpolationKeyError,
    InterpolationResolutionError,
)

from experiments.harness.config import CONF
from experiments.harness.config.renamed import new_name
from experiments.harness.config.suggestions import key_hint
from experiments.harness.config.texts import quoted

TARGET = "_target_"
OPTIONAL_GROUPS = ("experiment", "template")
"""Listed in the defaults as null, so that Hydra refuses `+experiment=NAME`, which people write."""


def parse(overrides: Sequence[str]) -> list[Override]:
    """Parse overrides; ValueError for those of Hydra's own settings, which have no effect here."""
    parsed = OverridesParser.create().parse_overrides(list(overrides))
    for one in parsed:
        if one.key_or_group.split("/")[0].split(".")[0] == "hydra":
            raise ValueError(
                f"{one.input_line}: Hydra's own settings have no effect here; a run's folder is "
                "set by output=FOLDER and name=NAME, several runs by -m"
            )
    return parsed


def as_listed(override: Override, entry: str, typed: str) -> str:
    """Return the text that Hydra takes: a value instead of several, `experiment=` without +.

    `typed` is the override before quotes were put around its texts.
    """
    line = override.input_line or ""
    if override.is_sweep_override():
        raise ValueError(
            f"{typed} gives several values: add -m to run {entry} once for each, or write a list "
            f"as {override.key_or_group}=[...]; a text with a comma needs quotes, "
            f"{shown(typed)}"
        )
    if (CONF / override.key_or_group).is_dir() and not _are_names(override.value()):
        group = override.key_or_group
        raise ValueError(f"{typed}: {group} is chosen by a name, its keys by {group}.KEY=VALUE")
    if override.key_or_group.endswith(f".{TARGET}"):
        return f"++{line.lstrip('+')}"  # also where no object of this kind is the default
    return line.lstrip("+") if override.key_or_group in OPTIONAL_GROUPS else line


def _are_names(value: object) -> bool:
    """Return whether Hydra can look up a value of a group; of a list, each."""
    if isinstance(value, list):
        return all(isinstance(one, str) for one in value)
    return not isinstance(value, dict)


def shown(override: str) -> str:
    """Return how a shell is given an override whose value is one text, in quotes for Hydra too."""
    key, _, value = override.partition("=")
    text = f"{key}={quoted(value)}"
    if not set(text) & set('"$`\\!'):
        return f'"{text}"'
    return shlex.quote(text if set(value) & set("'\"") else text.replace("'", '"'))


def grid(overrides: Sequence[str]) -> list[tuple[list[str], str]]:
    """Expand overrides of several values, such as a=1,2 or a=range(3), to every combination.

    Returns the overrides of each run, and a name made of those that differ, such as "a_1-b_x", in
    which the key `name` has no part.
    """
    parsed = parse(overrides)
    axes = [_values(one) if one.is_sweep_override() else [(one.input_line or "", "")]
            for one in parsed]  # fmt: skip
    return [
        ([line for line, _ in some], "-".join(name for _, name in some if name))
        for some in product(*axes)
    ]


def _values(override: Override) -> list[tuple[str, str]]:
    """Each value as an override, and as part of a name."""
    if isinstance(override.value(), Glob):
        raise ValueError(f"{override.input_line}: list the values, as in KEY=A,B")
    key = override.get_key_element()
    short = override.key_or_group.replace("/", ".")
    return [
        (f"{key}={text}", "" if key == "name" else f"{short}_{_in_a_name(text)}")
        for text in override.sweep_string_iterator()
    ]


def _in_a_name(value: str) -> str:
    return re.sub(r"[^\w.+-]+", "_", value).strip("_")


def drop_former_arguments(config: DictConfig, overrides: Sequence[Override]) -> None:
    """Remove arguments of the object that an override of a `_target_` has replaced.

    Those remain that other overrides set: `calculator._target_=mine.Calculator
    +calculator.level=2` calls `mine.Calculator(level=2)`.
    """
    keys = [one.key_or_group for one in overrides]
    for node in (key.removesuffix(f".{TARGET}") for key in keys if key.endswith(f".{TARGET}")):
        kept = {key.removeprefix(f"{node}.").split(".")[0] for key in keys
                if key.startswith(f"{node}.")}  # fmt: skip
        where = OmegaConf.select(config, node)
        with open_dict(where):
            for name in [str(name) for name in where if name not in kept]:
                del where[name]


def sentence(
    error: Exception, known: Callable[[], Collection[str]], overrides: Sequence[Override] = ()
) -> str:
    """Return what is wrong according to an error of Hydra's or OmegaConf's, and what helps.

    `known` are the keys and groups there are, looked up where one is unknown.
    """
    if isinstance(error, InterpolationResolutionError):
        return _interpolation(error, error.full_key or "", overrides)
    if isinstance(error.__cause__, GrammarParseError):
        key = str(error).removeprefix("Error merging override ").partition("=")[0]
        return _interpolation(error.__cause__, key, overrides)
    text = str(error).split("Config search path")[0].split("See https")[0]
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if isinstance(error, OverrideParseException):
        advice = "put quotes around a value with ( ) [ ] { } , = : # or letters such as Å"
        given = error.override or ""
        example = f", as in {shown(given)}" if "=" in given else ""
        return f"cannot read {given!r} as KEY=VALUE: {lines[-1]}; {advice}{example}"
    if lines[0].startswith("Could not override"):
        key = lines[0].split()[3].rstrip(".")
        if key == "'experiment'":
            return (
                "there is no group experiment here: give --config-dir DIR with DIR/experiment, or "
                "run an experiment of this project by surfdiff run NAME"
            )
        advice = new_name(key.strip("'")) or key_hint(key.strip("'"), known())
        advice = advice or "; --help lists them"
        return f"there is no config key or group {key}{advice}"
    return " ".join(line for line in lines if not line.startswith("object_type="))


def _interpolation(error: Exception, key: str, overrides: Sequence[Override]) -> str:
    """Return why `${...}` in a key's value cannot be filled in, and how to write it as text."""
    cause, *_ = str(error).splitlines()
    if isinstance(error, InterpolationKeyError):
        name = cause.removeprefix("Interpolation key ").removesuffix(" not found")
        reason = f"there is no key {name} to fill in for ${{...}}"
    else:
        reason = f"its ${{...}} cannot be filled in ({cause})"
    advice = "in a text, ${ needs a backslash before it"
    texts = {one.key_or_group: one.value() for one in overrides}
    text = texts.get(key.lstrip("+"))
    return f"{key}: {reason}; {advice}" + (
        f" and quotes, {shown(f'{key}={text}')}" if isinstance(text, str) else ""
    )
