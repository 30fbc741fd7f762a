"""The wheels: everything that runs without a checkout is in them."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PACKAGES = ("sdedata", "painnx", "vpsde", "guidance")
NEEDED = {
    ".py", ".yaml", ".js", ".css", ".j2", ".npz", ".typed", ".json", ".pt", ".extxyz",
}  # fmt: skip


def contents(project: Path, to: Path) -> set[str]:
    """Names of the files in the project's wheel."""
    build = [sys.executable, "-m", "uv", "build", "--wheel", "--quiet", "--out-dir", str(to)]
    subprocess.run([*build, str(project)], check=True)
    (wheel,) = to.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def tracked(folder: str, below: str) -> set[str]:
    """Files of the repository in a folder, by their path from another one."""
    listed = subprocess.run(
        ["git", "ls-files", folder], cwd=ROOT, capture_output=True, text=True, check=True
    )
    files = [Path(line) for line in listed.stdout.splitlines()]
    return {str(file.relative_to(below)) for file in files if file.suffix in NEEDED}


@pytest.mark.slow
def test_one_wheel_holds_all(tmp_path):
    found = contents(ROOT, tmp_path)
    missing = (tracked("experiments", ".") | tracked("sweeps", ".")) - found
    for package in PACKAGES:
        missing |= tracked(f"packages/{package}/src", f"packages/{package}/src") - found
    assert not missing
    assert not [name for name in found if "tests/" in name or name.startswith("runs/")]


@pytest.mark.slow
@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_alone(package, tmp_path):
    found = contents(ROOT / "packages" / package, tmp_path)
    assert tracked(f"packages/{package}/src", f"packages/{package}/src") <= found
