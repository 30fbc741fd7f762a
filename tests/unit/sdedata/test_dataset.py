"""Packed sets: files and back with equal digests, the paper's subsets, errors name frames."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms
from ase.io import write
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sdedata import Graph, StructureSet, Template, collate, low_energy, oxygen_poor, oxygen_rich
from sdedata.arrays import on_grid
from sdedata.dataset import (
    concatenate,
    counts_table,
    distinct,
    inside_window,
    portion,
    require_window,
    thin,
    with_surfaces,
)
from sdedata.rss import random_surface


def labelled(composition="Ag4O2", energy=-50.0, seed=0, cell="c2x8", **info):
    """A random silver oxide with made-up labels."""
    rng = np.random.default_rng(seed)
    atoms = random_surface(Template.ag111(cell, (1.0, 4.5)), composition, rng)
    forces = rng.normal(0.0, 3.0, (len(atoms), 3))
    atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=forces)
    atoms.info.update(info)
    return atoms


OVERLAYERS = [("Ag4O2", "c2x8"), ("Ag6O5", "c2x8"), ("Ag6O3", "p3x3"), ("Ag5O3", "c2x8")]


@pytest.fixture(scope="module")
def frames():
    facts = [{"index": k, "maker": "none", "even": k % 2 == 0, "rest": k / 7} for k in range(4)]
    return [
        labelled(c, -50.0 - k / 3, k, cell, **facts[k]) for k, (c, cell) in enumerate(OVERLAYERS)
    ]


@pytest.fixture(scope="module")
def data(frames):
    return StructureSet.from_atoms(frames, meta={"calculator": {"name": "none", "fmax": 0.1}})


def assert_same(one, other):
    for name in ("counts", "numbers", "positions", "fixed", "cell", "pbc", "energy", "forces"):
        assert np.array_equal(getattr(one, name), getattr(other, name)), name
    assert one.info.keys() == other.info.keys()
    for key in one.info:
        assert np.array_equal(one.info[key], other.info[key]), key
        assert one.info[key].dtype.kind == other.info[key].dtype.kind, key
    assert one.digest == other.digest


def test_from_atoms_and_back(data, frames):
    assert len(data) == 4
    assert data.compositions.tolist() == ["Ag4O2", "Ag6O5", "Ag6O3", "Ag5O3"]
    assert data.elements == (8, 47)
    for found, atoms in zip(data.to_atoms(), frames, strict=True):
        assert np.allclose(found.positions, atoms.positions, atol=1e-5)
        assert np.array_equal(found.numbers, atoms.numbers)
        assert np.allclose(found.cell, atoms.cell, atol=1e-12)
        assert found.constraints[0].get_indices().tolist() == (
            atoms.constraints[0].get_indices().tolist()
        )
        assert found.get_potential_energy() == atoms.get_potential_energy()
        raw = atoms.calc.results["forces"]
        assert np.abs(raw[0]).max() > 0  # of a fixed atom
        assert np.allclose(found.get_forces(apply_constraint=False), raw, atol=1e-5)
        assert found.info == atoms.info


@pytest.mark.parametrize("name", ["set.npz", "set.extxyz", "set.traj"])
def test_files_and_back(data, tmp_path, name):
    path = tmp_path / "folder" / name
    data.write(path)
    back = StructureSet.read(path)
    assert_same(back, data)
    if name.endswith("npz"):
        assert back.meta == data.meta
    assert [p.name for p in path.parent.iterdir()] == [name]  # nothing partial is left


def test_a_chain_of_formats_changes_nothing(data, tmp_path):
    current = data
    for k, suffix in enumerate(["extxyz", "npz", "traj", "npz", "extxyz"]):
        current.write(tmp_path / f"{k}.{suffix}")
        current = StructureSet.read(tmp_path / f"{k}.{suffix}")
    assert_same(current, data)


@given(st.floats(-1e6, 1e6, allow_nan=False, width=32))
def test_the_grid_survives_single_precision_and_eight_decimals(value):
    """Digests are equal because packing and printing return to the same grid point."""
    kept = on_grid(np.array([value]))
    assert on_grid(kept) == kept
    assert on_grid(kept.astype(np.float32)) == kept
    assert on_grid(np.array([float(f"{kept[0]:.8f}")])) == kept
    assert abs(kept[0] - value) <= 5.001e-6


def test_the_digest_is_of_the_physics(data):
    assert replace(data, info={}, meta={}).digest == data.digest
    for name, change in [("positions", 2e-5), ("forces", 2e-5), ("energy", 2e-5), ("cell", 2e-5)]:
        array = getattr(data, name).copy()
        array.flat[0] += change
        assert replace(data, **{name: array}).digest != data.digest, name
    assert replace(data, fixed=~data.fixed).digest != data.digest
    assert replace(data, numbers=data.numbers[::-1]).digest != data.digest
    assert data.select([1, 0, 2, 3]).digest != data.digest


def test_a_parsed_file_is_cached_under_its_content(data, tmp_path):
    path, cache = tmp_path / "set.extxyz", tmp_path / "cache"
    data.write(path)
    first = StructureSet.read(path, cache)
    (kept,) = cache.iterdir()
    assert_same(first, data)
    # The cache is what is read: a mark in it shows.
    replace(data, meta={"mark": 1}).write(kept)
    assert StructureSet.read(path, cache).meta == {"mark": 1}
    data.select([0]).write(path)
    assert len(StructureSet.read(path, cache)) == 1  # new content, new entry
    assert len(list(cache.iterdir())) == 2


def test_select_by_mask_and_by_index(data):
    masked = data.select(np.array([False, True, False, True]))
    assert_same(masked, data.select([1, 3]))
    assert masked.compositions.tolist() == ["Ag6O5", "Ag5O3"]
    assert masked.info["index"].tolist() == [1, 3]
    assert masked.meta == data.meta
    assert data.select([3, 1]).compositions.tolist() == ["Ag5O3", "Ag6O5"]
    assert data.select([-1]).compositions.tolist() == ["Ag5O3"]
    assert len(data.select([])) == 0
    assert len(data.select(np.zeros(4, dtype=bool))) == 0


def test_concatenate_undoes_select(data):
    parts = [data.select([0]), data.select([1, 2]), data.select([3])]
    assert_same(concatenate(parts), data)
    without = replace(parts[0], info={"index": parts[0].info["index"]})
    assert set(concatenate([without, parts[1]]).info) == {"index"}
    with pytest.raises(ValueError, match="empty"):
        concatenate([])


def test_graphs_are_those_of_the_atoms(data):
    graphs = data.graphs(5.0, (1.0, 4.5), dtype=torch.float64)
    for i, found in enumerate(graphs):
        top = data.top(i)
        expected = Graph.from_atoms(data.atoms(i), 5.0, (top + 1.0, top + 4.5), dtype=torch.float64)
        for name in ("positions", "numbers", "batch", "mobile", "cell", "pbc", "energy", "forces"):
            assert torch.equal(getattr(found, name), getattr(expected, name)), name
        assert torch.allclose(found.window, expected.window)
        assert torch.equal(found.senders, expected.senders)
    assert collate(graphs).n_structures == 4
    some = graphs.subset([3, 0, 2]).subset([2, 0])
    for one, i in zip(some, (2, 3), strict=True):
        assert torch.equal(one.positions, graphs[i].positions)
    assert [len(some), len(some[1:]), len(graphs[:-1])] == [2, 1, 3]
    with pytest.raises(IndexError):
        some[2]
    assert data.graphs(5.0, (1.0, 4.5))[0].positions.dtype == torch.float32


def oxides(rows):
    """A set of the given (composition, energy) pairs."""
    return StructureSet.from_atoms([labelled(c, e, seed=k) for k, (c, e) in enumerate(rows)])


def test_energies_are_relative_to_the_same_overlayer_on_the_same_substrate():
    data = concatenate(
        [
            oxides([("Ag4O2", -50.0), ("Ag4O3", -60.0), ("Ag4O2", -51.5), ("Ag4O3", -59.0)]),
            StructureSet.from_atoms([labelled("Ag4O2", -70.0, cell="p3x3")]),
        ]
    )
    assert data.relative_energy == pytest.approx([1.5, 0.0, 0.0, 1.0, 0.0])
    assert len(set(data.groups)) == 3


def test_surfaces_are_labelled_by_their_first_minimum_and_selected_at_their_lowest():
    """Minima moved by a symmetry of Ag(111) and a little more; one atom on another site is new."""
    template = Template.ag111("c2x8", (1.0, 4.5))
    one, other = (labelled("Ag4O2", seed=k).positions[-6:] for k in (0, 1))
    step = template.slab.cell[0] / 2  # the primitive lattice vector of the substrate
    moved = one.copy()
    moved[-1, 2] += 0.9  # Å, and one atom of 0.1 Å is still the same
    nearly = one + step
    nearly[-1, 2] += 0.1
    overlayers = [one, other, one + step, moved, nearly, other - 2 * step]
    frames = []
    for k, (overlayer, energy) in enumerate(
        zip(overlayers, (3.0, 2.0, 1.0, 4.0, 2.5, 2.1), strict=True)
    ):
        atoms = template.surface("Ag4O2", overlayer)
        atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=np.zeros((len(atoms), 3)))
        atoms.info["index"] = 10 * k + 7
        frames.append(atoms)
    data = with_surfaces(StructureSet.from_atoms(frames))
    assert data.info["surface_index"].tolist() == [7, 17, 7, 37, 7, 17]
    assert distinct(data).energy.tolist() == [2.0, 1.0, 4.0]
    assert len(distinct(StructureSet.from_atoms(frames))) == 6  # it does not know its surfaces


def test_low_energy_includes_its_bound():
    data = oxides([("Ag4O2", -50.0), ("Ag4O2", -49.5), ("Ag4O2", -49.25), ("Ag4O2", -47.75)])
    assert low_energy(data, 0.5).energy.tolist() == [-50.0, -49.5]
    assert low_energy(data).energy.tolist() == [-50.0, -49.5, -49.25]
    assert len(low_energy(data, 2.25)) == 4


def test_a_share_of_the_relaxations_holds_smaller_ones_and_keeps_each_whole():
    data = oxides([("Ag4O2", -50.0 - k) for k in range(60)])
    data = replace(data, info=data.info | {"index": np.repeat(np.arange(20), 3)})
    chosen = list(range(3, 60))
    kept = [
        portion(data, chosen, share, torch.Generator().manual_seed(5)) for share in (0.1, 0.5, 1.0)
    ]
    assert [len(part) for part in kept] == [3 * 2, 3 * 10, 3 * 19]
    assert set(kept[0]) < set(kept[1]) < set(kept[2]) == set(chosen)
    for part in kept:
        assert all(n == 3 for n in Counter(data.info["index"][part].tolist()).values())


def test_exactly_two_to_one_counts_as_poor():
    data = oxides([(c, -50.0) for c in ["Ag4O2", "Ag6O3", "Ag5O2", "Ag5O3", "Ag4O3", "Ag6O2"]])
    assert set(oxygen_poor(data).compositions) == {"Ag4O2", "Ag6O3", "Ag5O2", "Ag6O2"}
    assert set(oxygen_rich(data).compositions) == {"Ag5O3", "Ag4O3"}


def test_counts_per_stoichiometry():
    data = oxides(
        [("Ag4O2", -50.0), ("Ag4O2", -49.6), ("Ag4O2", -48.1), ("Ag4O2", -47.0)]
        + [("Ag4O3", -55.0), ("Ag4O3", -53.9), ("Ag6O3", -60.0)]
    )
    names = ("stoichiometry", "D", "D_lowE", "D_lowE-red", "D_lowE-ox")
    assert [tuple(row[name] for name in names) for row in counts_table(data)] == [
        ("Ag4O2", 3, 2, 2, 0),
        ("Ag4O3", 2, 1, 0, 1),
        ("Ag6O3", 1, 1, 1, 0),
    ]


def raised(window_data, low, high):
    """The set with each structure's overlayer spread evenly from low to high above the slab."""
    atoms = window_data.to_atoms()
    for frame in atoms:
        results = frame.calc.results
        free = np.setdiff1d(np.arange(len(frame)), frame.constraints[0].get_indices())
        top = frame.positions[:, 2][frame.constraints[0].get_indices()].max()
        frame.positions[free, 2] = top + np.linspace(low, high, len(free))
        frame.calc = SinglePointCalculator(frame, **results)
    return StructureSet.from_atoms(atoms)


def test_the_window_is_above_the_slab_and_includes_its_walls(data):
    fitting, high = raised(data, 1.0, 4.5), raised(data, 1.5, 5.27)
    assert np.allclose(np.concatenate([z[[0, -1]] for z in fitting.heights()]), [1.0, 4.5] * 4)
    # Walls of the window are on the grid of positions, the slab's top to that grid as well.
    assert inside_window(fitting, (1.0 - 1e-5, 4.5 + 1e-5)).all()
    assert not inside_window(fitting, (1.0, 4.4)).any()
    assert not inside_window(high, (1.0, 4.5)).any()


def test_atoms_outside_the_window_are_named_and_a_window_proposed(data):
    mixed = concatenate([raised(data, 1.1, 4.4), raised(data, 1.1, 5.27).select([0, 2])])
    require_window(mixed, (1.0, 5.5), "mine.traj")
    with pytest.raises(ValueError) as caught:
        require_window(mixed, (1.0, 4.5), "mine.traj")
    message = str(caught.value)
    assert message.startswith("mine.traj, frame 4: O at 5.27 Å above the slab")
    assert "2 of 6 frames" in message
    assert message.endswith("this would hold them all: data.z_range=[1,5.3]")
    require_window(mixed, (1.0, 5.3), "mine.traj")


def test_atoms_inside_the_slab_get_no_proposal(data):
    with pytest.raises(ValueError, match=r"frame 0: Ag at -0\.30 Å .* inside the slab"):
        require_window(raised(data, -0.3, 4.0), (1.0, 5.0), "mine.traj")


def test_thin_keeps_both_ends_and_spreads_the_rest():
    steps = np.linspace(0, 8, 120)
    energies = -50 + 5 * np.exp(-steps)
    forces = np.exp(-steps)[:, None, None] * np.ones((120, 4, 3))
    kept = thin(energies, forces, 12)
    assert kept[0] == 0
    assert kept[-1] == 119
    assert 8 <= len(kept) <= 12
    assert (np.diff(kept) > 0).all()
    assert np.diff(kept)[0] < np.diff(kept)[-1]  # the fall is followed closely, the tail is not
    assert thin(energies, forces, 2).tolist() == [0, 119]
    assert thin(energies[:5], forces[:5], 12).tolist() == [0, 1, 2, 3, 4]
    still = thin(np.full(9, -1.0), np.zeros((9, 2, 3)), 3)
    assert still.tolist() == [0, 4, 8]
    with pytest.raises(ValueError, match="at least 2"):
        thin(energies, forces, 1)


# Bad input: one sentence that names file and frame.


def spoiled(fault):
    """A valid structure with one fault, as read from a file."""
    atoms = labelled()
    results = dict(atoms.calc.results)
    match fault:
        case "no energy":
            del results["energy"]
        case "no forces":
            del results["forces"]
        case "energy not finite":
            results["energy"] = float("nan")
        case "forces not finite":
            results["forces"] = np.full((len(atoms), 3), np.inf)
        case "positions are not finite":
            atoms.positions[0, 0] = np.nan
        case "no cell in the plane":
            atoms.cell[1] = 0
            atoms.pbc = [True, False, True]
        case "not periodic in the plane":
            atoms.pbc = False
        case "no fixed atoms":
            atoms.set_constraint()
        case "no free atoms":
            atoms.set_constraint(FixAtoms(indices=np.arange(len(atoms))))
    atoms.calc = SinglePointCalculator(atoms, **results)
    return atoms


FAULTS = [
    "no energy",
    "no forces",
    "energy not finite",
    "forces not finite",
    "positions are not finite",
    "no cell in the plane",
    "not periodic in the plane",
    "no fixed atoms",
    "no free atoms",
]


@pytest.mark.parametrize("fault", FAULTS)
def test_the_error_names_an_invalid_frame(fault):
    with pytest.raises(ValueError, match=f"^mine, frame 1: {fault}"):
        StructureSet.from_atoms([labelled(), spoiled(fault)], source="mine")


@pytest.mark.parametrize("fault", FAULTS)
def test_the_error_names_file_and_invalid_frame(fault, tmp_path):
    path = tmp_path / "mine.traj"
    write(path, [labelled(), spoiled(fault)])
    with pytest.raises(ValueError, match=rf"mine\.traj, frame 1: {fault}"):
        StructureSet.read(path)


def test_labels_of_other_positions_are_no_labels():
    atoms = labelled()
    atoms.positions[-1] += 0.1
    with pytest.raises(ValueError, match="frame 0: no energy"):
        StructureSet.from_atoms([atoms])


def test_a_live_calculator_with_results_is_accepted():
    template = Template.ag111("c2x8")
    atoms = random_surface(template, "Ag2", np.random.default_rng(1))
    atoms.calc = EMT()
    with pytest.raises(ValueError, match="no energy"):  # nothing is computed behind one's back
        StructureSet.from_atoms([atoms])
    energy = atoms.get_potential_energy()
    assert StructureSet.from_atoms([atoms]).energy == pytest.approx([energy])


@pytest.mark.parametrize("name", ["mine.traj", "mine.npz", "mine.extxyz"])
def test_missing_empty_and_broken_files_are_named(tmp_path, name):
    path = tmp_path / name
    with pytest.raises(ValueError, match=f"there is no file .*{name}"):
        StructureSet.read(path)
    path.touch()
    with pytest.raises(ValueError, match=f"{name} is (empty|not a packed)"):
        StructureSet.read(path, tmp_path / "cache")
    path.write_bytes(b"nonsense\n" * 9)
    with pytest.raises(ValueError, match=f"{name} (cannot be read|is not a packed)"):
        StructureSet.read(path)


def test_the_error_names_a_truncated_or_foreign_npz(data, tmp_path):
    path = tmp_path / "set.npz"
    data.write(path)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(ValueError, match=r"set\.npz is not a packed structure set"):
        StructureSet.read(path)
    np.savez(path, energy=np.zeros(3), meta=np.array("{}"))
    with pytest.raises(ValueError, match=r"set\.npz is not a packed structure set"):
        StructureSet.read(path)
    data.select([]).write(path)
    with pytest.raises(ValueError, match=r"set\.npz holds no structures"):
        StructureSet.read(path)


@given(at=st.floats(0, 1, exclude_max=True), noise=st.binary(min_size=1, max_size=40))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_a_packed_file_with_other_bytes_is_the_same_or_is_named(data, tmp_path, at, noise):
    """The archive has checksums: no overwritten byte gives wrong data."""
    path = tmp_path / "set.npz"
    data.write(path)
    content = bytearray(path.read_bytes())
    start = int(at * len(content))
    content[start : start + len(noise)] = noise
    path.write_bytes(content)
    try:
        found = StructureSet.read(path).digest
    except ValueError as error:
        found = str(error)
    assert found == data.digest or found.startswith(f"{path} is not a packed structure set")


def test_an_empty_batch():
    with pytest.raises(ValueError, match="mine holds no structures"):
        StructureSet.from_atoms([], source="mine")


def test_arrays_must_fit_together_and_be_finite(data):
    with pytest.raises(ValueError, match="differ in their number"):
        replace(data, info={"index": np.arange(3)})
    with pytest.raises(ValueError, match="differ in their number"):
        replace(data, counts=data.counts + 1)
    with pytest.raises(ValueError, match="energy of a structure set"):
        replace(data, energy=np.full(4, np.nan))


def test_a_slab_height_needs_fixed_atoms(data):
    loose = replace(data, fixed=np.zeros_like(data.fixed))
    with pytest.raises(ValueError, match="structure 2 has no fixed atoms"):
        loose.top(2)
    assert isinstance(loose.atoms(0), Atoms)
    assert loose.atoms(0).constraints == []
