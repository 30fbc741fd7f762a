"""Packed sets are input: what no structure can be is refused in one sentence."""

import io
import time
import zipfile

import numpy as np
import pytest

from sdedata import StructureSet
from sdedata.packed import read_packed

GOOD = {
    "counts": np.array([2, 1], np.int32), "numbers": np.array([47, 8, 47], np.uint8),
    "positions": np.arange(9.0).reshape(3, 3), "fixed": np.array([True, False, True]),
    "forces": np.zeros((3, 3)), "cell": np.tile(np.eye(3) * 5, (2, 1, 1)),
    "pbc": np.ones((2, 3), bool), "energy": np.array([-1.0, -2.0]), "meta": np.array("{}"),
    "info.index": np.array([0, 1]),
}  # fmt: skip
BAD = [
    ("counts", np.array([4, -1]), "counts of a structure set are from 1 to 3, not 4"),
    ("counts", np.array([3, 0]), "counts of a structure set are from 1 to 3, not 0"),
    ("counts", np.array([1.5, 1.5]), "counts of a structure set are float64, not int"),
    ("counts", np.array([[2, 1]]), r"shape \(1, 2\)"),
    ("counts", np.array(3), r"shape \(\)"),
    ("counts", np.array([2, 2]), "differ in their number"),
    ("numbers", np.array([47, -1, 47]), "numbers of a structure set are from 1 to 118, not -1"),
    ("numbers", np.array([47, 300, 47]), "not 300"),
    ("numbers", np.array([47, 0, 47]), "not 0"),
    ("numbers", np.array(["Ag", "O", "Ag"]), "numbers of a structure set are <U2, not int"),
    ("positions", np.zeros((3, 2)), r"positions .* \(3, 2\), not \('n', 3\)"),
    ("positions", np.full((3, 3), np.nan), "positions of a structure set are not all finite"),
    ("positions", np.full((3, 3), 1e300), "not all finite"),
    ("positions", np.full((3, 3), 1e9), "positions of a structure set are from -1e"),
    ("positions", np.zeros((3, 3), complex), "complex128"),
    ("fixed", np.array([1.0, 0.0, 1.0]), "fixed of a structure set are float64, not bool"),
    ("forces", np.zeros(9), r"forces .* shape \(9,\)"),
    ("cell", np.zeros((2, 9)), r"cell .* shape \(2, 9\)"),
    ("pbc", np.ones((2, 2), bool), r"pbc .* shape \(2, 2\)"),
    ("energy", np.array(["-1.0", "x"]), "energy of a structure set are <U4, not float"),
    ("energy", np.array([b"-1", b"2"]), "energy of a structure set are .S2, not float"),
    ("energy", np.zeros((2, 1)), r"energy .* shape \(2, 1\)"),
    ("energy", np.array([None, 1], object), "Object arrays cannot be loaded"),
    ("meta", np.array("[1]"), "meta is list, not a mapping"),
    ("meta", np.array("3"), "meta is int"),
    ("meta", np.array("nonsense"), "Expecting value"),
    ("info.index", np.zeros((2, 2)), "info 'index' of a structure set is not one value"),
    ("info.index", np.array(0), "info 'index'"),
    ("info.index", np.array([1, 2, 3]), "differ in their number"),
]  # fmt: skip


def test_a_good_set_is_read(tmp_path):
    np.savez(tmp_path / "good.npz", **GOOD)
    data = StructureSet.read(tmp_path / "good.npz")
    assert data.compositions.tolist() == ["O", ""]
    assert data.info["index"].tolist() == [0, 1]


@pytest.mark.parametrize(("name", "array", "reported"), BAD)
def test_a_bad_array_is_refused(tmp_path, name, array, reported):
    path = tmp_path / "bad.npz"
    np.savez(path, **GOOD | {name: array})
    with pytest.raises(ValueError, match=rf"bad.npz is not a packed structure set: .*{reported}"):
        StructureSet.read(path)


@pytest.mark.parametrize("name", [name for name in GOOD if name[:4] not in ("info", "meta")])
def test_a_missing_array_is_named(tmp_path, name):
    np.savez(tmp_path / "bad.npz", **{key: value for key, value in GOOD.items() if key != name})
    with pytest.raises(ValueError, match=f"it has no array {name}"):
        read_packed(tmp_path / "bad.npz")


def test_an_archive_that_would_fill_the_memory(tmp_path):
    """300 MB of zeros say that they are 4 GB; what an entry declares is not believed."""
    path = tmp_path / "bomb.npz"
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "<f8", "fortran_order": False, "shape": (2**31,)}
    )
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("energy.npy", "w", force_zip64=True) as entry,
    ):
        entry.write(header.getvalue())
        for _ in range(1100):
            entry.write(bytes(2**20))
    started = time.process_time()
    with pytest.raises(ValueError, match="it would unpack to 1 GiB"):
        read_packed(path)
    assert time.process_time() - started < 5
