"""Labels of structures are the calculator's; a ranking of calculators is what its numbers mean."""

import json

import numpy as np
import pandas as pd
import pytest
from ase.build import add_adsorbate, fcc111
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms
from ase.io import read, write
from scipy.stats import spearmanr

from experiments.harness.commands.main import main as surfdiff
from experiments.harness.comparison.ranking import interval, mean_error, rank, tabulate
from experiments.harness.generation.label import above_lowest, lowest
from sdedata.structures import same_atoms

COMMON = ["calculator=emt", "executor=threads", "tracking.mode=disabled"]


@pytest.fixture
def source(tmp_path):
    """Six adatoms at different heights on Pt(111), two layers fixed; the third has a name."""
    frames = []
    for height in (1.5, 1.7, 1.9, 2.1, 2.3, 2.6):
        slab = fcc111("Pt", (2, 2, 2), vacuum=6.0)
        slab.set_constraint(FixAtoms(range(8)))
        add_adsorbate(slab, "Pt", height, "fcc")
        frames.append(slab)
    frames[2].info["name"] = "the third"
    write(tmp_path / "adatoms.traj", frames)
    return tmp_path / "adatoms.traj"


def label(source, output, *more):
    surfdiff(["label", f"structures={source}", f"output={output}", *COMMON, *more])
    return output / "label/adatoms"


def labelled(folder):
    return read(folder / "structures/labelled.extxyz", ":")


def test_labels_are_the_calculators_on_all_atoms(source, tmp_path):
    found = labelled(label(source, tmp_path))
    assert [a.info["index"] for a in found] == list(range(6))
    assert found[2].info["name"] == "the third"
    for before, after in zip(read(source, ":"), found, strict=True):
        before.calc = EMT()
        assert after.get_potential_energy() == pytest.approx(before.get_potential_energy())
        forces = before.get_forces(apply_constraint=False)
        assert np.abs(after.get_forces(apply_constraint=False) - forces).max() < 1e-7
        assert np.abs(forces[:8]).max() > 0.01  # fixed atoms have forces, too
        assert np.abs(after.positions - before.positions).max() < 1e-7


def test_labels_after_relaxation_are_lower(source, tmp_path):
    single = labelled(label(source, tmp_path / "single"))
    few = labelled(label(source, tmp_path / "few", "relaxation.max_steps=3"))
    for a, b in zip(single, few, strict=True):
        assert b.info["relax_steps"] <= 3
        assert b.get_potential_energy() < a.get_potential_energy()


def test_what_is_missing_is_labelled_by_the_next_call(source, tmp_path):
    folder = label(source, tmp_path)
    path = folder / "structures/labelled.extxyz"
    whole = path.read_text()
    frames = labelled(folder)
    write(path, [a for a in frames if a.info["index"] not in (1, 4)])
    with open(path, "a") as file:
        file.write(whole[:300])  # as a kill leaves it
    label(source, tmp_path)
    again = labelled(folder)
    assert [a.info["index"] for a in again] == list(range(6))
    assert [a.get_potential_energy() for a in again] == [a.get_potential_energy() for a in frames]


def test_the_lowest_of_each_formula_are_labelled_alone(source, tmp_path, capsys):
    frames = read(source, ":")
    for atoms in frames[::2]:
        atoms.numbers[-1] = 79  # gold, in frames 0, 2 and 4
    write(source, frames)
    every = label(source, tmp_path)
    stored = every / "structures/labelled.extxyz"
    surfdiff(
        ["label", f"structures={stored}", f"output={tmp_path}", *COMMON, "name=few", "lowest=2"]
    )
    energies = np.array([atoms.get_potential_energy() for atoms in labelled(every)])
    expected = {2 * i for i in np.argsort(energies[::2])[:2]}
    expected |= {2 * i + 1 for i in np.argsort(energies[1::2])[:2]}
    assert [a.info["index"] for a in labelled(tmp_path / "label/few")] == sorted(expected)
    with pytest.raises(SystemExit) as ended:
        label(source, tmp_path / "without", "lowest=2")
    assert ended.value.code == 2
    assert "frame 0: no energy" in capsys.readouterr().err


def test_chosen_frames_are_labelled_alone_and_compare_with_all(source, tmp_path, capsys):
    every = label(source, tmp_path)
    some = label(source, tmp_path / "some", "frames=[4,1,4]")
    assert [a.info["index"] for a in labelled(some)] == [1, 4]
    for atoms in labelled(some):
        other = labelled(every)[atoms.info["index"]]
        assert atoms.get_potential_energy() == other.get_potential_energy()
    pair = f"labels={{all: {every}, some: {some}}}"
    surfdiff(["rank", pair, "reference=all", f"output={tmp_path}", "tracking.mode=disabled"])
    (row,) = json.loads((tmp_path / "rank/ranking/ranking.json").read_text())["ranking"]
    assert (row["n"], row["mae"]) == (2, 0.0)
    for wrong in ("frames=[0,6]", "frames=[]", "frames=[-1]"):
        with pytest.raises(SystemExit) as ended:
            label(source, tmp_path / "wrong", wrong)
        assert ended.value.code == 2
        words = "holds no structure in frame 6: its last is 5" if "6" in wrong else "frames"
        assert words in capsys.readouterr().err


@pytest.mark.parametrize("change", ["calculator.asap_cutoff=true", "relaxation.max_steps=2"])
def test_other_labels_are_not_mixed_in(source, tmp_path, change, capsys):
    before = labelled(label(source, tmp_path))
    with pytest.raises(SystemExit) as ended:
        label(source, tmp_path, f"+{change}" if "asap" in change else change)
    assert ended.value.code == 2
    assert change.split("=")[0] in capsys.readouterr().err
    assert labelled(tmp_path / "label/adatoms") == before


@pytest.mark.parametrize("name", ["../elsewhere", "/abs", "..", ""])
def test_a_name_that_leads_out_is_refused(source, tmp_path, name, capsys):
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(SystemExit) as ended:
        label(source, tmp_path / "runs", f"name='{name}'")
    assert ended.value.code == 2
    assert "config key name" in capsys.readouterr().err
    assert sorted(tmp_path.rglob("*")) == before


def test_labels_of_other_structures_are_not_mixed_in(source, tmp_path, capsys):
    label(source, tmp_path)
    moved = read(source, ":")
    moved[0].positions[8, 0] += 0.01
    write(source, moved)
    with pytest.raises(SystemExit) as ended:
        label(source, tmp_path)
    assert ended.value.code == 2
    assert "digest" in capsys.readouterr().err


def test_two_structures_have_a_difference_and_no_rank(tmp_path):
    frames = [fcc111("Pt", (2, 2, 2), vacuum=6.0) for _ in range(3)]
    add_adsorbate(frames[0], "Pt", 1.8, "fcc")
    add_adsorbate(frames[1], "Pt", 2.0, "fcc")
    energies = {"right": (0.0, 1.0), "other": (0.5, 1.8)}
    labels = {
        name: [_with_energy(frames[k], k, energy) for k, energy in enumerate(found)]
        for name, found in energies.items()
    }
    table = tabulate(labels)
    (row,) = rank(table, "right", ["other"]).to_dict("records")
    assert row["mae"] == pytest.approx(0.3)
    assert np.isnan([row["spearman"], row["low"], row["high"]]).all()
    with pytest.raises(ValueError, match="no two of them of the same atoms"):
        tabulate({name: [few[0], _with_energy(frames[2], 1, 0.0)] for name, few in labels.items()})


def test_structures_of_one_formula_compare_in_one_cell():
    small, wide = (fcc111("Pt", (2, 2, n), vacuum=6.0) for n in (3, 3))
    wide.cell[2, 2] += 5.0
    frames = [small, wide, small, wide]
    assert same_atoms(frames) == ["Pt12", "Pt12, cell 2"] * 2
    assert above_lowest(frames, [0.0, -7.0, 1.0, -5.0]) == [0.0, 0.0, 1.0, 2.0]
    given = {
        k: _with_energy(a, k, e)
        for k, (a, e) in enumerate(zip(frames, [0, -7, 1, -5], strict=True))
    }
    assert list(lowest(given, 1, "mine")) == [0, 1]
    table = tabulate({"one": list(given.values()), "two": list(given.values())})
    assert table["atoms"].tolist() == same_atoms(frames)


def test_few_structures_have_an_interval_all_the_same():
    true, other = np.array([0.0, 0.1, 0.4, 0.9]), np.array([0.0, 0.3, 0.2, 1.0])
    low, high = interval(true, other, 0)
    assert -1 <= low < spearmanr(true, other).statistic <= high == 1


def _with_energy(atoms, index, energy):
    found = atoms.copy()
    found.info["index"] = index
    found.calc = SinglePointCalculator(found, energy=energy)
    return found


def test_a_ranking_of_the_same_energies_is_perfect(source, tmp_path, capsys):
    for name in ("one", "two"):
        label(source, tmp_path, f"name={name}")
    folders = f"labels={{one: '{tmp_path}/label/one', two: '{tmp_path}/label/two'}}"
    rank_it = ["rank", folders, "reference=one", f"output={tmp_path}", "tracking.mode=disabled"]
    surfdiff(rank_it)
    assert "| two | Pt9 | 6 | 1.00 (1.00 to 1.00) | 0.000 |" in capsys.readouterr().out
    found = json.loads((tmp_path / "rank/ranking/ranking.json").read_text())
    assert found["forces"] == {"two": 0.0}
    energies = pd.read_csv(tmp_path / "rank/ranking/energies.csv")
    true = [a.get_potential_energy() for a in labelled(tmp_path / "label/one")]
    assert energies["one"].tolist() == pytest.approx(true, abs=1e-6)
    assert energies["name"][2] == "the third"
    assert (tmp_path / "rank/ranking/figures/ranking.png").stat().st_size > 1000
    surfdiff([*rank_it, "name=named", "structure=the third"])
    summary = json.loads((tmp_path / "rank/named/summary.json").read_text())
    for calculator in ("one", "two"):
        put = summary[f"rank/{calculator}/Pt9/structure"]
        assert put == pytest.approx(true[2] - min(true), abs=1e-6)
    for wrong in ("reference=three", "structure=the fourth"):
        with pytest.raises(SystemExit) as ended:
            surfdiff([*rank_it, wrong, "name=refused"])
        assert ended.value.code == 2
    assert not (tmp_path / "rank/refused").exists()


def test_a_ranking_is_scipys_and_ignores_the_zero():
    rng = np.random.default_rng(0)
    true, other = rng.normal(size=(2, 12))
    table = pd.DataFrame({
        "index": range(24), "name": [f"s{k}" for k in range(24)], "atoms": ["A"] * 12 + ["B"] * 12,
        "dft": [*true, *(true + 100)], "model": [*other, *(other - 1000)],
    })  # fmt: skip
    a, b = rank(table, "dft", ["model"]).to_dict(orient="records")
    assert (a["atoms"], b["atoms"]) == ("A", "B")
    assert a["spearman"] == pytest.approx(spearmanr(true, other).statistic)
    for key in ("spearman", "mae", "truth", "lowest_true", "low", "high"):
        assert a[key] == pytest.approx(b[key])
    assert a["lowest"] == f"s{other.argmin()}"
    assert a["lowest_true"] == pytest.approx(true[other.argmin()] - true.min())
    assert a["truth"] == pytest.approx(other[true.argmin()] - other.min())
    pairs = [abs((other[i] - other[j]) - (true[i] - true[j])) for i in range(12) for j in range(i)]
    assert a["mae"] == pytest.approx(np.mean(pairs))
    assert mean_error(true, true + 5) == pytest.approx(0)
