"""The numba and inductor backends give the sums of the eager one; radial functions."""

import math

import pytest
import torch
from ase import Atoms

from painnx.blocks import Linear
from painnx.messages_eager import EagerMessages
from painnx.messages_inductor import InductorMessages
from painnx.messages_numba import NumbaMessages
from painnx.painn import ROWS
from painnx.radial import cosine_cutoff, radial_basis
from sdedata import collate
from tests.unit.painnx.systems import (
    assert_close,
    cluster,
    force_field,
    graph,
    score_network,
    slab,
    time,
)

KINDS = {"eager": EagerMessages, "numba": NumbaMessages, "inductor": InductorMessages}


def mixed():
    """Structures of 10 to 14 atoms, with and without periods, so that there is padding."""
    return collate([graph(slab(0, 0)), graph(cluster()), graph(slab(1, 4)), graph(slab(2, 2))])


def outputs_and_gradients(network, out) -> tuple[list, list]:
    """Gradients by every parameter of a loss that is uneven in all outputs."""
    loss = sum((torch.sin(x + k) ** 2).sum() for k, x in enumerate(out))
    return list(out), list(
        torch.autograd.grad(loss, tuple(network.parameters()), materialize_grads=True)
    )


@pytest.mark.parametrize("way", ["numba", "inductor"])
def test_score_and_its_gradients_agree(way) -> None:
    results = []
    for backend in ("eager", way):
        network = score_network(backend).train()
        results.append(outputs_and_gradients(network, [network(mixed(), time(4))]))
    for edges, others in zip(*results, strict=True):
        for a, b in zip(edges, others, strict=True):
            assert_close(a, b, 1e-10)


@pytest.mark.parametrize("way", ["numba", "inductor"])
def test_energy_forces_and_their_gradients_agree(way) -> None:
    results = []
    for backend in ("eager", way):
        network = force_field(backend).train()
        results.append(outputs_and_gradients(network, network(mixed())))
    for edges, others in zip(*results, strict=True):
        for a, b in zip(edges, others, strict=True):
            assert_close(a, b, 1e-10)


@pytest.mark.parametrize("blocks", [1, 3])
@pytest.mark.parametrize("backend", ["eager", "numba", "inductor"])
def test_a_last_block_for_some_atoms_gives_their_rows_of_all(backend, blocks) -> None:
    painn, atoms = score_network(backend, blocks=blocks).painn, mixed()
    for some in (atoms.mobile, atoms.numbers == 8, torch.rand(len(atoms.numbers)) < 0.5):
        only = torch.nonzero(some)[:, 0]
        for part, whole in zip(painn(atoms, only=only), painn(atoms), strict=True):
            assert_close(part[: len(only)], whole[only], 1e-12)


@pytest.mark.parametrize("backend", ["eager", "numba", "inductor"])
def test_products_of_matrices_have_few_shapes_whatever_the_number_of_atoms(
    backend, monkeypatch
) -> None:
    """Rows that are filled up change neither outputs nor gradients."""
    atoms, results = mixed(), []
    assert len(atoms.numbers) % ROWS != 0
    for rows in (ROWS, 1):
        monkeypatch.setattr("painnx.painn.ROWS", rows)
        networks = score_network(backend).train(), force_field(backend).train()
        shapes: set[int] = set()
        for layer in (m for network in networks for m in network.modules()):
            if isinstance(layer, Linear):
                layer.register_forward_pre_hook(lambda _, x, to=shapes: to.add(len(x[0])))
        for network, given in zip(networks, [(atoms, time(4)), (atoms,)], strict=True):
            out = network(*given)
            out = out if isinstance(out, tuple) else (out,)
            results.append(outputs_and_gradients(network, out))
        conditions, kinds = 4, {2 * 4, 4 * 4}  # structures, and elements (and mobility) in each
        assert all(n % rows == 0 for n in shapes - {conditions} - kinds)
    for filled, plain in (results[0::2], results[1::2]):
        for some, others in zip(filled, plain, strict=True):
            for a, b in zip(some, others, strict=True):
                assert_close(a, b, 1e-12)


@pytest.mark.parametrize("backend", ["eager", "numba", "inductor"])
def test_sums_are_added_to_what_there_is(backend) -> None:
    """Rows beyond the receivers stay as they are."""
    atoms, f = mixed(), 8
    n = len(atoms.numbers)
    contexts, vectors, filters = (torch.randn(k, 3, f).double() for k in (n, n, 11))
    aggregate = KINDS[backend].of(atoms, 10)
    sums = aggregate(contexts, vectors, filters)
    scalars, own = torch.randn(n + 3, f).double(), torch.randn(n + 3, 3, f).double()
    for to in ((scalars, own), (scalars, None)):
        added = aggregate(contexts, vectors, filters, to)
        for a, b, c in zip(added, to, sums, strict=True):
            before = torch.zeros_like(a) if b is None else b
            assert_close(a[:n], before[:n] + c, 1e-12)
            assert torch.equal(a[n:], before[n:])


@pytest.mark.parametrize("backend", ["eager", "numba", "inductor"])
def test_sum_is_what_one_writes_by_hand(backend) -> None:
    """Two atoms 2 Å apart on x; one radial function, one feature, all numbers chosen."""
    atoms = graph(Atoms("Ag2", [[0, 0, 0], [2.0, 0, 0]]))
    n_radial = 2  # Gaussians at 0 and 6 Å, 6 Å wide
    aggregate = KINDS[backend].of(atoms, n_radial)
    cut = 0.5 * (math.cos(math.pi / 3) + 1)
    basis = [math.exp(-1 / 18) * cut, math.exp(-4 / 18) * cut, cut]
    contexts = torch.tensor([[1.0, 2, 3], [4, 5, 6]]).double()[..., None]
    filters = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 1]]).double()[..., None]
    vectors = torch.tensor([[7.0, 8, 9], [10, 11, 12]]).double()[..., None]
    scalars, to_vectors = aggregate(contexts, vectors, filters)
    assert_close(scalars[:, 0], basis[0] * torch.tensor([4.0, 1]).double())
    along = basis[1] * torch.tensor([[5.0, 0, 0], [-2, 0, 0]]).double()
    own = torch.stack([6 * basis[2] * vectors[1, :, 0], 3 * basis[2] * vectors[0, :, 0]])
    assert_close(to_vectors[..., 0], along + own)
    assert_close(aggregate(contexts, None, filters)[1][..., 0], along)


@pytest.mark.parametrize("backend", ["eager", "numba", "inductor"])
def test_one_row_for_all_atoms_of_a_kind_gives_the_same_sums(backend) -> None:
    painn, atoms = score_network(backend).painn, mixed()
    n, film = len(atoms.numbers), torch.randn(3, 4, 2, 8, dtype=torch.float64).unbind()
    of_two = torch.randn(2, 8, dtype=torch.float64)
    mark = atoms.mobile.long()
    together = painn(atoms, film, (mark, of_two))
    alone = painn(atoms, film, (torch.arange(n), of_two[mark]))
    for a, b in zip(together, alone, strict=True):
        assert_close(a, b, 1e-10)


@pytest.mark.parametrize("backend", ["eager", "numba", "inductor"])
def test_isolated_atoms_have_no_messages(backend) -> None:
    isolated = graph(Atoms("AgO", [[0, 0, 0], [7.0, 0, 0]]))
    energy, forces = force_field(backend)(isolated)
    assert energy.isfinite().all()
    assert (forces == 0).all()
    assert (score_network(backend)(isolated, time()) == 0).all()


def test_cutoff_and_its_slope_vanish_at_the_cutoff() -> None:
    d = torch.tensor([0.0, 3.0, 6.0, 7.0], dtype=torch.float64, requires_grad=True)
    value = cosine_cutoff(d, 6.0)
    assert_close(value, torch.tensor([1.0, 0.5, 0, 0]).double())
    (slope,) = torch.autograd.grad(value.sum(), d)
    assert_close(slope, torch.tensor([0.0, -math.pi / 12, 0, 0], dtype=torch.float64))


def test_gaussians_peak_at_their_centres() -> None:
    n, cutoff = 5, 6.0
    centres = torch.linspace(0, 6, n, dtype=torch.float64)
    basis = radial_basis(centres, n, cutoff)
    assert basis.shape == (n, n + 1)
    assert_close(basis[:, :-1].diagonal(), cosine_cutoff(centres, cutoff))
    assert_close(basis[:, -1], cosine_cutoff(centres, cutoff))
    # one spacing away a Gaussian has fallen by exp(-1/2)
    assert basis[0, 1].item() == pytest.approx(math.exp(-0.5), abs=1e-12)
