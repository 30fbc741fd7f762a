"""Published results of finished sweeps: `sweeps/results/NAME.json`, a figure, and the README.

The statements in the README are computed from the trials in the JSON files.
"""

import json
import re
from pathlib import Path
from typing import Any

from experiments.harness.figures.plots import save
from experiments.harness.runs.atomic_io import write_text
from sweeps.analysis.figures import energies
from sweeps.analysis.report import counted, statements
from sweeps.analysis.table import Trials, from_rows, is_number

DIGITS = 4
KEPT = ("gen/n", "gen/frac_finite", "gen/frac_valid", "gen/hit_rate", "gen/structures_per_second",
        "gen/energy_median", "gen_relaxed/energy_median", "rss/energy_median", "score/loss",
        "seconds/all")  # fmt: skip


def publish(trials: Trials, runs: Path, results: Path) -> None:
    """Write the record and figure of a study; ValueError while trials are left."""
    if trials.counts["waiting"] or trials.counts["running"]:
        raise ValueError(f"study {trials.name} is not finished: {counted(trials)}")
    file = runs / "sweeps" / trials.name / "0000/environment.json"
    record = {
        "name": trials.name,
        "definition": dict(trials.definition),
        "environment": json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {},
        "trials": [_row(trials, slot) for slot in trials.trials.index],
    }
    text = re.sub(r"\n +(?=[-\dn])", " ", json.dumps(record, indent=1, ensure_ascii=False))
    write_text(results / f"{trials.name}.json", text + "\n")  # the numbers of a list in one line
    figure = energies(trials, trials.questions[0])
    save(figure, results / f"{trials.name}.png").with_suffix(".svg").unlink()


def _row(trials: Trials, slot: int) -> dict[str, Any]:
    row, found = trials.trials.loc[slot], trials.energies[trials.energies["slot"] == slot]
    names = dict.fromkeys([*KEPT, *trials.objectives, *trials.definition.get("constraints", {})])
    return {
        "number": int(slot),
        "state": row["state"],
        "params": {p: row[p] for p in trials.parameters if row[p] == row[p]},
        "metrics": {n: round(row[n], DIGITS) for n in names if is_number(row.get(n))},
        "energies": {
            str(name): [None if e != e else round(e, DIGITS) for e in some["energy"]]
            for name, some in found.groupby("set")
        },
    }


def load_record(path: Path) -> Trials:
    """Return the trials of a published file."""
    found = json.loads(path.read_text(encoding="utf-8"))
    return from_rows(found["name"], found["definition"], found["trials"])


def refill(readme: Path, results: Path) -> None:
    """Write the sections of all published sweeps into the README, in the order of its table."""
    text = readme.read_text(encoding="utf-8")
    files = sorted(results.glob("*.json"), key=lambda path: text.find(f"[`{path.stem}`]"))
    block = "\n".join(section(load_record(path)) for path in files)
    block = f"<!-- results -->\n{block}<!-- /results -->"
    new, n = re.subn(r"<!-- results -->\n.*?<!-- /results -->", lambda _: block, text, flags=re.S)
    if n != 1:
        raise ValueError(f"{readme} needs one block from <!-- results --> to <!-- /results -->")
    write_text(readme, new)


def section(trials: Trials) -> str:
    """Return a sweep as Markdown: question, figure, statements."""
    found, name = "\n".join(f"- {one}" for one in statements(trials)), trials.name
    return f"""### {name}: {trials.definition["question"]}

![{name}: energies by setting](results/{name}.png)

{found}

*`surfdiff sweep sweeps/{name}.yaml`; {counted(trials)} trials; every number is in
[results/{name}.json](results/{name}.json).*
"""
