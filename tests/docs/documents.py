"""The documents of the repository, their code blocks and their command lines."""

import re
import shlex
import shutil
from pathlib import Path

from experiments.harness.publishing.pages import BLOCKS, RESULTS, SEARCH, SPEED

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted(
    [
        *(ROOT / name for name in ("README.md", "CHANGELOG.md", "sweeps/README.md")),
        *ROOT.glob("docs/**/*.md"),
        *ROOT.glob("packages/*/README.md"),
        *ROOT.glob("experiments/**/README.md"),
        *ROOT.glob("packages/sdedata/src/sdedata/data/*.md"),
    ]
)
INLINE = re.compile(r"`((?:surfdiff|make|python -m|pip install) [^`\n]+)`")


def text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def blocks(document: str, language: str) -> list[str]:
    """The fenced code blocks of a language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```", document, re.S | re.M)


def commands(document: str) -> list[str]:
    """Every line of the bash blocks, and every command in running text."""
    lines = [line for block in blocks(document, "bash") for line in block.splitlines()]
    return [line for line in [*lines, *INLINE.findall(document)] if not line.startswith("#")]


def every_command(program: str) -> list[str]:
    """All command lines of all documents that begin so, without doubles."""
    found = {
        line
        for path in DOCUMENTS
        for line in commands(path.read_text(encoding="utf-8"))
        if line.startswith(f"{program} ")
    }
    return sorted(found)


def words(line: str) -> list[str]:
    """The words of a command line; an ellipsis stands for more of them."""
    return [word for word in shlex.split(line, comments=True) if word != "..."]


def empty_site(folder: Path) -> Path:
    """A root to publish into: this project's results, and documents with empty blocks."""
    (folder / "docs").mkdir(parents=True)
    for name in (RESULTS, SPEED, SEARCH):
        shutil.copytree(ROOT / f"experiments/{name}", folder / f"experiments/{name}")
    for file in {file for file, *_ in BLOCKS}:
        names = [name for other, name, _ in BLOCKS if other == file]
        generated = [f"<!-- {name} -->\nold\n<!-- /{name} -->\n" for name in names]
        (folder / file).write_text("".join(["# Title\n", *generated, "end\n"]))
    return folder
