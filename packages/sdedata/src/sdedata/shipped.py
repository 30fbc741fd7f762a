"""The data sets of the package: silver oxide on Ag(111), relaxed with a corrected SevenNet-0."""

from pathlib import Path

from sdedata.structures import StructureSet

FOLDER = Path(__file__).parent / "data"
SEARCH, FRAMES = "rss_", "_frames"


def names() -> list[str]:
    """List the shipped sets; `<name>_frames` holds frames of the relaxations of `<name>`."""
    return sorted(path.stem for path in FOLDER.glob("*.npz"))


def searches() -> list[str]:
    """List the sets that hold all minima of a random search, the references of comparisons."""
    return [n for n in names() if n.startswith(SEARCH) and not n.endswith(FRAMES)]


def frames_of(name: str) -> str | None:
    """Return the name of the set with the frames of a set's relaxations; None if not shipped."""
    frames = name + FRAMES
    return frames if frames in names() else None


def load(name: str) -> StructureSet:
    """Load a shipped set by name; ValueError, listing the names, for an unknown one."""
    if name not in names():
        raise ValueError(f"no shipped set {name!r}: there are {', '.join(names())}")
    return StructureSet.read(FOLDER / f"{name}.npz")
