"""The four packages know nothing of each other; here the real things are put together."""

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import fcc111

import guidance
import painnx
import vpsde
from guidance import LBFGS, ForceFieldCalculator, Guide, descend, relax
from painnx import ForceField, ScoreNetwork
from sdedata import Graph, Template, collate

CUTOFF = 4.0
ELEMENTS = (8, 47)


def surface(seed: int = 0) -> Atoms:
    """Ag2O strewn over Ag(111) p(3x3)."""
    template = Template.ag111("p3x3")
    rng = np.random.default_rng(seed)
    low, high = template.window
    places = np.column_stack([rng.random((3, 2)) @ template.slab.cell[:2, :2], [low + 1] * 3])
    assert low + 1 < high
    return template.surface("Ag2O", places)


def graph(*seeds: int) -> Graph:
    window = Template.ag111("p3x3").window
    return collate([Graph.from_atoms(surface(s), CUTOFF, window) for s in seeds]).to(
        dtype=torch.float64
    )


def network(kind: type, seed: int = 0) -> torch.nn.Module:
    torch.manual_seed(seed)
    return kind(ELEMENTS, features=8, blocks=2, n_radial=6, cutoff=CUTOFF).double().eval()


@pytest.mark.parametrize("package", [painnx, vpsde, guidance])
def test_a_graph_has_all_that_each_package_needs(package):
    assert isinstance(graph(0), package.protocols.Graph)


def test_a_score_network_serves_the_diffusion():
    """Loss with gradients for all weights, and samples within cell and window."""
    model, sde, data = network(ScoreNetwork), vpsde.brownian(), graph(0, 1, 2)
    times = torch.tensor([0.1, 0.5, 1.0], dtype=torch.float64)
    loss = vpsde.score_matching_loss(model, data, sde, times, vpsde.generators(0, range(3)))
    loss.backward()
    silent = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert not silent
    *_, last = vpsde.sample(model, data, sde, vpsde.times(5), vpsde.generators(1, range(3)))
    assert last.finite.all()
    z = last.graph.positions[data.mobile, 2]
    low, high = data.window[0]
    assert ((z >= low) & (z <= high)).all()
    assert torch.equal(last.graph.positions[~data.mobile], data.positions[~data.mobile])


def test_a_force_field_guides_the_diffusion():
    """With no noise left, guidance moves each atom by eta dt times its force."""
    field, data = network(ForceField), graph(0)
    guide = Guide(field, eta=0.01, max_force=None)
    _, forces = field(data)
    velocity = guide(data, 0.25)
    expected = torch.where(data.mobile[:, None], 0.75 * 0.01 * forces, 0.0)
    torch.testing.assert_close(velocity, expected, rtol=0, atol=1e-12)

    def nothing(graph, t):
        return torch.zeros_like(graph.positions)

    def last(guide):
        states = vpsde.sample(
            nothing, data, vpsde.brownian(), [1.0, 0.5, 0.0], vpsde.generators(0, [0]), guide=guide
        )
        return list(states)[-1].graph.positions

    assert (last(guide) - last(None)).abs().max() > 0
    still = Guide(field, eta=0.0)
    assert torch.equal(last(still), last(None))


@pytest.mark.parametrize("how", ["descend", "relax"])
def test_a_force_field_relaxes_a_batch(how):
    field, data = network(ForceField), graph(0, 1)
    before, _ = field(data)
    if how == "descend":
        after = descend(data, field, step=0.001, n_steps=5)
    else:
        after = relax(data, field, fmax=1e-3, max_steps=5)
    assert (after.energy < before).all()
    assert torch.equal(after.graph.positions[~data.mobile], data.positions[~data.mobile])
    assert (after.graph.positions[data.mobile] != data.positions[data.mobile]).any()


def test_a_force_field_serves_ase():
    """Energies and forces are the network's own, also on fixed atoms, and fit together."""
    field = network(ForceField)
    calculator = ForceFieldCalculator(
        field, lambda atoms: Graph.from_atoms(atoms, CUTOFF, dtype=torch.float64)
    )
    atoms = surface()
    atoms.calc = calculator
    energy, forces = field(graph(0))
    assert atoms.get_potential_energy() == pytest.approx(float(energy), abs=1e-5)
    raw = atoms.get_forces(apply_constraint=False)
    np.testing.assert_allclose(raw, forces.numpy(), atol=1e-4)
    assert np.abs(raw[:18]).max() > 1e-3
    assert not atoms.get_forces()[:18].any()
    moved = []
    for sign in (1, -1):
        atoms.positions[-1, 2] += sign * 1e-4
        moved.append(atoms.get_potential_energy())
        atoms.positions[-1, 2] -= sign * 1e-4
    assert raw[-1, 2] == pytest.approx(-(moved[0] - moved[1]) / 2e-4, abs=1e-6)
    before = atoms.get_potential_energy()
    LBFGS(atoms).run(fmax=1e-3, steps=3)
    assert atoms.get_potential_energy() < before


def test_networks_and_diffusion_know_any_metal():
    """Nothing is silver's own: platinum on platinum."""
    slab = fcc111("Pt", (2, 2, 2), vacuum=8.0, periodic=True)
    template = Template.from_slab(slab, (1.0, 5.0))
    middle = np.array([[0.0, 0.0, template.top + 2.0]])
    data = Graph.from_atoms(template.surface("Pt", middle), CUTOFF, template.window)
    model = ScoreNetwork([78], features=8, blocks=1, n_radial=6, cutoff=CUTOFF)
    *_, last = vpsde.sample(
        model, data, vpsde.vp(), vpsde.times(3, 1.0), vpsde.generators(0, [0]), noise="euler"
    )
    assert last.finite.all()
    assert len(last.graph.to_atoms()[0].constraints[0].index) == 8
