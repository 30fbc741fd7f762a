"""Build W&B workspaces and a report of a sweep: print them as JSON, or save them in W&B."""

import json
from collections.abc import Sequence
from pathlib import Path

from experiments.harness.commands.command_line import Parser, refusing


def main(arguments: Sequence[str]) -> None:
    parser = Parser("dashboard", __doc__)
    parser.add_argument("study", type=Path, help="a sweep's file, or its run folder")
    parser.add_argument("--project", help="default: as the sweep's tracking, or surfaces")
    parser.add_argument("--entity", help="user or team; default: as the sweep's tracking")
    parser.add_argument("--save", action="store_true", help="upload instead of print")
    parsed = parser.parse_args(arguments)
    with refusing("dashboard", parsed.traceback):
        from experiments.harness.tracking.dashboard import as_json, dashboard, save
        from experiments.harness.tracking.workspace import read

        study = read(parsed.study)
        entity = parsed.entity or study.tracking.get("entity") or ""
        project = parsed.project or study.tracking.get("project") or "surfaces"
        found = dashboard(study, project, entity)
        if parsed.save:
            for address in save(found, entity):
                print(address)
        else:
            print(json.dumps([as_json(view) for view in found], indent=2))
