"""Publish a finished run: the results.json of its experiment, and pictures.

A run is added to experiments/NAME/results.json under the name of its folder; of the first one the
figures are put beside it, and of the first quickstart docs/overview.png is drawn, too. Of a
benchmark and of a search_cost the record itself is taken (experiments/speed,
experiments/relaxation_cost), and docs/growth.png.
"""

import json
import os
import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from experiments.harness.pipeline.claims import REPEAT
from experiments.harness.pipeline.drawings import FIGURES
from experiments.harness.pipeline.runner import CLAIMS
from experiments.harness.publishing.pages import RESULTS, SEARCH, SPEED

REPEATS = rf"{REPEAT}\d+$"
"""The end of the name of a stage that repeats another's training."""


def overview(home: Path) -> np.ndarray:
    """The picture: path at t = 1, 0.5, 0, lowest structure, energies beside random search."""
    from experiments.harness.figures.pictures import structures
    from experiments.harness.figures.plots import energy_histogram
    from experiments.harness.generation.evaluate import EVALUATED, RELAXED
    from experiments.harness.generation.reference import compared_with
    from experiments.harness.generation.sample import PATH
    from experiments.harness.generation.summary import relative_energies

    source, evaluation = _only_run(home / "sample"), _only_run(home / "evaluate")
    before, after = evaluation.structures(EVALUATED), evaluation.structures(RELAXED)
    path = source.structures(PATH)[:3]
    if len(path) < 3 or not after:
        raise ValueError(f"{home} holds no finished evaluation: run the quickstart to its end")
    reference = compared_with(evaluation, after[0])
    energies = relative_energies(before, after, reference)
    best = int(np.argmin(energies["gen_relaxed"]))
    lowest = f"lowest of {len(after)}, relaxed: {energies['gen_relaxed'][best]:+.2f} eV"
    titles = ["t = 1: noise", "t = 0.5", "t = 0: generated", lowest]
    above = structures([*path, after[best]], titles)
    below = energy_histogram({
        "random search, relaxed": energies["rss"],
        "generated": energies["gen"],
        "generated, relaxed": energies["gen_relaxed"],
    }, zero="the lowest of random search")  # fmt: skip
    below.set_size_inches(above.get_figwidth(), 2.8)
    return np.vstack([pixels(above), pixels(below)])


def command_of(config: dict[str, Any]) -> str:
    """Write the command that repeats the run of an experiment with this config."""
    from experiments.harness.pipeline.experiment import Experiment, read

    name = config["experiment"]
    trainings = config.get("trainings", 1)
    usual: Experiment = read(name, [f"trainings={trainings}"], small=config["small"])
    changed = ["small=true"] if config["small"] else []
    own = "ag6o3" if name == RESULTS else usual.name
    changed += [f"name={config['name']}"] if config["name"] != own else []
    if trainings != read(name, small=config["small"]).trainings:
        changed += [f"trainings={trainings}"]
    changed += [f"seed={config['seed']}"] if config["seed"] != usual.seed else []
    for stage, overrides in config["stages"].items():
        more = overrides[len(usual.stages[stage]) :]
        changed += [f"{stage}.{override}" for override in more if not re.search(REPEATS, stage)]
    if name == RESULTS:
        return (
            " ".join(["surfdiff quickstart", *map(shlex.quote, changed)])
            if changed
            else ("make quickstart")
        )
    return " ".join([f"surfdiff run {name}", *map(shlex.quote, changed)])


def publish(home: Path, root: Path) -> Path:
    """Write all that belongs to the run of an experiment.

    Args:
        home: folder of a finished run of an experiment.
        root: where README.md, docs/ and experiments/ are.

    Returns:
        The results.json that the run is in.

    Raises:
        ValueError: for a folder of no such or no finished run.
    """
    from experiments.harness.runs.run_folder import RunFolder

    run = RunFolder.existing(home)
    name = run.config.get("experiment")
    if name is None:
        raise ValueError(f"{home} is not the run of an experiment")
    if "seconds/all" not in run.summary:
        raise ValueError(f"{home} is not a finished run: its summary has no seconds/all")
    file = root / "experiments" / name / "results.json"
    if not file.with_name("experiment.yaml").is_file():
        raise ValueError(f"{name} is no experiment in {root}/experiments: publish a run of one")
    make = {SPEED: _speed, SEARCH: _search}.get(name, _results)
    content = make(run, root, json.loads(file.read_text("utf-8")) if file.is_file() else {})
    _write_json(file, content)
    return file


def _speed(run: Any, root: Path, before: dict[str, Any]) -> dict[str, Any]:
    from experiments.harness.runs.run_folder import RunFolder

    measured = RunFolder.existing(_only_run(run.path / "benchmark").path)
    shutil.copy(measured.path / "figures/growth.png", root / "docs/growth.png")
    # Where peers are installed is of this machine alone.
    command = re.sub(r"(peers\.\w+)=\S+", r"\1=PYTHON", command_of(run.config))
    return {"command": command, **_measured(measured, "benchmark.json")}


def _search(run: Any, root: Path, before: dict[str, Any]) -> dict[str, Any]:
    from experiments.harness.runs.run_folder import RunFolder
    from experiments.harness.training.checkpoint import load_model
    from experiments.harness.training.train import MAY_CHANGE

    measured = _only_run(run.path / "search_cost")
    config = measured.config
    facts = {key: config[key] for key in ("surrogate_model", "search", "known")}
    model = config["surrogate"]["model"]
    if load_model(model).digest != facts["surrogate_model"]["digest"]:
        raise ValueError(f"{model} is not the force field that {run.path} was measured with")
    training = RunFolder.existing(model).config
    return {
        "command": command_of(run.config),
        **facts,
        "training": {k: v for k, v in training.items() if k not in MAY_CHANGE},
        **_measured(measured, "search_cost.json"),
    }


def _measured(run: Any, record: str) -> dict[str, Any]:
    return {
        "environment": json.loads((run.path / "environment.json").read_text(encoding="utf-8")),
        "record": json.loads((run.path / record).read_text(encoding="utf-8")),
    }


def _results(run: Any, root: Path, before: dict[str, Any]) -> dict[str, Any]:
    environment = json.loads((run.path / "environment.json").read_text(encoding="utf-8"))
    results = before | {
        run.name: {
            "command": command_of(run.config),
            "seed": run.config["seed"],
            "machine": f"{os.cpu_count()} cores, {environment['platform']}, "
            f"{environment['device']}",
            "environment": environment,
            "calculator": _calculator(run),
            "summary": run.summary,
            **_claims(run),
        }
    }
    if next(iter(results)) == run.name:
        _copy_figures(run.path / FIGURES, root / "experiments" / run.config["experiment"] / FIGURES)
        if run.config["experiment"] == RESULTS:
            from matplotlib.image import imsave

            imsave(root / "docs/overview.png", overview(run.path), pil_kwargs={"optimize": True})
    return results


def _copy_figures(source: Path, target: Path) -> None:
    """Put the figures of the run, and their numbers, beside its experiment."""
    from PIL import Image

    shutil.rmtree(target, ignore_errors=True)
    for file in sorted(source.glob("*.csv")):
        target.mkdir(exist_ok=True)
        shutil.copy(file, target / file.name)
    for file in sorted(source.glob("*.png")):  # 256 colours take a third of the space
        Image.open(file).convert("RGB").quantize().save(target / file.name, optimize=True)


def _claims(run: Any) -> dict[str, Any]:
    """What the run measured of its experiment's claims, if anything."""
    file = run.path / CLAIMS
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}


def _calculator(run: Any) -> str | None:
    """The name of the calculator that relaxed what was generated; None if nothing was."""
    from experiments.harness.config.instantiate import calculator_name
    from experiments.harness.runs.run_folder import RunFolder

    for file in sorted(run.path.glob("evaluate/*/config.yaml")):
        return calculator_name(RunFolder.existing(file.parent).config.get("calculator"))
    return None


def _write_json(path: Path, content: Any) -> None:
    text = json.dumps(content, indent=1, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")


def _only_run(parent: Path) -> Any:
    from experiments.harness.runs.run_folder import RunFolder

    found = sorted(p.parent for p in parent.glob("*/config.yaml"))
    if len(found) != 1:
        raise ValueError(f"{parent} holds {len(found)} runs, not one: is it of such a run?")
    return RunFolder.existing(found[0])


def pixels(figure: Any, dpi: int = 130) -> np.ndarray:
    """The figure as red, green and blue."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    from experiments.harness.figures.style import STYLE

    figure.set_dpi(dpi)
    canvas = FigureCanvasAgg(figure)
    with matplotlib.rc_context(STYLE):
        canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3]
