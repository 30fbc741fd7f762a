"""All pairs of atoms in each structure of a batch, and their images: neighbour search by torch."""

from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


class Pairs(NamedTuple):
    """All pairs of atoms of b structures, laid out so that sums run along structures."""

    senders: Int[Tensor, "b m"]
    receivers: Int[Tensor, "b h"]
    itself: Bool[Tensor, "b h m"]
    cell: Float[Tensor, "3 3 b"]
    inverse: Float[Tensor, "3 3 b"]
    periodic: Bool[Tensor, "3 b"]
    images: Float[Tensor, "k 3"]
    shifts: Float[Tensor, "3 b k"]
    """Of the images; infinite for those that are none."""

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
        """Which images are closer than the cutoff, and the offsets of the middle ones.

        places: of all atoms and, last, of none. With each pair folded to its nearest fractional
        image, only cutoff/height + 1/2 remain.
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
        """Senders, receivers and offsets of those of `near` with these indices."""
        structure, receiver, image, sender = index.unbind(1)
        offsets = self.images[image] + fold[:, structure, receiver, sender].T
        return self.senders[structure, sender], self.receivers[structure, receiver], offsets


def and_nowhere(positions: Float[Tensor, "n 3"]) -> Float[Tensor, "3 n+1"]:
    """And, last, a place that is near nothing."""
    return torch.cat([positions, positions.new_full((1, 3), torch.nan)]).T


def side_by_side(batch: Int[Tensor, " n"], some: Bool[Tensor, " n"], b: int) -> Int[Tensor, "b m"]:
    """The atoms of each structure that are `some`; places beyond the last one hold n."""
    (atoms,) = torch.nonzero(some, as_tuple=True)
    owner = batch[atoms]
    counts = torch.bincount(owner, minlength=b)
    place = torch.arange(len(atoms), device=batch.device) - (counts.cumsum(0) - counts)[owner]
    table = atoms.new_full((b, int(counts.max())), len(batch))
    table[owner, place] = atoms
    return table


def first_of_each(
    near: Bool[Tensor, "b h k m"], room: int
) -> tuple[Int[Tensor, "b*{room} 4"], Bool[Tensor, "b*{room}"]]:
    """Indices of the first `room` True ones of each structure, and which of these there are.

    As many whatever is True, and no host has to count them. Those that are not there are spread
    over the receivers.
    """
    b, h, k, m = near.shape
    near = near.flatten(1)
    place = near.cumsum(1)  # from 1 on; 0 takes what is not near, and what finds no room
    place = torch.where(near & (place <= room), place, 0)
    all_of_them = torch.arange(h * k * m, device=near.device).expand(b, -1)
    found = all_of_them.new_full((b, room + 1), -1).scatter(1, place, all_of_them)[:, 1:]
    there = found >= 0
    structures, places = (torch.arange(x, device=near.device) for x in (b, room))
    found = torch.where(there, found, places % h * (k * m))
    structures = structures[:, None].expand(-1, room)
    index = torch.stack([structures, found // (k * m), found // m % k, found % m], -1)
    return index.flatten(0, 1), there.flatten()
