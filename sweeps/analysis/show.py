"""Show what a study says so far: surfdiff sweep show sweeps/eta.yaml

Prints its trials and what they answer, and writes the study's own run folder, sweeps/NAME/study:
its figures, a page (report.html), and W&B's run of them. `sweeps.execution.run` does so at the end.

usage: surfdiff sweep show FILE [storage=URL] [runs=FOLDER] [KEY=VALUE ...] [--help]
"""

import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import TrialState

from experiments.harness.commands.command_line import refuse
from experiments.harness.config.settings import Tracking
from experiments.harness.figures.page import Figures, Table, Text, write_page
from experiments.harness.runs.atomic_io import Busy
from experiments.harness.runs.run_folder import RunFolder
from experiments.harness.tracking.tracker import Tracker
from sweeps.analysis import pairs
from sweeps.analysis.conclusion import in_words, verdict
from sweeps.analysis.figures import figures
from sweeps.analysis.names import knob_title, value_title
from sweeps.analysis.trials import best, objectives, questions, trials_table
from sweeps.execution.study import STATES, attempts, load_study, open_storage, states
from sweeps.execution.trial import Place

log = logging.getLogger(__name__)

FINISHED = "study/finished"


def publish(study: optuna.Study, place: Place, tracking: Tracking) -> None:
    """Write and track what the study says, unless that has been done since its last trial ended.

    Another process that is about to do the same is left to it.
    """
    folder = RunFolder(place.study(study.study_name) / "study")
    finished = sum(t.state.is_finished() for t in attempts(study).values())
    if folder.summary.get(FINISHED) == finished or not finished:
        return
    name = study.study_name
    folder.save_config({"sweep": study.user_attrs["definition"]}, may_change=["sweep"])
    folder.save_environment()
    about = tracking.model_dump() | {"group": name, "id": f"{name}-study"}
    try:
        with Tracker(folder, **about, job_type="study", name=name) as tracker:
            drawn = figures(study)
            for title, figure in drawn.items():
                tracker.figure(title, figure)
            columns, rows = trials_table(study)
            tracker.table("trials", columns, rows)
            _page(study, folder, drawn)
            tracker.summary(
                {FINISHED: finished, "study/answer": " ".join(show_answers(study))} | _best(study)
            )
    except Busy:
        return
    log.info(f"look at {folder.path}/report.html")


def show_answers(study: optuna.Study) -> list[str]:
    """What the study says of every knob that it asks about, and how sure that is."""
    said = []
    for knob in questions(study):
        for name in objectives(study):
            found = verdict(study, knob, name)
            if found is not None:
                said.append(in_words(found))
        for name in pairs.SETS:
            gaps = pairs.paired(study, knob, name)
            if gaps:
                said.append(pairs.in_words(study, knob, name, gaps))
    if said:
        return said
    counts = states(study)
    if counts["complete"]:
        return ["No trial has met the constraints."]
    return ["No trial is complete: " + ", ".join(f"{n} {s}" for s, n in counts.items() if n) + "."]


def _best(study: optuna.Study) -> dict[str, Any]:
    """States, and the best trial: of several objectives each one's own best on the front."""
    numbers: dict[str, Any] = {f"study/{k}": n for k, n in states(study).items()}
    numbers["study/budget"] = study.user_attrs["budget"]
    front = best(study)
    for i, (name, less) in enumerate(objectives(study).items()):
        if front:
            chosen = sorted(front, key=lambda o: o.trial.values[i])[0 if less else -1]
            numbers |= {
                f"study/best/{name}": chosen.trial.values[i],
                f"study/best/{name}/trial": chosen.number,
            }
    return numbers


def _page(study: optuna.Study, folder: RunFolder, drawn: dict[str, Any]) -> None:
    definition = study.user_attrs["definition"]
    columns, rows = trials_table(study)
    titles = {title.replace("_", " "): figure for title, figure in drawn.items()}
    write_page(
        folder / "report.html",
        f"Sweep {study.study_name}",
        Text("Question", definition["question"]),
        Text("Hypothesis", definition["hypothesis"]),
        Text("Answer so far", " ".join(show_answers(study))),
        Text("How to read it", definition["reading"]),
        Figures("Figures", titles),
        Table("Trials", {str(row[0]): row[1:] for row in rows}, columns[1:]),
        subtitle=", ".join(f"{n} {state}" for state, n in states(study).items() if n),
    )


def show(study: optuna.Study) -> str:
    """The trials as text, and the answer."""
    names = list(objectives(study))
    lines = []
    for number, trial in sorted(attempts(study).items()):
        if trial.state == TrialState.WAITING:
            continue
        knobs = ", ".join(f"{knob_title(k)} {value_title(v)}" for k, v in trial.params.items())
        values = ", ".join(f"{n} {v:.4g}" for n, v in zip(names, trial.values or [], strict=False))
        reason = trial.user_attrs.get("failure") or ""
        lines.append(f"{number:4d}  {STATES[trial.state]:9s} {knobs}  {values}{reason}")
    return "\n".join([*lines, *show_answers(study)])


def main(arguments: Sequence[str]) -> None:
    from sweeps.definition.reader import load
    from sweeps.execution.run import parse

    if not arguments or {"--help", "-h"} & set(arguments):
        print((__doc__ or "").strip())
        sys.exit(0 if arguments else 2)
    try:
        file, settings, overrides = parse(arguments)
        sweep = load(Path(file), overrides)
        study = load_study(sweep.name, open_storage(settings.url, must_exist=True))
        print(show(study))
        publish(study, settings.place, sweep.tracking)
    except (ValueError, OSError) as error:
        refuse("sweep show", error)
