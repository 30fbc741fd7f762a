"""Comparison of surfaces up to the symmetry of their substrate.

Two structures on one template (same cell, same frozen substrate) are the same surface if a symmetry
operation of the substrate carries the mobile atoms of one onto those of the other. An operation is
an in-plane rotation or mirror, then an in-plane translation; z is kept, and periodicity in z is
ignored. The distance of two surfaces is the largest displacement of an atom, at the operation where
that is smallest, with equal atoms paired by the least sum of squares.

The largest displacement and not the root mean square decides, because in an overlayer of 18 atoms
one atom on another site is another surface, and yet changes the root mean square by 0.2 Å only.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations_with_replacement

import numpy as np
from ase import Atoms
from jaxtyping import Bool, Float, Int

from sdedata.frozen import frozen_mask

# Å. Oxide minima in one flat valley, relaxed to 0.1 eV/Å, lie up to 0.57 apart, others 0.7 and
# more; beyond 0.85 an atom on Ag(111) may have left its hollow for the bridge beside it.
SAME = 0.6
EXACT = 0.05  # Å, by which frozen atoms may miss their ideal positions
AT_ONCE = 512  # surfaces that one is compared with together: some 0.5 GB in p(4x4)
CORNERS = np.array([[0, 0], [1, 0], [0, 1], [1, 1]])


@dataclass(frozen=True)
class Operations:
    """The symmetry operations r -> r @ rotation + translation of a substrate, on (x, y) in Å."""

    rotations: Float[np.ndarray, "o 2 2"]
    translations: Float[np.ndarray, "o 2"]

    def __len__(self) -> int:
        return len(self.rotations)

    def apply(self, positions: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "o n 3"]:
        """Apply all operations to positions (Å); z is unchanged, nothing is wrapped."""
        images = np.repeat(positions[None], len(self), axis=0)
        images[..., :2] = positions[:, :2] @ self.rotations + self.translations[:, None]
        return images


def symmetries(
    atoms: Atoms, frozen: Bool[np.ndarray, " n"] | None = None, tolerance: float = EXACT
) -> Operations:
    """Find all symmetry operations of the frozen atoms in their cell, the identity included.

    `frozen` marks the frozen atoms; without it the FixAtoms constraints of `atoms` do.
    `tolerance` is the distance in Å by which an operation may miss an atom.
    """
    surface = _read(atoms, frozen)
    return _symmetries(
        surface.cell.tobytes(), surface.numbers.tobytes(), surface.frozen.tobytes(), tolerance
    )


def distance(a: Atoms, b: Atoms, frozen: Bool[np.ndarray, " n"] | None = None) -> float:
    """Compute the distance of two surfaces, Å (defined at the top of this module).

    Infinite if the mobile atoms differ in composition. `frozen` marks the frozen atoms of
    both; without it the FixAtoms constraints do.

    Raises:
        ValueError: if cells or frozen atoms differ, or nothing is frozen.
    """
    first, second = _read(a, frozen), _read(b, frozen)
    _require_same_template(first, second)
    if not np.array_equal(first.species, second.species):
        return float("inf")
    return float(_distances(first, [second], symmetries(a, frozen))[0])


def same(
    a: Atoms, b: Atoms, tolerance: float = SAME, frozen: Bool[np.ndarray, " n"] | None = None
) -> bool:
    """Test whether two surfaces are the same within a displacement of `tolerance` Å per atom.

    `tolerance` should be below a quarter of the shortest distance of equal atoms: then no other
    pairing of the atoms gives a smaller displacement. Errors as in `distance`.
    """
    return distance(a, b, frozen) <= tolerance


def on_one_template(a: Atoms, b: Atoms) -> bool:
    """Test whether two structures have one in-plane cell and one frozen substrate.

    Frozen atoms may come in any order, and be a lattice vector of the plane apart.
    """
    try:
        _require_same_template(_read(a, None), _read(b, None))
    except ValueError:
        return False
    return True


def unique(
    structures: Sequence[Atoms],
    tolerance: float = SAME,
    frozen: Bool[np.ndarray, " n"] | None = None,
) -> list[int]:
    """Return for each structure the index of the first one that is the same surface.

    Each is compared with the representatives before it, so that `labels[i] == i` marks the unique
    ones. Compositions may differ. Almost all pairs are decided by `_fingerprint` alone.
    Errors as in `distance`.
    """
    from scipy.spatial.distance import cdist

    if not structures:
        return []
    surfaces = [_read(atoms, frozen) for atoms in structures]
    for index, surface in enumerate(surfaces):
        _require_same_template(surfaces[0], surface, f"structure {index}")
    operations = symmetries(structures[0], frozen)
    labels = list(range(len(surfaces)))
    for members in _by_composition(surfaces):
        prints = np.array([_fingerprint(surfaces[i], surfaces[0].cell) for i in members])
        # An operation is exact up to EXACT only, and so is the bound.
        candidates = cdist(prints, prints, "chebyshev") <= tolerance + EXACT
        for row, i in enumerate(members):
            known = [members[k] for k in np.flatnonzero(candidates[row, :row])]
            known = [j for j in known if labels[j] == j]
            for start in range(0, len(known), AT_ONCE):
                some = known[start : start + AT_ONCE]
                others = [surfaces[j] for j in some]
                away = _distances(surfaces[i], others, operations, tolerance)
                if (away < np.inf).any():
                    labels[i] = some[int((away < np.inf).argmax())]
                    break
    return labels


@dataclass(frozen=True)
class _Surface:
    cell: Float[np.ndarray, "2 2"]
    numbers: Int[np.ndarray, " f"]  # of the frozen atoms
    frozen: Float[np.ndarray, "f 3"]
    species: Int[np.ndarray, " m"]  # of the mobile atoms, ascending
    mobile: Float[np.ndarray, "m 3"]

    def blocks(self) -> Iterator[slice]:
        """Iterate over the ranges of mobile atoms of one element."""
        edges = np.flatnonzero(np.diff(self.species, prepend=-1, append=-1))
        return (slice(start, stop) for start, stop in zip(edges, edges[1:], strict=False))


def _read(atoms: Atoms, frozen: np.ndarray | None) -> _Surface:
    cell = atoms.cell.array
    if abs(np.linalg.det(cell[:2, :2])) < 1e-6 or abs(cell[:2, 2]).max() > EXACT:
        raise ValueError("The first two cell vectors must span the x-y plane of the surface.")
    if not np.isfinite(atoms.positions).all():
        raise ValueError("A structure to compare has positions that are not finite; drop it first.")
    if frozen is None:
        frozen = frozen_mask(atoms)
    if len(frozen) != len(atoms):
        raise ValueError(f"The mask of frozen atoms has {len(frozen)} entries for {len(atoms)}.")
    if not frozen.any():
        raise ValueError("No atom is frozen: add a FixAtoms constraint, or pass `frozen`.")
    mobile = np.flatnonzero(~frozen)
    mobile = mobile[np.argsort(atoms.numbers[mobile], kind="stable")]
    return _Surface(
        cell[:2, :2].copy(),
        atoms.numbers[frozen],
        atoms.positions[frozen],
        atoms.numbers[mobile],
        atoms.positions[mobile],
    )


def _require_same_template(a: _Surface, b: _Surface, name: str = "the second structure") -> None:
    if abs(a.cell - b.cell).max() > EXACT:
        raise ValueError(f"The in-plane cell of {name} is not that of the first: not one template.")
    if np.array_equal(a.numbers, b.numbers) and np.array_equal(a.frozen, b.frozen):
        return
    if len(a.numbers) == len(b.numbers):
        other = a.numbers[:, None] != b.numbers
        if (_misses(a.frozen[None], other, b.frozen, a.cell)[1] <= EXACT).all():
            return
    raise ValueError(f"The frozen atoms of {name} are not those of the first: not one template.")


def _by_composition(surfaces: Sequence[_Surface]) -> list[list[int]]:
    groups: dict[bytes, list[int]] = {}
    for index, surface in enumerate(surfaces):
        groups.setdefault(surface.species.tobytes(), []).append(index)
    return list(groups.values())


def _reduced(cell: Float[np.ndarray, "2 2"]) -> Float[np.ndarray, "2 2"]:
    """Span the same lattice by its two shortest vectors (Lagrange's reduction)."""
    short, long = sorted(cell, key=np.linalg.norm)
    while True:
        long = long - np.round(short @ long / (short @ short)) * short
        if long @ long > (1 - 1e-9) * (short @ short):
            return np.array([short, long])
        short, long = long, short


def _periodic_squares(
    gaps: Float[np.ndarray, "*s 3"], cell: Float[np.ndarray, "2 2"]
) -> np.ndarray:
    """Compute squared lengths of the shortest in-plane images; `cell` must be reduced.

    A reduced cell falls into two triangles without an obtuse angle, so that the lattice point next
    to a vector is one of the corners of the parallelogram which holds it.
    """
    fractions = gaps[..., :2] @ np.linalg.inv(cell)
    inside = (fractions - np.floor(fractions)) @ cell
    x, y = inside[..., 0], inside[..., 1]
    corners = CORNERS @ cell
    planar = np.minimum.reduce([(x - cx) ** 2 + (y - cy) ** 2 for cx, cy in corners])
    return planar + gaps[..., 2] ** 2


def _misses(
    images: Float[np.ndarray, "c f 3"],
    forbidden: Bool[np.ndarray, "f f"],
    frozen: Float[np.ndarray, "f 3"],
    cell: Float[np.ndarray, "2 2"],
) -> tuple[Float[np.ndarray, "c f 3"], Float[np.ndarray, "c f"]]:
    """Return vectors from each image to the nearest allowed frozen atom, and their lengths.

    Exact for vectors much shorter than the cell; others may be too long, never too short.
    """
    gaps = frozen - images[:, :, None]
    gaps[..., :2] -= np.round(gaps[..., :2] @ np.linalg.inv(cell)) @ cell
    lengths = np.where(forbidden, np.inf, np.linalg.norm(gaps, axis=-1))
    nearest = lengths.argmin(-1)[..., None]
    vectors = np.take_along_axis(gaps, nearest[..., None], 2)[:, :, 0]
    return vectors, np.take_along_axis(lengths, nearest, 2)[:, :, 0]


def _isometries(cell: Float[np.ndarray, "2 2"], tolerance: float) -> Float[np.ndarray, "k 2 2"]:
    """Find the rotations and mirrors that map the lattice onto itself.

    They are inverse(cell) @ W @ cell with an integer W: the rows of W @ cell are lattice vectors
    as long as the cell's rows, and at the same angle.
    """
    reach = np.ceil(np.linalg.norm(cell[1]) * np.linalg.norm(np.linalg.inv(cell), axis=0) + 0.01)
    indices = np.indices((2 * reach + 1).astype(int)).reshape(2, -1).T - reach
    vectors = indices @ cell
    lengths = np.linalg.norm(vectors, axis=1)
    one, two = (vectors[abs(lengths - np.linalg.norm(row)) < tolerance] for row in cell)
    pairs = np.stack(np.broadcast_arrays(one[:, None], two[None]), axis=2).reshape(-1, 2, 2)
    dots = (pairs[:, 0] * pairs[:, 1]).sum(-1)
    found = pairs[abs(dots - cell[0] @ cell[1]) < tolerance * np.linalg.norm(cell[1])]
    return np.linalg.inv(cell) @ found


@lru_cache(maxsize=64)
def _symmetries(cell_bytes: bytes, numbers: bytes, frozen: bytes, tolerance: float) -> Operations:
    """Compute `symmetries` from raw arrays: bytes are hashable, so that the result is cached."""
    cell = _reduced(np.frombuffer(cell_bytes).reshape(2, 2))
    kinds = np.frombuffer(numbers, dtype=int)
    atoms = np.frombuffer(frozen).reshape(-1, 3)
    forbidden = (kinds[:, None] != kinds) | (abs(atoms[:, None, 2] - atoms[:, 2]) > tolerance)
    anchor = (~forbidden).sum(1).argmin()  # the atom with the fewest partners
    partners = atoms[~forbidden[anchor], :2]
    rotations, translations = [], []
    for rotation in _isometries(cell, tolerance):
        shifts = partners - atoms[anchor, :2] @ rotation
        turned = Operations(np.repeat(rotation[None], len(shifts), axis=0), shifts)
        vectors, _ = _misses(turned.apply(atoms), forbidden, atoms, cell)
        shifts = shifts + vectors[..., :2].mean(1)  # removes the anchor's own error
        centred = Operations(turned.rotations, shifts)
        _, lengths = _misses(centred.apply(atoms), forbidden, atoms, cell)
        kept = shifts[(lengths <= tolerance).all(1)]
        rotations += [rotation] * len(kept)
        translations += list(kept)
    return Operations(np.array(rotations), np.array(translations))


def _distances(
    surface: _Surface,
    others: Sequence[_Surface],
    operations: Operations,
    limit: float = np.inf,
) -> Float[np.ndarray, " s"]:
    """Compute the distances (Å) of a surface to others of its species; infinite beyond `limit`.

    All operations, and all others, are ruled out together: nearly all move no atom to where the
    other's first one is, or leave some atom without a partner. Few are left for the assignment.
    """
    from scipy.optimize import linear_sum_assignment

    found, squared = np.full(len(others), np.inf), limit**2
    if not len(others) or not len(surface.species):
        return np.zeros(len(others))
    cell, images = _reduced(surface.cell), operations.apply(surface.mobile)
    places = np.stack([other.mobile for other in others])
    blocks = sorted(surface.blocks(), key=lambda block: block.stop - block.start)
    first = places[:, None, None, blocks[0].start] - images[None, :, blocks[0]]
    other, image = np.nonzero(_periodic_squares(first, cell).min(-1) <= squared)
    bounds, squares = np.zeros(len(other)), list[np.ndarray]()
    for block in blocks:
        gaps = images[image][:, block, None] - places[other][:, None, block]
        squares.append(_periodic_squares(gaps, cell))
        # Each atom goes at least to its nearest partner, whatever the assignment.
        nearest = np.maximum(squares[-1].min(1).max(1), squares[-1].min(2).max(1))
        bounds = np.maximum(bounds, nearest)
        near = bounds <= squared
        other, image, bounds = other[near], image[near], bounds[near]
        squares = [part[near] for part in squares]
    for k in bounds.argsort():
        if bounds[k] < found[other[k]]:
            costs = [part[k] for part in squares]
            longest = max(cost[linear_sum_assignment(cost)].max() for cost in costs)
            if longest <= squared:
                found[other[k]] = min(found[other[k]], longest)
    return np.sqrt(found)


def _fingerprint(surface: _Surface, cell: Float[np.ndarray, "2 2"]) -> Float[np.ndarray, " k"]:
    """Compute invariants of all operations that differ by at most the distance of two surfaces.

    Sorted, for each element: the heights, and the distances to the nearest frozen atom; for each
    pair of elements: half the distances. If no atom moves by more than d, each of these changes by
    at most d, sorted or not: a pair of surfaces farther apart here need not be compared.
    """
    cell = _reduced(cell)
    mobile = surface.mobile
    to_frozen = _periodic_squares(mobile[:, None] - surface.frozen, cell).min(1) ** 0.5
    pairs = _periodic_squares(mobile[:, None] - mobile, cell) ** 0.5 / 2
    parts = [np.empty(0)]
    for block in surface.blocks():
        parts += [np.sort(mobile[block, 2]), np.sort(to_frozen[block])]
    for p, q in combinations_with_replacement(list(surface.blocks()), 2):
        values = pairs[p, q]
        parts.append(np.sort(values[np.triu_indices(len(values), 1)] if p == q else values.ravel()))
    return np.concatenate(parts)
