"""PaiNN's blocks: message, update, gated equivariant readout (Schuett et al. 2021, Fig. 2, 3).

Scalars are (n f), vectors (n 3 f): every operation on vectors is linear over the features or a
product with a scalar, as equivariance requires.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

EPSILON = 1e-8  # added under the root of a norm, which then has a slope at zero

Aggregate = Callable[
    [Tensor, Tensor | None, Tensor, tuple[Tensor, Tensor | None]], tuple[Tensor, Tensor]
]


class Linear(nn.Linear):
    """A linear layer of which a row does not depend on how many others there are.

    Libraries of matrices sum few rows, and a single column, in other orders than many. Here what a
    network computes of a structure is the same to the last bit whatever it is batched with.
    """

    FEW = 16
    """Rows; up to eight are summed otherwise for 192 inputs, up to 15 for two outputs."""
    SMALL = 16**3
    """Multiplications; so small a product torch gives to MKL, where oneDNN computes larger ones."""

    def forward(self, x: Tensor) -> Tensor:
        """Compute x W^T + b, as `nn.Linear` does up to rounding."""
        if torch.compiler.is_compiling():
            return super().forward(x)
        n, each = len(x), self.in_features * max(2, self.out_features)
        few = max(self.FEW, self.SMALL // each + 1)
        if n < few:
            return self.forward(torch.cat([x, x.new_zeros(few - n, *x.shape[1:])]))[:n]
        if self.out_features > 1:
            return super().forward(x)
        bias = None if self.bias is None else self.bias.expand(2)
        return nn.functional.linear(x, self.weight.expand(2, -1), bias)[..., :1]


class SiLU(nn.Module):
    """x / (1 + exp(-x)), of which an element does not depend on how many others there are.

    Processors compute most elements several at a time, the last ones singly, by another exp.
    """

    AT_A_TIME = 64
    """A multiple of the elements that any processor takes."""

    def forward(self, x: Tensor) -> Tensor:
        missing = -x.numel() % self.AT_A_TIME
        if missing == 0 or torch.compiler.is_compiling():
            return nn.functional.silu(x)
        filled = nn.functional.pad(x.flatten(), (0, missing))
        return nn.functional.silu(filled)[: x.numel()].view_as(x)


def linear(inputs: int, outputs: int, bias: bool = True) -> Linear:
    """Make a linear layer, initialised Glorot-uniform with zero bias, as in PaiNN."""
    layer = Linear(inputs, outputs, bias=bias)
    nn.init.xavier_uniform_(layer.weight)
    if bias:
        nn.init.zeros_(layer.bias)
    return layer


def mlp(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    """Make two linear layers with a SiLU between them."""
    return nn.Sequential(linear(inputs, hidden), SiLU(), linear(hidden, outputs))


def norm(vectors: Float[Tensor, "n 3 f"]) -> Float[Tensor, "n f"]:
    """Compute sqrt(|v|² + EPSILON) of each vector."""
    return torch.sqrt(torch.sum(vectors**2, dim=1) + EPSILON)


class Message(nn.Module):
    """Fig. 2b: add the neighbours' filtered contexts to scalars and vectors."""

    def __init__(self, features: int, n_radial: int):
        super().__init__()
        self.context = mlp(features, features, 3 * features)
        # one row per radial function and, last, the filter's bias (see radial.radial_basis)
        weight = torch.zeros(n_radial + 1, 3 * features)
        nn.init.xavier_uniform_(weight[:-1])
        self.filters = nn.Parameter(weight.view(n_radial + 1, 3, features))

    def forward(
        self,
        scalars: Float[Tensor, "n f"],
        vectors: Float[Tensor, "n 3 f"] | None,
        aggregate: Aggregate,
        receivers: Int[Tensor, " m"] | None = None,
    ) -> tuple[Float[Tensor, "m f"], Float[Tensor, "m 3 f"]]:
        """Add the sums of all messages to the receivers' scalars and vectors.

        Args:
            aggregate: The sum over neighbours, as `EagerMessages` defines it.
            receivers: Rows of the receiving atoms (None: all, in their order).
        """
        contexts, sent = self.context(scalars).unflatten(1, (3, -1)), vectors
        if receivers is not None:
            scalars = scalars.index_select(0, receivers)
            vectors = None if vectors is None else vectors.index_select(0, receivers)
        return aggregate(contexts, sent, self.filters, (scalars, vectors))


def invariants(
    scalars: Float[Tensor, "n f"], mixed: Float[Tensor, "n 3 2*f"]
) -> tuple[Float[Tensor, "n 2*f"], Float[Tensor, "n f"], Float[Tensor, "n 3 f"]]:
    """Return the input of the update's context, (scalars, |v|); v . u; and u, of mixed v and u."""
    v, u = mixed.chunk(2, dim=-1)
    return torch.cat([scalars, norm(v)], dim=-1), torch.sum(v * u, dim=1), u


def update(
    scalars: Float[Tensor, "n f"],
    vectors: Float[Tensor, "n 3 f"],
    context: Float[Tensor, "n 3 f"],
    products: Float[Tensor, "n f"],
    u: Float[Tensor, "n 3 f"],
) -> tuple[Float[Tensor, "n f"], Float[Tensor, "n 3 f"]]:
    """Return scalars + c_0 + c_2 (v . u), and vectors + c_1 u."""
    to_scalars, to_vectors, of_product = context.unbind(1)
    scalars = scalars + to_scalars + of_product * products
    return scalars, vectors + to_vectors[:, None] * u


class UpdateKernels(NamedTuple):
    """What an update block computes between its layers: `invariants` and `update`, or equals."""

    invariants: Callable[..., Any]
    update: Callable[..., Any]


TORCH_UPDATE = UpdateKernels(invariants, update)


class Update(nn.Module):
    """Fig. 2c: mix scalars and vectors of each atom."""

    def __init__(self, features: int):
        super().__init__()
        self.mix = linear(features, 2 * features, bias=False)
        self.context = mlp(2 * features, features, 3 * features)

    def forward(
        self,
        scalars: Float[Tensor, "n f"],
        vectors: Float[Tensor, "n 3 f"],
        update_kernels: UpdateKernels = TORCH_UPDATE,
    ) -> tuple[Float[Tensor, "n f"], Float[Tensor, "n 3 f"]]:
        x, products, u = update_kernels.invariants(scalars, self.mix(vectors))
        context = self.context(x).unflatten(1, (3, -1))
        return update_kernels.update(scalars, vectors, context, products, u)


class Gated(nn.Module):
    """Fig. 3: read out scalars and vectors; the scalars gate the vectors."""

    def __init__(self, features: int, outputs: int):
        super().__init__()
        self.mix = linear(features, features + outputs, bias=False)
        self.context = mlp(2 * features, features, 2 * outputs)
        self.activation = SiLU()
        self.split = [features, outputs]

    def forward(
        self, scalars: Float[Tensor, "n f"], vectors: Float[Tensor, "n 3 f"]
    ) -> tuple[Float[Tensor, "n g"], Float[Tensor, "n 3 g"]]:
        v, u = self.mix(vectors).split(self.split, dim=-1)
        context = self.context(torch.cat([scalars, norm(v)], dim=-1))
        scalars, gates = context.chunk(2, dim=-1)
        return self.activation(scalars), gates[:, None] * u
