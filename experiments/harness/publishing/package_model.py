"""Networks of finished trainings as files of the package, with a card made of what they record."""

import re
import shlex
import shutil
from collections.abc import Mapping
from pathlib import Path

from ase.data import chemical_symbols

from experiments.harness.runs.atomic_io import write_text
from experiments.harness.runs.markdown import table as markdown
from experiments.harness.runs.run_folder import RunFolder
from experiments.harness.training.checkpoint import Model, load_model

LARGEST = 3_000_000
"""Bytes of a network's file."""
PLACE = ("name", "output", "tracking", "threads")
"""Config keys that do not change a network."""
CARD = """# {name}

A score and a force field that `surfdiff sample` and `Generator.load("{name}")` use by this name.
`surfdiff package_model` writes this card, of what the trainings recorded.

{table}

- **Learned from** {data}, labelled by {calculator}.
- **Know** {elements}, in overlayers {low:g} to {high:g} Å above the highest atom of the slab.

Thicker overlayers and other elements are outside of that. Relax what they generate with the
calculator that you trust.

Trained by:

```bash
{commands}
```
"""


def package(name: str, trained: Mapping[str, Path], folder: Path) -> Path:
    """Copy networks into the folder of a shipped model, and write its card; returns that folder.

    Args:
        name: letters, digits and _.
        trained: folders of finished trainings, by kind.
        folder: of all shipped models.

    Raises:
        ValueError: for a name that is none, a folder without a network, a file of more than 3 MB,
            or two networks that do not belong together.
    """
    if not re.fullmatch(r"\w+", name, re.ASCII):
        raise ValueError(f"{name!r} is no name of a model: use letters, digits and _")
    models = {kind: load_model(path, kind) for kind, path in trained.items()}
    score, field = models["score"].card, models["forcefield"].card
    for key in ("elements", "cutoff", "calculator", "window"):
        if score[key] != field[key]:
            raise ValueError(f"the networks do not belong together: their {key} differ")
    files = {kind: path / "model.pt" for kind, path in trained.items()}
    for file in files.values():
        if file.stat().st_size > LARGEST:
            raise ValueError(f"{file} is larger than {LARGEST / 1e6:g} MB")
    home = folder / name
    home.mkdir(parents=True, exist_ok=True)
    for kind, file in files.items():
        shutil.copy(file, home / f"{kind}.pt")
    write_text(home / "README.md", _card(name, models, [_command(p) for p in trained.values()]))
    return home


def _command(training: Path) -> str:
    """The command of a training, without where and how it was recorded."""
    own = [o for o in RunFolder(training).overrides if o.split("=")[0].split(".")[0] not in PLACE]
    return f"surfdiff train {shlex.join(own)}"


def _card(name: str, models: Mapping[str, Model], commands: list[str]) -> str:
    card = models["score"].card
    low, high = card["window"]
    return CARD.format(
        name=name,
        table=markdown(
            ["network", "parameters", "steps", "structures", "validation", "digest"],
            [_row(kind, model) for kind, model in models.items()],
        ),
        elements=", ".join(chemical_symbols[z] for z in card["elements"]),
        low=low,
        high=high,
        data=card["data"],
        calculator=_name(card["calculator"]),
        commands="\n".join(commands),
    )


def _row(kind: str, model: Model) -> list[str]:
    parameters = sum(p.numel() for p in model.network.parameters())
    losses = ", ".join(f"{key} {value:.4g}" for key, value in model.card["losses"].items())
    count = str(model.card["structures"])
    return [kind, f"{parameters:,}", str(model.card["steps"]), count, losses, f"`{model.digest}`"]


def _name(calculator: Mapping[str, str]) -> str:
    arguments = ", ".join(f"{k}={v}" for k, v in calculator.items() if k != "_target_")
    return f"`{calculator['_target_']}`" + (f" ({arguments})" if arguments else "")
