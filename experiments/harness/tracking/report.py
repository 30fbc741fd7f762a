"""A study's W&B report as code: question, claim and conclusion, then the panels of its workspaces.

A workspace is for looking around, a report for showing others. Its run sets name no project, which
for W&B means the report's own; one that does can be made only with a login.
"""

from collections.abc import Iterator
from typing import Any

from experiments.harness.tracking.workspace import Study, workspaces

try:
    from wandb_workspaces.reports import v2 as wr
except ModuleNotFoundError:
    wr = None  # type: ignore[assignment]

TITLE_LENGTH = 128
WIDTH, HEIGHT = 24, 8
"""Of a row of panels, in W&B's units."""


def report(study: Study, project: str, entity: str = "") -> Any:
    """Compose the report of a study. ValueError if wandb-workspaces is missing."""
    blocks: list[Any] = []
    for workspace in workspaces(study, project, entity):
        for section in workspace.sections:
            columns = section.layout_settings.columns
            for panel in section.panels:
                panel.layout = wr.Layout(w=WIDTH // columns, h=HEIGHT)
            grid = wr.PanelGrid(runsets=[_runs(workspace)], panels=section.panels)
            blocks += [wr.H2(section.name), grid]
    return wr.Report(
        project=project,
        entity=entity,
        title=f"Sweep {study.name}"[:TITLE_LENGTH],
        description=study.texts.get("Question", ""),
        blocks=[*_texts(study), *blocks],
        width="fluid",
    )


def _texts(study: Study) -> Iterator[Any]:
    for name, text in study.texts.items():
        yield wr.H2(name)
        yield wr.P(text)


def _runs(workspace: Any) -> Any:
    """Make a report's set of runs of a workspace's: the same runs in the same order."""
    of = workspace.runset_settings
    order = [wr.OrderBy(wr.SummaryMetric(one.item.name), one.ascending) for one in of.order]
    return wr.Runset(
        name=workspace.name, filters=of.filters, order=order, pinned_columns=of.pinned_columns
    )
