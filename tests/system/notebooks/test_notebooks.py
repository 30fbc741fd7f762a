"""Each notebook runs from the repository root, on one core, and its statements are true."""

import re
import resource
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from sdedata import shipped

ROOT = Path(__file__).parents[3]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
CPU_SECONDS = 120


def cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Run a notebook once; its text, its number of pictures and the CPU time that it took."""
    done = {}

    def result(name: str) -> tuple[str, int, float]:
        if name not in done:
            notebook = nbformat.read(ROOT / f"notebooks/{name}.ipynb", as_version=4)
            before = cpu_seconds()
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("OMP_NUM_THREADS", "1")
                patch.setenv("IPYTHONDIR", str(tmp_path_factory.mktemp("ipython")))
                folder = {"metadata": {"path": str(ROOT)}}
                NotebookClient(notebook, timeout=600, resources=folder).execute()
            outputs = [o for cell in notebook.cells for o in cell.get("outputs", [])]
            text = "".join(o.text for o in outputs if o.output_type == "stream")
            pictures = sum("image/png" in o.get("data", {}) for o in outputs)
            done[name] = text, pictures, cpu_seconds() - before
        return done[name]

    return result


def number(pattern: str, text: str) -> float:
    return float(re.search(pattern, text)[1].replace("−", "-"))


def test_all_four_are_there():
    names = ["1_training_data", "2_generation", "3_ag6_model", "4_your_own_slab"]
    assert [p.stem for p in NOTEBOOKS] == names


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_outputs_are_stripped_and_cells_are_thin(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    for cell in (c for c in notebook.cells if c.cell_type == "code"):
        assert cell.outputs == []
        assert cell.execution_count is None
        assert len(cell.source.splitlines()) <= 24
    assert notebook.cells[0].cell_type == "markdown"


def test_training_data(run):
    text, pictures, seconds = run("1_training_data")
    assert f"{len(shipped.load('rss_c2x8'))} minima" in text
    one, two = re.search(r"(-[\d.]+) eV in the cell, (-[\d.]+) eV in two", text).groups()
    assert float(two) == pytest.approx(2 * float(one), abs=0.002)
    assert pictures == 4
    assert seconds < CPU_SECONDS


def test_generation(run):
    text, pictures, seconds = run("2_generation")
    assert "alpha = 0.47, sigma = 0.88 Å" in text  # the paper's range of beta
    assert number(r"from the structure: (\S+) Å", text) < 0.02
    assert "index 3" in text
    assert pictures == 4
    assert seconds < CPU_SECONDS


def test_ag6_model(run):
    text, pictures, seconds = run("3_ag6_model")
    on_atom = number(r"on an atom: .* (-[\d.]+) eV relaxed", text)
    on_hollow = number(r"on a hollow: .* (-[\d.]+) eV relaxed", text)
    assert on_atom == pytest.approx(-129.66, abs=0.05)  # on the saddle
    assert 0.88 < on_hollow - on_atom < 0.98
    above = number(r"the best at (\S+) eV", text)
    lowest, model = (shipped.load(name).energy.min() for name in ("rss_ag12o6_p4x4", "ag6_p4x4"))
    assert above == pytest.approx(lowest - model, abs=0.002)
    assert number(r"relaxed: (\S+) eV from", text) == pytest.approx(model - on_atom, abs=0.01)
    assert pictures == 3
    assert seconds < CPU_SECONDS


def test_own_slab(run):
    text, pictures, seconds = run("4_your_own_slab")
    assert "10 minima" in text
    assert number(r"(\d) surfaces, ", text) == 4
    assert 1 <= number(r"relaxed, (\d) different", text) <= 4
    assert number(r"lowest (\S+) eV", text) > -0.5  # above the search's minimum
    assert pictures == 1
    assert seconds < CPU_SECONDS
