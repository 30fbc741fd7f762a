"""The shape of the repository: who may import whom."""

import ast
import re
import sys
import tomllib
from pathlib import Path

import pytest

from tests.integration.architecture.imports import circles, graph, layer_of

ROOT = Path(__file__).parents[3]
PACKAGES = ("sdedata", "painnx", "vpsde", "guidance")
TOOLS = {"hydra", "omegaconf", "wandb", "trackio", "optuna", "matplotlib", "experiments", "sweeps"}
OPTIONAL = {"sdedata": {"torch_cluster"}}


LAYERS = (
    "experiments.__main__",
    "experiments.harness.commands.main",
    "sweeps.commands",
    "sweeps.subcommands",
    "experiments.harness.commands",
    "surfdiff",
    "experiments.harness.commands.command_line",
    "experiments.harness.commands.usage",
    "sweeps.analysis",
    "sweeps.execution",
    "sweeps.definition",
    "experiments.harness.publishing",
    "experiments.harness.pipeline",
    "experiments.harness.benchmarks",
    "experiments.harness.comparison",
    "experiments.harness.generation",
    "experiments.harness.structure_search",
    "experiments.harness.training",
    "experiments.harness.tracking",
    "experiments.harness.figures",
    "experiments.harness.execution",
    "experiments.harness.config",
    "experiments.harness.runs",
    "experiments.calculators",
    "sweeps",
    "experiments",
)
"""From the top down: a module imports of its own layer and of those below. The last two are empty
packages."""


def modules(folder: str) -> list[Path]:
    found = sorted((ROOT / folder).rglob("*.py"))
    assert found, folder
    return found


def imports(path: Path) -> set[str]:
    """Top-level names of all that a module imports, wherever in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names.add((node.module or "").split(".")[0])
    return names


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_import_neither_each_other_nor_the_trunk_s_tools(package):
    forbidden = TOOLS | set(PACKAGES) - {package}
    for path in modules(f"packages/{package}/src"):
        assert not imports(path) & forbidden, path


def test_arrows_run_down():
    """Imports inside of functions count, and modules that are imported by their name."""
    upward = [
        f"{module} -> {other}"
        for module, needed in graph().items()
        for other in needed
        if layer_of(module, LAYERS) > layer_of(other, LAYERS)
    ]
    assert not upward


def test_no_modules_need_each_other():
    assert not circles(graph())


def test_every_layer_is_there():
    occupied = {layer_of(module, LAYERS) for module in graph()}
    assert occupied >= set(range(len(LAYERS))) - {LAYERS.index("surfdiff")}


@pytest.mark.parametrize("service", ["wandb", "trackio"])
def test_each_tracking_service_has_one_home(service):
    homes = {
        path.relative_to(ROOT).as_posix()
        for folder in ("experiments", "sweeps", "packages")
        for path in (ROOT / folder).rglob("*.py")
        if service in imports(path)
    }
    assert homes == {f"experiments/harness/tracking/{service}_mirror.py"}


def test_no_path_hacks():
    for folder in ("experiments", "sweeps", "packages", "tests"):
        for path in modules(folder):
            hacks = [
                node
                for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
                if isinstance(node, ast.Attribute)
                and node.attr == "path"
                and isinstance(node.value, ast.Name)
                and node.value.id == "sys"
            ]
            assert not hacks, path


def test_sweeps_stay_small():
    lines = [len(p.read_text(encoding="utf-8").splitlines()) for p in modules("sweeps")]
    assert sum(lines) <= 2000


def test_optuna_and_slurm_are_the_sweeps_business():
    for path in modules("experiments"):
        assert not imports(path) & {"optuna", "submitit", "sweeps"}, path


@pytest.mark.parametrize(
    "folder", ["experiments", "sweeps", *(f"packages/{p}/src" for p in PACKAGES)]
)
def test_modules_have_docstrings(folder):
    for path in modules(folder):
        if path.read_text(encoding="utf-8").strip():
            assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))), path


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_declare_what_they_import(package):
    project = tomllib.loads((ROOT / f"packages/{package}/pyproject.toml").read_text())["project"]
    declared = {re.split(r"[^\w-]", line)[0] for line in project["dependencies"]}
    used = set().union(*map(imports, modules(f"packages/{package}/src")))
    used -= {package, *sys.stdlib_module_names, *OPTIONAL.get(package, ())}
    assert used == declared
    assert project["requires-python"] == ">=3.11"
    assert project["version"].endswith("+surface")  # `guidance` on PyPI is somebody else's


def test_one_distribution_holds_everything():
    """`pip install .` must work where no index knows the packages, and need what they need."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    included = project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    ours = ["experiments", "sweeps", "surfdiff"]
    assert included == [*(f"packages/{p}/src/{p}" for p in PACKAGES), *ours]
    names = {re.split(r"[^\w-]", line)[0] for line in project["project"]["dependencies"]}
    for package in PACKAGES:
        own = tomllib.loads((ROOT / f"packages/{package}/pyproject.toml").read_text())["project"]
        assert {re.split(r"[^\w-]", line)[0] for line in own["dependencies"]} <= names
