"""What is written of the experiments: a README for each, and the index of all, made of their files.

`documents` is what the files should hold; a test compares, and `surfdiff publish` writes it.
"""

import json
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments.harness.pipeline import table
from experiments.harness.pipeline.claims import HEADER as HEADER_OF_CLAIMS
from experiments.harness.pipeline.claims import row
from experiments.harness.pipeline.drawings import FIGURES
from experiments.harness.pipeline.experiment import FOLDER, Experiment, read, shipped
from experiments.harness.runs.markdown import fill
from experiments.harness.runs.markdown import table as markdown

RESULTS = "results.json"
HEADER = ["experiment", "claim", "paper", "here", "command", "time"]
COUNTED = {True: "hold", False: "do not", None: "not resolved"}
"""How outcomes of claims are counted in the index."""
README = """# {name}

{claim}

{paper}**How to read it.** {reading}

**Time.** {cost}.

```bash
{command}
```

**Results.** {results}
"""


def documents() -> dict[Path, str]:
    """The text of each README below `experiments/`."""
    found: dict[str, Experiment] = {name: read(file) for name, file in shipped().items()}
    index = FOLDER / "README.md"
    texts = {
        shipped()[name].with_name("README.md"): readme(name, experiment, results(name))
        for name, experiment in found.items()
    }
    rows = [_row(name, one, results(name)) for name, one in found.items()]
    return texts | {index: fill(index.read_text("utf-8"), "index", markdown(HEADER, rows))}


def results(name: str) -> dict[str, Any]:
    """What has been published of an experiment; empty if nothing."""
    file = shipped()[name].with_name(RESULTS)
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}


def readme(name: str, experiment: Experiment, found: Mapping[str, Any]) -> str:
    """The README of an experiment."""
    commands = [f"surfdiff run {name}"]
    commands += [f"surfdiff run {name} small=true"] if experiment.small else []
    return README.format(
        name=name,
        claim=_filled(experiment.claim),
        paper=f"**In the paper.** {experiment.paper}.\n\n" if experiment.paper else "",
        reading=_filled(experiment.reading, "**How to read it.** "),
        cost=experiment.cost,
        command="\n".join(commands),
        results=_results_text(experiment, found) + _figures_text(name, experiment),
    )


def _results_text(experiment: Experiment, found: Mapping[str, Any]) -> str:
    if not found:
        return "Not run in full yet."
    if "record" in found:
        return f"[results.json]({RESULTS}), of `{found['command']}`."
    columns = {name: run["summary"] for name, run in found.items()}
    if list(columns) == [experiment.name]:  # one run: each of its samplings
        columns = table.columns(experiment, columns[experiment.name])
    commands = [f"`{name}`: `{run['command']}`" for name, run in found.items()]
    measured = [claim for run in found.values() for claim in run.get("claims", [])]
    claims = f"{markdown(HEADER_OF_CLAIMS, map(row, measured))}\n\n" if measured else ""
    return f"{'; '.join(commands)}.\n\n{claims}{table.results(columns)}"


def _figures_text(name: str, experiment: Experiment) -> str:
    """The figures that have been published, with their numbers."""
    folder = shipped()[name].parent
    found = ""
    for figure in experiment.figures:
        picture, numbers = (f"{FIGURES}/{figure.name}.{ending}" for ending in ("png", "csv"))
        if (folder / picture).is_file():
            caption = _filled(f"{figure.caption} Its numbers: [{numbers}]({numbers}).")
            found += f"\n\n![{figure.name}]({picture})\n\n{caption}"
    return found


def _row(name: str, experiment: Experiment, found: Mapping[str, Any]) -> list[str]:
    link = f"[{name}]({name}/README.md)"
    command = f"`surfdiff run {name}`"
    return [link, experiment.claim, experiment.paper or "–", _here(name, found), command,
            experiment.cost]  # fmt: skip


def _here(name: str, found: Mapping[str, Any]) -> str:
    """What was found, in a few words."""
    if not found:
        return "not run in full yet"
    if "record" in found:
        return f"[measured]({name}/{RESULTS})"
    claims = [claim for run in found.values() for claim in run.get("claims", [])]
    if claims:
        tested = [claim["holds"] for claim in claims if claim["expected"]]
        words = ", ".join(f"{tested.count(k)} {word}" for k, word in COUNTED.items())
        words += f", {len(claims) - len(tested)} plain numbers"
        return f"[{len(claims)} claims]({name}/README.md): {words}"
    small = "" if any(not run.endswith("_small") for run in found) else "not in full yet; small: "
    summary = next(iter(found.values()))["summary"]
    if not {"gen_relaxed/energy_median", "rss/energy_median"} <= set(summary):
        return f"[measured]({name}/{RESULTS})"
    median, reference = summary["gen_relaxed/energy_median"], summary["rss/energy_median"]
    return (
        f"{small}median {median:.2f} eV, relaxed, against {reference:.2f} eV of random search "
        f"({summary['gen/n']} and {summary['rss/n']} structures)"
    )


def _filled(text: str, before: str = "") -> str:
    return textwrap.fill(before + text, width=110).removeprefix(before)
