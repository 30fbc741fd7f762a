"""Small pieces of algebra that the kernels share, each one formula."""

import torch
from jaxtyping import Float, Int
from torch import Tensor


def rows_times(rows: Tensor, matrices: Tensor) -> Tensor:
    """Multiply row vectors by matrices: rows[..., i] matrices[..., i, j].

    Products and a sum instead of a matrix multiplication, so that results depend neither on the
    batch size nor on a device's reduced-precision modes.
    """
    return (rows.unsqueeze(-1) * matrices).sum(-2)


def inverse(matrices: Float[Tensor, "*m 2 2"]) -> Float[Tensor, "*m 2 2"]:
    """Invert 2x2 matrices: the adjugate over the determinant."""
    (a, b), (c, d) = (row.unbind(-1) for row in matrices.unbind(-2))
    adjugate = torch.stack([d, -b, -c, a], -1).unflatten(-1, (2, 2))
    return adjugate / (a * d - b * c)[..., None, None]


def exp_symmetric(matrices: Float[Tensor, "*b 2 2"]) -> Float[Tensor, "*b 2 2"]:
    """Exponentiate symmetric 2x2 matrices: exp(m + Q) = e^m (cosh q + Q sinh(q)/q).

    m is half the trace, Q the traceless rest, for which Q² = q².
    """
    identity = torch.eye(2, dtype=matrices.dtype, device=matrices.device)
    m = matrices.diagonal(dim1=-2, dim2=-1).mean(-1)[..., None, None]
    rest = matrices - m * identity
    q = torch.linalg.vector_norm(rest[..., :1, :], dim=-1, keepdim=True)
    sinhc = torch.where(q > 1e-4, q.sinh() / q.clamp_min(1e-4), 1 + q**2 / 6)
    return m.exp() * (q.cosh() * identity + sinhc * rest)


def interpolate(
    tables: Float[Tensor, "u s ..."], row: Int[Tensor, " b"], position: Float[Tensor, " b"]
) -> Float[Tensor, "b ..."]:
    """Interpolate tables[row, position] linearly, `position` >= 0 counted in nodes.

    Constant beyond the last node.
    """
    position = position.clamp(max=tables.shape[1] - 1)
    left = position.long().clamp(max=tables.shape[1] - 2)
    weight = (position - left).view(-1, *[1] * (tables.ndim - 2))
    return torch.lerp(tables[row, left], tables[row, left + 1], weight)
