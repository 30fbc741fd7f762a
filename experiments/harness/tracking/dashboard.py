"""What W&B shows of a study, as plain values or saved there: workspaces and a report.

`surfdiff dashboard sweeps/eta.yaml` prints them as JSON, which needs no account; `--save` uploads.
"""

import json
from collections.abc import Iterator
from typing import Any

from experiments.harness.tracking.report import report
from experiments.harness.tracking.wandb_variables import has_key
from experiments.harness.tracking.workspace import Study, workspaces


def dashboard(study: Study, project: str, entity: str = "") -> list[Any]:
    """Build the workspaces of a study and its report; ValueError without wandb-workspaces."""
    return [*workspaces(study, project, entity), report(study, project, entity)]


def as_json(view: Any) -> dict[str, Any]:
    """Return a workspace or a report in W&B's own form, as plain values."""
    model = view._to_model()  # as its own save() does; there is no public way without a login
    return {
        "entity": view.entity,
        "project": view.project,
        "name": model.display_name,
        "spec": json.loads(model.spec.model_dump_json(by_alias=True, exclude_none=True)),
    }


def save(found: list[Any], entity: str) -> Iterator[str]:
    """Upload what `dashboard` built; yields addresses. ValueError without a W&B key or entity."""
    if not has_key():
        raise ValueError("--save needs a W&B key: run `wandb login`, or leave --save out")
    if not entity:
        raise ValueError("--save needs --entity, the user or team in W&B who gets it")
    yield from map(_saved, found)


def _saved(view: Any) -> str:
    """Return the address of a new view in W&B; ValueError if W&B does not take it."""
    try:
        return view.save().url
    except Exception as error:  # of wandb, of its service, of the network
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"W&B did not take the {type(view).__name__.lower()}: {reason}") from error
