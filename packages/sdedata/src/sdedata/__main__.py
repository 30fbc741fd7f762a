"""Inspect the data sets of this package (list, show); check and split your own files."""

import argparse
import json
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sdedata import own, shipped
from sdedata.dataset import SUBSETS, WINDOW, counts_table, totals
from sdedata.options import add_files, add_good, from_options
from sdedata.reading import Reading
from sdedata.relaxations import Relaxations, relaxations
from sdedata.structures import StructureSet


def main(arguments: Sequence[str] | None = None) -> None:
    if arguments is None and hasattr(signal, "SIGPIPE"):
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # end without a word when `head` has enough
    parsed = _parser().parse_args(arguments)
    try:
        code = parsed.run(parsed)
    except (ValueError, OSError) as error:
        print(f"sdedata: {' '.join(str(error).split())}", file=sys.stderr)
        code = 2
    if code:
        sys.exit(code)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="sdedata", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="list | show | check | split")
    listing = commands.add_parser("list", help="list the data sets of the package")
    listing.add_argument("--json", action="store_true", help="as a list of objects")
    listing.set_defaults(run=_list)
    showing = commands.add_parser("show", help="print the datasheet of a set")
    showing.add_argument("set", help="a name from `list`")
    showing.set_defaults(run=_show)
    files = argparse.ArgumentParser(add_help=False)
    add_files(files)
    checking = commands.add_parser(
        "check", parents=[files], help="summarise files and list invalid frames with reasons",
        description="Exit code 2 if a frame is invalid for training.",
    )  # fmt: skip
    add_good(checking)
    checking.set_defaults(run=lambda parsed: check(parsed.files, from_options(parsed), parsed.good))
    splitting = commands.add_parser(
        "split", parents=[files], help="write train.extxyz and validation.extxyz",
        description="Frames of one relaxation stay together. Exit code 2 if a frame is invalid.",
    )  # fmt: skip
    splitting.add_argument(
        "--share", type=_share, default=0.1, help="share of the validation set (default 0.1)"
    )
    splitting.add_argument("--seed", type=int, default=0)
    splitting.add_argument("--out", metavar="FOLDER", type=Path, default=Path())
    splitting.set_defaults(run=_split)
    return parser


def _share(text: str) -> float:
    if not 0 < float(text) < 1:
        raise argparse.ArgumentTypeError("the share must be between 0 and 1")
    return float(text)


def _list(parsed: argparse.Namespace) -> int:
    if parsed.json:
        print(json.dumps(sets(), indent=2))
    else:
        every = sets()
        print(_table(list(every[0]), [[_cell(v) for v in one.values()] for one in every]))
    return 0


def _show(parsed: argparse.Namespace) -> int:
    print(datasheet(parsed.set))
    return 0


def check(files: Sequence[Path], reading: Reading, good: Path | None) -> int:
    """Print what the files hold; write the valid frames to `good`; returns 2 if one is invalid."""
    found = own.read_good(files, reading)
    data, bad = found.data, found.bad
    print(f"{len(data)} valid frames, {found.n_invalid} invalid")
    if len(data):
        rows = own.contents(data)
        print("\n" + _table(list(rows[0]), [list(row.values()) for row in rows]))
        print(f"\n{Relaxations(relaxations(data).labels, found.rule)}; {own.ends(data)}")
    for lines in (found.notes, bad):
        if lines:
            print("\n" + "\n".join(map(str, lines)))
    if good and len(data):
        data.write(good)
        print(f"\nvalid frames written to {good}")
    return 2 if bad else 0


def _split(parsed: argparse.Namespace) -> int:
    found = own.read_good(parsed.files, from_options(parsed))
    bad = found.bad
    if bad:
        raise ValueError(
            f"{bad[0]} ({found.n_invalid} invalid frames in all); `check --good FILE` omits them"
        )
    parts = own.parts(found.data, parsed.share, parsed.seed)
    known = Relaxations(relaxations(found.data).labels, found.rule)
    print("\n".join([*found.notes, f"{len(found.data)} frames of {known}"]))
    for name, part in parts.items():
        path = parsed.out / f"{name}.extxyz"
        part.write(path)
        print(f"{len(part)} frames of {_count(part)} relaxations written to {path}")
    return 0


def _count(data: StructureSet) -> int:
    return len(relaxations(data))


def sets() -> list[dict[str, Any]]:
    """Describe each set of minima; `frames` counts the frames of its relaxations, if shipped."""
    found = []
    for name in (n for n in shipped.names() if not n.endswith(shipped.FRAMES)):
        data, frames = shipped.load(name), shipped.frames_of(name)
        found.append({
            "name": name,
            "minima": len(data),
            "frames": len(shipped.load(frames)) if frames else 0,
            "compositions": sorted(set(data.compositions.tolist())),
            "cell": data.meta["template"]["slab"],
            "calculator": _calculator(data),
            "digest": data.digest,
        })  # fmt: skip
    return found


def datasheet(name: str) -> str:
    """Describe one set in Markdown: its numbers, its origin, and the package's datasheet.

    Raises ValueError for an unknown name.
    """
    data = shipped.load(name)
    relative = data.relative_energy
    facts: dict[str, Any] = {
        "structures": len(data),
        "atoms": f"{data.counts.min()} to {data.counts.max()}",
        "eV above the lowest of the same stoichiometry":
            f"median {np.median(relative):.2f}, largest {relative.max():.2f}",
        "digest": data.digest,
    }  # fmt: skip
    facts |= {key: _cell(value) for key, value in data.meta.items() if key != "compositions"}
    lines = [f"# {name}", "", *(f"- {key}: {value}" for key, value in facts.items()), ""]
    low, high = WINDOW
    lines += [f"The paper's sets; surfaces count once, from {low:g} to {high:g} Å on the slab:", ""]
    counts = counts_table(data)
    rows = [[str(v) for v in row.values()] for row in [*counts, totals(counts)]]
    lines.append(_table(["stoichiometry", *SUBSETS], rows))
    sheet = (shipped.FOLDER / "DATASHEET.md").read_text(encoding="utf-8")
    return "\n".join([*lines, "", sheet.strip()])


def _calculator(data: StructureSet) -> str:
    """As `sevennet model=7net-0`; of networks, whose digests stand beside them, their folder."""
    facts = dict(data.meta["calculator"])
    name = facts.pop("_target_").split(".")[-1]
    if "digest" in facts:
        facts = {"path": _cell(list(dict.fromkeys(str(Path(p).parent) for p in facts["path"])))}
    return " ".join([name, *(f"{key}={value}" for key, value in facts.items())])


def _cell(value: Any) -> str:
    if isinstance(value, list):
        return " ".join(map(str, value))
    if isinstance(value, dict):
        return ", ".join(f"{key} {_cell(one)}" for key, one in value.items())
    return str(value)


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


if __name__ == "__main__":
    main()
