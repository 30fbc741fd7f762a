"""What a study shows: as text, and as its own run folder with figures, a page and W&B's run."""

import hashlib
import logging
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from experiments.harness.config.settings import Tracking
from experiments.harness.figures.page import Figures, Table, Text, write_page
from experiments.harness.runs.atomic_io import Busy
from experiments.harness.runs.run_folder import RunFolder
from experiments.harness.tracking.tracker import Tracker
from sweeps.analysis import conclusions, pairs
from sweeps.analysis.figures import figures
from sweeps.analysis.table import Trials, parameter_title, value_title

log = logging.getLogger(__name__)


def statements(trials: Trials) -> list[str]:
    """Return what the trials show of every parameter that the sweep varies, seeds aside."""
    found = []
    for parameter in trials.questions:
        for objective in trials.objectives:
            conclusion = conclusions.conclude(trials, parameter, objective)
            found += [conclusions.sentences(conclusion)] if conclusion else []
        found += pairs.sentences(parameter, pairs.compare(trials, parameter))
    if not found and trials.counts["complete"]:
        return ["No trial has met the constraints."]
    return found or [f"No trial is complete: {counted(trials)}."]


def as_text(trials: Trials) -> str:
    """Return the trials that have begun, a line each, and the statements."""
    lines = []
    for slot, row in trials.trials[trials.trials["state"] != "waiting"].iterrows():
        params = [f"{parameter_title(p)} {value_title(row[p])}" for p in trials.parameters]
        values = [f"{n} {row[n]:.4g}" for n in trials.objectives if row[n] == row[n]]
        values += [row["reason"]] if isinstance(row["reason"], str) else []
        lines.append(f"{slot:4d}  {row['state']:9s} {', '.join(params)}  {', '.join(values)}")
    return "\n".join([*lines, *statements(trials)])


def publish(trials: Trials, folder: Path, tracking: Tracking) -> None:
    """Write and track the study's run folder, unless that was done of the same ended trials.

    Another process that is about to do the same is left to it.
    """
    run, ended = RunFolder(folder), trials.trials.query("state not in ['waiting', 'running']")
    digest = hashlib.sha256(ended.to_csv().encode()).hexdigest()  # a retry keeps their number
    if run.summary.get("study/digest") == digest or ended.empty:
        return
    about = tracking.model_dump() | {"group": trials.name}
    try:
        with (
            run.recording({"sweep": dict(trials.definition)}, ["sweep"]),
            Tracker(run, **about, job_type="study", name=trials.name) as tracker,
        ):
            drawn, table = figures(trials), trials.shown()
            for title, figure in drawn.items():
                tracker.figure(title, figure)
            tracker.table("trials", list(table.columns), table.to_numpy().tolist())
            _write_page(trials, run / "report.html", drawn)
            tracker.summary({"study/digest": digest} | _results(trials))
    except Busy:
        return
    log.info(f"report: {run.path}/report.html")


def _write_page(trials: Trials, path: Path, drawn: dict[str, Figure]) -> None:
    definition, table = trials.definition, trials.shown()
    rows = {str(row[0]): row[1:] for row in table.to_numpy().tolist()}
    write_page(
        path,
        f"Sweep {trials.name}",
        Text("Question", definition["question"]),
        Text("Claim", definition["claim"]),
        Text("Result", " ".join(statements(trials))),
        Text("How to read it", definition["reading"]),
        Figures("Figures", {title.replace("_", " "): one for title, one in drawn.items()}),
        Table("Trials", rows, list(table.columns[1:])),
        subtitle=counted(trials),
    )


def counted(trials: Trials) -> str:
    """Return how many trials are in which state, as text."""
    return ", ".join(f"{n} {state}" for state, n in trials.counts.items() if n)


def _results(trials: Trials) -> dict[str, Any]:
    """Return the statements, the counts and each objective's best value on the front, its trial."""
    found: dict[str, Any] = {f"study/{state}": n for state, n in trials.counts.items()}
    found |= {"study/budget": len(trials.trials), "study/conclusion": " ".join(statements(trials))}
    for name, minimized in trials.objectives.items() if len(trials.best) else ():
        values = trials.best[name].astype(float)
        slot = values.idxmin() if minimized else values.idxmax()
        found |= {f"study/best/{name}": float(values[slot]), f"study/best/{name}/trial": int(slot)}
    return found
