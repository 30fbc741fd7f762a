"""Files of structures: the one reader and the one writer, over ASE's formats.

What is written reads back the same, by this reader from each format, and by ASE's as far as it
reads `info` there.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from io import StringIO
from pathlib import Path

from ase import Atoms

from sdedata.declared import declared_frames
from sdedata.frozen import cartesian
from sdedata.info import OF_ASE, kept_info, lost_arrays
from sdedata.reading import AS_WRITTEN, Reading

DATABASES = ("db", "json")
LAMMPS_BOX = re.compile(rb"^.* xlo xhi", re.MULTILINE)


def read_frames(path: str | Path, reading: Reading = AS_WRITTEN) -> list[Atoms]:
    """Read all structures of a file in any of ASE's formats.

    Raises ValueError, naming the file, if it cannot be read to its end or as `reading` says, or
    holds no structure.
    """
    frames, broken = whole_frames(path, reading)
    if broken is not None:
        where = f" after frame {len(frames) - 1}" if frames else ""
        raise ValueError(f"{path} cannot be read as structures{where}: {broken}")
    return frames


def whole_frames(path: str | Path, reading: Reading = AS_WRITTEN) -> tuple[list[Atoms], str | None]:
    """Read the structures of a file up to its end or to the first error; also return the error.

    Raises ValueError if there is no such file, no structure in it, or not what `reading` names.
    """
    path = Path(path)
    require_file(path)
    if path.stat().st_size == 0:
        raise ValueError(f"{path} is empty")
    kind = _format(path)
    frames: list[Atoms] = []
    broken = None
    try:
        frames.extend(_iterate(path, kind))
    except Exception as error:  # ASE's readers raise nearly any exception for a broken file
        broken = str(error) or type(error).__name__
    if not any(map(len, frames)) and broken is None:
        raise ValueError(
            f"{path} holds no structures that ASE reads (taken for {kind}): give another file of "
            "the same calculation, or convert it, for example by dpdata"
        )
    reading.apply(frames, path)
    return frames, broken


def require_file(path: Path) -> None:
    """Raise ValueError, naming the path, unless it is a file."""
    if path.is_dir():
        files = sorted(one.name for one in path.iterdir() if one.is_file())
        held = f"; it holds {', '.join(files[:6])}" if files else ""
        raise ValueError(f"{path} is a folder, not a file{held}")
    if not path.is_file():
        raise ValueError(f"there is no file {path}")


def _format(path: Path) -> str:
    """Return ASE's name of a file's format; ValueError if the file is of none."""
    from ase.io.formats import UnknownFileTypeError, filetype, ioformats

    try:
        kind = filetype(str(path))
    except UnknownFileTypeError:
        kind = ""
    if kind not in ioformats:
        raise ValueError(
            f"{path} cannot be read as structures: neither its name nor its beginning is of a "
            "format that ASE reads"
        )
    # The ending .data is RuNNer's for ASE, and LAMMPS's for nearly everybody.
    if kind == "runnerdata" and LAMMPS_BOX.search(path.read_bytes()):
        return "lammps-data"
    return kind


def _iterate(path: Path, kind: str) -> Iterator[Atoms]:
    from ase.io import iread

    if kind in DATABASES:
        yield from _rows(path)
    elif kind in ("extxyz", "xyz"):
        yield from _declared(path)
    else:
        # "x@1.traj" is a file, not a request for its frame 1
        for atoms in iread(path, index=":", format=kind, do_not_split_by_at_sign=True):
            if kind.startswith("lammps-dump") and atoms.calc is not None:
                atoms.calc.results.pop("energy", None)  # a dump has none, ASE makes it 0 eV
            if kind == "vasp-out" and atoms.constraints and not _is_of(atoms, path.parent):
                atoms.set_constraint()  # ASE takes those of any CONTCAR or POSCAR beside it
            yield atoms


def _is_of(atoms: Atoms, folder: Path) -> bool:
    """Whether the CONTCAR, or else the POSCAR, of a folder is of these atoms in this order."""
    from ase.io import read

    file = next(
        f for f in (folder / "CONTCAR", folder / "POSCAR") if f.is_file() and f.stat().st_size
    )
    beside = read(file, format="vasp")
    assert isinstance(beside, Atoms)
    return beside.numbers.tolist() == atoms.numbers.tolist()


def _declared(path: Path) -> Iterator[Atoms]:
    """Read an xyz file up to the first frame that declares more than the file has."""
    from ase.io import iread

    with open(path, "rb") as file:
        end, broken = declared_frames(file, path.stat().st_size)
    if broken is None:
        yield from iread(path, index=":", do_not_split_by_at_sign=True)
        return
    if end:
        yield from iread(StringIO(path.read_bytes()[:end].decode()), index=":", format="extxyz")
    raise ValueError(broken)


def _rows(path: Path) -> Iterator[Atoms]:
    """Read a database with what ASE's own reader leaves out: key-value pairs and data."""
    from ase.db import connect

    with connect(str(path), serial=True) as database:
        for row in database.select():
            atoms = row.toatoms()
            atoms.info = dict(row.key_value_pairs) | dict(row.data)
            yield atoms


def write_frames(path: str | Path, frames: Sequence[Atoms]) -> list[str]:
    """Write structures in the format of the name's ending, so that they read back the same.

    Returns what the format cannot keep, in a phrase each. Errors are those of ASE and the system.
    """
    from ase.io import write
    from ase.io.formats import filetype

    kind = filetype(str(path), read=False)
    lost: Counter[str] = Counter()
    clean = [_clean(atoms, kind, lost) for atoms in frames]
    if kind in DATABASES:
        _write_rows(str(path), clean, kind)
    else:
        write(path, clean, format=kind)
    return [f"{what} ({n} of {len(frames)} frames)" for what, n in lost.items()]


def extxyz(frames: Iterable[Atoms]) -> str:
    """Format structures as extxyz text that reads back the same."""
    from ase.io import write

    text = StringIO()
    write(text, [_clean(atoms, "extxyz", Counter()) for atoms in frames], format="extxyz")
    return text.getvalue()


def _clean(atoms: Atoms, kind: str, lost: Counter[str]) -> Atoms:
    """Copy what a file of this kind returns of a structure; count the rest in `lost`."""
    copy = atoms.copy()
    copy.calc = atoms.calc
    copy.info = kept_info(atoms.info)
    lost.update(f"info {key!r}" for key in atoms.info if key not in {*copy.info, OF_ASE})
    for name in lost_arrays(atoms, kind == "extxyz"):
        del copy.arrays[name]
        lost[f"array {name!r}"] += 1
    if kind == "extxyz" and not cartesian(copy):
        lost["a constraint"] += 1
    return copy


def _write_rows(path: str, frames: Iterable[Atoms], kind: str) -> None:
    from ase.db import connect

    with connect(path, type=kind, append=False, use_lock_file=False) as database:
        for atoms in frames:
            database.write(atoms, data=atoms.info)
