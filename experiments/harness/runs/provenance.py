"""Which code made a run: its commit, and the versions of the packages it depends on."""

import subprocess
from importlib import metadata
from pathlib import Path

PACKAGES = (
    "surface-diffusion", "torch", "numpy", "numba", "ase", "chgnet", "sevenn", "mace-torch",
    "gpaw", "wandb",
)  # fmt: skip


def git_commit() -> str | None:
    """Return the commit of this code, with "+changes" if files differ from it; None outside git.

    An environment may lie in the repository of another project, whose commit is not that of this
    code: git must know this very file.
    """

    def git(*arguments: str) -> str:
        # Without locks: a kill in the middle must not leave the repository locked.
        command = ["git", "--no-optional-locks", "-C", str(Path(__file__).parent), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", Path(__file__).name)
        changed = git("status", "--porcelain", "--untracked-files=no")
        return git("rev-parse", "HEAD") + ("+changes" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def versions() -> dict[str, str | None]:
    """Version of each package that results depend on, None where it is not installed."""
    found: dict[str, str | None] = {}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = None
    return found
