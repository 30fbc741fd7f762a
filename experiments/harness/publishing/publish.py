"""Publish a finished run: the results.json of its experiment, pictures, and tables in the README.

A run is added to experiments/NAME/results.json under the name of its folder; of the
first quickstart docs/overview.png is drawn, too. Of a benchmark and of a search_cost the record
itself is taken (experiments/speed, experiments/relaxation_cost), and docs/growth.png.
"""

import json
import os
import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from experiments.harness.pipeline.table import results as results_of
from experiments.harness.runs.markdown import fill
from experiments.harness.runs.markdown import table as markdown

QUICKSTART, SPEED, SEARCH = "quickstart_ag6o3", "speed", "relaxation_cost"
"""The experiments whose results are tables of the README."""
SPEED_FORMS: dict[str, Callable[[float], str]] = {
    "ratio": "{:.1f}×".format,
    "share": "{:.0%}".format,
    "bytes": lambda value: f"{value / 1e9:.2f} GB",
}


def results_table(results: dict[str, Any]) -> str:
    """Markdown: one column per published run and one for random search; the commands."""
    commands = [
        f"- `{name}`: `{run['command']}` (seed {run['seed']}; {run['machine']})"
        for name, run in results.items()
    ]
    table = results_of({name: run["summary"] for name, run in results.items()})
    return "\n".join([table, "", *commands])


def speed_table(speed: dict[str, Any]) -> str:
    """Markdown: what docs/speed.json compares, and where and how it was measured."""
    record = speed["record"]
    header = ["task", "per second", "beside", "reached", "lowest to highest", "goal"]
    lines = []
    for one in record["reached"]:
        form, goal = SPEED_FORMS[one["kind"]], one["goal"]
        rate = record["times"].get(one["task"], {}).get("per_second")
        limit = "" if goal is None else form(goal["at_least"])
        low, high = form(one["low"]), form(one["high"])
        lines.append([
            one["task"].replace("_", " "),
            "–" if rate is None else f"{rate['median']:.3g}",
            one["beside"],
            form(one["median"]),
            "–" if low == high else f"{low} to {high}",
            "–" if goal is None else f"{'under' if goal['below'] else 'at least'} {limit}",
        ])  # fmt: skip
    machine = {key: np.median([m[key] for m in record["machine"]]) for key in record["machine"][0]}
    peers = "".join(
        f", {name} {versions[name.lower()]}" for name, versions in record["peers"].items()
    )
    told = (
        f"- `{speed['command']}`; {record['processor']}, threads: {record['threads']}, "
        f"{machine['matrix_rate'] / 1e9:.0f} GFLOP/s in matrix products, "
        f"{machine['bandwidth'] / 1e9:.0f} GB/s; torch {speed['environment']['torch']}{peers}; "
        f"{_commit(speed['environment'])}"
    )
    return "\n".join([markdown(header, lines), "", told])


def search_table(search: dict[str, Any]) -> str:
    """Markdown: what docs/search.json compares, and how it was measured."""
    from experiments.harness.structure_search.search_cost import table

    environment, record = search["environment"], search["record"]
    told = (
        f"- `{search['command']}`: {record['candidates']} starts, from candidate {record['first']} "
        f"on; torch {environment['torch']}, chgnet {environment['chgnet']}; "
        f"{_commit(environment)}; the force field of {search['training']['train']['steps']} steps"
    )
    return f"{table(search['record'])}\n\n{told}"


def _commit(environment: dict[str, Any]) -> str:
    commit = environment["commit"]
    if commit is None:
        return "outside git"
    return f"commit {commit[:7]}{' with changes' if '+' in commit else ''}"


def overview(home: Path) -> np.ndarray:
    """The picture: path at t = 1, 0.5, 0, lowest structure, energies beside random search."""
    from experiments.harness.figures.pictures import structures
    from experiments.harness.figures.plots import energy_histogram
    from experiments.harness.generation.evaluate import EVALUATED, RELAXED
    from experiments.harness.generation.evaluation import reference_set, relative_energies
    from experiments.harness.generation.sample import PATH

    source, evaluation = _only_run(home / "sample"), _only_run(home / "evaluate")
    before, after = evaluation.structures(EVALUATED), evaluation.structures(RELAXED)
    path = source.structures(PATH)[:3]
    if len(path) < 3 or not after:
        raise ValueError(f"{home} holds no finished evaluation: run the quickstart to its end")
    reference = reference_set(
        None, after[0], evaluation.config["calculator"], evaluation.config["relaxation"]
    )
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
    """Write what somebody types to repeat the run of an experiment with this config."""
    from experiments.harness.pipeline.experiment import Experiment, read

    name = config["experiment"]
    usual: Experiment = read(name, small=config["small"])
    changed = ["small=true"] if config["small"] else []
    own = "ag6o3" if name == QUICKSTART else usual.name
    changed += [f"name={config['name']}"] if config["name"] != own else []
    changed += [f"seed={config['seed']}"] if config["seed"] != usual.seed else []
    for stage, overrides in config["stages"].items():
        more = overrides[len(usual.stages[stage]) :]
        changed += [f"{stage}.{override}" for override in more]
    if name == QUICKSTART:
        return (
            " ".join(["surfdiff quickstart", *map(shlex.quote, changed)])
            if changed
            else ("make quickstart")
        )
    return " ".join([f"surfdiff run {name}", *map(shlex.quote, changed)])


def publish(home: Path, root: Path) -> list[str]:
    """Write all that belongs to the run of an experiment.

    Args:
        home: folder of a finished run of an experiment.
        root: where README.md, docs/ and experiments/ are.

    Returns:
        The documents that were rewritten.

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
    block = {QUICKSTART: results_table, SPEED: speed_table, SEARCH: search_table}.get(name)
    if block is None:
        return []
    readme = root / "README.md"
    marker = {QUICKSTART: "results", SPEED: "speed", SEARCH: "search"}[name]
    readme.write_text(fill(readme.read_text("utf-8"), marker, block(content)), encoding="utf-8")
    return ["README.md"]


def _speed(run: Any, root: Path, before: dict[str, Any]) -> dict[str, Any]:
    from experiments.harness.runs.run_folder import RunFolder

    measured = RunFolder.existing(_only_run(run.path / "benchmark").path)
    shutil.copy(measured.path / "figures/growth.png", root / "docs/growth.png")
    # Where peers are installed is nobody else's business.
    command = re.sub(r"(peers\.\w+)=\S+", r"\1=PYTHON", command_of(run.config))
    return {"command": command, **_measured(measured, "benchmark.json")}


def _search(run: Any, root: Path, before: dict[str, Any]) -> dict[str, Any]:
    from experiments.harness.runs.run_folder import RunFolder
    from experiments.harness.training.checkpoint import load_model
    from experiments.harness.training.train import MAY_CHANGE

    measured = _only_run(run.path / "search_cost")
    config = measured.config
    facts = {key: config[key] for key in ("planner", "search", "known")}
    model = config["surrogate"]["model"]
    if load_model(model).digest != facts["planner"]["digest"]:
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
            "summary": run.summary,
        }
    }
    if run.config["experiment"] == QUICKSTART and next(iter(results)) == run.name:
        from matplotlib.image import imsave

        imsave(root / "docs/overview.png", overview(run.path), pil_kwargs={"optimize": True})
    return results


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
