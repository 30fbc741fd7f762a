"""The data that come with this package: `python -m sdedata list`, `python -m sdedata show SET`."""

import argparse
import json
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from sdedata import shipped
from sdedata.dataset import counts_table
from sdedata.structures import StructureSet


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="sdedata", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="list | show")
    listing = commands.add_parser("list", help="every set that the package carries")
    listing.add_argument("--json", action="store_true", help="as a list of objects")
    showing = commands.add_parser("show", help="the datasheet of a set")
    showing.add_argument("set", help="one of those that `list` names")
    parsed = parser.parse_args(arguments)
    try:
        if parsed.command == "show":
            print(datasheet(parsed.set))
        elif parsed.json:
            print(json.dumps(sets(), indent=2))
        else:
            print(_table(list(sets()[0]), [[_cell(v) for v in one.values()] for one in sets()]))
    except ValueError as error:
        print(f"sdedata: {error}", file=sys.stderr)
        sys.exit(2)


def sets() -> list[dict[str, Any]]:
    """Facts of each set of minima; `frames` counts those of their relaxations, if they are here."""
    names = shipped.names()
    found = []
    for name in (n for n in names if not n.endswith(shipped.FRAMES)):
        data = shipped.load(name)
        frames = name + shipped.FRAMES
        found.append({
            "name": name,
            "minima": len(data),
            "frames": len(shipped.load(frames)) if frames in names else 0,
            "compositions": sorted(set(data.compositions.tolist())),
            "cell": data.meta["template"]["slab"],
            "calculator": _calculator(data),
            "digest": data.digest,
        })  # fmt: skip
    return found


def datasheet(name: str) -> str:
    """What there is to know of one set: its numbers, how it was made, and the package's datasheet.

    ValueError for a set that does not exist.
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
    counts = counts_table(data)
    lines.append(_table(list(counts[0]), [[str(v) for v in row.values()] for row in counts]))
    sheet = (shipped.FOLDER / "DATASHEET.md").read_text(encoding="utf-8")
    return "\n".join([*lines, "", sheet.strip()])


def _calculator(data: StructureSet) -> str:
    """As `chgnet model=0.3.0`."""
    facts = dict(data.meta["calculator"])
    name = facts.pop("_target_").split(".")[-1]
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
