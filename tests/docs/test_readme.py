"""What the README says is so: its commands, its equation map, its numbers, its links."""

import ast
import functools
import importlib
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from experiments.harness.config import compose
from experiments.harness.config.settings import SCHEMAS
from experiments.harness.publishing import publish as report
from sdedata import shipped
from sdedata.dataset import distinct, inside_window, low_energy

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PLAIN = " ".join(README.split())  # sentences, wherever their lines break
RESULTS = ROOT / "docs/results.json"
SPEED = ROOT / "docs/speed.json"
SEARCH = ROOT / "docs/search.json"
DOCUMENTS = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted(ROOT.glob("packages/*/README.md"))]
NAMED_CODE = re.compile(r"\[`([\w.]+)`\]\(((?:packages|experiments|tests)/[^)]+\.py)\)")


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, re.S)


def commands() -> list[str]:
    """Every line of the bash blocks, and every inline `make ...` or `python -m ...`."""
    lines = [line for block in blocks(README, "bash") for line in block.splitlines()]
    lines += re.findall(r"`((?:make|python -m|pip install) [^`]+)`", README)
    assert len(lines) > 12
    return sorted(set(lines))


def entries() -> list[tuple[str, list[str]]]:
    """Entry point and arguments of every command of experiments; test_sweeps_readme has others."""
    parts = [shlex.split(line) for line in commands()]
    ours = [p for p in parts if p[0] == "python" and p[2].startswith("experiments.")]
    return [(p[2].removeprefix("experiments."), p[3:]) for p in ours]


@functools.cache
def definitions(path: str) -> set[str]:
    return {
        node.name
        for node in ast.walk(ast.parse((ROOT / path).read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.ClassDef)
    }


@pytest.mark.parametrize(("entry", "arguments"), [e for e in entries() if e[0] in SCHEMAS])
def test_commands_compose(entry, arguments):
    compose.load(entry, arguments)
    known = yaml.safe_load((compose.CONF / f"{entry}.yaml").read_text(encoding="utf-8"))
    for argument in arguments:
        key = argument.split("=")[0].split(".")[0]
        assert key in known or (compose.CONF / key).is_dir(), argument


@pytest.mark.parametrize("entry", sorted({e for e, _ in entries()} - set(SCHEMAS)))
def test_other_commands_know_their_arguments(entry):
    help_text = subprocess.run(
        [sys.executable, "-m", f"experiments.{entry}", "--help"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    usage = re.search(r"usage: .*?\n\n", help_text, re.S)[0]
    given = {
        sum(not a.startswith("-") for a in arguments) for e, arguments in entries() if e == entry
    }
    if "...]" in usage.replace("KEY=VALUE ...]", ""):
        assert min(given) >= 1
    else:
        assert given == {len(usage.split("]")[-1].split())}


def test_make_targets_and_packages_exist():
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.M))
    for line in commands():
        words = shlex.split(line)
        if words[0] == "make":
            assert words[1] in targets, line
        if words[0] == "pip":
            assert (ROOT / words[2] / "pyproject.toml").is_file(), line


def test_every_name_in_the_map_is_where_it_says():
    table = README.split("## From the paper to code and test")[1].split("\n## ")[0]
    rows = [line for line in table.splitlines() if line.startswith("|")][2:]
    for row in rows:
        code, proof = row.split(" | ")[-2:]
        assert NAMED_CODE.findall(code), row
        assert NAMED_CODE.findall(proof), row
    for name, path in NAMED_CODE.findall(README):
        if path.startswith("tests/"):
            assert name in definitions(path), name
            continue
        module = path.split("/src/")[-1].removesuffix(".py").replace("/", ".")
        functools.reduce(getattr, name.split("."), importlib.import_module(module))
        assert name.split(".")[0] in definitions(path), f"{name} is defined elsewhere"


def test_the_paper_is_compared_at_equal_training():
    """The command for `vp` differs from the default one in its process alone."""
    (arguments,) = [a for e, a in entries() if e == "quickstart"]
    ours, papers = (compose.load("quickstart", given) for given in ([], arguments))
    assert papers.score == [*ours.score, "sde=vp"]
    assert {k for k, v in ours.plain().items() if v != papers.plain()[k]} == {"name", "score"}


@pytest.mark.parametrize("equation", ["Eq. 1", "Eq. 2", "Eq. 3", "loss", "prior", "Fig. 2b"])
def test_the_map_is_complete(equation):
    assert f"| {equation} |" in README


def test_the_numbers_are_those_of_the_runs():
    assert RESULTS.is_file(), "publish a run: surfdiff publish runs/quickstart/ag6o3"
    results = json.loads(RESULTS.read_text(encoding="utf-8"))
    assert report.fill(README, "results", report.results_table(results)) == README
    for run in results.values():
        assert set(run) == {"command", "seed", "machine", "environment", "summary"}
        required = {key for _, _, *keys in report.ROWS for key in keys if key}
        assert required <= set(run["summary"])
    assert next(iter(results.values()))["command"] == "make quickstart"  # as the caption says


def test_the_speeds_are_those_of_the_benchmark():
    assert SPEED.is_file(), "publish one: surfdiff publish runs/benchmark/speed"
    speed = json.loads(SPEED.read_text(encoding="utf-8"))
    assert report.fill(README, "speed", report.speed_table(speed)) == README
    assert "AGeDi" in speed["record"]["peers"]
    assert {"sampling p3x3 guided", "sampling p4x4"} <= set(speed["record"]["times"])


def test_the_cost_of_a_search_is_as_measured():
    search = json.loads(SEARCH.read_text(encoding="utf-8"))
    assert report.fill(README, "search", report.search_table(search)) == README
    assert search["known"] == shipped.load("rss_c2x8").digest
    assert search["command"] in "\n".join(blocks(README, "bash"))
    (arguments,) = [a for e, a in entries() if e == "train" and "name=planner" in a]
    asked = compose.load("train", arguments).plain()
    learnt = {"digest": shipped.load("rss_c2x8_frames").digest}
    training = search["training"]
    asked["neighbours"] = training["neighbours"]  # another way to the same edges
    for config in (asked, training):
        for key in ("messages", "backend"):  # and to the same sums
            config["task"]["network"].pop(key, None)
    assert training == {key: asked[key] for key in set(training) - set(learnt)} | learnt

    results = {result["fmax"]: result for result in search["record"]["results"]}
    loose, tight = results[0.1], results[0.02]
    assert (loose["compared"], tight["compared"]) == (112, 112 - 1)  # one is left out
    for form, one, sign in [
        ("they lie {} eV lower than ASE's (95 %: {} to {})", loose["planned"]["energy_below"], 1),
        ("0.02 {} lower than our optimiser's alone ({} to {})",
         tight["planned"]["energy_below_unplanned"], 1),
        ("they lie {} eV higher ({} to {})", tight["leaps"]["energy_below"], -1),
        ("our optimiser alone do ({}, {} to {})", tight["alone"]["energy_below"], -1),
        ("they differ by {} ({} to {})", tight["leaps"]["energy_below_unplanned"], -1),
    ]:  # fmt: skip
        mean, low, high = one[0], *sorted(one[1:], key=lambda x: sign * x)
        assert form.format(*(f"{sign * x:.2f}" for x in (mean, low, high))) in PLAIN
    saved, by_planning = (tight["leaps"][f"calls_saved{way}"] for way in ("", "_by_planning"))
    assert "{:.1f} times fewer calls than ASE's loop ({:.1f} to {:.1f})".format(*saved) in PLAIN
    assert f"and {by_planning[0]:.1f} times fewer than our optimiser alone" in PLAIN
    assert f"`surrogate.trust_radius={tight['leap']}`" in PLAIN
    tests = ("kolmogorov_smirnov_p", "mann_whitney_p", "new_p")
    assert min(tight["leaps"][p] for p in tests) > 0.05  # "as samples"


def test_the_sizes_of_the_shipped_sets_are_true():
    sizes = {name: len(shipped.load(name)) for name in shipped.names()}
    assert f"The package carries {sizes['rss_c2x8']} relaxed minima in c(2x8)" in PLAIN
    assert f"Ag6O3 in p(3x3) ({sizes['rss_ag6o3_p3x3']})" in PLAIN
    assert f"Ag12O6 in p(4x4) ({sizes['rss_ag12o6_p4x4']})" in PLAIN
    data = shipped.load("rss_c2x8")
    trained_on = low_energy(distinct(data.select(inside_window(data, (1.0, 5.0)))))
    said = re.findall(r"(\d+) minima(?:,| \()\s?(\d+) of them", PLAIN)
    assert len(said) == 2
    assert set(said) == {(str(len(data)), str(len(trained_on)))}


def test_what_differs_is_told_with_the_defaults_that_hold():
    """Sentences about defaults, each against the config that it is about."""
    train, sample = compose.load("train"), compose.load("sample")
    assert train.sde.target == "vpsde.brownian"
    assert f"beta from {train.sde.beta_min:g} to {train.sde.beta_max:g}." in PLAIN
    low, high = train.data.z_range
    assert f"models are confined to {low:g} to {high:g} Å" in PLAIN
    search = compose.load("generate_data")
    assert "drops atoms {:g} to {:g} Å above".format(*search.template.z_range) in PLAIN
    for relaxation in (search.relaxation, compose.load("evaluate").relaxation):
        assert f"{relaxation.fmax:g} eV/Å in at most {relaxation.max_steps} steps" in PLAIN
    assert f"Forces longer than {sample.guide.max_force:g} eV/Å are shortened" in PLAIN
    assert sample.guide.eta_dt == 0.001
    assert (sample.sampler.noise, sample.sampler.noisy_end) == ("ancestral", False)
    assert train.data.max_repeats == 2
    assert "data.max_repeats=1" in compose.load("quickstart").forcefield


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_links_resolve(path):
    for target in re.findall(r"\]\(([^)\s]+)\)", path.read_text(encoding="utf-8")):
        if not target.startswith("http"):
            assert (path.parent / target.split("#")[0]).exists(), target


@pytest.mark.parametrize("package", ["sdedata", "painnx", "vpsde", "guidance"])
def test_the_example_of_each_package_runs(package):
    text = (ROOT / f"packages/{package}/README.md").read_text(encoding="utf-8")
    (example,) = blocks(text, "python")
    exec(compile(example, f"{package}/README.md", "exec"), {"__name__": "example"})
