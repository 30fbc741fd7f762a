"""The help of a command that a config drives: usage, examples, its groups and its keys."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from experiments.harness.config import CONF

TEXT = """{doc}

usage: surfdiff {entry} [KEY=VALUE ...] [GROUP=NAME ...] [options]

examples:
{examples}

options:
  -m, --multirun    run once for each combination of values: KEY=A,B or KEY=range(1,4); each run's
                    folder is named after its values, and the same command continues the grid
  --cfg             print the composed config and stop
  --config-dir DIR  a folder with more files of groups, e.g. DIR/calculator/mine.yaml for
                    calculator=mine, DIR/experiment/NAME.yaml for +experiment=NAME
  --traceback       show where an error came from
  --help            show this

groups, with what they set by default:
{groups}

keys, with their defaults:
{keys}"""


def usage(entry: str, doc: str, examples: Sequence[str], directory: Path | None = None) -> str:
    """Return the help of a command; the groups include those of the user's config folder."""
    text = (CONF / f"{entry}.yaml").read_text(encoding="utf-8")
    groups = re.findall(r"^  - (\w+): (\S+)", text, flags=re.M)
    keys = re.sub(r"\A(#.*\n)*|^defaults:\n(  - .*\n)*", "", text, flags=re.M)
    folders = [CONF] if directory is None else [CONF, directory]
    return TEXT.format(
        doc=doc.strip(),
        entry=entry,
        examples="\n".join(f"  surfdiff {entry} {example}" for example in examples),
        groups="\n".join(
            line for name, default in groups for line in _group(name, default, folders)
        ),
        keys=keys.strip(),
    )


def _group(name: str, default: str, folders: Sequence[Path]) -> Iterator[str]:
    """A line with a group's options, and its default's keys indented."""
    files = {
        path.stem: path for folder in folders for path in sorted((folder / name).glob("*.yaml"))
    }
    if not files:
        return
    yield f"  {name}={'|'.join(files)}" + (f"   (default: {default})" if default in files else "")
    if default in files:
        for line in files[default].read_text(encoding="utf-8").splitlines():
            yield f"      {line}".rstrip()
