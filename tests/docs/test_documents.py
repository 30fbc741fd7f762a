"""What README and documentation state as facts: commands, equations, numbers, links."""

import ast
import functools
import importlib
import json
import re
import tomllib

import pytest
import yaml

from experiments.harness.commands.convert import with_source
from experiments.harness.commands.main import LIST
from experiments.harness.config import compose
from experiments.harness.config.settings import SCHEMAS
from experiments.harness.pipeline import runner
from experiments.harness.pipeline.experiment import read as read_experiment
from experiments.harness.pipeline.experiment import shipped as experiments_here
from experiments.harness.publishing import pages
from sdedata import shipped
from sdedata.__main__ import _parser as sdedata_parser
from sdedata.dataset import distinct, inside_window, low_energy, oxygen_poor, oxygen_rich
from sweeps import subcommands as sweeps
from sweeps.definition import reader
from tests.docs.documents import DOCUMENTS, ROOT, blocks, every_command, name_of, text, words

NAMED_CODE = re.compile(r"\[`([\w.]+)`\]\((?:\.\./)*((?:packages|experiments|tests)/[^)]+\.py)\)")


# Commands


def found(line: str) -> tuple[str, list[str]]:
    """The command of a line, one or two words, and its arguments."""
    given = words(line)[1:]
    (name,) = [c.name for c in LIST if c.name.split() == given[: c.name.count(" ") + 1]]
    return name, given[name.count(" ") + 1 :]


@pytest.mark.parametrize("line", every_command("surfdiff"))
def test_commands_compose(line):
    """Arguments are valid for the command, as far as that can be checked without running it."""
    if "COMMAND" in line or "--" in line:
        return
    command, arguments = found(line)
    if command == "convert":
        arguments = with_source(arguments)
    if command in SCHEMAS:
        compose.load(command, [a for a in arguments if not a.startswith("-")])
    elif command in ("run", "quickstart"):
        experiment, *more = arguments if command == "run" else [pages.RESULTS, *arguments]
        if more in ([], ["small=true"]):  # prepared by tests/integration/configs/test_experiments
            assert experiment in {*experiments_here(), "my_folder"}  # stands for one of the user's
        else:
            runner.prepare(experiment, more)
    elif command == "sweep" and any(a.endswith(".yaml") for a in arguments):
        kind, *given = arguments if arguments[0] in sweeps.COMMANDS else ["run", *arguments]
        file, _, overrides = sweeps.parse(
            sweeps.parse_jobs(given)[1] if kind == "launch" else given
        )
        sweep = reader.load(ROOT / file, [] if kind == "trial" else overrides)
        assert sweep.question
        if kind == "trial":
            assert {a.partition("=")[0] for a in overrides} == set(sweep.space)


@pytest.mark.parametrize("line", every_command("python -m sdedata"))
def test_commands_of_the_data_package_are_understood(line):
    if len(words(line)) > 4 or words(line)[3] == "list":  # else the name of a command alone
        sdedata_parser().parse_args(words(line)[3:])


def test_make_targets_and_packages_exist():
    targets = set(re.findall(r"^([a-z-]+):", text("Makefile"), re.M))
    for line in every_command("make"):
        assert words(line)[1] in targets, line
    for line in every_command("pip install packages"):
        assert "NAME" in line or (ROOT / words(line)[2] / "pyproject.toml").is_file(), line


# The page that is read first


def test_the_readme_is_short_and_opens_with_a_picture():
    readme = text("README.md")
    assert len(readme.split()) <= 700
    assert readme.split("\n\n")[1].startswith("![")
    assert set(every_command("make")) >= {"make quickstart", "make test"}


def test_the_citation_is_complete():
    citation = yaml.safe_load(text("CITATION.cff"))
    project = tomllib.loads(text("pyproject.toml"))["project"]
    assert citation["version"] == project["version"]
    assert citation["license"] == project["license"]
    paper = citation["preferred-citation"]
    assert [a["family-names"] for a in paper["authors"]] == ["Rønne", "Aspuru-Guzik", "Hammer"]
    assert paper["url"] in text("README.md")


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_links_resolve(path):
    document = re.sub(r"^```.*?^```", "", path.read_text(encoding="utf-8"), flags=re.S | re.M)
    for target in re.findall(r"\]\(([^)\s]+)\)", document):
        if not target.startswith("http"):
            assert (path.parent / target.split("#")[0]).exists(), target


# Equations


@functools.cache
def definitions(path: str) -> set[str]:
    """Functions and classes that a file defines."""
    return {
        node.name
        for node in ast.walk(ast.parse(text(path)))
        if isinstance(node, ast.FunctionDef | ast.ClassDef)
    }


def equations() -> list[list[str]]:
    """The cells of the table in docs/theory.md: paper, what, code, test."""
    table = text("docs/theory.md").split("## From the paper to code and test")[1]
    rows = [line for line in table.splitlines() if line.startswith("|")][2:]
    return [[cell.strip() for cell in row.strip("|").split(" | ")] for row in rows]


@pytest.mark.parametrize("row", equations(), ids=lambda row: row[1])
def test_equations_have_code_and_a_test(row):
    _, _, code, proof = row
    for cell in (code, proof):
        assert NAMED_CODE.findall(cell)
    for name, path in NAMED_CODE.findall(proof):
        assert name in definitions(path), name
    for name, path in NAMED_CODE.findall(code):
        module = path.split("/src/")[-1].removesuffix(".py").replace("/", ".")
        functools.reduce(getattr, name.split("."), importlib.import_module(module))
        assert name.split(".")[0] in definitions(path), f"{name} is defined elsewhere"


def test_every_equation_of_the_paper_is_in_the_table():
    wanted = {"Eq. 1", "Eq. 2", "Eq. 3", "loss", "prior", "Fig. 2b", "Fig. 3", "Fig. 4"}
    assert wanted <= {row[0] for row in equations()}


# Numbers


def test_generated_text_is_that_of_the_records():
    for file, written in pages.documents(ROOT).items():
        assert written == file.read_text(encoding="utf-8"), f"{file}: run `surfdiff publish`"


def test_the_published_search_is_that_of_the_experiment():
    search = pages.records(ROOT)[pages.SEARCH]
    assert search["known"] == shipped.load("rss_c2x8").digest
    training = search["training"]
    frames = shipped.load("rss_c2x8_frames")
    learned = frames.select(inside_window(frames, tuple(training["data"]["z_range"])))
    assert training["digest"] == learned.digest
    stage = read_experiment(pages.SEARCH).stages["forcefield"]
    given = compose.load("train", ["task=forcefield", *stage])
    assert training["train"]["steps"] == given.train.steps
    assert training["data"]["max_repeats"] == given.data.max_repeats
    assert training["cutoff"] == given.cutoff


def test_the_conclusions_about_the_search_are_those_of_its_record():
    measured = pages.records(ROOT)[pages.SEARCH]["record"]["results"]
    results = {result["fmax"]: result for result in measured}
    loose, tight = results[0.1], results[0.02]
    page = " ".join(text("docs/searching.md").split())
    intervals = [
        loose["prerelaxed"]["energy_below"],
        tight["prerelaxed"]["energy_below"],
        [-x for x in tight["trust_region"]["energy_below"]],
        [-x for x in tight["alone"]["energy_below"]],
        [-x for x in tight["trust_region"]["energy_below_alone"]],
    ]
    for mean, *ends in intervals:
        assert f"{mean:.2f}" in page
        assert f"{min(ends):.2f} to {max(ends):.2f}" in page
    saved, by_surrogate = (
        tight["trust_region"][f"calls_saved{way}"] for way in ("", "_by_surrogate")
    )
    assert f"{saved[1]:.1f} to {saved[2]:.1f}" in page
    assert f"{by_surrogate[0]:.1f} times fewer" in page
    tests = ("kolmogorov_smirnov_p", "mann_whitney_p", "new_p")
    assert (
        min(tight["trust_region"][p] for p in tests) > 0.05
    )  # no significant difference, as samples


def test_the_contest_s_table_is_its_record():
    names = {"CHGNet": "chgnet", "SevenNet-0": "sevennet", "SevenNet-l3i5": "l3i5"}
    names |= {"SevenNet-MF-0": "mf0", "`corrected`": "corrected"}
    found = {}
    for experiment in ("dft_correction", "calculator_contest"):
        file = ROOT / f"experiments/{experiment}/results.json"
        found |= json.loads(file.read_text(encoding="utf-8"))[experiment]["summary"]
    header = "| calculator | error, p(3x3) (eV) | error, p(4x4) (eV) |"
    rows = cells(text("docs/searching.md"), header)
    assert [name for name, *_ in rows] == [name.strip("`") for name in names]
    for (_, *stated), name in zip(rows, names.values(), strict=True):
        cell = {atoms: f"rank/{name}/{atoms}" for atoms in ("Ag24O3", "Ag44O6")}
        expected = [found[f"{cell[a]}/{key}"] for key in ("mae", "spearman", "truth") for a in cell]
        numbers = [float(value) for value in (*stated[:4], *stated[5:])]
        assert numbers == pytest.approx(expected, abs=0.0051)


def cells(document: str, header: str) -> list[list[str]]:
    """The rows of the table with this header."""
    lines = document.split(header)[1].split("\n\n")[0].splitlines()[2:]
    return [[cell.strip(" `") for cell in line.strip("|").split("|")] for line in lines]


def test_sizes_of_the_shipped_sets():
    rows = cells(text("docs/data.md"), "| set | structures | use |")
    stated = {name: int(re.match(r"\d+", size)[0]) for name, size, _ in rows}
    assert stated == {name: len(shipped.load(name)) for name in shipped.names()}


def test_sizes_of_the_papers_subsets():
    data = shipped.load("rss_c2x8")
    found = data.select(inside_window(data, (1.0, 5.0)))
    lowest = low_energy(distinct(found), 0.5)
    sets = [low_energy(distinct(found), 2.0), low_energy(found, 2.0), lowest]
    sets += [oxygen_poor(lowest), oxygen_rich(lowest)]
    rows = cells(text("docs/data.md"), "| set | overrides | structures |")
    assert [int(size) for *_, size in rows] == [len(s) for s in sets]
    differences = " ".join(text("docs/differences.md").split())
    assert f"{len(data)} minima ({len(sets[0])} of them" in differences


def test_differences_from_the_paper_are_the_defaults():
    page = " ".join(text("docs/differences.md").split())
    train, sample = compose.load("train"), compose.load("sample")
    assert train.sde.target == "vpsde.brownian"
    assert f"beta from {train.sde.beta_min:g} to {train.sde.beta_max:g}." in page
    low, high = train.data.z_range
    assert f"confined to {low:g} to {high:g} Å" in page
    search = compose.load("generate_data")
    assert "atoms {:g} to {:g} Å above".format(*search.template.z_range) in page
    for relaxation in (search.relaxation, compose.load("evaluate").relaxation):
        assert f"{relaxation.fmax:g} eV/Å in at most {relaxation.max_steps} steps" in page
    assert f"longer than {sample.guide.max_force:g} eV/Å" in page
    assert (sample.guide.eta_dt, sample.sampler.steps) == (0, 25)
    assert compose.load("sample", ["guide=paper"]).guide.eta_dt == 0.001
    assert (sample.sampler.solver, sample.sampler.time_power) == ("multistep", 1)
    ancestral, paper = (
        compose.load("sample", [f"sampler={name}"]).sampler for name in ("ancestral", "paper")
    )
    assert (ancestral.solver, ancestral.noise, ancestral.noisy_end) == ("euler", "ancestral", False)
    assert (paper.solver, paper.noise, paper.noisy_end) == ("euler", "euler", True)
    assert (paper.steps, paper.time_power) == (1000, 1)
    assert train.data.max_repeats == 2
    assert "data.max_repeats=1" in read_experiment(pages.RESULTS).stages["forcefield"]


# Code


@pytest.mark.parametrize("package", ["sdedata", "painnx", "vpsde", "guidance"])
def test_the_example_of_each_package_runs(package):
    (example,) = blocks(text(f"packages/{package}/README.md"), "python")
    exec(compile(example, f"{package}/README.md", "exec"), {"__name__": "example"})
