"""Publish what finished sweeps say: surfdiff sweep report sweeps/eta.yaml sweeps/steps.yaml

Writes docs/sweeps/NAME.png and NAME.json (trials, energies, answer), and fills sweeps/README.md
between its markers with all sweeps that are there: the text says what the files say.

usage: surfdiff sweep report FILE ... [storage=URL] [runs=FOLDER] [--help]
"""

import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import optuna

from experiments.harness.commands.command_line import refuse
from experiments.harness.figures.plots import save
from experiments.harness.runs.atomic_io import write_text
from experiments.harness.runs.run_folder import RunFolder
from sweeps.analysis.figures import answer_figure
from sweeps.analysis.names import knob_title
from sweeps.analysis.show import show_answers
from sweeps.analysis.trials import knobs, objectives, outcomes, questions
from sweeps.definition.reader import load
from sweeps.execution.run import Settings
from sweeps.execution.study import load_study, open_storage, states

ROOT = Path(__file__).parents[2]
DIGITS = 4
TOLD = ("gen/n", "gen/frac_finite", "gen/frac_valid", "gen/hit_rate", "gen/structures_per_second",
        "gen/energy_median", "gen_relaxed/energy_median", "score/loss", "seconds/all")  # fmt: skip


def record(study: optuna.Study, runs: Path) -> dict[str, Any]:
    """Everything that the answer rests on; ValueError while trials are left."""
    counts = states(study)
    if counts["waiting"] or counts["running"]:
        raise ValueError(f"study {study.study_name} is not finished: {counts['waiting']} trials "
                         f"wait and {counts['running']} run")  # fmt: skip
    first = RunFolder(runs / "sweeps" / study.study_name / "0000").path / "environment.json"
    environment = json.loads(first.read_text(encoding="utf-8")) if first.is_file() else {}
    return {
        "name": study.study_name,
        "definition": study.user_attrs["definition"],
        "states": counts,
        "answers": show_answers(study),
        "environment": environment,
        "trials": [
            {
                "number": outcome.number,
                "state": outcome.state,
                "params": outcome.knobs,
                "metrics": {
                    k: round(v, DIGITS) for k, v in outcome.numbers.items()
                    if k in (*TOLD, *objectives(study))
                },
                "energies": {
                    k: [round(e, DIGITS) for e in outcome.energies(k)]
                    for k in ("gen", "gen_relaxed")
                },
            }
            for outcome in outcomes(study)
        ],
    }  # fmt: skip


def section(found: dict[str, Any]) -> str:
    """Markdown: question, picture, answer."""
    name, definition = found["name"], found["definition"]
    counts = ", ".join(f"{n} {state}" for state, n in found["states"].items() if n)
    said = "\n".join(f"- {answer}" for answer in found["answers"])
    return f"""### {name}: {definition["question"]}

![{name}: objective and energies against the knob](../docs/sweeps/{name}.png)

{said}

*`surfdiff sweep run sweeps/{name}.yaml`; {counts} trials; every number is in
[docs/sweeps/{name}.json](../docs/sweeps/{name}.json).*
"""


def fill(text: str, sections: list[str]) -> str:
    """The README's `text` with the sections between its markers."""
    block = "<!-- answers -->\n" + "\n".join(sections) + "<!-- /answers -->"
    new, n = re.subn(r"<!-- answers -->\n.*?<!-- /answers -->", lambda _: block, text, flags=re.S)
    if n != 1:
        raise ValueError(
            "sweeps/README.md needs one block from <!-- answers --> to <!-- /answers -->"
        )
    return new


def publish(study: optuna.Study, runs: Path, docs: Path) -> None:
    """The study's picture and record."""
    found = record(study, runs)
    docs.mkdir(parents=True, exist_ok=True)
    asked = list(questions(study)) or list(knobs(study))
    figure = answer_figure(study, asked[0])
    figure.suptitle("" if len(asked) == 1 else knob_title(asked[0]))
    save(figure, docs / f"{study.study_name}.png").with_suffix(".svg").unlink()
    text = json.dumps(found, indent=1, ensure_ascii=False)
    write_text(docs / f"{study.study_name}.json", text + "\n")


def refill(readme: Path, docs: Path) -> None:
    """Sections of all that is published, in the order of the README's table."""
    text = readme.read_text(encoding="utf-8")
    records = {path.stem: path for path in docs.glob("*.json")}
    order = sorted(records, key=lambda name: text.find(f"[`{name}`]"))
    found = [json.loads(records[name].read_text(encoding="utf-8")) for name in order]
    write_text(readme, fill(text, [section(one) for one in found]))


def main(arguments: Sequence[str]) -> None:
    if not arguments or {"--help", "-h"} & set(arguments):
        print((__doc__ or "").strip())
        sys.exit(0 if arguments else 2)
    try:
        given = dict(a.split("=", 1) for a in arguments if "=" in a)
        if unknown := given.keys() - {"storage", "runs"}:
            raise ValueError(f"there is no setting {min(unknown)}: storage and runs are all")
        settings = Settings(**given)  # type: ignore[arg-type]
        storage = open_storage(settings.url, must_exist=True)
        for file in (a for a in arguments if "=" not in a):
            study = load_study(load(file).name, storage)
            publish(study, Path(settings.runs), ROOT / "docs/sweeps")
        refill(ROOT / "sweeps/README.md", ROOT / "docs/sweeps")
    except (ValueError, OSError) as error:
        refuse("sweep report", error)
