"""Basin hopping: who hops where, by which rule, and that it finds what random starts do not."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from ase.build import add_adsorbate, fcc111
from ase.constraints import FixAtoms
from ase.io import write
from ase.units import kB

from experiments.harness.commands.main import main as surfdiff
from experiments.harness.config import compose
from experiments.harness.execution.workers import outcomes
from experiments.harness.structure_search.basin_hopping import Hopping, Walker
from experiments.harness.structure_search.generate_data import plan
from experiments.harness.structure_search.search import read, search
from sdedata import StructureSet, Template
from sdedata.similarity import distance
from tests.tiny import run

SAME = [
    "calculator=emt", "tracking.mode=disabled", "template.slab=ag111_p3x3", "surrogate=null",
    "executor=threads",
]  # fmt: skip


def adatom(height=1.8):
    slab = fcc111("Pt", (2, 2, 2), vacuum=6.0)
    slab.set_constraint(FixAtoms(range(8)))
    add_adsorbate(slab, "Pt", height, "fcc")
    return slab


def test_a_walk_between_two_minima_is_a_boltzmann_distribution():
    temperature, gap = 300 * kB, 0.03
    walker = Walker(Hopping(hops=1, temperature=temperature, displacement=0.1))
    rng = np.random.default_rng(0)
    energies = (0.0, gap)
    place, upper = 0, 0
    walker.offer(adatom(), energies[0], rng)
    steps = 20000
    for _ in range(steps):
        if walker.offer(adatom(), energies[1 - place], rng):
            place = 1 - place
        upper += place
    expected = 1 / (1 + np.exp(gap / temperature))
    error = np.sqrt(expected * (1 - expected) / steps)
    assert upper / steps == pytest.approx(expected, abs=6 * error)


def test_mobile_atoms_alone_are_displaced_and_no_farther_than_said():
    walker = Walker(Hopping(hops=1, temperature=0.1, displacement=0.4))
    assert walker.displaced(np.random.default_rng(0)) is None
    walker.offer(adatom(), 1.0, np.random.default_rng(0))
    moves = []
    for seed in range(400):
        atoms = walker.displaced(np.random.default_rng(seed))
        moves.append(atoms.positions - adatom().positions)
    moves = np.array(moves)
    assert np.abs(moves[:, :8]).max() == 0
    assert 0.39 < np.abs(moves[:, 8]).max() <= 0.4
    assert np.abs(moves[:, 8].mean(axis=0)).max() < 4 * 0.4 / np.sqrt(3 * 400)


@pytest.mark.parametrize(
    ("compositions", "hops", "each", "sizes"),
    [
        (["Ag2"], 3, 8, [8]),
        (["Ag", "Ag2O"], 3, 8, [8, 8]),
        (["Ag2"], 12, 45, [30, 9, 6]),  # the second goes on with the first, in a task of its own
    ],
)
def test_a_walker_goes_on_from_its_last_accepted_minimum(tmp_path, compositions, hops, each, sizes):
    """The rule, recomputed from what a task has written."""
    config = compose.load("generate_data", [
        *SAME, f"compositions={compositions}", "task_size=3", f"n_per_composition={each}",
        f"basin_hopping={{hops: {hops}, temperature: 0.1, displacement: 0.8}}",
    ])  # fmt: skip
    template = Template.load("ag111_p3x3", (1.0, 4.5))
    tasks = plan(config, template, tmp_path, range(each * len(compositions)), None)
    walkers = 3 if len(compositions) == 1 else 2
    assert [len(task.candidates) for task in tasks] == sizes
    here: dict = {}
    for task in tasks:
        search(task)
        frames, rows = read(task.path)
        here = here if task.before else {}
        for k, row in enumerate(rows):
            walker = k % walkers
            assert row["composition"] == compositions[row["index"] % len(compositions)]
            path = frames.select(frames.info["index"] == row["index"])
            first, last = path.atoms(0), path.atoms(len(path) - 1)
            if walker in here:
                move = first.positions - here[walker].positions
                assert 0.1 < np.abs(move).max() <= 0.8
                assert first.get_chemical_formula() == here[walker].get_chemical_formula()
            if row.get("accepted"):
                here[walker] = last
        assert sum(row.get("accepted", False) for row in rows) >= len(rows) // 2


def found(path: Path) -> tuple:
    """What a task has written, but for the time that it took."""
    frames, rows = read(path)
    return frames.digest, [{k: v for k, v in row.items() if k != "cpu_seconds"} for row in rows]


def test_a_search_by_basin_hopping_is_a_set_and_continues(tmp_path):
    hopping = "basin_hopping={hops: 11, temperature: 0.1, displacement: 0.5}"
    given = [*SAME, hopping, "composition=Ag2", "task_size=2", f"output={tmp_path}", "name=walk"]
    run("generate_data", *given, "n_per_composition=24")
    folder = tmp_path / "generate_data/walk"
    before = {path.name: found(path) for path in (folder / "candidates").iterdir()}
    assert len(before) == 2
    first, second = (folder / "candidates" / name for name in sorted(before))
    time = first.stat().st_mtime_ns
    second.unlink()  # as if killed in the middle of the walk
    run("generate_data", *given, "n_per_composition=24")
    assert first.stat().st_mtime_ns == time
    first.unlink()  # as if it had been damaged: what went on with it is searched anew, too
    summary = run("generate_data", *given, "n_per_composition=36")
    assert summary["data/candidates"] == 36
    assert time < first.stat().st_mtime_ns < second.stat().st_mtime_ns
    minima = StructureSet.read(folder / "minima.npz")
    assert minima.meta["basin_hopping"]["hops"] == 11
    assert len(minima) + summary["data/failed"] == 36
    for name, content in before.items():
        assert found(folder / "candidates" / name) == content


def test_hits_of_a_target_are_counted_by_structure(tmp_path, capsys):
    given = [*SAME, "composition=Ag2", "task_size=4", f"output={tmp_path}", "n_per_composition=8"]
    run("generate_data", *given, "name=free")
    minima = StructureSet.read(tmp_path / "generate_data/free/minima.npz")
    distances = [distance(atoms, minima.atoms(2)) for atoms in minima.to_atoms()]
    write(tmp_path / "target.extxyz", minima.atoms(2))
    target = f"target={tmp_path}/target.extxyz"
    summary = run("generate_data", *given, "name=free", target)
    assert summary["data/target_hits"] == sum(d <= 0.6 for d in distances) > 0
    assert summary["data/target_closest"] < 1e-6
    assert summary["data/energy_min_abs"] == minima.energy.min()
    found = [read(path)[1] for path in (tmp_path / "generate_data/free/candidates").iterdir()]
    assert summary["data/relax_steps"] == sum(row["relax_steps"] for rows in found for row in rows)
    given.remove("composition=Ag2")
    for wrong in ("composition=Ag3", "compositions=[Ag2,Ag3]"):
        with pytest.raises(SystemExit) as ended:
            surfdiff(["generate_data", *given, wrong, "name=other", target])
        assert ended.value.code == 2
    assert "is Ag2, not Ag3" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["surrogate.first=4"], "surrogate=null"),
        (["surrogate=null", "basin_hopping.hops=0"], "basin_hopping.hops"),
        (["surrogate=null", "basin_hopping.temperature=0"], "basin_hopping.temperature"),
    ],
)
def test_what_cannot_hop_is_refused(more, said):
    given = ["basin_hopping={hops: 3, temperature: 0.1, displacement: 0.5}", "calculator=emt"]
    with pytest.raises(ValueError, match=said):
        compose.load("generate_data", [*given, *more])


def test_failures_are_counted_over_all_turns_and_what_was_done():
    """More than half stop a search, once there are enough to judge (10)."""

    def turns(*counts: tuple[int, int]) -> list:
        made = [[{"index": 0}] * good + [{"failed": "why"}] * bad for good, bad in counts]
        return [[lambda rows=rows: rows] for rows in made]

    def ended(counts: list[tuple[int, int]], succeeded: int = 0) -> int:
        with ThreadPoolExecutor(1) as executor:
            return len(list(outcomes(executor, turns(*counts), dict, succeeded)))

    assert ended([(30, 0), (0, 20)]) == 50
    assert ended([(0, 8)], succeeded=100) == 8
    with pytest.raises(ValueError, match="3 of 5 structures failed, the last with why"):
        ended([(2, 0), (0, 3)])
    with pytest.raises(ValueError, match="31 of 61 structures failed"):
        ended([(30, 0), (0, 20), (0, 20)])
