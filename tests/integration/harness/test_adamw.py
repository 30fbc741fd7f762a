"""Our AdamW against torch's."""

import pytest
import torch

from experiments.harness.training.adamw import AdamW

SHAPES = (3, 4), (5,), (), (2, 2)
DECAY = 0.03


def parameters():
    generator = torch.Generator().manual_seed(3)
    return [torch.randn(shape, generator=generator).requires_grad_() for shape in SHAPES]


def gradients(step):
    generator = torch.Generator().manual_seed(step)
    drawn = [torch.randn(shape, generator=generator) for shape in SHAPES]
    return [*drawn[:-1], None if step % 2 else drawn[-1]]  # one parameter has none now and then


def advance(ours, steps):
    for step in steps:
        for p, g in zip(ours.parameters, gradients(step), strict=True):
            p.grad = g
        ours.step(0.1 / (1 + step))


def test_it_moves_as_torchs_bit_by_bit():
    ours, theirs = AdamW(parameters(), DECAY), parameters()
    optimizer = torch.optim.AdamW(theirs, weight_decay=DECAY, fused=True)
    for step in range(7):
        for p, g in zip(theirs, gradients(step), strict=True):
            p.grad = g
        optimizer.param_groups[0]["lr"] = 0.1 / (1 + step)
        optimizer.step()
        advance(ours, [step])
        assert all(torch.equal(a, b) for a, b in zip(ours.parameters, theirs, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(theirs, parameters(), strict=True))
    for own, p in zip(ours.state, theirs, strict=True):
        assert all(torch.equal(own[key], value) for key, value in optimizer.state[p].items())


def test_it_continues_from_its_state():
    whole = AdamW(parameters(), DECAY)
    advance(whole, range(4))
    given = [p.detach().clone().requires_grad_() for p in whole.parameters]
    later = AdamW(given, DECAY)
    later.take(dict(enumerate(whole.state)))
    for one in (whole, later):
        advance(one, range(4, 8))
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters, later.parameters, strict=True))


@pytest.mark.parametrize("value", [torch.zeros(7), torch.full((3, 4), float("nan"))])
def test_a_state_of_another_is_refused(value):
    ours = AdamW(parameters(), DECAY)
    state = dict(enumerate(AdamW(parameters(), DECAY).state))
    with pytest.raises(ValueError, match="another network, or not finite"):
        ours.take(state | {0: state[0] | {"exp_avg": value}})
