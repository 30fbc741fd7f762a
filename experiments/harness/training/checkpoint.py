"""Model files: one small file rebuilds a network and records its purpose; it runs no code."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from ase.data import chemical_symbols
from torch import Tensor

import painnx
import vpsde
from experiments.harness.config.fields import LARGEST
from experiments.harness.runs import shipped_models
from experiments.harness.runs.atomic_io import file_digest, replacing
from experiments.harness.runs.records import Card, checked_as
from experiments.harness.runs.strict_parsing import parse_json
from sdedata.properties import Property, columns

CORRECTION = "correction"
"""A force field of the difference of two calculators (`data.minus`): no energies by itself."""
NETWORKS = {
    "score": painnx.ScoreNetwork, "forcefield": painnx.ForceField, CORRECTION: painnx.ForceField
}  # fmt: skip
FOREIGN = "its weights are those of another network"


@dataclass(frozen=True)
class Model:
    """A trained network with its card: what it was trained on, and where it may be used."""

    kind: str
    network: Any
    card: dict[str, Any]
    """window (Å above the slab), elements, cutoff, calculator, data digest, sde, steps, losses."""
    digest: str
    """First 12 digits of the file's SHA-256: sha256:0123456789ab."""
    source: str
    """Where it was loaded from, as the caller named it."""

    @property
    def window(self) -> tuple[float, float]:
        low, high = self.card["window"]
        return low, high

    @property
    def elements(self) -> tuple[int, ...]:
        return tuple(self.card["elements"])

    @property
    def properties(self) -> tuple[Property, ...]:
        """What a score can be asked for."""
        return tuple(self.card.get("properties") or ())

    def require_elements(self, numbers: Iterable[int]) -> None:
        """Raise ValueError unless the network knows these atomic numbers."""
        unknown = sorted(set(map(int, numbers)) - set(self.elements))
        if unknown:
            known, missing = (
                ", ".join(chemical_symbols[z] for z in these) for these in (self.elements, unknown)
            )
            raise ValueError(
                f"the {self.kind} network in {self.source} knows {known}, not {missing}"
            )

    def sde(self) -> vpsde.SDE:
        """The diffusion that a score was trained for."""
        return _of_vpsde(self.card["sde"])


def save_model(path: Path, kind: str, network: Any, card: dict[str, Any]) -> None:
    content = {
        "kind": kind,
        "config": json.dumps(network.config()),
        "state": {name: tensor.cpu() for name, tensor in network.state_dict().items()},
        "card": json.dumps(card),
    }
    save(path, content)


def load_model(path: str | Path, kind: str | None = None) -> Model:
    """The model of a training run (its folder), of a model file, or a shipped one (its name).

    ValueError if it is not one.
    """
    source, path = str(path), Path(path)
    file = path / "model.pt" if path.is_dir() else path
    if not path.exists() and (found := shipped_models.file_of(source, kind)) is not None:
        file = found
    elif not path.exists() and source in shipped_models.names():
        of_name = " or ".join(shipped_models.networks(source))
        raise ValueError(f"{source} has several networks: name {of_name}")
    if path.is_dir() and not file.is_file():
        raise ValueError(f"{path} holds no model.pt: is it a training run, and has it finished?")
    content = load(file)
    if not isinstance(content, dict) or not {"kind", "config", "state", "card"} <= set(content):
        raise ValueError(f"{file} is not a model file of this project")
    if kind is not None and content["kind"] != kind:
        raise ValueError(
            f"{file} holds a {str(content['kind'])[:40]} network; a {kind} network is needed here"
        )
    try:
        card = checked_as(Card, parse_json(content["card"]), "its card", "train it anew")
        network = _network(content["kind"], parse_json(content["config"]), content["state"])
        if set(card["elements"]) != set(network.elements) or card["cutoff"] != network.cutoff:
            raise ValueError("its card names other elements, or another cutoff, than its network")
        if content["kind"] == CORRECTION and not card.get("minus"):
            raise ValueError("its card does not name the calculator that it corrects")
        properties = card.get("properties") or []
        if columns(properties, network.elements) != network.config().get("properties", 0):
            raise ValueError(f"its network does not know the properties {properties}")
        model = Model(content["kind"], network, card, digest(file), source)
        model.sde()
    except Exception as error:  # a file can hold anything
        words = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
        raise ValueError(f"{file} holds no whole model: {words}") from error
    return model


def _network(kind: str, config: Mapping[str, Any], state: Mapping[str, Tensor]) -> Any:
    """Build a network with these weights; an exception of any kind if they do not belong to it.

    A file may describe a network of any size: one with many more weights than the file has is not
    made.
    """
    if missing := {"features", "blocks", "n_radial"} - config.keys():
        raise ValueError(f"its network lacks {sorted(missing)[0]}")
    excess = [k for k, most in LARGEST.items() if not isinstance(config.get(k, 1), int | float)
              or not 0 < config.get(k, 1) <= most]  # fmt: skip
    if excess:
        raise ValueError(f"a network of {excess[0]}={config[excess[0]]!r:.40}")
    features, blocks, radial = config["features"], config["blocks"], config["n_radial"]
    properties = config.get("properties", 0)
    least = features * (blocks * (features + radial) + properties)  # some of its matrices
    if least > sum(tensor.numel() for tensor in state.values()):
        raise ValueError(FOREIGN)
    network = NETWORKS[kind](**config)
    wanted, given = (
        {k: (v.shape, v.is_complex()) for k, v in of.items()}
        for of in (network.state_dict(), state)
    )
    if wanted != given:
        raise ValueError(FOREIGN)
    network.load_state_dict(state)
    return network.eval()


def save(path: Path, content: dict[str, Any]) -> None:
    """Atomically: a checkpoint that is there is whole."""
    packed = BytesIO()  # torch's own writing reports a full disk by errors of its own
    torch.save(content, packed)
    with replacing(path) as part:
        part.write_bytes(packed.getbuffer())


def load(path: Path) -> Any:
    """Tensors and plain values only (`weights_only`): a file cannot execute anything."""
    if not path.is_file():
        raise ValueError(f"no checkpoint {path}")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # unpickling a broken file raises nearly anything
        raise ValueError(
            f"{path} is no checkpoint and no model file of this project: {type(error).__name__}"
        ) from error


def digest(path: Path) -> str:
    """With a prefix: bare digits such as 12e3… would come back from extxyz as a number."""
    return f"sha256:{file_digest(path)}"


def _of_vpsde(node: Any) -> Any:
    """What a `_target_` node describes, made of vpsde's public names alone: a file runs no code."""
    if isinstance(node, list):
        return [_of_vpsde(item) for item in node]
    if not isinstance(node, dict):
        return node
    target = str(node.get("_target_"))
    name = target.removeprefix("vpsde.")
    if name not in vpsde.__all__:
        raise ValueError(f"its sde names {target}, which is not part of vpsde")
    return getattr(vpsde, name)(**{k: _of_vpsde(v) for k, v in node.items() if k != "_target_"})
