"""Reverse steps as one program: the same structures, whatever it is made of, and made once.

What torch compiles it takes in another process, where no test checks types on the way.
"""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch._dynamo.utils import counters

import vpsde
from guidance import Guide
from painnx import ForceField, ScoreNetwork
from sdedata import Graph, collate, shipped

CUTOFF, STEPS = 4.0, 5
SMALL = {"features": 8, "blocks": 2, "n_radial": 6, "cutoff": CUTOFF}


def overlayers() -> Graph:
    """In p(3x3) and c(2x8), in one batch."""
    graphs = []
    for name, substrate in (("rss_ag6o3_p3x3", 18), ("rss_c2x8", 16), ("rss_ag6o3_p3x3", 18)):
        atoms = shipped.load(name).atoms(0)
        top = atoms.positions[:substrate, 2].max()
        graphs.append(Graph.from_atoms(atoms, CUTOFF, (top + 1, top + 5), dtype=torch.float64))
    return collate(graphs)


def padded(start: Graph, sde: vpsde.SDE) -> Graph:
    return start.at(sde.prior(start, vpsde.generators(0, range(3)))).padded(2.0)


def compare(guided: bool, device: str) -> None:
    """Three batches on three seeds: as they are on the CPU, and compiled on a device."""
    torch.manual_seed(0)
    score, field = (kind([8, 47], **SMALL).double().eval() for kind in (ScoreNetwork, ForceField))
    sde, start = vpsde.brownian() if guided else vpsde.vp(), overlayers()
    graph = padded(start, sde).to(device)
    counters.clear()
    for seed in range(3):
        plain, compiled = (
            list(
                vpsde.sample(
                    score.to(here.cell.device), here, sde, vpsde.times(STEPS),
                    vpsde.generators(seed, range(3)), compile=compile,
                    guide=Guide(field.to(here.cell.device).on_mobile, 0.2) if guided else None,
                )
            )
            for here, compile in ((start, False), (graph, True))
        )  # fmt: skip
        for a, b in zip(plain, compiled, strict=True):
            assert a.t == b.t
            torch.testing.assert_close(b.positions.cpu(), a.positions, rtol=0, atol=1e-10)
        assert compiled[-1].finite.all()
    assert_nan_beyond_max_edges(score, start.to(device), sde)
    made = counters["stats"]["unique_graphs"]
    assert made == 2, f"{made} programs"  # one for each max_edges


def assert_nan_beyond_max_edges(score: ScoreNetwork, start: Graph, sde: vpsde.SDE) -> None:
    """A structure is finite as long as none of its steps began with more edges than max_edges."""
    drawn = vpsde.generators(5, range(3))
    graph = start.at(sde.prior(start, vpsde.generators(5, range(3)))).padded(1.0)
    enough, ends = torch.ones(3, dtype=torch.bool), []
    for state in vpsde.sample(score, graph, sde, vpsde.times(12), drawn, compile=True):
        assert state.finite.tolist() == enough.tolist()
        ends.append(int(enough.sum()))
        here = replace(start, max_edges=None).at(state.positions)
        to_mobile = here.receivers[here.mobile[here.receivers]]
        enough &= (torch.bincount(here.batch[to_mobile], minlength=3) <= graph.max_edges).cpu()
    assert ends[0] == ends[1] == 3 > ends[-1], ends  # so that a compiled step reported it


cuda = pytest.param(
    "cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
)


@pytest.mark.parametrize("device", ["cpu", cuda])
@pytest.mark.parametrize("guided", ["guided", "alone"])
def test_compiled_steps_end_in_the_same_structures_and_serve_other_batches(guided, device):
    command = [
        sys.executable,
        "-m",
        "tests.integration.contracts.test_compiled_steps",
        guided,
        device,
    ]
    root = Path(__file__).parents[3]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_score_that_decides_by_positions_cannot_be_compiled_and_raises():
    sde = vpsde.brownian()

    def undecided(graph, t):
        return graph.positions * (1 if bool((graph.positions > 3).all()) else 2)

    states = vpsde.sample(
        undecided, padded(overlayers(), sde), sde, vpsde.times(3), vpsde.generators(0, range(3)),
        compile=True,
    )  # fmt: skip
    with pytest.raises(ValueError, match="torch cannot compile the step, do without"):
        list(states)


if __name__ == "__main__":
    compare(sys.argv[1] == "guided", sys.argv[2])
