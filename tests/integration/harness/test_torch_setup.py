"""A process multiplies as float32 does, whoever sets it up and however often."""

import threading

import pytest
import torch

from experiments.harness.execution import torch_setup
from experiments.harness.execution.torch_setup import device_of, prepare_torch


def relative_error() -> float:
    """The largest error of a product of positive numbers."""
    a, b = torch.rand(2, 200, 300)
    return float(((a @ b.T).double() / (a.double() @ b.double().T) - 1).abs().max())


def test_products_stay_those_of_float32():
    """Sums of n positive numbers: the error of float32 is far under n / 2**24."""
    prepare_torch(None)
    assert relative_error() < 300 / 2**24


def test_threads_that_prepare_at_once_leave_float32_exact():
    """As workers of executor=threads do.

    On a processor with tiles of bfloat16, two that each tried and took back what the other had set
    left products that are wrong in the third digit: energies off by 10 meV.
    """

    def prepare() -> None:
        together.wait()
        prepare_torch(torch.get_num_threads())

    for _ in range(30):
        torch_setup._use_onednn_if_exact.cache_clear()
        torch.backends.mkldnn.matmul.fp32_precision = "none"
        together = threading.Barrier(8)
        threads = [threading.Thread(target=prepare) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert relative_error() < 300 / 2**24


def test_unknown_device():
    with pytest.raises(ValueError, match="device=nowhere is not available"):
        device_of("nowhere")
