"""The Numba kernels: derivatives, threads, needed gradients."""

from inspect import unwrap

import pytest
import torch
from ase import Atoms

from painnx import kernels
from painnx.messages_eager import EagerMessages
from painnx.messages_inductor import InductorMessages
from painnx.messages_numba import NumbaMessages
from painnx.radial import DEGREE, radial_basis
from sdedata import collate
from tests.unit.painnx.systems import (
    CUTOFF,
    assert_close,
    cluster,
    force_field,
    graph,
    score_network,
    slab,
    time,
)

N_RADIAL = 7


class Movable:
    """A graph whose edge vectors are variables of differentiation."""

    def __init__(self, g, vectors=None):
        self.numbers, self.batch, self.mobile = g.numbers, g.batch, torch.ones_like(g.mobile)
        self.mobile_indices = torch.arange(len(g.mobile))
        self.senders, self.receivers, self.cutoff = g.senders.clone(), g.receivers.clone(), g.cutoff
        self.n_structures = g.n_structures
        self.vectors = g.vectors.clone().requires_grad_() if vectors is None else vectors


def triangle() -> Movable:
    """Three atoms with two periods: small enough for finite differences of everything."""
    atoms = Atoms("AgO2", [[0, 0, 0], [1.9, 0.3, 0.8], [0.4, 2.2, 1.1]], cell=[4.1, 5.3, 9])
    atoms.pbc = (True, False, False)
    return Movable(graph(atoms))


def arguments(n, features=2, dtype=torch.float64):
    generator = torch.Generator().manual_seed(3)
    shapes = (n, 3, features), (n, 3, features), (N_RADIAL + 1, 3, features)
    return [
        torch.randn(s, dtype=torch.float64, generator=generator).to(dtype).requires_grad_()
        for s in shapes
    ]


def along(kind, g, which=None):
    """The sums as a function of vectors, contexts, own vectors and filters."""

    def function(r, x, v, w):
        messages = kind.of(Movable(g, r), N_RADIAL)
        return (messages if which is None else messages.only(which))(x, v, w)

    return function


@pytest.mark.parametrize("which", [None, [0, 2]])
def test_first_and_second_derivatives_are_finite_differences(which) -> None:
    g = triangle()
    function = along(NumbaMessages, g, None if which is None else torch.tensor(which))
    given = (g.vectors, *arguments(3))
    assert torch.autograd.gradcheck(function, given)
    assert torch.autograd.gradgradcheck(function, given)


def test_derivatives_where_vectors_are_zero_are_finite_differences() -> None:
    g, (x, _, w) = triangle(), arguments(3)
    function = along(NumbaMessages, g)
    given = (g.vectors, x, w)
    assert torch.autograd.gradcheck(lambda r, x, w: function(r, x, None, w), given)
    assert torch.autograd.gradgradcheck(lambda r, x, w: function(r, x, None, w), given)


@pytest.mark.parametrize("features", [5, kernels.SPECIALIZED_FEATURES])
@pytest.mark.parametrize("wanted", [[0], [1], [2], [3], [0, 1, 2, 3]], ids=str)
def test_needed_derivatives_are_those_of_the_definition(features, wanted) -> None:
    """First by some arguments, then by others: each pass skips gradients that are not needed."""
    g = Movable(collate([graph(slab(0, 0)), graph(cluster()), graph(slab(1, 4))]))
    for then in ([0], [1], [2], [3], [0, 1, 2, 3]):
        results = []
        for kind in (EagerMessages, NumbaMessages):
            given = [g.vectors, *arguments(len(g.numbers), features)]
            out = along(kind, g)(*given)
            loss = sum(((k + 1) * a).sin().sum() for k, a in enumerate(out))
            first = torch.autograd.grad(loss, [given[k] for k in wanted], create_graph=True)
            loss = sum(((k + 1) * a / a.detach().norm()).sin().sum() for k, a in enumerate(first))
            second = torch.autograd.grad(loss, [given[k] for k in then])
            results.append((*out, *first, *second))
        for definition, numba in zip(*results, strict=True):
            assert_close(numba, definition, 1e-9)


@pytest.mark.parametrize("features", [5, kernels.SPECIALIZED_FEATURES])
@pytest.mark.parametrize("wanted", [[0], [1, 2], [0, 1, 2], [3], [0, 1, 2, 3]], ids=str)
def test_needed_derivatives_are_those_of_the_definition_where_atoms_are_frozen(
    features, wanted
) -> None:
    """What is constant between frozen atoms is left out of sums where nothing else is needed."""
    atoms, results = collate([graph(slab(0, 0)), graph(slab(1, 4))]), []
    for kind in (EagerMessages, NumbaMessages):
        results.append([])
        g = Movable(atoms)
        g.mobile = atoms.mobile
        given = [g.vectors, *arguments(len(g.numbers), features)]
        _, x, v, w = given
        messages = kind.of(g, N_RADIAL)
        for out in (messages(x, v, w), messages(x, None, w)):
            loss = sum(((k + 1) * a).sin().sum() for k, a in enumerate(out))
            of = [given[k] for k in wanted]
            results[-1] += torch.autograd.grad(loss, of, retain_graph=True, materialize_grads=True)
    for definition, numba in zip(*results, strict=True):
        assert_close(numba, definition, 1e-10)


def test_second_derivatives_reach_all_leaves_of_a_plain_backward() -> None:
    """Without `inputs=`, which `torch.autograd.grad` has."""
    g = triangle()
    hessians = []
    for kind in (EagerMessages, NumbaMessages):
        given = [a.detach().requires_grad_() for a in (g.vectors, *arguments(3))]
        loss = sum(a.sin().sum() for a in along(kind, g)(*given))
        (first,) = torch.autograd.grad(loss, given[:1], create_graph=True)
        first.pow(2).sum().backward()
        hessians.append([a.grad for a in given])
    for definition, numba in zip(*hessians, strict=True):
        assert numba.abs().max() > 1e-3
        assert_close(numba, definition, 1e-8)  # a spline has their curvature


def test_derivatives_by_what_the_sums_are_added_to_are_finite_differences() -> None:
    g, (x, v, w) = triangle(), arguments(3)
    to = torch.randn(5, 2).double().requires_grad_(), torch.randn(5, 3, 2).double().requires_grad_()

    def function(r, x, v, w, *to):
        return NumbaMessages.of(Movable(g, r), N_RADIAL)(x, v, w, to)

    assert torch.autograd.gradcheck(function, (g.vectors, x, v, w, *to))
    assert torch.autograd.gradgradcheck(function, (g.vectors, x, v, w, *to))


@pytest.mark.parametrize("k", range(4))
def test_third_derivatives_are_refused(k) -> None:
    g = triangle()
    given = [g.vectors, *arguments(3)]
    out = sum(a.sin().sum() for a in along(NumbaMessages, g)(*given))
    for _ in range(2):
        first = torch.autograd.grad(out, given, create_graph=True)
        out = sum(a.sin().sum() for a in first)
    with pytest.raises(RuntimeError, match="no third derivatives"):
        torch.autograd.grad(out, given[k])


def test_networks_share_the_pairs_of_a_graph() -> None:
    """Not so forces on frozen atoms, for which all pairs vary."""
    score, field = score_network(), force_field()

    def results(*graphs):
        one, two, three = graphs
        return score(one, time()), *field.on_mobile(two), *field(three)

    g = graph(slab())
    together = results(g, g, g)
    assert len(g.memo) == 1
    for shared, alone in zip(together, results(*(graph(slab()) for _ in range(3))), strict=True):
        assert torch.equal(shared, alone)


@pytest.mark.parametrize("kind", [EagerMessages, NumbaMessages, InductorMessages])
def test_edges_between_frozen_atoms_are_constants(kind) -> None:
    """Their lengths do not change in sampling; marking an atom as mobile includes them."""
    atoms = graph(slab())
    moving = atoms.mobile[atoms.senders] | atoms.mobile[atoms.receivers]
    gradients = []
    for mobile in (atoms.mobile, torch.ones_like(atoms.mobile)):
        g = Movable(atoms)
        g.mobile = mobile
        out = kind.of(g, N_RADIAL)(*arguments(len(g.numbers)))
        gradients.append(torch.autograd.grad(sum(a.sin().sum() for a in out), g.vectors)[0])
    assert (~moving).any()
    assert (gradients[0][~moving] == 0).all()
    assert (gradients[1][~moving] != 0).all()
    assert_close(gradients[0][moving], gradients[1][moving], 1e-12)


@pytest.mark.parametrize("n", [1, 2, 5])
def test_threads_share_the_structures_and_change_nothing(n) -> None:
    structures = [graph(slab(k, k % 3)) for k in range(n)] + [graph(cluster())]

    def everything():
        field = force_field("numba").train()
        energy, forces = field(collate(structures))
        loss = (energy**2).sum() + (forces**2).sum()
        return (
            energy,
            forces,
            *torch.autograd.grad(loss, list(field.parameters()), materialize_grads=True),
        )

    alone = everything()
    try:
        torch.set_num_threads(4)
        shared = everything()
    finally:
        torch.set_num_threads(1)
    for a, b in zip(alone, shared, strict=True):
        assert_close(a, b, 1e-12)


@pytest.mark.parametrize(
    ("dtype", "tolerances"),
    [(torch.float64, (1e-13, 1e-11, 1e-8)), (torch.float32, (1e-6, 1e-5, 1e-3))],
    ids=str,
)
def test_radial_functions_and_their_slopes_are_those_of_the_definition(dtype, tolerances) -> None:
    """From the nearest atoms to beyond the cutoff, on centres and between them."""
    n = 20
    d = torch.cat([torch.linspace(0.3, 6.2, 500), torch.arange(1, n) * 6.0 / (n - 1)]).to(dtype)
    pair = graph(Atoms("Ag2", [[0, 0, 0], [2.0, 0, 0]]))
    atoms = Movable(pair, torch.nn.functional.pad(d[:, None], (1, 1)))
    atoms.senders, atoms.receivers = (torch.full((len(d),), k) for k in (1, 0))
    g = NumbaMessages.of(atoms, n).geometry
    splines = g.spline[g.first[:, None] + torch.arange(DEGREE + 1)].double()
    x = d.double().requires_grad_()
    value = radial_basis(x, n, CUTOFF)
    for weights, tolerance in zip((g.basis, g.slope, g.curvature()), tolerances, strict=True):
        found = (weights.double()[..., None] * splines).sum(1)
        assert_close(found[d < CUTOFF], value.detach()[d < CUTOFF], tolerance)
        assert (found[d >= CUTOFF] == 0).all()
        value = torch.stack(
            [torch.autograd.grad(c.sum(), x, create_graph=True)[0] for c in value.unbind(1)], 1
        )


def test_precision_is_that_of_the_numbers() -> None:
    g = graph(slab(1, 4))
    g32 = g.to(dtype=torch.float32)
    exact = EagerMessages.of(g, N_RADIAL)(*arguments(len(g.numbers), 8))
    rough = NumbaMessages.of(g32, N_RADIAL)(*arguments(len(g.numbers), 8, torch.float32))
    for a, b in zip(exact, rough, strict=True):
        assert b.dtype == torch.float32
        assert (b.double() - a).abs().max() < 1e-6 * a.abs().max()


def test_nan_positions_give_nan() -> None:
    g = graph(slab())
    vectors = g.vectors.clone()
    vectors[0] = float("nan")
    for out in NumbaMessages.of(Movable(g, vectors), N_RADIAL)(*arguments(len(g.numbers))):
        assert out[g.receivers[0]].isnan().any()


def test_other_devices_and_precisions_use_the_eager_backend() -> None:
    double = graph(slab())
    g = Movable(double, double.vectors.bfloat16())
    assert isinstance(force_field().to(torch.bfloat16).painn.messages_on(g), EagerMessages)
    assert isinstance(force_field().painn.messages_on(graph(slab())), NumbaMessages)
    with pytest.raises(ValueError, match=r"not for torch.bfloat16 on cpu: use \"auto\""):
        force_field("numba").to(torch.bfloat16)(g)


@pytest.mark.parametrize("n", [1, 2, 3, 7])
@pytest.mark.parametrize("threads", [1, 2, 3, 16])
def test_each_structure_is_in_one_part(n, threads) -> None:
    messages = NumbaMessages.of(graph(slab()) if n == 1 else mixed(n), N_RADIAL)
    try:
        torch.set_num_threads(threads)
        parts = messages.parts()
        assert [k for a, b in parts for k in range(a, b)] == list(range(len(messages.structure)))
        owners = [set(messages.structure[a:b].tolist()) for a, b in parts]
        assert sum(map(len, owners)) == len(set().union(*owners)) == n
        if n > 1 and threads == 2:
            assert len(parts) == 2
    finally:
        torch.set_num_threads(1)


def test_every_edge_is_in_one_pair_and_graphs_have_all_opposite_edges() -> None:
    """Images of an atom itself included; an edge may occur twice, or without its opposite."""
    g = mixed(4)
    whole = NumbaMessages.of(g, N_RADIAL).geometry
    assert torch.cat([whole.there, whole.back]).sort().values.equal(torch.arange(len(g.senders)))
    assert (g.receivers[whole.there] == g.senders[whole.back]).all()
    assert_close(g.vectors[whole.there], -g.vectors[whole.back], 0)
    assert (whole.other == g.senders[whole.there]).all()
    assert (g.senders == g.receivers).any()

    some = Movable(g)
    keep = torch.randperm(len(g.senders), generator=torch.Generator().manual_seed(0))[::2]
    keep = torch.cat([keep, keep[:5]])
    some.senders, some.receivers = g.senders[keep], g.receivers[keep]
    some.vectors = g.vectors[keep].requires_grad_()
    geometry = NumbaMessages.of(some, N_RADIAL).geometry
    edges = torch.cat([geometry.there, geometry.back[geometry.back >= 0]])
    assert edges.sort().values.equal(torch.arange(len(keep)))
    assert 0 < (geometry.back < 0).sum() < len(geometry.back)
    results = []
    for kind in (EagerMessages, NumbaMessages):
        given = [some.vectors, *arguments(len(g.numbers))]
        out = kind.of(some, N_RADIAL)(*given[1:])
        first = torch.autograd.grad(sum(a.sin().sum() for a in out), given, create_graph=True)
        second = torch.autograd.grad(sum(a.pow(2).sum() for a in first), given)
        results.append((*out, *first, *second))
    for definition, numba in zip(*results, strict=True):
        assert_close(numba, definition, 1e-9)


def mixed(n):
    return collate([graph(cluster() if k % 2 else slab(k, k % 4)) for k in range(n)])


def test_second_derivatives_of_single_precision_are_those_of_double() -> None:
    results = []
    for kind, dtype in ((EagerMessages, torch.float64), (NumbaMessages, torch.float32)):
        g = mixed(3).to(dtype=dtype)
        g = Movable(g)
        given = [g.vectors, *arguments(len(g.numbers), kernels.SPECIALIZED_FEATURES, dtype)]
        first = torch.autograd.grad(
            sum(a.sin().sum() for a in along(kind, g)(*given)), given[:3], create_graph=True
        )
        second = torch.autograd.grad(sum(a.pow(2).sum() for a in first), given)
        results.append((*first, *second))
    for exact, rough in zip(*results, strict=True):
        assert rough.dtype == torch.float32
        assert (rough.double() - exact).norm() < 1e-5 * exact.norm()


def test_an_inconsistent_graph_is_refused() -> None:
    """The kernels would access memory beyond their arrays."""
    for name, bad, error, message in (
        ("senders", lambda x: x.index_fill(0, torch.tensor([3]), 99), IndexError, "does not join"),
        ("receivers", lambda x: x.index_fill(0, torch.tensor([3]), -1), IndexError, "not join"),
        ("batch", lambda x: x.flip(0), ValueError, "ordered by structure"),
        ("batch", lambda x: x + (torch.arange(len(x)) > 3), IndexError, "two atoms of one"),
        ("receivers", lambda x: x[:-1], ValueError, "differ in length"),
        ("mobile", lambda x: x[:-1], ValueError, "differ in length"),
        ("vectors", lambda x: x[:-1], ValueError, "differ in length"),
    ):
        g = Movable(mixed(2))
        setattr(g, name, bad(getattr(g, name)))
        with pytest.raises(error, match=message):
            NumbaMessages.of(g, N_RADIAL)
    messages, (x, v, w) = NumbaMessages.of(mixed(2), N_RADIAL), arguments(len(mixed(2).numbers))
    for bad in ((x, v[:1], w), (x, v, w[..., :1]), (x[..., :1], v, w)):
        with pytest.raises(IndexError, match="do not fit together"):
            unwrap(NumbaMessages.__call__)(messages, *bad)  # without the tests' check of types
    n, f = x.shape[0], x.shape[2]
    for to in ((n - 1, f), (n - 1, 3, f)), ((n, f), (n, 2, f)), ((n, f + 1), (n, 3, f + 1)):
        with pytest.raises(IndexError, match=f"do not fit {n} receivers"):
            unwrap(NumbaMessages.__call__)(messages, x, v, w, tuple(torch.zeros(s) for s in to))
    for rows in (torch.arange(3), torch.full((n,), -1)):
        with pytest.raises(IndexError, match="each atom needs one row"):
            unwrap(NumbaMessages.from_rows)(messages, rows)
    for k in (-1, n):
        with pytest.raises(IndexError, match="receivers must be from 0"):
            messages.only(torch.tensor([k]))
    with pytest.raises(IndexError, match="contexts for"):
        messages(x[:-1], v[:-1], w)
    with pytest.raises(IndexError, match="filters for 8 radial functions"):
        messages(x, v, w[:-1])
