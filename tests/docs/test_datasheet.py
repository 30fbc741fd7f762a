"""The datasheet describes what the shipped files hold, and a search that is shipped is in it."""

import re
import shutil

import numpy as np
import pytest
from matplotlib.image import imread

from experiments.harness.commands.main import main as surfdiff
from experiments.harness.publishing import package_data
from sdedata import StructureSet, shipped
from sdedata.dataset import distinct, inside_window, low_energy, oxygen_poor, oxygen_rich
from sdedata.similarity import same, unique

SHEET = (shipped.FOLDER / package_data.SHEET).read_text(encoding="utf-8")


def test_its_numbers_are_those_of_the_files():
    block = re.search("<!-- numbers -->\n(.*?)\n<!-- /numbers -->", SHEET, re.S)[1]
    assert block == package_data.numbers(shipped.FOLDER)
    for name in shipped.names():
        assert f"`{shipped.load(name).digest}`" in block


def test_its_counts_are_those_of_the_papers_sets():
    data = shipped.load("rss_c2x8")
    once = distinct(data)
    inside = distinct(data.select(inside_window(data, package_data.WINDOW)))
    lowest = low_energy(inside, 0.5)
    counted = [low_energy(inside, 2.0), lowest, oxygen_poor(lowest), oxygen_rich(lowest)]
    line = next(line for line in SHEET.splitlines() if line.startswith("| all |"))
    sizes = [len(data), len(once), *map(len, counted)]
    assert [int(n) for n in re.findall(r"\d+", line)] == sizes
    assert len(data) >= 6000
    assert len(set(data.compositions)) == 12


def test_no_two_surfaces_are_the_same_and_each_minimum_is_one_of_them():
    data = shipped.load("rss_c2x8")
    labels = data.info["surface_index"]
    of_index = {int(i): k for k, i in enumerate(data.info["index"])}
    rng = np.random.default_rng(0)
    repeated = np.flatnonzero(labels != data.info["index"])
    for k in rng.choice(repeated, 20, replace=False):
        assert same(data.atoms(int(k)), data.atoms(of_index[int(labels[k])]))
    formula = data.compositions == "Ag6O3"
    once = distinct(data.select(formula)).to_atoms()
    for i, j in rng.choice(len(once), (200, 2)):
        assert i == j or not same(once[i], once[j])


def test_every_minimum_is_relaxed_and_every_force_is_given():
    for name in shipped.searches():
        data = shipped.load(name)
        assert "surface_index" in data.info
        longest = np.linalg.norm(data.forces, axis=1)[~data.fixed].max()
        assert longest <= data.meta["relaxation"]["fmax"] + 1e-4


def test_the_place_of_the_ag6_model_is_counted_by_energy_and_by_structure():
    model, search = shipped.load(package_data.AG6), shipped.load(package_data.AG6_SEARCH)
    reported = package_data.place_of_ag6(model, search)
    assert reported in SHEET
    below = int(re.search(r"random search (\d+) lie below", reported)[1])
    assert below == sum(energy < model.energy[0] for energy in search.energy)
    assert model.energy[0] == pytest.approx(-130.23, abs=0.02)
    mixed = StructureSet.from_atoms([*search.to_atoms()[:3], model.atoms(0)])
    assert "1 of them is the model itself" in package_data.place_of_ag6(model, mixed)


def test_a_search_is_shipped_and_described(tmp_path):
    folder, run = tmp_path / "data", tmp_path / "run"
    shutil.copytree(shipped.FOLDER, folder)
    some = np.arange(60)
    shipped.load("rss_ag6o3_p3x3").select(some).write(run / "minima.npz")
    shipped.load("rss_ag6o3_p3x3").select(some).write(run / "frames.npz")
    surfdiff(["package_data", f"rss_new={run}", f"--folder={folder}"])
    sheet = (folder / package_data.SHEET).read_text(encoding="utf-8")
    surfaces = len(set(unique(StructureSet.read(run / "minima.npz").to_atoms())))
    assert f"| `rss_new` | 60 | {surfaces} |" in sheet
    assert not (folder / "rss_new_frames.npz").exists()  # frames are for what models learn from
    picture = imread(folder / package_data.PICTURE)
    assert picture.shape[1] > 800
    assert picture.std() > 0.05


@pytest.mark.parametrize(
    ("argument", "reported"),
    [
        ("new=runs/none", "the name of a search begins with rss_, not new"),
        ("rss_new=runs/none", "there is no file runs/none/minima.npz"),
        ("rss_new", "give the set that a search becomes: NAME=RUN"),
    ],
)
def test_what_cannot_be_shipped_is_one_sentence(argument, reported, tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        surfdiff(["package_data", argument, f"--folder={tmp_path}"])
    assert ended.value.code == 2
    assert capsys.readouterr().err == f"package_data: {reported}\n"
