"""Noise and return: what an exact score knows comes back, and without noise everything does."""

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import pytest
import torch
from ase.io import read
from scipy.stats import binomtest

from experiments.harness.commands.main import main as surfdiff
from experiments.harness.generation import recall
from experiments.harness.generation.generator import Generator
from experiments.harness.generation.relaxation import relax
from experiments.harness.pipeline.claims import COLUMNS
from experiments.harness.runs.run_folder import RunFolder
from sdedata import StructureSet, collate
from sdedata.similarity import distance
from vpsde import ExactScore, generators


@dataclass
class Known:
    """The exact score of one structure in the place of a network."""

    exact: ExactScore
    cutoff: float

    def __call__(self, graph, t):
        return self.exact(graph, t)


@pytest.fixture(scope="module")
def command(world):
    return [
        "recall", f"score={world.score}", f"forcefield={world.forcefield}", "threads=1",
        f"structures={world.minima}", "tracking.mode=disabled", "device=cpu", "sampler.steps=3",
        "relaxation.max_steps=3", "lowest=2", "draws=3", "batch_size=4",
    ]  # fmt: skip


@pytest.mark.parametrize("guided", [False, True])
def test_an_exact_score_brings_its_structure_back_and_no_other(world, guided):
    minima = StructureSet.read(world.minima)
    steps = {"steps": 30, "eta_dt": 1e-6 if guided else 0.0, "descent_steps": 0}
    process = Generator.load(world.score, world.forcefield, device="cpu", **steps)
    process = process if guided else replace(process, guide=None)
    known, other = (minima.select([k]) for k in np.flatnonzero(minima.compositions == "Ag3")[:2])
    cutoff, window = process.score.network.cutoff, process.score.window
    graphs = [one.graphs(cutoff, window)[0] for one in (known, other)]
    mobile = graphs[0].positions[graphs[0].mobile_indices][None].double()
    exact = ExactScore(process.score.sde(), mobile, torch.ones(1, dtype=torch.float64))
    process = replace(process, score=replace(process.score, network=Known(exact, cutoff)))
    for sigma in (0.3, 1.5):
        for graph in graphs:
            ended = recall._denoised(collate([graph] * 3), sigma, range(3), 0, process)
            assert max(distance(atoms, known.atoms(0)) for atoms in ended) < 0.05


def test_noise_has_the_width_that_was_asked_for(world):
    process = Generator.load(world.score, device="cpu")
    sde = process.score.sde()
    minima = StructureSet.read(world.minima)
    graph = collate(minima.graphs(4.0, process.score.window)[:1] * 400)
    t = torch.full((400,), sde.time_of(0.05))
    moved = sde.perturb(graph, t, generators(0, range(400))) - graph.positions
    planar = moved[graph.mobile_indices][:, :2].double()
    planar = planar[planar.abs().max(dim=1).values < 1]  # not around the edge of the cell
    assert planar.std() == pytest.approx(0.05, rel=0.1)


def test_without_noise_all_come_back(world, command, tmp_path):
    surfdiff([*command, "sigmas=[0.001,0.9]", f"output={tmp_path}"])
    folder = RunFolder.existing(tmp_path / "recall/recall")
    table = pd.read_csv(folder.path / "recall.csv")
    assert list(table) == ["index", *COLUMNS["recall"]]
    assert len(table) == 2 * 2 * 2 * 3  # sigmas, compositions, structures, draws
    summary = folder.summary
    assert (summary["recall/0.001/back"], summary["recall/0.001/n"]) == (12, 12)
    assert summary["recall/0.001/displacement"] < 0.05
    interval = binomtest(12, 12).proportion_ci(method="wilson")
    assert summary["recall/0.001/low"] == pytest.approx(interval.low)
    assert summary["recall/n"] == 24
    assert (folder.path / "figures/recall.png").is_file()
    # the table is of the structures that the run keeps, compared with the relaxed known ones
    minima = StructureSet.read(world.minima)
    returned = {a.info["index"]: a for a in read(folder.path / "structures/returned.extxyz", ":")}
    chosen = sorted({a.info["structure"] for a in returned.values()})
    assert chosen == [0, 1, 2, 3]
    lowest = minima.select(
        np.concatenate([
            np.flatnonzero(minima.groups == g)[np.argsort(minima.energy[minima.groups == g])][:2]
            for g in np.unique(minima.groups)
        ])
    )  # fmt: skip
    ends = relax(lowest.to_atoms(), world.forcefield, max_steps=3)
    for row in table.itertuples():
        away = distance(returned[row.index], ends[row.structure])
        assert row.displacement == pytest.approx(away, abs=1e-4)


def test_an_interrupted_run_goes_on_to_the_same_table(command, tmp_path):
    few = [*command, "sigmas=[0.2]", "lowest=1", "guide=none"]
    surfdiff([*few, f"output={tmp_path}/whole"])
    surfdiff([*few, f"output={tmp_path}/cut"])
    whole, cut = (tmp_path / f"{name}/recall/recall" for name in ("whole", "cut"))
    rows = (cut / "metrics.jsonl").read_text().splitlines(keepends=True)
    (cut / "metrics.jsonl").write_text("".join(rows[:4]))
    surfdiff([*few, f"output={tmp_path}/cut"])
    for folder in (whole, cut):
        returned = read(folder / "structures/returned.extxyz", ":")
        assert [atoms.info["index"] for atoms in returned] == list(range(6))
    a, b = (pd.read_csv(folder / "recall.csv") for folder in (whole, cut))
    assert a["index"].tolist() == b["index"].tolist() == list(range(6))
    np.testing.assert_allclose(a["displacement"], b["displacement"], atol=1e-3)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (["sigmas=[99]"], "sigma=99"),
        (["forcefield=null"], "give forcefield=FOLDER"),
        (["structures=rss_none"], "rss_none"),
    ],
)
def test_what_cannot_be_noised_is_refused(command, tmp_path, change, reason, capsys):
    with pytest.raises(SystemExit) as ended:
        surfdiff([*command, *change, f"output={tmp_path}"])
    assert ended.value.code == 2
    assert reason in capsys.readouterr().err
    assert not list(tmp_path.glob("recall/*"))
