"""Files as they come, on the command line: coincident atoms, energies that are none, odd names."""

import os
import shutil

import numpy as np
import pytest
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import read, write

from experiments.harness.commands.main import main as surfdiff
from experiments.harness.generation.convert import energy_of
from sdedata import StructureSet
from tests.tiny import TRAIN, platinum, run

QUIET = ["tracking.mode=disabled", "executor=threads"]


def refused(capsys, *arguments: object) -> str:
    capsys.readouterr()
    with pytest.raises(SystemExit) as end:
        surfdiff([*map(str, arguments)])
    assert end.value.code == 2
    *_, sentence = capsys.readouterr().err.strip().splitlines()
    return sentence


@pytest.fixture
def touching(tmp_path):
    """Eight frames, the fourth with two atoms at one place, across the cell's boundary."""
    frames = platinum(8)
    results = dict(frames[3].calc.results)
    frames[3].positions[20] = frames[3].positions[19] + frames[3].cell[0]
    frames[3].calc = SinglePointCalculator(frames[3], **results)
    write(tmp_path / "mine.db", frames)
    write(tmp_path / "one.traj", frames[3])
    return tmp_path / "mine.db"


def test_a_frame_that_holds_no_structure_is_named_and_the_others_are_used(
    touching, tmp_path, capsys
):
    out = f"output={tmp_path}/runs"
    named = "frame 3: Pt 19 and Pt 20 are at one place"
    surfdiff(["label", f"structures={touching}", "calculator=emt", *QUIET, out])
    labelled = read(tmp_path / "runs/label/mine/structures/labelled.extxyz", ":")
    assert [a.info["index"] for a in labelled] == [0, 1, 2, 4, 5, 6, 7]
    assert f"mine.db, {named}" in capsys.readouterr().err
    surfdiff(["convert", str(touching), "format=poscar", "n=20", out])
    assert len(list((tmp_path / "runs/convert/mine").glob("POSCAR_*"))) == 7
    assert f"mine.db, {named}" in capsys.readouterr().err
    for command in (
        ["label", f"structures={tmp_path}/one.traj", "calculator=emt", *QUIET, out],
        ["convert", tmp_path / "one.traj", "format=poscar", out],
    ):
        assert "frame 0: Pt 19 and Pt 20 are at one place" in refused(capsys, *command)


@pytest.fixture(scope="module")
def sample(world, tmp_path_factory):
    home = tmp_path_factory.mktemp("sampled")
    run("sample", f"score={world.score}", "guide=none", "composition=Ag2O", "n=2", "threads=1",
        "sampler.steps=2", "template.slab=ag111_p3x3", "tracking.mode=disabled",
        f"output={home}")  # fmt: skip
    return home / "sample/Ag2O"


def test_a_target_with_two_atoms_at_one_place_is_refused(world, sample, tmp_path, capsys):
    target = read(sample / "structures/generated.extxyz", 0)
    target.positions[-1] = target.positions[-2]
    write(tmp_path / "t.traj", target)
    said = refused(
        capsys, "evaluate", f"sample={sample}", f"target={tmp_path}/t.traj", "calculator=emt",
        f"reference={world.reference}", *QUIET, f"output={tmp_path}",
    )  # fmt: skip
    assert said.startswith("evaluate: target=")
    assert "at one place" in said


def test_a_reference_of_another_calculator_is_refused(world, sample, tmp_path, capsys):
    """Also where the file does not record it: its lowest structure is computed."""
    frames = StructureSet.read(world.reference).to_atoms()
    given = ["evaluate", f"sample={sample}", "calculator=emt", *QUIET, f"output={tmp_path}",
             "relaxation.max_steps=2"]  # fmt: skip
    write(tmp_path / "same.traj", frames)
    surfdiff([*given, "name=same", f"reference={tmp_path}/same.traj"])
    for atoms in frames:
        atoms.calc.results["energy"] -= 127.5
    write(tmp_path / "dft.traj", frames)
    lowest = min(atoms.get_potential_energy() for atoms in frames)
    said = refused(capsys, *given, "name=dft", f"reference={tmp_path}/dft.traj")
    assert f"{lowest:.3f} eV there and {lowest + 127.5:.3f} eV here" in said
    assert not (tmp_path / "evaluate/dft").exists()


@pytest.mark.parametrize("energy", [None, "low", np.arange(3.0), np.nan, np.inf])
def test_energies_that_are_no_numbers_order_nothing(energy, tmp_path, capsys):
    frames = platinum(3)
    frames[1].calc.results["energy"] = energy
    assert energy_of(frames[1]) is None
    assert energy_of(frames[0]) == frames[0].get_potential_energy()
    write(tmp_path / "mine.traj", frames)
    surfdiff(["convert", f"{tmp_path}/mine.traj", "format=poscar", f"output={tmp_path}"])
    assert "1 of 3 structures have no energy: taken in their order" in capsys.readouterr().err


def test_names_of_every_day_from_the_file_to_the_samples(tmp_path, monkeypatch, capsys):
    """Each as a shell hands it over, without quotes for Hydra."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    os.mkdir("home")
    os.mkdir("Pt(111)")
    write("Pt(111)/O_p(2x2).extxyz", platinum(6))
    shutil.copy("Pt(111)/O_p(2x2).extxyz", "home/run#3 a=b.extxyz")
    write("c(2x8) [1].traj", platinum(1)[0][:18])
    few = [*TRAIN, "train.steps=2", "data.max_energy=99"]
    surfdiff(["train", "data.path=Pt(111)/O_p(2x2).extxyz", "name=p(3x3)", *few])
    surfdiff(["train", "task=forcefield", "data.path=~/run#3 a=b.extxyz", "name=#1", *few])
    surfdiff(["sample", "score=runs/train/p(3x3)", "forcefield=runs/train/#1", "name=a=b {c}",
              "template.slab=c(2x8) [1].traj", "composition=(Pt2)2", "n=2", "sampler.steps=2",
              "threads=1", "tracking.mode=disabled"])  # fmt: skip
    (first, _) = read("runs/sample/a=b {c}/structures/generated.extxyz", ":")
    assert str(first.symbols) == "Pt22"
    surfdiff(["predict", "runs/train/#1", "Pt(111)/O_p(2x2).extxyz", "--output", "o(1).extxyz"])
    assert len(read("o(1).extxyz", ":")) == 6
    for composition in ("NaN", "(H2O)3"):
        said = refused(capsys, "sample", "score=runs/train/p(3x3)", "guide=none",
                       f"composition={composition}", "template.slab=c(2x8) [1].traj",
                       "threads=1", "tracking.mode=disabled")  # fmt: skip
        assert "knows Pt, not " in said
