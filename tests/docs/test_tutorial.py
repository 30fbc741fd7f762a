"""Follow the tutorial and the README in an empty folder, at small sizes: platinum on Pt(111)."""

import re
import shlex
import sys
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pandas
import pytest

from experiments.harness.commands.main import main
from experiments.harness.training.calculator import forcefield
from sdedata import StructureSet
from tests.docs.documents import blocks, commands, text, words
from tests.tiny import NETWORK, platinum

SEARCH = ["n_per_composition=3", "executor=threads", "tracking.mode=disabled"]
TRAIN = [
    *NETWORK, "threads=1", "device=cpu", "tracking.mode=disabled", "data.max_energy=50.0",
    "train.batch_size=4", "train.warmup=1", "train.steps=2", "train.validate_every=2",
]  # fmt: skip
SMALLER = {
    "generate_data": SEARCH,
    "train": TRAIN,
    "sample": ["n=2", "sampler.steps=3", "threads=1", "device=cpu", "tracking.mode=disabled"],
    "evaluate": ["executor=threads", "tracking.mode=disabled"],
}
"""Overrides of each command that are appended to its line in the document."""
IN_PYTHON = {
    r'changes=\{"train.steps": \d+\}': "changes=SMALL",
    r"n=32": "n=2",
    r"relax\(surfaces, EMT\(\)\)": "relax(surfaces, EMT(), max_steps=2)",
}
SMALL = {
    "cutoff": 4.0, "task.network.features": 8, "task.network.blocks": 2, "threads": 1,
    "device": "cpu", "train.batch_size": 4, "train.steps": 2, "train.validate_every": 2,
}  # fmt: skip
ELSEWHERE = ("make", "source", "pip", "git")
"""Programs of lines about the installation."""


def in_shell(block: str) -> None:
    """Execute the commands of a shell block in this process."""
    for line in block.splitlines():
        program, *given = words(line.removeprefix("PYTHONPATH=. "))
        if program == "surfdiff":
            main([*given, *SMALLER.get(given[0], [])])
        else:
            assert program in ELSEWHERE, line


def in_python(block: str) -> dict:
    """Execute a Python block; returns its variables."""
    for pattern, smaller in IN_PYTHON.items():
        block = re.sub(pattern, smaller, block)
    names = {"__name__": "example", "SMALL": SMALL}
    exec(compile(block, "example", "exec"), names)
    return names


def follow(document: str) -> list[dict]:
    """Execute all blocks of a document in their order; returns the variables of each in Python.

    A block of YAML or Python that begins with the name of a file is written to that file.
    """
    found = []
    for language, block in re.findall(r"^```(\w+)\n(.*?)^```", document, re.S | re.M):
        if file := re.match(r"# (\S+\.(?:yaml|py))\n", block):
            Path(file[1]).parent.mkdir(parents=True, exist_ok=True)
            Path(file[1]).write_text(block)
        elif language == "bash":
            in_shell(block)
        else:
            assert language == "python", language
            found.append(in_python(block))
    return found


@pytest.fixture
def own_folder(tmp_path, monkeypatch):
    """An empty folder but for somebody's own data, where modules of theirs can be imported."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))  # PYTHONPATH=.
    before = set(sys.modules)
    ase.io.write("mine.traj", platinum(8))
    yield tmp_path
    for name in set(sys.modules) - before:
        if getattr(sys.modules[name], "__file__", None) == str(tmp_path / f"{name}.py"):
            del sys.modules[name]


@pytest.mark.slow
def test_the_tutorial_can_be_followed(own_folder):
    slab, generated = follow(text("docs/tutorial.md"))
    minima = StructureSet.read("runs/generate_data/pt/minima.npz")
    assert len(slab["slab"]) == 18
    assert len(minima) == 9  # three of each composition
    for line in re.findall(r"`(runs/\S+|summary.json|structures/\S+)`", text("docs/tutorial.md")):
        found = own_folder / line
        evaluated = own_folder / "runs/evaluate/Pt4" / line
        assert found.exists() or evaluated.exists(), line
    relaxed = generated["relaxed"]
    assert [str(atoms.symbols) for atoms in relaxed] == ["Pt22", "Pt22"]
    assert isinstance(generated["table"], pandas.DataFrame)
    assert len(generated["table"]) == 2
    assert len(ase.io.read("slab_predicted.extxyz", ":")) == 1
    for name in ("lj", "screened"):
        own = StructureSet.read(f"runs/generate_data/{name}/minima.npz")
        assert len(own) == 3


@pytest.mark.slow
def test_the_readme_can_be_followed(own_folder):
    slab = platinum(1)[0][:18]
    slab.write("slab.extxyz")
    (section,) = re.findall(r"## Your own slab\n(.*?)^## ", text("README.md"), re.S | re.M)
    (generated,) = follow(section)
    assert [str(atoms.symbols) for atoms in generated["relaxed"]] == ["Pt25", "Pt25"]
    assert (own_folder / "runs/evaluate/Pt7/report.html").is_file()
    assert blocks(section, "python")


@pytest.mark.slow
def test_the_readme_s_surfaces_without_training(tmp_path, monkeypatch):
    """By the shipped networks, in an empty folder, by the command and from Python."""
    monkeypatch.chdir(tmp_path)
    (section,) = re.findall(r"## Run it\n(.*?)^## ", text("README.md"), re.S | re.M)
    sample, evaluate = (
        shlex.split(line.partition("surfdiff ")[2])
        for line in commands(section)
        if line.startswith(".venv/bin/surfdiff ")
    )
    main([*sample, "n=2", "tracking.mode=disabled"])
    main([*evaluate, "tracking.mode=disabled"])
    found = pandas.read_csv("runs/evaluate/Ag6O3/structures.csv")
    assert found["valid"].all()
    assert (found["energy"] < 1.0).all(), "eV above the lowest of random search; its median is 0.8"
    (block,) = blocks(section, "python")
    names: dict[str, Any] = {}
    exec(block.replace("n=8", "n=2"), names)
    sampled = ase.io.read("runs/sample/Ag6O3/structures/generated.extxyz", ":")
    for one, other in zip(names["surfaces"], sampled, strict=True):
        assert np.allclose(one.positions, other.positions, atol=1e-3)
        relaxed = one.copy()
        relaxed.calc = forcefield()
        assert np.abs(relaxed.get_forces()).max() < 0.05
