"""The score network: time, frozen atoms, invalid input."""

import pytest
import torch
from ase.build import bulk

from painnx.time import time_features
from tests.unit.painnx.systems import graph, score_network, slab, time


def test_frozen_atoms_have_no_score() -> None:
    g = graph(slab())
    score = score_network()(g, time())
    assert (score[~g.mobile] == 0).all()
    assert (score[g.mobile].abs().sum(1) > 1e-3).all()


def test_frozen_and_mobile_silver_differ() -> None:
    """To its neighbours, not only in its own output."""
    frozen, free = slab(), slab()
    free.set_constraint()
    network, mobile = score_network(), graph(frozen).mobile
    difference = network(graph(frozen), time()) - network(graph(free), time())
    assert (difference[mobile].abs().max(1).values > 1e-3).all()


def test_time_reaches_every_block_by_itself() -> None:
    network, g = score_network(), graph(slab())
    marks = g.mobile.long(), network.mobility.weight
    for k, block in enumerate(network.painn.update):
        t = time().requires_grad_()
        film = [x if j == k else x.detach() for j, x in enumerate(network.time(t))]
        seen = []
        handle = block.register_forward_hook(lambda _, __, out, seen=seen: seen.append(out))
        network.painn(g, film, marks)
        handle.remove()
        for out in seen[0]:  # scalars, vectors
            (slope,) = torch.autograd.grad((out**2).sum(), t, retain_graph=True)
            assert slope.abs() > 1e-3


def test_small_times_are_resolved() -> None:
    t = torch.tensor([0.001, 0.002, 0.5, 0.501], dtype=torch.float64)
    network, g = score_network(), graph(slab())
    a, b, c, d = (network(g, t[k : k + 1]) for k in range(4))
    assert (a - b).norm() > 0.02 * a.norm()
    assert (c - d).norm() < 0.1 * (a - b).norm()
    features = time_features(t)
    assert (features[0] - features[1]).norm() > 0.3


@pytest.mark.parametrize("t", [0.0, -0.1, 1.01, float("nan")])
def test_time_outside_the_unit_interval_is_refused(t) -> None:
    with pytest.raises(ValueError, match=r"time must be in \(0, 1\]"):
        score_network()(graph(slab()), torch.tensor([t], dtype=torch.float64))


def test_unknown_element_is_named() -> None:
    with pytest.raises(ValueError, match=r"\[8, 47\], not \[78\]"):
        score_network()(graph(bulk("Pt")), time())


def test_other_cutoff_is_refused() -> None:
    with pytest.raises(ValueError, match="reach 5.0 Å, the network's cutoff is 6.0 Å"):
        score_network()(graph(slab(), cutoff=5.0), time())


def test_other_precision_is_refused() -> None:
    with pytest.raises(ValueError, match=r"torch\.float64, the network torch\.float32"):
        score_network().float()(graph(slab()), time().float())


def test_unknown_backend_is_refused() -> None:
    with pytest.raises(Exception, match="backend"):
        score_network("sparse")


def test_each_property_reaches_the_score_and_none_is_asked_for_by_nan() -> None:
    network, g, nan = score_network(properties=2), graph(slab()), float("nan")

    def score(*properties: float) -> torch.Tensor:
        return network(g, time(), torch.tensor([properties], dtype=torch.float64))

    plain = network(g, time())
    assert torch.equal(plain, score(nan, nan))
    several = [plain, score(0.0, nan), score(nan, 0.0), score(0.0, 0.0), score(1.0, 0.0)]
    for k, one in enumerate(several):  # to be known as zero is not to be unknown
        for other in several[:k]:
            assert (one - other).norm() > 1e-3 * plain.norm()


def test_a_score_that_cannot_be_asked_has_the_weights_that_it_always_had() -> None:
    names = score_network(properties=2).state_dict().keys()
    assert score_network().state_dict().keys() == {n for n in names if "asked" not in n}
    assert "properties" not in score_network().config()
