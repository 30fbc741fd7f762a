"""The trained networks that the package carries.

A folder each: a score and a force field, or what a calculator lacks, learned several times.
"""

from pathlib import Path

FOLDER = Path(__file__).parents[2] / "models"
DEFAULT = "silver_oxide"
"""What generates where no network is named."""
CORRECTIONS = "silver_oxide_pbe"
"""What corrects a calculator where no network is named."""


def names() -> list[str]:
    """List the shipped models."""
    return sorted({path.parent.name for path in FOLDER.glob("*/*.pt")})


def networks(name: str) -> list[str]:
    """List the networks of a shipped model, each as MODEL/NETWORK; none of another name."""
    found = sorted((FOLDER / name).glob("*.pt")) if name in names() else []
    return [f"{name}/{path.stem}" for path in found]


def file_of(name: str, kind: str | None) -> Path | None:
    """Return the file of a shipped network; None if there is none.

    Args:
        name: of a shipped model, or with the network behind it, as "silver_oxide/score".
        kind: score or forcefield; None: as the name says.
    """
    model, _, named = name.partition("/")
    file = FOLDER / model / f"{named or kind}.pt"
    return file if model in names() and file.is_file() else None
