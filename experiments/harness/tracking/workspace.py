"""A study's W&B workspaces as code. One shows the trials: energies
over each other, quantiles against each parameter, parallel coordinates, importances and
structures. If the study trains, another one shows the learning curves: a workspace has but one set
of runs.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from experiments.harness.runs.energies import bin_counts
from experiments.harness.runs.metrics import metric_title
from experiments.harness.runs.run_folder import RunFolder
from experiments.harness.runs.strict_parsing import parse_yaml, reason
from experiments.harness.tracking.wandb_media import HISTOGRAM, chart_table, shown_name

try:
    from wandb_workspaces import expr
    from wandb_workspaces import workspaces as ws
    from wandb_workspaces.reports import v2 as wr
except ModuleNotFoundError:
    ws = None  # type: ignore[assignment]

ENERGIES = {"gen_relaxed": "relaxed", "gen": "generated"}
QUANTILES = ("p10", "median", "p90")
CURVES = {
    "score": ("train/loss", "val/loss"),
    "forcefield": ("train/loss", "val/loss", "forcefield/energy_mae", "forcefield/force_mae"),
}
SHOWN_RUNS = 100
INSTALL = "the dashboard needs another package: pip install -c constraints.txt wandb-workspaces"


@dataclass(frozen=True)
class Study:
    """What a dashboard shows of a study; names as in the run folders."""

    name: str
    parameters: dict[str, bool]  # whether it varies on a logarithmic scale
    objectives: dict[str, str]  # "minimize" or "maximize"
    stages: tuple[str, ...] = ("evaluate",)
    texts: dict[str, str] = field(default_factory=dict)
    """By title: question, claim, how to read the results, conclusion; those that there are."""
    tracking: dict[str, Any] = field(default_factory=dict)

    @property
    def kinds(self) -> list[str]:
        """The kind of each stage: that of `score_lowE` is score."""
        return [stage.partition("_")[0] for stage in self.stages]

    @property
    def evaluated(self) -> list[str]:
        """What precedes the names of an evaluation's metrics: the label of its stage, if any."""
        labels = [stage.partition("_")[2] for stage in self.stages if stage.startswith("evaluate")]
        return [f"{label}/" if label else "" for label in labels]

    @property
    def metrics(self) -> list[str]:
        """What is drawn against each parameter: objectives first, then quantiles."""
        quantiles = [f"{e}gen_relaxed/energy_{q}" for e in self.evaluated for q in QUANTILES]
        return list(dict.fromkeys([*self.objectives, *quantiles]))


def read(path: Path) -> Study:
    """The study of a sweep's file, or of its run folder (runs/sweeps/<name>/study)."""
    is_folder = path.is_dir()
    file = path / "config.yaml" if is_folder else path
    if not file.is_file():
        raise ValueError(f"there is no {file}: give a sweep's file, such as sweeps/eta.yaml")
    try:
        content = parse_yaml(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ValueError(f"{file} cannot be read as YAML: {reason(error)}") from error
    if isinstance(content, dict):
        content = content.get("sweep", content)
    if not isinstance(content, dict) or not all(
        isinstance(content.get(key), dict) and content[key] for key in ("space", "objectives")
    ):
        raise ValueError(f"{file} is no sweep: it needs the keys space and objectives")
    space, objectives = content["space"], content["objectives"]
    if any(direction not in ("minimize", "maximize") for direction in objectives.values()):
        raise ValueError(f"{file}: objectives are METRIC: minimize, or METRIC: maximize")
    return Study(
        name=content.get("name") or (path.parent.name if is_folder else path.stem),
        parameters={
            key: isinstance(how, dict) and bool(how.get("log")) for key, how in space.items()
        },
        objectives=objectives,
        stages=tuple(content.get("stages") or ("evaluate",)),
        texts=_texts(content, RunFolder(path).summary if is_folder else {}),
        tracking=content.get("tracking") or {},
    )


def _texts(content: Mapping[str, Any], summary: Mapping[str, Any]) -> dict[str, str]:
    found = {
        "Question": content.get("question"),
        "Claim": content.get("claim") or content.get("hypothesis"),
        "How to read it": content.get("reading"),
        "Conclusion": summary.get("study/conclusion"),
    }
    return {title: " ".join(str(text).split()) for title, text in found.items() if text}


def workspaces(study: Study, project: str, entity: str = "") -> list[Any]:
    """W&B workspaces of the study's trials and, if it trains, of its trainings."""
    if ws is None:
        raise ValueError(INSTALL)

    def workspace(name: str, job_type: str, sections: list[Any], **more: Any) -> Any:
        group = [expr.Metric("Group") == study.name, expr.Metric("JobType") == job_type]
        return ws.Workspace(
            entity=entity,
            project=project,
            name=f"{study.name}: {name}",
            sections=sections,
            settings=ws.WorkspaceSettings(max_runs=SHOWN_RUNS),
            runset_settings=ws.RunsetSettings(filters=group, **more),
        )

    found = [workspace("trials", "trial", _trial_sections(study), **_table(study))]
    if any(kind in CURVES for kind in study.kinds):
        found.append(workspace("trainings", "train", [_learning_curves(study)]))
    return found


def _table(study: Study) -> dict[str, Any]:
    """The list of runs: what was set, what came out, the best first."""
    objective, direction = next(iter(study.objectives.items()))
    order = expr.Ordering(expr.Summary(shown_name(objective)), ascending=direction == "minimize")
    columns = [
        *map(_parameter, study.parameters),
        *map(shown_name, study.objectives),
        "optuna/state",
    ]
    return {"order": [order], "pinned_columns": [f"summary:{name}" for name in columns]}


def _trial_sections(study: Study) -> list[Any]:
    sections = []
    if study.evaluated:
        sections.append(_section("Energies", _energies(study), columns=2))
    for key, log in study.parameters.items():
        sections.append(_section(key, [_against(metric, key, log) for metric in study.metrics]))
    importances = [
        wr.ParameterImportancePlot(with_respect_to=shown_name(name)) for name in study.objectives
    ]
    sections.append(_section("All parameters", [_parallel(study), *importances], columns=2))
    if study.evaluated:
        sections.append(_section("Structures", _gallery(study), columns=1))
    return sections


def _energies(study: Study) -> list[Any]:
    """Histograms of all runs over each other, and counts in the bins that all runs share."""
    panels: list[Any] = []
    for name, text in ((e + n, text) for e in study.evaluated for n, text in ENERGIES.items()):
        label = name.rpartition("/")[0]
        title = f"Energy of {text} structures above the reference (eV){label and f', {label}'}"
        table = {"id": None, "name": None, "_defaultColorIndex": None}
        panels.append(
            wr.CustomChart(
                query=table | {"summaryTable": {"tableKey": chart_table(name)}},
                chart_name=HISTOGRAM,
                chart_fields={"value": "energy"},
                chart_strings={"title": title},
            )
        )
        panels.append(
            wr.BarPlot(
                title=title,
                metrics=list(bin_counts(name, [])),
                orientation="v",
                title_x="structures",
                max_runs_to_show=SHOWN_RUNS,
            )
        )
    return panels


def _against(metric: str, key: str, log: bool) -> Any:
    x, y = wr.SummaryMetric(_parameter(key)), wr.SummaryMetric(shown_name(metric))
    title = f"{metric_title(metric)} against {key}"
    return wr.ScatterPlot(title=title, x=x, y=y, log_x=log or None)


def _parallel(study: Study) -> Any:
    def column(metric: str, text: str, log: bool = False) -> Any:
        return wr.ParallelCoordinatesPlotColumn(
            metric=wr.SummaryMetric(metric), display_name=text, log=log or None
        )

    parameters = [column(_parameter(key), key, log) for key, log in study.parameters.items()]
    objectives = [column(shown_name(metric), metric_title(metric)) for metric in study.objectives]
    return wr.ParallelCoordinatesPlot(
        title=study.texts.get("Question"), columns=[*parameters, *objectives]
    )


def _gallery(study: Study) -> list[Any]:
    """The best structures of each trial (see `sweeps.execution.trial`)."""
    names = ["_".join(filter(None, ["best", prefix.strip("/")])) for prefix in study.evaluated]
    shown = {"structures": "from top and side", "molecules": "to turn"}
    pictures = {f"{name}/{kind}": text for name in names for kind, text in shown.items()}
    return [
        wr.MediaBrowser(
            title=f"Best structures, {text}", media_keys=[key], num_columns=2, gallery_axis="run"
        )
        for key, text in pictures.items()
    ]


def _learning_curves(study: Study) -> Any:
    metrics = dict.fromkeys(m for kind in study.kinds for m in CURVES.get(kind, ()))
    curves = [
        wr.LinePlot(title=metric_title(m), x="train/step", y=[m], log_y=True) for m in metrics
    ]
    return _section("Learning curves", curves, columns=2)


def _section(name: str, panels: list[Any], columns: int = 3) -> Any:
    rows = -(-len(panels) // columns)
    layout = ws.SectionLayoutSettings(columns=columns, rows=rows)
    return ws.Section(name=name, panels=panels, is_open=True, layout_settings=layout)


def _parameter(key: str) -> str:
    """Return the name of a trial's parameter in W&B."""
    return shown_name(f"param/{key}")
