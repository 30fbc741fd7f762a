"""What the project does on a GPU, on one that is pretended: the same numbers, and few waits.

Where the host waits for a GPU, the GPU soon waits for the host.
"""

import copy
from functools import partial

import pytest
import torch

import vpsde
from guidance import Guide, descend, relax
from painnx import ForceField, ScoreNetwork
from sdedata import Graph, collate, shipped
from tests.pretended_gpu import GPU, PretendedGPU

CUTOFF, SEEDS = 4.0, range(3)
SMALL = {"features": 8, "blocks": 2, "n_radial": 6, "cutoff": CUTOFF, "backend": "eager"}


@pytest.fixture(scope="module")
def start() -> Graph:
    structures = shipped.load("rss_ag6o3_p3x3")
    graphs = []
    for k in SEEDS:
        atoms = structures.atoms(k)
        top = atoms.positions[:18, 2].max()
        window = (top + 1.0, top + 5.0)
        graphs.append(Graph.from_atoms(atoms, CUTOFF, window, "torch", torch.float64))
    return collate(graphs)


@pytest.fixture(scope="module")
def networks():
    torch.manual_seed(0)
    score, field = ScoreNetwork([8, 47], **SMALL), ForceField([8, 47], **SMALL)
    return score.double().eval(), field.double().eval()


def on_gpu(network):
    return copy.deepcopy(network).to(GPU)


def back(x):
    return getattr(x, "inner", x)


def assert_same(there, here):
    torch.testing.assert_close(back(there).detach(), here.detach(), rtol=1e-9, atol=1e-9)


def walk(graph, networks, sde, steps=4):
    score, field = networks
    guide = Guide(field.on_mobile, 0.2)
    generators = vpsde.generators(1, SEEDS)
    return vpsde.sample(score, graph, sde, vpsde.times(steps), generators, guide=guide)


def test_a_tensor_of_the_cpu_is_refused_on_a_gpu():
    with PretendedGPU() as gpu:
        there = torch.ones(3, device=GPU)
        with pytest.raises(RuntimeError, match=r"shape \(3,\) is on the CPU"):
            there + torch.ones(3)
        assert float((there + 2.0).sum()) == 9.0
        assert sum(gpu.waits.values()) == 1


@pytest.mark.parametrize("sde", [vpsde.brownian(), vpsde.vp()], ids=["brownian", "vp"])
@pytest.mark.parametrize("padded", [False, True])
def test_guided_sampling_gives_the_same_structures_and_waits_little(start, networks, sde, padded):
    """It waits to find edges (3) and those of the last block (1), and for what it checks.

    That is the time, the elements for each network, and whether the substrate is in its place. From
    the host it has the noise alone.
    """
    here = list(walk(start, networks, sde))
    with PretendedGPU() as gpu:
        graph = start.padded() if padded else start
        there = []
        for state in walk(graph.to(GPU), list(map(on_gpu, networks)), sde):
            there.append(state)
            waits, uploads = sum(gpu.waits.values()), sum(gpu.uploads.values())
            gpu.waits.clear(), gpu.uploads.clear()
    assert here[-1].finite.all()
    assert back(there[-1].finite).all()
    for a, b in zip(there, here, strict=True):
        assert_same(a.positions, b.positions)
    assert waits == (5 if padded else 8)
    assert uploads == 1


def losses(graph, score, field):
    """Of both trainings, each with its gradients."""
    sde, t = vpsde.brownian(), torch.linspace(0.1, 0.9, 3, dtype=torch.float64)
    (generator,) = vpsde.generators(0, [0])
    loss = vpsde.score_matching_loss(score, graph, sde, t.to(graph.cell), generator)
    energy, forces = field.train()(graph)
    for network, one in ((score, loss), (field, energy.sum() + forces.square().sum())):
        yield from [one, *torch.autograd.grad(one, list(network.parameters()))]


def test_losses_and_their_gradients_are_the_same(start, networks):
    here = list(losses(start, *copy.deepcopy(networks)))
    with PretendedGPU():
        there = list(losses(start.to(GPU), *map(on_gpu, networks)))
    for a, b in zip(there, here, strict=True):
        assert_same(a, b)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
@pytest.mark.parametrize("backend", ["eager", "inductor"])
def test_losses_and_their_gradients_are_the_same_on_a_real_one(start, networks, backend):
    here = list(losses(start, *copy.deepcopy(networks)))
    moved = copy.deepcopy(networks)
    for network in moved:
        network.cuda().painn.backend = backend
    for a, b in zip(losses(start.to("cuda"), *moved), here, strict=True):
        assert_same(a.cpu(), b)


@pytest.mark.parametrize(
    "how", [partial(descend, step=0.01, n_steps=4), partial(relax, max_steps=4)]
)
def test_relaxations_are_the_same(start, networks, how):
    _, field = networks
    here = how(start, field.on_mobile)
    with PretendedGPU():
        there = how(start.to(GPU), on_gpu(field).on_mobile)
    assert_same(there.graph.positions, here.graph.positions)
    assert_same(there.energy, here.energy)
