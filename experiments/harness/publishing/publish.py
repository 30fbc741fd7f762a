"""Publish a finished run: its picture, its numbers, and the README's table of them.

A quickstart run is added to docs/results.json under the name of its folder, and docs/overview.png
drawn (of the first run there); of a benchmark come docs/speed.json and docs/growth.png, of a
search_cost docs/search.json. The README is rewritten between its markers: the text says
what the files say.
"""

import json
import os
import re
import shlex
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.harness.config import compose

ROWS = (
    # label, how it is written, of generated structures, of random search
    ("structures", "{:.0f}", "gen/n", "rss/n"),
    ("median energy as generated (eV)", "{:.2f}", "gen/energy_median", None),
    ("median energy, relaxed (eV)", "{:.2f}", "gen_relaxed/energy_median", "rss/energy_median"),
    ("lowest energy, relaxed (eV)", "{:.2f}", "gen_relaxed/energy_min", None),
    ("valid as generated", "{:.0%}", "gen/frac_valid", None),
    ("different surfaces, relaxed", "{:.0%}", "gen/frac_unique", None),
    ("ends in the lowest of random search", "{:.0%}", "gen/hit_rate", "rss/hit_rate"),
    ("ends lower than that by over 0.05 eV", "{:.0%}", "gen/frac_below_reference", None),
    ("relaxation steps, mean", "{:.0f}", "gen/relax_steps_mean", "rss/relax_steps_mean"),
    (
        "force field, held-out frames under 5 eV/Å: energy (meV/atom)",
        "{:.0f}",
        "forcefield/energy_mae",
        None,
    ),
    ("the same: forces on all atoms (meV/Å)", "{:.0f}", "forcefield/force_mae", None),
    ("seconds", "{:.0f}", "seconds/all", None),
)


SPEED_FORMS: dict[str, Callable[[float], str]] = {
    "ratio": "{:.1f}×".format,
    "share": "{:.0%}".format,
    "bytes": lambda value: f"{value / 1e9:.2f} GB",
}


def results_table(results: dict[str, Any]) -> str:
    """Markdown: one column per run of docs/results.json and one for random search; the commands."""
    first = next(iter(results.values()))["summary"]
    header = ["", "random search", *(f"`{name}`" for name in results)]
    lines = [header, ["---"] * len(header)]
    for label, form, key, rss in ROWS:
        values = [(first, rss), *((run["summary"], key) for run in results.values())]
        lines.append([label, *(_cell(form, s.get(k)) for s, k in values)])
    commands = [
        f"- `{name}`: `{run['command']}` (seed {run['seed']}; {run['machine']})"
        for name, run in results.items()
    ]
    return "\n".join([markdown(lines), "", *commands])


def speed_table(speed: dict[str, Any]) -> str:
    """Markdown: what docs/speed.json compares, and where and how it was measured."""
    record = speed["record"]
    header = ["task", "per second", "beside", "reached", "lowest to highest", "goal"]
    lines = [header, ["---"] * len(header)]
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
    return "\n".join([markdown(lines), "", told])


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
    from experiments.harness.generation.evaluate import (
        EVALUATED,
        RELAXED,
        reference_set,
        relative_energies,
    )
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
    })  # fmt: skip
    below.set_size_inches(above.get_figwidth(), 2.8)
    return np.vstack([pixels(above), pixels(below)])


def command_of(config: dict[str, Any], entry: str = "quickstart") -> str:
    """What somebody types to repeat a run with this config."""
    from experiments.harness.pipeline.runner import MAY_CHANGE
    from experiments.harness.runs.run_folder import flattened

    usual, ours = flattened(compose.load(entry).plain()), flattened(config)
    changed = {k: v for k, v in ours.items() if k not in MAY_CHANGE and v != usual.get(k)}
    if entry == "quickstart" and not changed:
        return "make quickstart"
    written = (f"{k}={v if isinstance(v, str) else json.dumps(v)}" for k, v in changed.items())
    return " ".join([f"surfdiff {entry}", *map(shlex.quote, written)])


def publish(home: Path, docs: Path, readme: Path) -> None:
    """Write all that belongs to the run; ValueError for a folder of no such or no finished run."""
    from experiments.harness.runs.run_folder import RunFolder

    run = RunFolder.existing(home)
    docs.mkdir(exist_ok=True)
    if (run.path / "benchmark.json").is_file():
        _publish_speed(run, docs, readme)
    elif (run.path / "search_cost.json").is_file():
        _publish_search(run, docs, readme)
    else:
        _publish_results(run, docs, readme)


def _publish_speed(run: Any, docs: Path, readme: Path) -> None:
    config = run.config
    for python in config["peers"]:  # where they are installed is nobody else's business
        if config["peers"][python] is not None:
            config["peers"][python] = "PYTHON"
    config["name"] = "speed"
    speed = {
        "command": command_of(config, "benchmark"),
        "environment": json.loads((run.path / "environment.json").read_text(encoding="utf-8")),
        "record": json.loads((run.path / "benchmark.json").read_text(encoding="utf-8")),
    }
    text = fill(readme.read_text(encoding="utf-8"), "speed", speed_table(speed))
    _write_json(docs / "speed.json", speed)
    shutil.copy(run.path / "figures/growth.png", docs / "growth.png")
    readme.write_text(text, encoding="utf-8")


def _publish_search(run: Any, docs: Path, readme: Path) -> None:
    from experiments.harness.runs.run_folder import RunFolder
    from experiments.harness.training.checkpoint import load_model
    from experiments.harness.training.train import MAY_CHANGE

    config = run.config
    if "planner" not in config:
        raise ValueError(f"{run.path} was measured by an earlier version: measure it again")
    facts = {key: config.pop(key) for key in ("planner", "search", "known")}
    for key in ("tracking", "executor"):  # these do not change what is found
        del config[key]
    model = config["surrogate"]["model"]
    if load_model(model).digest != facts["planner"]["digest"]:
        raise ValueError(f"{model} is not the force field that {run.path} was measured with")
    training = RunFolder.existing(model).config
    search = {
        "command": command_of(config, "search_cost"),
        **facts,
        "training": {k: v for k, v in training.items() if k not in MAY_CHANGE},
        "environment": json.loads((run.path / "environment.json").read_text(encoding="utf-8")),
        "record": json.loads((run.path / "search_cost.json").read_text(encoding="utf-8")),
    }
    text = fill(readme.read_text(encoding="utf-8"), "search", search_table(search))
    _write_json(docs / "search.json", search)
    readme.write_text(text, encoding="utf-8")


def _write_json(path: Path, content: Any) -> None:
    text = json.dumps(content, indent=1, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")


def _publish_results(run: Any, docs: Path, readme: Path) -> None:
    from matplotlib.image import imsave

    home = run.path
    if "seconds/all" not in run.summary:
        raise ValueError(f"{home} is not a finished quickstart run: its summary has no seconds/all")
    file = docs / "results.json"
    results = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    environment = json.loads((run.path / "environment.json").read_text(encoding="utf-8"))
    results[run.name] = {
        "command": command_of(run.config),
        "seed": run.config["seed"],
        "machine": f"{os.cpu_count()} cores, {environment['platform']}, {environment['device']}",
        "environment": environment,
        "summary": run.summary,
    }
    if next(iter(results)) == run.name:
        imsave(docs / "overview.png", overview(home), pil_kwargs={"optimize": True})
    _write_json(file, results)
    text = fill(readme.read_text(encoding="utf-8"), "results", results_table(results))
    readme.write_text(text, encoding="utf-8")


def fill(text: str, name: str, table: str) -> str:
    """The README's `text` with this table between the markers of that name."""
    first, last = f"<!-- {name} -->", f"<!-- /{name} -->"
    new, count = re.subn(
        f"{first}\n.*?{last}", lambda _: f"{first}\n{table}\n{last}", text, flags=re.S
    )
    if count != 1:
        raise ValueError(f"the README needs one block from {first} to {last}")
    return new


def _only_run(parent: Path) -> Any:
    from experiments.harness.runs.run_folder import RunFolder

    found = sorted(p.parent for p in parent.glob("*/config.yaml"))
    if len(found) != 1:
        raise ValueError(f"{parent} holds {len(found)} runs, not one: is it of a quickstart run?")
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


def _cell(form: str, value: float | None) -> str:
    return "–" if value is None else form.format(value)


def markdown(lines: Sequence[Sequence[str]]) -> str:
    """A table of these rows, the first two of them its header."""
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)
