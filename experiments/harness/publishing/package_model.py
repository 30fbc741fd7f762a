"""Networks of finished trainings as files of the package, with a card made of what they record."""

import re
import shlex
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from ase.data import chemical_symbols

from experiments.harness.runs.atomic_io import write_text
from experiments.harness.runs.markdown import table as markdown
from experiments.harness.runs.run_folder import RunFolder
from experiments.harness.training.checkpoint import CORRECTION, Model, load_model

LARGEST = 3_000_000
"""Bytes of a network's file."""
PLACE = ("name", "output", "tracking", "threads")
"""Config keys that do not change a network."""
SAME = ("elements", "cutoff", "calculator", "window", "minus")
"""What networks that belong together share."""
HEADER = (
    "network", "parameters", "steps", "structures, with those held out", "validation", "digest",
)  # fmt: skip
CARD = """# {name}

{use}
`surfdiff package_model` writes this card, of what the trainings recorded.

{table}

- **Learned from** {data}, labelled by {calculator}{less}. Digests of what was learned: {digests}.
- **Know** {elements}, in overlayers {low:g} to {high:g} Å above the highest atom of the slab.

{limits}

Trained by:

```bash
{commands}
```
"""
GENERATES = (
    'A score and a force field that `surfdiff sample` and `Generator.load("{name}")` use by this\n'
    "name.",
    "Thicker overlayers and other elements are outside of that. Relax what they generate with the\n"
    "calculator that you trust.",
)
CORRECTS = (
    "What a calculator lacks: `calculator=corrected calculator.path={name}` adds\n"
    "the mean of these networks to it.",
    "Thicker overlayers, other elements and other substrates are outside of that.",
)
"""Of a card: what the networks are for, and what they are not."""


def package(name: str, trainings: Sequence[Path], folder: Path) -> Path:
    """Copy networks into the folder of a shipped model, and write its card; returns that folder.

    Args:
        name: letters, digits and _.
        trainings: folders of finished ones: of a score and a force field, or of corrections.
        folder: of all shipped models.

    Raises:
        ValueError: for a name that is none, a folder without a network, a file of more than 3 MB,
            or networks that do not belong together.
    """
    if not re.fullmatch(r"\w+", name, re.ASCII):
        raise ValueError(f"{name!r} is no name of a model: use letters, digits and _")
    found = [(path, load_model(path)) for path in trainings]
    found.sort(key=lambda one: one[1].kind != "score")  # it is the first of the card
    paths, models = zip(*found, strict=True)
    names = _names([model.kind for model in models])
    for key in SAME:
        if any(model.card.get(key) != models[0].card.get(key) for model in models[1:]):
            raise ValueError(f"the networks do not belong together: their {key} differ")
    files = [path / "model.pt" for path in paths]
    for file in files:
        if file.stat().st_size > LARGEST:
            raise ValueError(f"{file} is larger than {LARGEST / 1e6:g} MB")
    home = folder / name
    home.mkdir(parents=True, exist_ok=True)
    for own, file in zip(names, files, strict=True):
        shutil.copy(file, home / f"{own}.pt")
    named = dict(zip(names, models, strict=True))
    write_text(home / "README.md", _card(name, named, [_command(path) for path in paths]))
    return home


def _names(kinds: Sequence[str]) -> list[str]:
    """Name the files of networks of these kinds; ValueError if they make no model."""
    if set(kinds) == {CORRECTION}:
        return [f"{CORRECTION}_{k}" for k in range(len(kinds))]
    if sorted(kinds) == ["forcefield", "score"]:
        return list(kinds)
    raise ValueError(
        f"a model is a score and a forcefield, or one or more of {CORRECTION}; these are "
        f"{', '.join(kinds)}"
    )


def _command(training: Path) -> str:
    """The command of a training, without where and how it was recorded."""
    given = {o.partition("=")[0]: o for o in RunFolder(training).overrides}  # the last of each
    own = [o for key, o in given.items() if key.split(".")[0] not in PLACE]
    return f"surfdiff train {shlex.join(own)}"


def _card(name: str, models: Mapping[str, Model], commands: list[str]) -> str:
    card = next(iter(models.values())).card
    low, high = card["window"]
    use, limits = CORRECTS if card.get("minus") else GENERATES
    return CARD.format(
        name=name,
        use=use.format(name=name),
        limits=limits,
        table=markdown(HEADER, [_row(own, model) for own, model in models.items()]),
        elements=", ".join(chemical_symbols[z] for z in card["elements"]),
        low=low,
        high=high,
        data=card["data"],
        calculator=_name(card["calculator"]),
        less=f", less {_name(card['minus'])}" if card.get("minus") else "",
        digests=", ".join(dict.fromkeys(f"`{model.card['digest']}`" for model in models.values())),
        commands="\n".join(commands),
    )


def _row(name: str, model: Model) -> list[str]:
    parameters = sum(p.numel() for p in model.network.parameters())
    losses = ", ".join(f"{key} {value:.4g}" for key, value in model.card["losses"].items())
    count = str(model.card["structures"])
    return [name, f"{parameters:,}", str(model.card["steps"]), count, losses, f"`{model.digest}`"]


def _name(calculator: Mapping[str, str]) -> str:
    arguments = ", ".join(f"{k}={v}" for k, v in calculator.items() if k != "_target_")
    return f"`{calculator['_target_']}`" + (f" ({arguments})" if arguments else "")
