"""The subcommands of `surfdiff sweep`, and how their arguments are parsed."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import optuna

from experiments.harness.execution.signals import sigterm_exits
from experiments.harness.pipeline.experiment import split_off
from sweeps.definition.reader import load, read
from sweeps.definition.sweep import Sweep
from sweeps.execution import run as running
from sweeps.execution.launch import Jobs, submit
from sweeps.execution.run import Settings
from sweeps.execution.study import load_study, states
from sweeps.execution.trial import run_point
from sweeps.execution.worker import AllFail

ROOT = Path(__file__).parent


def run(arguments: Sequence[str]) -> optuna.Study:
    """Run, join or continue a sweep, and publish what it shows; returns the study."""
    file, settings, overrides = parse(arguments)
    sweep = read(file, overrides, settings.trust)
    study = running.prepare(sweep, settings)
    before = states(study)
    try:
        running.run(sweep, study, settings)
    except AllFail:
        _report(sweep, study, settings, True)
        raise
    _report(sweep, study, settings, states(study) != before)
    return study


def show(arguments: Sequence[str]) -> None:
    """Print what a study shows so far, and write its run folder."""
    file, settings, overrides = parse(arguments)
    sweep = load(file, overrides)
    _report(sweep, load_study(sweep.name, settings.url), settings, True)


def launch(arguments: Sequence[str]) -> list[Any]:
    """Submit workers as jobs; returns submitit's jobs."""
    jobs, rest = parse_jobs(arguments)
    file, settings, overrides = parse(rest)
    return submit(read(file, overrides, settings.trust), settings, jobs)


def trial(arguments: Sequence[str]) -> Any:
    """Run the point that the command line gives; returns its result."""
    file, settings, rest = parse(arguments)
    overrides = [a for a in rest if a.split("=")[0].split(".")[0] in Sweep.model_fields]
    points = {k: v for k, _, v in (a.partition("=") for a in rest if a not in overrides)}
    with sigterm_exits():
        return run_point(read(file, overrides, settings.trust), points, settings.place)


def publish(arguments: Sequence[str]) -> None:
    """Publish finished studies, and write the README's results from all that are published."""
    from sweeps.analysis import results, table  # here: it imports matplotlib

    settings = parse([ROOT / "eta.yaml", *(a for a in arguments if "=" in a)])[1]
    for file in (a for a in arguments if "=" not in a):
        trials = table.load(load_study(load(file).name, settings.url))
        results.publish(trials, Path(settings.runs), ROOT / "results")
    results.refill(ROOT / "README.md", ROOT / "results")


COMMANDS: dict[str, Any] = {one.__name__: one for one in (run, show, launch, trial, publish)}


def run_subcommand(arguments: Sequence[str]) -> bool:
    """Run what the command line gives; returns False for a study without a complete trial."""
    name, rest = (arguments[0], arguments[1:]) if arguments[0] in COMMANDS else ("run", arguments)
    result = COMMANDS[name](rest)
    return name != "run" or states(result)["complete"] > 0


def _report(sweep: Sweep, study: optuna.Study, settings: Settings, printed: bool) -> None:
    from sweeps.analysis import report, table  # here: workers do not wait for matplotlib and scipy

    trials = table.load(study)
    if printed:
        print(report.as_text(trials))
    report.publish(trials, settings.place.study(sweep.name) / "study", sweep.tracking)


def parse(arguments: Sequence[Any]) -> tuple[str, Settings, list[str]]:
    """Return the sweep's file, the settings, and the rest, which changes keys of the file."""
    words = [str(a) for a in arguments if a != "--traceback"]
    for unknown in (a for a in words if a.startswith("-")):
        raise ValueError(f"unknown option {unknown}; --help lists the options")
    files = [a for a in words if "=" not in a]
    if len(files) != 1:
        raise ValueError("give one sweep file, e.g. sweeps/eta.yaml; --help explains the command")
    return files[0], *split_off(Settings, [a for a in words if "=" in a])


def parse_jobs(arguments: Sequence[str]) -> tuple[Jobs, list[str]]:
    """Return the jobs, and what is left for the sweep."""
    pairs = [a.removeprefix("slurm.").split("=", 1) for a in arguments if a.startswith("slurm.")]
    jobs, rest = split_off(Jobs, [a for a in arguments if not a.startswith("slurm.")])
    more = {f"slurm_{k}": int(v) if v.isdigit() else v for k, v in pairs}
    return jobs.model_copy(update={"more": more}), rest
