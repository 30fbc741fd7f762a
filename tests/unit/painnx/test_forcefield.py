"""The force field: forces are a gradient, smooth at the cutoff, trainable; its constants."""

import pytest
import torch
from ase import Atoms
from ase.build import bulk

from painnx import ForceField, ScoreNetwork, fit_shift_and_scale
from sdedata import collate
from tests.unit.painnx.systems import (
    ELEMENTS,
    assert_close,
    cluster,
    force_field,
    graph,
    score_network,
    slab,
    time,
)

backends = pytest.mark.parametrize("backend", ["eager", "numba", "inductor"])


@backends
@pytest.mark.parametrize("structure", [slab, cluster])
def test_forces_are_finite_differences_of_the_energy(structure, backend) -> None:
    field, g, h = force_field(backend), graph(structure()), 1e-4
    steps = h * torch.eye(g.positions.numel()).double().view(-1, *g.positions.shape)
    up, down = (
        field(collate([g.at(g.positions + s) for s in sign * steps]))[0] for sign in (1, -1)
    )
    expected = -((up - down) / (2 * h)).view_as(g.positions)
    _, forces = field(g)
    assert forces.abs().max() > 0.05
    assert_close(forces, expected, 1e-6)


@backends
@pytest.mark.parametrize("structure", [slab, cluster])
def test_forces_sum_to_zero(structure, backend) -> None:
    _, forces = force_field(backend)(graph(structure()))
    assert_close(forces.sum(0), torch.zeros(3).double(), 1e-12)


@backends
def test_a_free_cluster_has_no_torque(backend) -> None:
    g = graph(cluster())
    _, forces = force_field(backend)(g)
    torque = torch.linalg.cross(g.positions, forces).sum(0)
    assert_close(torque, torch.zeros(3).double(), 1e-12)


@backends
def test_energy_and_forces_are_smooth_at_the_cutoff(backend) -> None:
    """The bond energy vanishes as the square of the distance to 6 Å, the force linearly."""
    field = force_field(backend)

    def pair(d: float) -> tuple[float, float]:
        energy, forces = field(graph(Atoms("AgO", [[0, 0, 0], [d, 0, 0]])))
        return energy.item(), forces[1, 0].item()

    beyond = pair(6.001)
    assert beyond[1] == 0
    assert beyond[0] == pair(9.0)[0]
    delta = 1e-3
    (e1, f1), (e2, f2) = (pair(6.0 - k * delta) for k in (1, 2))
    assert (e2 - beyond[0]) / (e1 - beyond[0]) == pytest.approx(4, abs=0.02)
    assert f2 / f1 == pytest.approx(2, abs=0.01)
    assert abs(f1) < 10 * delta


@backends
def test_gradients_through_forces_are_finite_differences(backend) -> None:
    """What training on forces needs: d loss / d parameters, along one random direction."""
    field = force_field(backend).train()
    g = collate([graph(slab()), graph(cluster())])
    parameters = list(field.parameters())
    generator = torch.Generator().manual_seed(5)
    direction = [torch.randn(p.shape, generator=generator).double() for p in parameters]

    def loss() -> torch.Tensor:
        energy, forces = field(g)
        return (energy**2).sum() + 10 * (forces**2).sum()

    gradients = torch.autograd.grad(loss(), parameters, materialize_grads=True)
    slope = sum((a * b).sum() for a, b in zip(gradients, direction, strict=True))
    h, values = 1e-5, []
    for step in (h, -2 * h):
        with torch.no_grad():
            for p, d in zip(parameters, direction, strict=True):
                p.add_(step * d)
        values.append(loss().item())
    assert slope.item() == pytest.approx((values[0] - values[1]) / (2 * h), rel=1e-6)


@backends
def test_forces_on_mobile_atoms_alone_are_those_of_all(backend) -> None:
    field, g = force_field(backend), collate([graph(slab()), graph(cluster()), graph(slab(1, 4))])
    energy, forces = field(g)
    assert forces[~g.mobile].abs().max() > 0.05
    for found in (field.on_mobile(g), field.train().on_mobile(g)):
        assert_close(found[0], energy, 1e-12)
        assert_close(found[1], forces * g.mobile[:, None], 1e-12)


@backends
def test_works_where_gradients_are_off(backend) -> None:
    field = force_field(backend)
    expected = field(graph(slab()))
    with torch.no_grad():
        without = field(graph(slab()))
        field.train()
        validating = field(graph(slab()))  # will not be differentiated
        field.eval()
    with torch.inference_mode():
        inferred = field(graph(slab()))
    for energy_and_forces in (expected, without, validating, inferred):
        for a, b in zip(energy_and_forces, expected, strict=True):
            assert not a.requires_grad
            assert_close(a, b, 1e-12)
    assert all(x.requires_grad for x in field.train()(graph(slab())))


def test_shift_and_scale_are_what_made_the_data() -> None:
    g = collate([graph(slab(0, k)) for k in range(4)])
    shift, forces = torch.tensor([-4.0, -2.5]).double(), torch.randn(len(g.numbers), 3).double()
    atomic = torch.where(g.numbers == 8, shift[0], shift[1])
    energy = torch.zeros(4).double().index_add(0, g.batch, atomic)
    fitted, scale = fit_shift_and_scale(ELEMENTS, g.numbers, g.batch, energy, forces)
    assert_close(fitted, shift)
    assert_close(scale, (forces**2).mean().sqrt())


def test_shift_of_one_composition_gives_its_mean_energy() -> None:
    g = collate([graph(slab(k, 2)) for k in range(3)])
    energy = torch.tensor([-30.0, -31, -35]).double()
    shift, _ = fit_shift_and_scale((8, 47, 78), g.numbers, g.batch, energy, g.positions)
    assert_close(2 * shift[0] + 10 * shift[1], torch.tensor(-32.0).double())
    assert shift[2] == 0


def test_shift_and_scale_enter_the_energy() -> None:
    field, g = force_field(), graph(cluster())
    energy, forces = field(g)
    field.set_shift_and_scale(torch.tensor([1.0, 10]).double(), torch.tensor(3.0).double())
    energy_after, forces_after = field(g)
    assert_close(energy_after - 32, 2 * (energy + 1.5 * 2 + 2.5 * 3))  # scale 1.5 -> 3
    assert_close(forces_after, 2 * forces)


@pytest.mark.parametrize("make", [force_field, score_network])
def test_network_is_rebuilt_from_config_and_state(make, tmp_path) -> None:
    network = make()
    torch.save({"config": network.config(), "state": network.state_dict()}, tmp_path / "net.pt")
    loaded = torch.load(tmp_path / "net.pt", weights_only=True)
    kind = ForceField if make is force_field else ScoreNetwork
    again = kind(**loaded["config"]).double().eval()
    again.load_state_dict(loaded["state"])
    assert again.elements == network.elements == ELEMENTS
    assert again.cutoff == network.cutoff == 6.0
    inputs = (graph(slab()),) if kind is ForceField else (graph(slab()), time())
    for a, b in zip(again(*inputs), network(*inputs), strict=True):
        assert torch.equal(a, b)


def test_unknown_element_and_other_cutoff_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\[8, 47\], not \[78\]"):
        force_field()(graph(bulk("Pt")))
    with pytest.raises(ValueError, match="reach 5.0 Å, the network's cutoff is 6.0 Å"):
        force_field()(graph(slab(), cutoff=5.0))
