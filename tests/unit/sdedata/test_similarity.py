import itertools

import numpy as np
import pytest
from ase import Atoms
from ase.build import fcc100, fcc111, make_supercell
from ase.constraints import FixAtoms
from scipy.optimize import linear_sum_assignment

from sdedata.similarity import (
    _fingerprint,
    _periodic_squares,
    _read,
    _reduced,
    distance,
    same,
    symmetries,
    unique,
)

CELLS = {
    "p(1x1)": [[1, 0], [0, 1]],
    "p(3x3)": [[3, 0], [0, 3]],
    "p(4x4)": [[4, 0], [0, 4]],
    "c(2x8)": [[2, 0], [-3, 4]],
}


def slab(cell: str, layers: int = 2, symbol: str = "Ag") -> Atoms:
    """Frozen Ag(111) in one of the cells."""
    matrix = np.eye(3, dtype=int)
    matrix[:2, :2] = CELLS[cell]
    atoms = make_supercell(fcc111(symbol, (1, 1, layers), a=4.15, vacuum=10.0), matrix)
    atoms.set_constraint(FixAtoms(range(len(atoms))))
    return atoms


def covered(substrate: Atoms, formula: str, seed: int, apart: float = 2.5) -> Atoms:
    """The substrate with atoms at random places, `apart` (Å) from each other."""
    rng = np.random.default_rng(seed)
    top = substrate.positions[:, 2].max()
    layer = Atoms(cell=substrate.cell, pbc=[True, True, False])
    for symbol in Atoms(formula).symbols:
        while True:
            place = [*(rng.random(2) @ substrate.cell.array[:2, :2]), top + rng.uniform(1.5, 4)]
            trial = layer + Atoms(symbol, [place])
            if (
                len(layer) == 0
                or trial.get_distances(-1, range(len(layer)), mic=True).min() > apart
            ):
                break
        layer = trial
    return substrate + layer


def disguised(atoms: Atoms, seed: int, rattle: float = 0.05) -> tuple[Atoms, float]:
    """The same surface turned, renumbered, wrapped otherwise and shaken; and its largest shake."""
    rng = np.random.default_rng(seed)
    operations = symmetries(atoms)
    frozen = atoms.constraints[0].index
    mobile = np.setdiff1d(np.arange(len(atoms)), frozen)
    pick = rng.integers(len(operations))
    positions = operations.apply(atoms.positions)[pick]
    shake = rng.uniform(-rattle, rattle, (len(mobile), 3))
    positions[mobile] += shake + rng.integers(-2, 3, (len(mobile), 2)) @ atoms.cell.array[:2]
    positions[frozen] = atoms.positions[frozen]
    order = np.concatenate([rng.permutation(frozen), rng.permutation(mobile)])
    copy = Atoms(atoms.numbers[order], positions[order], cell=atoms.cell, pbc=atoms.pbc)
    copy.set_constraint(FixAtoms(range(len(frozen))))
    return copy, np.linalg.norm(shake, axis=1).max()


def images_by_brute_force(vectors: np.ndarray, cell: np.ndarray) -> np.ndarray:
    shifts = np.array(list(itertools.product(range(-6, 7), repeat=2))) @ cell
    planar = ((vectors[..., None, :2] - shifts) ** 2).sum(-1).min(-1)
    return np.sqrt(planar + vectors[..., 2] ** 2)


def operations_by_brute_force(atoms: Atoms) -> set[tuple[float, ...]]:
    """Every W with entries -4..4 and every translation between two atoms, tried one by one."""
    cell = atoms.cell.array[:2, :2]
    found = set()
    for entries in itertools.product(range(-4, 5), repeat=4):
        rotation = np.linalg.inv(cell) @ np.reshape(entries, (2, 2)) @ cell
        if not np.allclose(rotation @ rotation.T, np.eye(2)):
            continue
        for target in atoms.positions:
            turned = atoms.positions.copy()
            turned[:, :2] = turned[:, :2] @ rotation
            turned[:, :2] += target[:2] - turned[0, :2]
            gaps = images_by_brute_force(turned[:, None] - atoms.positions, cell)
            gaps[atoms.numbers[:, None] != atoms.numbers] = np.inf
            if (gaps.min(1) < 0.01).all():
                shift = target[:2] - atoms.positions[0, :2] @ rotation
                fraction = np.round(shift @ np.linalg.inv(cell), 4) % 1
                found.add((*np.round(rotation.ravel(), 4) + 0.0, *np.round(fraction, 3) % 1))
    return found


@pytest.mark.parametrize(
    ("cell", "layers", "number"),
    [
        ("p(1x1)", 2, 6),
        ("p(3x3)", 2, 54),
        ("p(4x4)", 2, 96),
        ("c(2x8)", 2, 16),  # eight translations and one mirror
        ("p(4x4)", 1, 192),  # one layer has the sixfold axis too
        ("p(3x3)", 3, 54),
    ],
)
def test_number_of_operations_of_ag111(cell, layers, number):
    assert len(symmetries(slab(cell, layers))) == number


@pytest.mark.parametrize("cell", ["p(3x3)", "c(2x8)"])
def test_operations_are_those_that_brute_force_finds(cell):
    atoms = slab(cell)
    assert len(operations_by_brute_force(atoms)) == len(symmetries(atoms))


def test_operations_map_the_substrate_onto_itself_and_form_a_group():
    atoms = slab("c(2x8)")
    operations = symmetries(atoms)
    cell = atoms.cell.array[:2, :2]
    for image in operations.apply(atoms.positions):
        gaps = images_by_brute_force(image[:, None] - atoms.positions, cell)
        assert sorted(gaps.argmin(1)) == list(range(len(atoms)))
        assert gaps.min(1).max() < 1e-8
    for a, b in itertools.product(range(len(operations)), repeat=2):
        rotation = operations.rotations[a] @ operations.rotations[b]
        shift = operations.translations[a] @ operations.rotations[b] + operations.translations[b]
        fractions = (operations.translations - shift) @ np.linalg.inv(cell)
        known = (abs(operations.rotations - rotation) < 1e-8).all((1, 2))
        known &= (abs(fractions - np.round(fractions)) < 1e-8).all(1)
        assert known.sum() == 1


def test_an_alloy_keeps_only_the_operations_that_keep_its_elements():
    atoms = slab("p(4x4)")
    top = int(atoms.positions[:, 2].argmax())
    atoms.numbers[top] = 46
    assert len(symmetries(atoms)) == 6  # the axis and the mirrors through that atom
    square = fcc100("Cu", (2, 2, 2), vacuum=10.0)
    assert len(symmetries(square, np.ones(8, dtype=bool))) == 4 * 8


def test_a_substrate_without_symmetry_has_the_identity_only():
    atoms = slab("p(3x3)")
    atoms.positions += np.random.default_rng(0).normal(0, 0.3, (len(atoms), 3))
    operations = symmetries(atoms)
    np.testing.assert_allclose(operations.rotations, [np.eye(2)], atol=1e-12)
    np.testing.assert_allclose(operations.translations, [[0, 0]], atol=1e-12)


def test_a_slightly_distorted_substrate_keeps_its_symmetry():
    atoms = slab("p(3x3)")
    atoms.positions += np.random.default_rng(0).uniform(-0.01, 0.01, (len(atoms), 3))
    assert len(symmetries(atoms)) == 54
    assert len(symmetries(atoms, tolerance=1e-4)) == 1


@pytest.mark.parametrize("skew", [[[1, 0], [0, 1]], [[1, 0], [5, 1]], [[2, 1], [-7, -4]]])
def test_periodic_distances_in_skewed_cells(skew):
    cell = np.array(skew) @ [[3.0, 0.2], [1.4, 2.7]]
    vectors = np.random.default_rng(0).normal(0, 3, (500, 3))
    exact = images_by_brute_force(vectors, _reduced(cell))
    np.testing.assert_allclose(np.sqrt(_periodic_squares(vectors, _reduced(cell))), exact)
    assert abs(np.linalg.det(_reduced(cell))) == pytest.approx(abs(np.linalg.det(cell)))


@pytest.mark.parametrize("cell", ["p(3x3)", "p(4x4)", "c(2x8)"])
@pytest.mark.parametrize("seed", range(5))
def test_a_disguised_surface_is_the_same_up_to_its_shake(cell, seed):
    atoms = covered(slab(cell), "Ag4O3", seed)
    copy, shake = disguised(atoms, seed)
    assert distance(atoms, copy) == pytest.approx(shake, abs=1e-8)
    assert same(atoms, copy, tolerance=0.1)


@pytest.mark.parametrize("seed", range(3))
def test_distance_is_that_of_brute_force(seed):
    a, b = covered(slab("c(2x8)"), "Ag4O3", seed), covered(slab("c(2x8)"), "Ag4O3", seed + 10)
    best = np.inf
    for image in symmetries(a).apply(a.positions[16:]):
        largest = 0.0
        for symbol in ("Ag", "O"):
            block = a.symbols[16:] == symbol
            gaps = image[block, None] - b.positions[16:][block]
            lengths = images_by_brute_force(gaps, a.cell.array[:2, :2])
            largest = max(largest, lengths[linear_sum_assignment(lengths**2)].max())
        best = min(best, largest)
    assert distance(a, b) == pytest.approx(best, abs=1e-10)
    assert distance(b, a) == pytest.approx(best, abs=1e-10)


@pytest.mark.parametrize("seed", range(5))
def test_one_atom_elsewhere_is_another_surface(seed):
    atoms = covered(slab("p(4x4)"), "Ag12O6", seed, apart=2.0)
    moved = atoms.copy()
    direction = np.random.default_rng(seed).normal(size=3)
    moved.positions[-1] += direction / np.linalg.norm(direction)
    moved, _ = disguised(moved, seed, rattle=0.0)
    assert distance(atoms, moved) == pytest.approx(1.0, abs=1e-6)
    assert not same(atoms, moved)


def test_a_mirror_image_counts_only_where_the_substrate_has_the_mirror():
    substrate = slab("p(3x3)")
    atoms = covered(substrate, "Ag6O3", 0)
    corner = substrate.positions[substrate.positions[:, 2].argmax(), :2]
    for axis, kept in ((0, True), (1, False)):  # x -> -x is a mirror of Ag(111), y -> -y is not
        image = atoms.copy()
        image.positions[18:, axis] = 2 * corner[axis] - image.positions[18:, axis]
        assert same(atoms, image) is kept
    assert distance(atoms, image) > 1


def test_elements_count():
    a = covered(slab("p(3x3)"), "Ag4O3", 0)
    swapped = a.copy()
    swapped.numbers[[18, -1]] = swapped.numbers[[-1, 18]]
    assert distance(a, swapped) > 1
    fewer = a[:-1]
    assert distance(a, fewer) == np.inf
    assert not same(a, fewer)


def test_bare_surfaces_are_the_same():
    assert distance(slab("p(3x3)"), slab("p(3x3)")) == 0


def test_fingerprint_never_exceeds_the_distance():
    """So the filter of `unique` drops no pair that is the same; and it is an invariant."""
    surfaces = [covered(slab("p(3x3)"), "Ag4O3", seed) for seed in range(6)]
    surfaces += [disguised(atoms, 7, rattle=0.3)[0] for atoms in surfaces]
    prints = [_fingerprint(_read(atoms, None), atoms.cell.array[:2, :2]) for atoms in surfaces]
    for i, j in itertools.combinations(range(12), 2):
        bound = abs(prints[i] - prints[j]).max()
        assert bound <= distance(surfaces[i], surfaces[j]) + 1e-9
    for i in range(6):
        exact, _ = disguised(surfaces[i], 3, rattle=0.0)
        again = _fingerprint(_read(exact, None), exact.cell.array[:2, :2])
        np.testing.assert_allclose(again, prints[i], atol=1e-8)


def test_unique_labels_each_surface_by_its_first_appearance():
    bases = [covered(slab("p(3x3)"), formula, 1) for formula in ("Ag4O3", "Ag4O3", "Ag6O3", "Ag2")]
    bases[1].positions[-1, 2] += 0.9
    origin = [0, 1, 0, 2, 1, 3, 0, 2, 2, 3]
    structures = [disguised(bases[k], seed)[0] for seed, k in enumerate(origin)]
    assert unique(structures) == [origin.index(k) for k in origin]
    assert unique([]) == []


def test_unique_agrees_with_all_pairs():
    bases = [covered(slab("c(2x8)"), "Ag4O2", seed) for seed in range(4)]
    structures = [disguised(bases[k % 4], k, rattle=0.2)[0] for k in range(16)]
    labels = unique(structures, tolerance=0.3)
    for i, label in enumerate(labels):
        firsts = [j for j in range(i) if labels[j] == j]
        matches = [j for j in firsts if distance(structures[i], structures[j]) <= 0.3]
        assert label == (matches[0] if matches else i)


def test_a_mask_replaces_the_constraint():
    atoms = covered(slab("p(3x3)"), "Ag4O3", 2)
    copy, shake = disguised(atoms, 3)
    atoms.set_constraint()
    copy.set_constraint()
    frozen = np.arange(len(atoms)) < 18
    assert distance(atoms, copy, frozen) == pytest.approx(shake, abs=1e-8)
    assert unique([atoms, copy], frozen=frozen) == [0, 0]
    with pytest.raises(ValueError, match="No atom is frozen"):
        distance(atoms, copy)
    with pytest.raises(ValueError, match="mask of frozen atoms has 3 entries"):
        distance(atoms, copy, frozen[:3])


def test_surfaces_on_different_templates_are_not_compared():
    a = covered(slab("p(3x3)"), "Ag4O3", 0)
    shifted, other_metal = a.copy(), a.copy()
    shifted.positions[:18, 0] += 0.5
    other_metal.numbers[3] = 46
    thicker = covered(slab("p(3x3)", layers=3), "Ag4O3", 0)
    for b in (shifted, other_metal, thicker):
        with pytest.raises(ValueError, match="frozen atoms of the second structure"):
            distance(a, b)
    with pytest.raises(ValueError, match="in-plane cell of structure 2"):
        unique([a, a, covered(slab("p(4x4)"), "Ag4O3", 0)])


def test_positions_that_are_not_finite_and_cells_that_stand_up_are_refused():
    a = covered(slab("p(3x3)"), "Ag4O3", 0)
    broken, upright = a.copy(), a.copy()
    broken.positions[-1, 0] = np.nan
    upright.cell[0, 2] = 1.0
    with pytest.raises(ValueError, match="not finite"):
        distance(a, broken)
    with pytest.raises(ValueError, match="x-y plane"):
        distance(a, upright)
