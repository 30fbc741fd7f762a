"""The dashboard as W&B would get it, compared with what a real run gives W&B; nobody logs in."""

import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml
from ase.build import fcc111

from experiments.harness.runs.metrics import REPORTED
from experiments.harness.runs.run_folder import RunFolder
from experiments.harness.tracking.dashboard import as_json, dashboard
from experiments.harness.tracking.report import report
from experiments.harness.tracking.tracker import Tracker
from experiments.harness.tracking.wandb_mirror import inspect
from experiments.harness.tracking.workspace import read, workspaces
from tests.integration.harness.mirror import (
    logs,
    nobody_logged_in,  # noqa: F401  (a fixture of every test)
    updates,
)

ROOT = Path(__file__).parents[3]
SWEEPS = sorted((ROOT / "sweeps").glob("*.yaml"))
SWEEP = {
    "question": "How strong a pull, over how wide a range of noise?",
    "stages": {"forcefield": [], "score": [], "sample": ["n=4"], "evaluate": []},
    "space": {
        "score.sde.beta_max": {"low": 5.0, "high": 100.0, "log": True},
        "sample.guide.eta_dt": {"choices": [0.0, 0.001]},
    },
    "objectives": {
        "gen_relaxed/energy_median": "minimize",
        "gen/structures_per_second": "maximize",
    },
    "tracking": {"project": "silver"},
}


@pytest.fixture
def sweep(tmp_path):
    path = tmp_path / "pull.yaml"
    path.write_text(yaml.safe_dump(SWEEP, sort_keys=False))
    return path


def command(*arguments: object, code: str | None = None, **environment: str):
    """Exit code, stdout and stderr."""
    head = ["-c", code] if code else ["-m", "experiments", "dashboard"]
    done = subprocess.run(
        [sys.executable, *head, *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env=os.environ | environment,
    )
    return done.returncode, done.stdout, done.stderr


def panels(workspace: dict) -> dict[str, list[tuple[str, dict]]]:
    """View type and config of the panels of each section."""
    sections = workspace["spec"]["section"]["panelBankConfig"]["sections"]
    return {s["name"]: [(p["viewType"], p["config"]) for p in s["panels"]] for s in sections}


def filters(workspace: dict) -> dict[str, str]:
    (runs,) = workspace["spec"]["section"]["runSets"]
    found = runs["filters"]["filters"]
    assert all(one["op"] == "=" and not one["disabled"] for one in found)
    assert [one.get("connector") for one in found] == [None, "AND"]
    assert {one["key"]["section"] for one in found} == {"run"}
    return {one["key"]["name"]: one["value"] for one in found}


def test_a_study_is_printed_without_an_account(sweep):
    code, reported, errors = command(sweep)
    assert (code, errors) == (0, "")
    trials, trainings, shown = json.loads(reported)
    assert shown["name"] == "Sweep pull"
    assert [w["name"] for w in (trials, trainings)] == ["pull: trials", "pull: trainings"]
    assert {w["project"] for w in (trials, trainings)} == {"silver"}
    assert filters(trials) == {"group": "pull", "jobType": "trial"}
    assert filters(trainings) == {"group": "pull", "jobType": "train"}
    assert not trials["spec"]["section"]["settings"]["shouldAutoGeneratePanels"]
    (runs,) = trials["spec"]["section"]["runSets"]
    (first,) = runs["sort"]["keys"]
    assert first == {
        "key": {"section": "summary", "name": "gen_relaxed/energy_median"},
        "ascending": True,
    }
    assert "summary:param/sample_guide_eta_dt" in runs["runFeed"]["columnOrder"]


def test_every_parameter_and_objective_has_its_panels(sweep):
    trials, _ = map(as_json, workspaces(read(sweep), "silver"))
    shown = panels(trials)
    assert list(shown) == [
        "Energies", "score.sde.beta_max", "sample.guide.eta_dt", "All parameters", "Structures",
    ]  # fmt: skip
    metrics = [
        "gen_relaxed/energy_median", "gen/structures_per_second",
        "gen_relaxed/energy_p10", "gen_relaxed/energy_p90",
    ]  # fmt: skip
    for parameter, name, log in (
        ("score.sde.beta_max", "param/score_sde_beta_max", True),
        ("sample.guide.eta_dt", "param/sample_guide_eta_dt", None),
    ):
        scatter = [config for kind, config in shown[parameter] if kind == "Scatter Plot"]
        assert [one["yAxis"] for one in scatter] == ["summary:" + metric for metric in metrics]
        assert {one["xAxis"] for one in scatter} == {"summary:" + name}
        assert {one.get("xAxisLogScale") for one in scatter} == {log}
    (parallel, first, second) = shown["All parameters"]
    assert parallel[0] == "Parallel Coordinates Plot"
    assert [(c["accessor"], c["displayName"]) for c in parallel[1]["columns"]] == [
        ("summary:param/score_sde_beta_max", "score.sde.beta_max"),
        ("summary:param/sample_guide_eta_dt", "sample.guide.eta_dt"),
        (
            "summary:gen_relaxed/energy_median",
            "Median energy, relaxed (eV above the reference minimum)",
        ),
        ("summary:gen/structures_per_second", "Structures sampled per second"),
    ]
    assert [p[0] for p in (first, second)] == ["Parameter Importance"] * 2
    assert [p[1]["targetKey"] for p in (first, second)] == list(SWEEP["objectives"])


def test_panels_show_what_a_trial_logs(sweep, tmp_path):
    """A dashboard of other names would be empty, and nobody would notice."""
    folder = RunFolder(tmp_path / "runs" / "sweeps" / "pull" / "0000")
    folder.save_config({"seed": 0})
    surface = fcc111("Ag", (1, 1, 2), a=4.15, vacuum=6)
    surface.info = {}
    with Tracker(folder, group="pull", job_type="trial") as tracker:
        for name in ("gen", "gen_relaxed"):
            tracker.energies(name, [-0.6, 0.1, 0.7, 9.0])
        tracker.structures("best", [surface], ["best"])
        tracker.summary({f"param/{key}": 1.0 for key in SWEEP["space"]})
        tracker.summary({"gen/structures_per_second": 1.0, "gen_relaxed/energy_median": 0.4})
        tracker.summary({"optuna/state": "complete"})
    (log,) = logs(folder)
    given = set(inspect(log)["summary"])
    trials, trainings = map(as_json, workspaces(read(sweep), "silver"))
    (runs,) = trials["spec"]["section"]["runSets"]
    asked = {c for c in runs["runFeed"]["columnOrder"] if c != "run:displayName"}
    for kind, config in sum(panels(trials).values(), []):
        match kind:
            case "Vega2":
                (query,) = config["userQuery"]["queryFields"]
                (table,) = (f for f in query["fields"] if f["name"] == "summaryTable")
                asked |= {argument["value"] for argument in table["args"]}
                assert config["fieldSettings"] == {"value": "energy"}
            case "Bar Chart":
                asked |= set(config["metrics"])
            case "Scatter Plot":
                asked |= {config["xAxis"], config["yAxis"]}
            case "Parallel Coordinates Plot":
                asked |= {column["accessor"] for column in config["columns"]}
            case "Parameter Importance":
                asked.add(config["targetKey"])
            case "Media Browser":
                asked |= set(config["mediaKeys"])
            case _:
                pytest.fail(f"a panel that this test does not know: {kind}")
    names = {name.removeprefix("summary:") for name in asked}
    assert names - given == set()
    assert (
        len(names) == 2 * 24 + 2 + 2 + 2 + 4 + 1
    )  # bins, tables, media, parameters, metrics, state
    charts = json.dumps(updates(log, "config"))
    for _, config in (p for p in panels(trials)["Energies"] if p[0] == "Vega2"):
        assert config["panelDefId"] in charts, "the chart that the run itself is shown with"
    curves = [config for _, config in panels(trainings)["Learning curves"]]
    assert {config["xAxis"] for config in curves} == {"train/step"}
    drawn = {metric for config in curves for metric in config["metrics"]}
    assert {"val/loss", "forcefield/force_mae"} <= drawn
    assert drawn <= REPORTED["score"] | REPORTED["forcefield"]


@pytest.mark.parametrize("path", SWEEPS, ids=[path.stem for path in SWEEPS])
def test_every_sweep_of_the_repository_has_a_dashboard(path):
    content = yaml.safe_load(path.read_text())
    study = read(path)
    found = list(map(as_json, workspaces(study, "surfaces")))
    assert filters(found[0])["group"] == path.stem
    assert set(content["space"]) <= set(panels(found[0]))
    trains = {"score", "forcefield"} & set(content["stages"])
    assert len(found) == (2 if trains else 1)


def grids(spec: dict) -> list[tuple[str, str, list]]:
    """Of each grid of panels of a report: the heading before it, its filter, its panels."""
    found, heading = [], ""
    for block in spec["blocks"]:
        if block["type"] == "heading":
            heading = block["children"][0]["text"]
        if block["type"] == "panel-grid":
            (runs,) = block["metadata"]["runSets"]
            section = block["metadata"]["panelBankSectionConfig"]
            panels = [(p["viewType"], p["config"]) for p in section["panels"]]
            found.append((heading, json.dumps(runs["filters"], sort_keys=True), panels))
    return found


def test_a_report_reads_back_with_texts_runs_and_panels(tmp_path):
    """By the package's own reader of what W&B stores."""
    from wandb_workspaces.reports import v2 as wr
    from wandb_workspaces.reports.v2 import internal

    folder = RunFolder(tmp_path / "runs" / "sweeps" / "pull" / "study")
    stated = SWEEP | {"claim": "A weak pull is best.", "reading": "Lower is better."}
    folder.save_config({"sweep": stated})
    folder.update_summary({"study/conclusion": "0.001 is lowest (24 trials)."})
    study = read(folder.path)
    shown = as_json(report(study, "silver"))
    stored = internal.ReportViewspec(
        display_name=shown["name"],
        description="",
        project=internal.Project(name="silver", entity_name=""),
        spec=internal.Spec.model_validate(shown["spec"]),
    )
    blocks = wr.Report._from_model(stored).blocks
    titled = dict(zip((b.text for b in blocks if isinstance(b, wr.H2)), blocks[1::2], strict=True))
    texts = {title: block.text for title, block in titled.items() if isinstance(block, wr.P)}
    assert texts == {
        "Question": SWEEP["question"],
        "Claim": "A weak pull is best.",
        "How to read it": "Lower is better.",
        "Conclusion": "0.001 is lowest (24 trials).",
    }
    spaces = list(map(as_json, workspaces(study, "silver")))
    expected = [(name, panels_) for space in spaces for name, panels_ in panels(space).items()]
    assert [(name, ps) for name, _, ps in grids(shown["spec"])] == expected
    grid = titled["Learning curves"]
    assert isinstance(grid, wr.PanelGrid)
    (runs,) = grid.runsets
    assert "'pull'" in runs.filters
    assert "'train'" in runs.filters
    (order,) = titled["Energies"].runsets[0].order
    assert (order.name, order.ascending) == (wr.SummaryMetric("gen_relaxed/energy_median"), True)
    places = [
        {(x, y) for x in range(p.layout.x, p.layout.x + p.layout.w)
         for y in range(p.layout.y, p.layout.y + p.layout.h)}
        for p in titled["score.sde.beta_max"].panels
    ]  # fmt: skip
    assert len(set.union(*places)) == sum(map(len, places)), "no panel covers another"


def test_a_study_is_also_known_by_its_run_folder(sweep, tmp_path):
    folder = RunFolder(tmp_path / "runs" / "sweeps" / "pull" / "study")
    folder.save_config({"sweep": SWEEP})
    assert read(folder.path) == read(sweep)


PROJECTS = {
    "pageInfo": {"__typename": "PageInfo", "endCursor": None, "hasNextPage": False},
    "edges": [
        {"node": {
            "__typename": "Project", "id": "1", "name": "gold", "entityName": "me",
            "createdAt": "2026-01-01T00:00:00Z", "isBenchmark": False, "user": None,
        }}
    ],
}  # fmt: skip


class Server(BaseHTTPRequestHandler):
    """As much of W&B's server as takes a workspace and a report, or refuses the key."""

    views: list[dict] = []
    known = True

    def do_POST(self):
        content = self.rfile.read(int(self.headers["Content-Length"] or 0))
        answer: dict = {}
        if self.path == "/graphql":
            asked = json.loads(content)
            answer["viewer"] = {"id": "1", "entity": "me", "username": "me", "flags": "{}"}
            answer["models"] = PROJECTS
            if "upsertView" in asked["query"]:
                given = asked["variables"]
                self.views.append(given)
                project = {"id": "1", "name": "gold", "entityName": "me"}
                view = {"id": "1", "name": "nw-abc-v", "project": project}
                view |= {key: given[key] for key in ("displayName", "description", "spec")}
                answer["upsertView"] = {"view": view, "inserted": True}
        reported = json.dumps({"data": answer}).encode()
        self.send_response(200 if self.known else 401)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(reported)))
        self.end_headers()
        self.wfile.write(reported)

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    Server.views, Server.known = [], True
    server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield {"WANDB_BASE_URL": f"http://127.0.0.1:{server.server_port}", "WANDB_API_KEY": "0" * 40}
    server.shutdown()


def test_saving_sends_what_is_printed(sweep, server):
    code, reported, _ = command(sweep, "--save", "--entity", "me", "--project", "gold", **server)
    assert code == 0
    address = server["WANDB_BASE_URL"] + "/me/gold?nw=abc"
    *workspace_addresses, of_report = reported.splitlines()
    assert workspace_addresses == [address] * 2
    assert of_report == server["WANDB_BASE_URL"] + "/me/gold/reports/Sweep-pull--1"
    *printed, as_report = map(as_json, dashboard(read(sweep), "gold", "me"))
    *views, last = Server.views
    for sent, shown in zip(views, printed, strict=True):
        assert (sent["entityName"], sent["projectName"]) == ("me", "gold")
        assert sent["displayName"] == shown["name"]
        assert panels({"spec": json.loads(sent["spec"])}) == panels(shown)
    assert (last["type"], last["entityName"], last["projectName"]) == ("runs", "me", "gold")
    assert grids(json.loads(last["spec"])) == grids(as_report["spec"])


def test_a_refused_key_is_one_sentence(sweep, server):
    Server.known = False
    code, reported, errors = command(sweep, "--save", "--entity", "me", **server)
    assert (code, reported) == (2, "")
    assert "dashboard: W&B did not take the workspace: " in errors
    assert "Traceback" not in errors


@pytest.mark.parametrize(
    ("content", "arguments", "sentence"),
    [
        (None, [], "there is no {path}: give a sweep's file, such as sweeps/eta.yaml"),
        ("[", [], "{path} cannot be read as YAML: "),
        ("[" * 20000, [], "{path} cannot be read as YAML: exceeded maximum nesting depth"),
        ("a: &a {b: *a}", [], "{path} cannot be read as YAML: "),
        ("a: 2020-13-45", [], "{path} cannot be read as YAML: month must be in 1..12"),
        ("space: {a: {}}", [], "{path} is no sweep: it needs the keys space and objectives"),
        ("- a", [], "{path} is no sweep: it needs the keys space and objectives"),
        (
            "{space: {a: {}}, objectives: {b: least}}",
            [],
            "{path}: objectives are METRIC: minimize, or METRIC: maximize",
        ),
        (yaml.safe_dump(SWEEP), ["--save"], "--save needs a W&B key: run `wandb login`"),
    ],
)
def test_nonsense_is_refused(tmp_path, content, arguments, sentence):
    path = tmp_path / "sweep.yaml"
    if content is not None:
        path.write_text(content)
    code, reported, errors = command(path, *arguments)
    assert (code, reported) == (2, "")
    assert errors.startswith("dashboard: " + sentence.format(path=path))
    assert errors.count("\n") == 1


def test_saving_needs_to_know_for_whom(sweep):
    code, _, errors = command(sweep, "--save", WANDB_API_KEY="0" * 40)
    assert (code, errors) == (
        2,
        "dashboard: --save needs --entity, the user or team in W&B who gets it\n",
    )


def test_without_the_package_the_error_names_it(sweep):
    code = (
        "import sys; sys.modules['wandb_workspaces'] = None\n"
        "from experiments.harness.commands.dashboard import main; main(sys.argv[1:])"
    )
    status, reported, errors = command(sweep, code=code)
    assert (status, reported) == (2, "")
    assert errors.startswith("dashboard: the dashboard needs another package: pip install ")
