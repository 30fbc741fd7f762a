"""Find what stages would lack, before any of them begins."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from experiments.harness.config.instantiate import build
from experiments.harness.pipeline.kinds import NETWORKS, stage_name
from experiments.harness.pipeline.stages import Stage
from experiments.harness.runs.shipped_models import file_of


def check(stages: Sequence[Stage], models: Mapping[str, str]) -> None:
    """ValueError for a stage without the networks, the samples or the data that it needs.

    models  folders or files of networks that no stage trains, by the name of the stage
    """
    for name, path in models.items():
        if not _is_network(path, stage_name(name).kind):
            raise ValueError(f"models.{name}: there is no trained network in {path}")
    made: dict[Path, Stage] = {}
    for stage in stages:
        reason = _lacking(stage, list(made)) or _unsolvable(stage, made)
        if reason:
            raise ValueError(f"stage {stage.name}: {reason}")
        made[stage.folder] = stage


def _lacking(stage: Stage, made: Sequence[Path]) -> str | None:
    """What this stage needs and neither an earlier one leaves nor a file holds; None if nothing."""
    config = stage.config
    if stage.kind in NETWORKS:
        return _lacking_data(config.data.path, made) or _lacking_data(
            config.data.minus, made, "data.minus"
        )
    if stage.kind == "search_cost" and config.surrogate.model is None:
        return "it needs a stage forcefield before it, or surrogate.model=FOLDER"
    if stage.kind == "evaluate":
        if config.sample is None:
            return "it needs a stage sample before it, or sample=FOLDER"
        return _lacking_data(config.reference, made, "reference")
    if stage.kind == "label":
        return _lacking_file(config.structures, made, "structures")
    if stage.kind == "rank" and config.labels:
        if config.reference not in (None, *config.labels):
            return f"reference={config.reference} is none of labels: {', '.join(config.labels)}"
        found = (_lacking_file(path, made, f"labels.{k}") for k, path in config.labels.items())
        return next(filter(None, found), None)
    if stage.kind not in ("sample", "recall"):
        return None
    if config.score is None:
        return "it needs a stage score before it, or models.score"
    if stage.kind == "recall" and (reason := _lacking_data(config.structures, made, "structures")):
        return reason
    if stage.kind == "recall" and config.forcefield is None:
        return "it relaxes on a force field: add a stage forcefield, or models.forcefield"
    if config.guide is not None and config.forcefield is None:
        return "it is guided: add a stage forcefield, models.forcefield, or guide=none"
    for kind, path in (("score", config.score), ("forcefield", config.forcefield)):
        if path is not None and not _is_made(path, made) and not _is_network(path, kind):
            return f"there is no trained network in {path}"
    return None


def _unsolvable(stage: Stage, made: Mapping[Path, Stage]) -> str | None:
    """Why the sampler cannot solve the process of a score that is yet to be trained, if so."""
    if stage.kind not in ("sample", "recall") or stage.config.sampler.solver == "euler":
        return None
    training = made.get(Path(stage.config.score))
    if training is None:
        return None
    from vpsde import check_solver  # here: it brings torch

    sampler, sde = stage.config.sampler, build(training.config.sde)
    try:
        check_solver(sde, sampler.solver, sampler.noise, sampler.noisy_end, compile=False)
    except ValueError as error:
        return str(error)
    return None


def _lacking_data(path: str | None, made: Sequence[Path], key: str = "data.path") -> str | None:
    from sdedata import shipped  # here: it brings torch

    if path is None or _is_made(path, made) or path in shipped.names():
        return None
    if Path(path).is_file() or (Path(path) / "config.yaml").is_file():
        return None
    names = ", ".join(shipped.names())
    return f"{key}={path} is no file, and of the shipped sets there are {names}"


def _lacking_file(path: str | None, made: Sequence[Path], key: str) -> str | None:
    if path is None or _is_made(path, made) or Path(path).exists():
        return None
    return f"there is no {key}={path}, and no stage before makes it"


def _is_made(path: str, made: Sequence[Path]) -> bool:
    return any(folder in (Path(path), *Path(path).parents) for folder in made)


def _is_network(path: str, kind: str) -> bool:
    found = (Path(path) / "model.pt").is_file() or Path(path).is_file()
    return found or file_of(path, kind) is not None
