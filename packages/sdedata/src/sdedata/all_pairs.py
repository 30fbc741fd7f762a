"""Neighbour search by torch: all pairs of atoms of each structure of a batch, and their images."""

from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


class Pairs(NamedTuple):
    """All pairs of atoms of b structures, structures along the last axes of the sums."""

    senders: Int[Tensor, "b m"]
    receivers: Int[Tensor, "b h"]
    itself: Bool[Tensor, "b h m"]
    cell: Float[Tensor, "3 3 b"]
    inverse: Float[Tensor, "3 3 b"]
    periodic: Bool[Tensor, "3 b"]
    images: Float[Tensor, "k 3"]
    shifts: Float[Tensor, "3 b k"]
    """Displacement of each image, Å; infinite along directions that are not periodic."""

    @classmethod
    def of(
        cls,
        senders: Int[Tensor, "b m"],
        receivers: Int[Tensor, "b h"],
        cell: Float[Tensor, "b 3 3"],
        pbc: Bool[Tensor, "b 3"],
        inverse: Float[Tensor, "b 3 3"],
        images: Float[Tensor, "k 3"],
    ) -> "Pairs":
        """Prepare the pairs of these senders and receivers (n in place of a missing atom)."""
        # Sums over products, not matrix products: these may be rounded to fewer bits.
        cell, inverse, periodic = cell.permute(1, 2, 0), inverse.permute(1, 2, 0), pbc.T
        shifts = (images.T[:, None, None] * cell.unsqueeze(-1)).sum(0)
        forbidden = ((images.T[:, None] != 0) & ~periodic.unsqueeze(-1)).any(0)
        shifts = torch.where(forbidden, torch.inf, shifts)
        itself = receivers.unsqueeze(-1) == senders.unsqueeze(-2)
        return cls(senders, receivers, itself, cell, inverse, periodic, images, shifts)

    def near(
        self, places: Float[Tensor, "3 p"], cutoff: float
    ) -> tuple[Bool[Tensor, "b h k m"], Float[Tensor, "3 b h m"]]:
        """Mark the images closer than the cutoff (Å); also return the offsets of the middle ones.

        places: positions (Å) of all atoms and, last, NaN for a missing one. Each pair is folded to
        its nearest fractional image, so that only cutoff/height + 1/2 images remain per direction.
        """
        there, here = (
            (places[:, atoms].unsqueeze(1) * self.inverse.unsqueeze(-1)).sum(0)
            for atoms in (self.senders, self.receivers)
        )
        apart = there.unsqueeze(-2) - here.unsqueeze(-1)  # (3, b, receiver, sender)
        fold = -torch.round(apart) * self.periodic[..., None, None]
        folded = ((apart + fold).unsqueeze(1) * self.cell[..., None, None]).sum(0)
        square: Any = 0.0
        for axis in range(3):
            shift = self.shifts[axis, :, None, :, None]
            square = square + (folded[axis].unsqueeze(2) + shift).square()
        square[:, :, len(self.images) // 2].masked_fill_(self.itself, torch.inf)
        return square < cutoff**2, fold

    def edges(
        self, index: Int[Tensor, "e 4"], fold: Float[Tensor, "3 b h m"]
    ) -> tuple[Int[Tensor, " e"], Int[Tensor, " e"], Float[Tensor, "e 3"]]:
        """Return senders, receivers and offsets of the entries of `near` with these indices."""
        structure, receiver, image, sender = index.unbind(1)
        offsets = self.images[image] + fold[:, structure, receiver, sender].T
        return self.senders[structure, sender], self.receivers[structure, receiver], offsets


def with_missing(positions: Float[Tensor, "n 3"]) -> Float[Tensor, "3 n+1"]:
    """Append a position of NaN, which is near no atom, for index n."""
    return torch.cat([positions, positions.new_full((1, 3), torch.nan)]).T


def side_by_side(
    batch: Int[Tensor, " n"], selected: Bool[Tensor, " n"], b: int
) -> Int[Tensor, "b m"]:
    """List the selected atoms of each structure in a row of its own; n fills the rest."""
    (atoms,) = torch.nonzero(selected, as_tuple=True)
    owner = batch[atoms]
    counts = torch.bincount(owner, minlength=b)
    place = torch.arange(len(atoms), device=batch.device) - (counts.cumsum(0) - counts)[owner]
    table = atoms.new_full((b, int(counts.max())), len(batch))
    table[owner, place] = atoms
    return table


def first_of_each(
    near: Bool[Tensor, "b h k m"], max_edges: int
) -> tuple[Int[Tensor, "b*{max_edges} 4"], Bool[Tensor, "b*{max_edges}"]]:
    """Return the indices of the first `max_edges` True entries of each structure, and a mask.

    The shapes do not depend on the entries, so that the host need not count them. Where there are
    fewer, the mask is False and the indices are spread over the receivers.
    """
    b, h, k, m = near.shape
    near = near.flatten(1)
    place = near.cumsum(1)  # from 1 on; 0 collects what is not near, and what exceeds max_edges
    place = torch.where(near & (place <= max_edges), place, 0)
    all_of_them = torch.arange(h * k * m, device=near.device).expand(b, -1)
    found = all_of_them.new_full((b, max_edges + 1), -1).scatter(1, place, all_of_them)[:, 1:]
    there = found >= 0
    structures, places = (torch.arange(x, device=near.device) for x in (b, max_edges))
    found = torch.where(there, found, places % h * (k * m))
    structures = structures[:, None].expand(-1, max_edges)
    index = torch.stack([structures, found // (k * m), found // m % k, found % m], -1)
    return index.flatten(0, 1), there.flatten()
