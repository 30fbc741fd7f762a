"""Whatever is written reads back the same, from every format; what cannot be kept is named."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import fcc111
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms, FixCartesian, FixScaled
from ase.io import read
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sdedata import StructureSet
from sdedata.files import extxyz, read_frames, write_frames
from sdedata.frozen import frozen_mask, partly_held

FORMATS = ("extxyz", "traj", "db", "json")
ONE_PROCESS = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)

keys = st.one_of(
    st.text(max_size=6),
    st.sampled_from(
        ["energy", "forces", "stress", "pbc", "Lattice", "Properties", "index", "note", "seed",
         "magmom", "free_energy", "unique_id", "id", "T", "1", "a b", "a=b", "data", "cell"]
    ),
)  # fmt: skip
values = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**80), 2**80),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(["", " ", "T", "F", "1", "12e3", "nan", "a b", "a=b", '"', "'", "\\", "[1]",
                     "{}", "1 2 3", "_JSON 1", "None", "Å", "a\tb", "a,b", "sha256:12e3", "Ag6O3"]),
    st.lists(st.integers(0, 3), max_size=3),
    st.just(np.arange(3)),
    st.just(np.eye(3)),
)  # fmt: skip
per_atom = st.one_of(
    st.lists(st.text(max_size=3), min_size=3, max_size=3).map(lambda x: np.array(x, dtype=str)),
    st.lists(st.integers(-(2**40), 2**40), min_size=3, max_size=3).map(np.array),
    st.lists(st.floats(-1e4, 1e4), min_size=3, max_size=3).map(np.array),
    st.lists(st.booleans(), min_size=3, max_size=3).map(np.array),
    st.just(np.arange(9).reshape(3, 3)),
    st.just(np.zeros((3, 2, 2))),
    st.just(np.array([1j, 2, 3])),
)
constraints = st.lists(
    st.one_of(
        st.lists(st.integers(0, 2), min_size=1, max_size=3, unique=True).map(FixAtoms),
        st.tuples(st.integers(0, 2), st.tuples(*[st.booleans()] * 3)).map(
            lambda x: FixCartesian([x[0]], x[1])
        ),
    ),
    max_size=3,
)


@st.composite
def structures(draw):
    atoms = Atoms("Ag2O", positions=[[0, 0, 0], [1, 2, 3], [2, 1, 5]], cell=[4, 5, 20], pbc=True)
    atoms.info = draw(st.dictionaries(keys, values, max_size=4))
    for name, array in draw(st.dictionaries(keys, per_atom, max_size=2)).items():
        if name not in ("positions", "numbers"):
            atoms.arrays[name] = array
    atoms.set_constraint(draw(constraints))
    if draw(st.booleans()):
        forces = np.array(draw(st.lists(st.floats(-50, 50), min_size=9, max_size=9))).reshape(3, 3)
        atoms.calc = SinglePointCalculator(atoms, energy=draw(st.floats(-1e7, 1e7)), forces=forces)
    return atoms


def equal(one, two) -> bool:
    return type(one) is type(two) and one == two


def plain(value):
    return value.item() if isinstance(value, np.generic) else value


@given(frames=st.lists(structures(), min_size=1, max_size=3))
@ONE_PROCESS
@pytest.mark.parametrize("ending", FORMATS)
def test_what_is_written_reads_back_the_same(frames, ending, tmp_path):
    path = tmp_path / f"x.{ending}"
    lost = write_frames(path, frames)
    back = read_frames(path)
    assert len(back) == len(frames)
    for atoms, found in zip(frames, back, strict=True):
        np.testing.assert_array_equal(found.numbers, atoms.numbers)
        np.testing.assert_allclose(found.positions, atoms.positions, atol=1e-8)
        np.testing.assert_array_equal(found.cell, atoms.cell)
        np.testing.assert_array_equal(found.pbc, atoms.pbc)
        np.testing.assert_array_equal(frozen_mask(found), frozen_mask(atoms))
        np.testing.assert_array_equal(partly_held(found), partly_held(atoms))
        # nothing that is there was not there before, and nothing is gone without a word
        for key, value in found.info.items():
            assert equal(plain(value), plain(atoms.info[key])), key
        for key in atoms.info.keys() - found.info.keys():
            assert any(phrase.startswith(f"info {key!r} (") for phrase in lost)
        for name in atoms.arrays.keys() - {"numbers", "positions"}:
            if name in found.arrays:
                np.testing.assert_allclose(found.arrays[name], atoms.arrays[name], atol=1e-8) \
                    if atoms.arrays[name].dtype.kind == "f" else np.testing.assert_array_equal(
                        found.arrays[name], atoms.arrays[name])  # fmt: skip
            else:
                assert any(phrase.startswith(f"array {name!r} (") for phrase in lost)
        assert found.arrays.keys() <= atoms.arrays.keys()
        if atoms.calc is None:
            assert found.calc is None
        else:
            assert found.get_potential_energy() == pytest.approx(atoms.calc.results["energy"])
            np.testing.assert_allclose(
                found.calc.results["forces"], atoms.calc.results["forces"], atol=1e-8
            )


@given(info=st.lists(st.dictionaries(keys, values, max_size=4), min_size=3, max_size=3))
@ONE_PROCESS
@pytest.mark.parametrize("ending", [*FORMATS, "npz"])
def test_a_set_keeps_or_names_every_entry_of_info(info, ending, tmp_path):
    data = StructureSet.from_atoms([labelled(row) for row in info], "mine")
    path = tmp_path / f"x.{ending}"
    data.write(path)
    back = StructureSet.read(path, cache=tmp_path / "cache")
    again = StructureSet.read(path, cache=tmp_path / "cache")
    for found in (back, again):
        assert found.digest == data.digest
        assert found.info.keys() == data.info.keys()
        for key, column in data.info.items():
            np.testing.assert_array_equal(found.info[key], column)
    for key in set().union(*info):
        if key in data.info:
            assert [plain(row[key]) for row in info] == data.info[key].tolist()
        else:
            assert any(repr(str(key)) in note for note in data.notes)


def labelled(info: dict) -> Atoms:
    atoms = fcc111("Ag", (1, 1, 3), vacuum=8.0, periodic=True)
    atoms.set_constraint(FixAtoms([0, 1]))
    atoms.calc = SinglePointCalculator(atoms, energy=-1.0, forces=np.ones((3, 3)))
    atoms.info = info
    return atoms


def test_an_empty_text_swallows_nothing():
    """ASE 3.29 writes `note=`, and reads it together with the key behind it."""
    atoms = labelled({"note": "", "nothing": None, "label": "top site", "index": 7})
    with_ase = read_text(extxyz([atoms]))
    assert with_ase.info == {"label": "top site", "index": 7}
    assert with_ase.get_potential_energy() == -1.0
    assert with_ase.pbc.all()


def read_text(text: str) -> Atoms:
    from io import StringIO

    return read(StringIO(text), format="extxyz")


def test_lattice_flags_that_are_no_cartesian_ones_are_named(tmp_path):
    atoms = labelled({})
    atoms.set_constraint([FixAtoms([0]), FixScaled([1], (1, 0, 0))])
    assert write_frames(tmp_path / "x.extxyz", [atoms]) == ["a constraint (1 of 1 frames)"]
    assert write_frames(tmp_path / "x.traj", [atoms]) == []
    assert partly_held(read_frames(tmp_path / "x.traj")[0]).tolist() == [False, True, False]


def test_a_broken_cache_is_read_anew(tmp_path):
    path, cache = tmp_path / "x.traj", tmp_path / "cache"
    write_frames(path, [labelled({"index": 1}), labelled({"index": 2})])
    whole = StructureSet.read(path, cache)
    (file,) = cache.iterdir()
    file.write_bytes(file.read_bytes()[:100])
    assert StructureSet.read(path, cache).digest == whole.digest
    assert StructureSet.read(file).digest == whole.digest
