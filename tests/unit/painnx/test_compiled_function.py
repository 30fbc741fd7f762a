"""Functions compiled by torch: derivatives of every order, few programs, errors."""

import subprocess
import sys

import pytest
import torch
from torch._dynamo.utils import counters

from painnx.blocks import TORCH_UPDATE, Update
from painnx.compiled_function import CompiledFunction
from painnx.messages_eager import EagerMessages
from painnx.messages_inductor import InductorMessages
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
from tests.unit.painnx.test_messages_numba import Movable, along, arguments, triangle
from tests.unit.painnx.test_update_numba import variables


def waves(x, y, rows):
    """Products of rows, summed by index."""
    return (x.new_zeros(3, x.shape[1]).index_add(0, rows, torch.sin(x) * y), y * y)


WAVES, ROWS = CompiledFunction(waves), torch.tensor([0, 2, 2, 1])


def derivatives(function, given, order) -> list[torch.Tensor]:
    """Successive derivatives of uneven losses."""
    out, found = function(*given), []
    for _ in range(order):
        loss = sum((k * a).sin().sum() for k, a in enumerate(out, 1))
        out = torch.autograd.grad(loss, given, create_graph=True)
        found.extend(out)
    return found


def test_derivatives_of_every_order_are_those_of_the_function() -> None:
    given = variables((4, 2), (4, 2))
    compiled, plain = (
        derivatives(lambda x, y, f=f: f(x, y, ROWS), given, 3) for f in (WAVES, waves)
    )
    for a, b in zip(compiled, plain, strict=True):
        assert_close(a, b, 1e-12)


def test_only_needed_gradients_are_compiled() -> None:
    traced = CompiledFunction(waves)
    given = variables((4, 2), (4, 2))
    for k in range(2):
        torch.autograd.grad(sum(a.sum() for a in traced(*given, ROWS)), given[k])
        assert list(traced._gradients) == [(3, (k,)) for k in range(k + 1)]


@pytest.mark.parametrize("own", [True, False], ids=["own vectors", "none"])
def test_derivatives_of_the_sum_are_finite_differences(own) -> None:
    g, (x, v, w) = triangle(), arguments(3)
    function = along(InductorMessages, g)
    if own:
        given = (g.vectors, x, v, w)
    else:
        given, whole = (g.vectors, x, w), function

        def function(r, x, w):
            return whole(r, x, None, w)

    assert torch.autograd.gradcheck(function, given)
    assert torch.autograd.gradgradcheck(function, given)


@pytest.mark.parametrize("n", [0, 1, 7])
def test_the_update_and_its_derivatives_are_those_by_torch(n) -> None:
    block, results = Update(8).double(), []
    given = variables((n, 8), (n, 3, 8))
    for update_kernels in (TORCH_UPDATE, InductorMessages.update_kernels):
        results.append(derivatives(lambda s, v, b=update_kernels: block(s, v, b), given, 2))
    for plain, compiled in zip(*results, strict=True):
        assert_close(compiled, plain, 1e-10)


def test_energies_and_forces_of_evaluation_agree() -> None:
    g = collate([graph(slab(0, 0)), graph(cluster())])
    edges, compiled = (force_field(way)(g) for way in ("eager", "inductor"))
    for a, b in zip(edges, compiled, strict=True):
        assert_close(a, b, 1e-10)


def test_other_numbers_of_atoms_need_no_new_program() -> None:
    """Nor do other numbers of edges, structures or mobile atoms, or another network."""

    def use(g, seed) -> None:
        score_network("inductor", seed).train()(g, time(g.n_structures)).sum().backward()
        with torch.no_grad():
            score_network("inductor", seed)(g, time(g.n_structures))
        force_field("inductor", seed).on_mobile(g)
        energy, forces = force_field("inductor", seed).train()(g)
        (energy.sum() + forces.square().sum()).backward()

    use(collate([graph(slab(0, 1)), graph(cluster())]), 0)
    made = counters["stats"]["unique_graphs"]
    assert made > 0
    with torch._dynamo.config.patch(error_on_recompile=True):
        for k in range(1, 4):
            use(collate([graph(slab(k, k)) for _ in range(k)]), k)
        use(graph(cluster()), 4)
    assert counters["stats"]["unique_graphs"] == made


def test_score_is_the_same_in_inference_mode() -> None:
    with torch.inference_mode():
        inferred = score_network("inductor")(graph(slab()), time())
    assert inferred.is_inference()
    assert_close(inferred, score_network("eager")(graph(slab()), time()), 1e-10)


def test_single_precision_is_that_of_double() -> None:
    results = []
    for kind, dtype in ((EagerMessages, torch.float64), (InductorMessages, torch.float32)):
        g = Movable(collate([graph(slab(1, 4)), graph(cluster())]).to(dtype=dtype))
        given = [g.vectors, *arguments(len(g.numbers), 2, dtype)]
        out = along(kind, g)(*given)
        (first,) = torch.autograd.grad(sum(a.sum() for a in out), given[:1], create_graph=True)
        results.append((*out, first, *torch.autograd.grad(first.square().sum(), given[1:])))
    for exact, rough in zip(*results, strict=True):
        assert rough.dtype == torch.float32
        assert (rough.double() - exact).norm() < 1e-5 * exact.norm()


@pytest.mark.parametrize("kind", [EagerMessages, InductorMessages])
def test_edges_beyond_the_cutoff_contribute_nothing(kind) -> None:
    """Padded lists of edges give the same values and derivatives."""
    g, padded = triangle(), triangle()
    far = torch.tensor([[0, 0, CUTOFF], [2 * CUTOFF, 0, 0], [1e3, -1e3, 1e3]]).double()
    padded.vectors = torch.cat([g.vectors.detach(), far]).requires_grad_()
    padded.senders = torch.cat([g.senders, torch.tensor([0, 1, 2])])
    padded.receivers = torch.cat([g.receivers, torch.tensor([1, 1, 2])])
    results = []
    for atoms in (g, padded):
        given = [atoms.vectors, *arguments(3)]
        out = along(kind, atoms)(*given)
        results.append((*out, *derivatives(along(kind, atoms), given, 2)))
    n = len(g.vectors)
    for plain, more in zip(*results, strict=True):
        assert_close(more[:n], plain, 1e-12)
        assert (more[n:] == 0).all()


def test_without_a_compiler_the_error_names_the_eager_backend() -> None:
    traced = CompiledFunction(lambda x: (x.cos().sin(),))
    no_compiler = {"cpp.cxx": ("no-such-compiler",), "force_disable_caches": True}
    with (
        torch._inductor.config.patch(no_compiler),
        pytest.raises(RuntimeError, match='cannot compile here.*use backend="eager"') as raised,
    ):
        traced(torch.randn(3, 2))
    assert raised.value.__cause__ is not None


def test_the_compiler_is_not_imported_where_it_is_not_used() -> None:
    code = "import sys, painnx.messages_numba; print('torch._dynamo' in sys.modules)"
    command = [sys.executable, "-c", code]
    assert subprocess.run(command, capture_output=True, check=True).stdout.strip() == b"False"
