"""Say what a run or a model file is: how far, its losses, window, elements, cutoff."""

import argparse
import sys
from pathlib import Path
from typing import Any


def facts(path: Path) -> dict[str, Any]:
    """Name and value of what there is to know; ValueError if the path is no run and no model."""
    from ase.data import chemical_symbols

    from experiments.checkpoint import load_model
    from experiments.runfolder import RunFolder

    found: dict[str, Any] = {}
    if path.is_dir():
        folder = RunFolder.existing(path)
        rows = folder.rows()
        found["run"] = f"{path.resolve().parent.name} {path.resolve().name}"
        if "train" in folder.config:
            step = max((row.get("train/step", 0) for row in rows), default=0)
            found["progress"] = f"step {step} of {folder.config['train']['steps']}"
        else:
            found["progress"] = "finished" if folder.summary else "not finished"
        found |= {k: v for k, v in folder.summary.items() if "bins" not in k}
    file = path / "model.pt" if path.is_dir() else path
    if not path.is_dir() or file.is_file():
        model = load_model(file)
        card = model.card
        found |= {
            "model": f"{model.kind}, {sum(p.numel() for p in model.network.parameters()):,} parameters",
            "digest": model.digest,
            "trained on": f"{card['structures']} structures of {card['data']} ({card['digest']})",
            "steps": card["steps"],
            **card["losses"],
            "window": "{:g} to {:g} Å above the slab".format(*model.window),
            "elements": ", ".join(chemical_symbols[z] for z in model.elements),
            "cutoff": f"{card['cutoff']:g} Å",
            "compositions": ", ".join(card["compositions"]),
            "calculator": card["calculator"] or "not recorded",
        }
        if model.kind == "score":
            found["sde"] = ", ".join(f"{k}={v}" for k, v in card["sde"].items())
    return found


def main() -> None:
    parser = argparse.ArgumentParser(prog="experiments.inspect", description=__doc__)
    parser.add_argument("run", type=Path, help="folder of a run, or a model file")
    arguments = parser.parse_args()
    try:
        found = facts(arguments.run)
    except ValueError as error:
        print(f"inspect: {error}", file=sys.stderr)
        sys.exit(2)
    width = max(len(name) for name in found)
    for name, value in found.items():
        print(
            f"{name:<{width}}  {value:.4g}"
            if isinstance(value, float)
            else f"{name:<{width}}  {value}"
        )


if __name__ == "__main__":
    main()
