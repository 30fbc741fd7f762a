"""Model files: one small file rebuilds a network and says what it is for. Loading executes no code."""

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import painnx
import torch
import vpsde
from torch import nn

from experiments.build import build

NETWORKS = {"score": painnx.ScoreNetwork, "forcefield": painnx.ForceField}


@dataclass(frozen=True)
class Model:
    """A trained network with its card: what it was trained on, and where it may be used."""

    kind: str
    network: nn.Module
    card: dict[str, Any]
    """window (Å above the slab), elements, cutoff, calculator, data digest, sde, steps, losses."""
    digest: str
    """First 12 digits of the file's SHA-256."""

    @property
    def window(self) -> tuple[float, float]:
        low, high = self.card["window"]
        return low, high

    @property
    def elements(self) -> tuple[int, ...]:
        return tuple(self.card["elements"])

    def sde(self) -> vpsde.SDE:
        """The diffusion that a score was trained for; only vpsde's own constructors are accepted."""
        node = self.card["sde"]
        _require_vpsde(node)
        return build(node)


def save_model(path: Path, kind: str, network: Any, card: dict[str, Any]) -> None:
    content = {
        "kind": kind,
        "config": json.dumps(network.config()),
        "state": {name: tensor.cpu() for name, tensor in network.state_dict().items()},
        "card": json.dumps(card),
    }
    save(path, content)


def load_model(path: str | Path, kind: str | None = None) -> Model:
    """The model of a training run (its folder) or of a model file; ValueError if it is not one."""
    path = Path(path)
    file = path / "model.pt" if path.is_dir() else path
    if path.is_dir() and not file.is_file():
        raise ValueError(f"{path} holds no model.pt: is it a training run, and has it finished?")
    content = load(file)
    if not isinstance(content, dict) or not {"kind", "config", "state", "card"} <= set(content):
        raise ValueError(f"{file} is not a model file of this project")
    if kind is not None and content["kind"] != kind:
        raise ValueError(
            f"{file} holds a {content['kind']} network; a {kind} network is needed here"
        )
    network = NETWORKS[content["kind"]](**json.loads(content["config"]))
    network.load_state_dict(content["state"])
    return Model(content["kind"], network.eval(), json.loads(content["card"]), digest(file))


def save(path: Path, content: dict[str, Any]) -> None:
    """Atomically: a checkpoint that is there is whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    torch.save(content, partial)
    os.replace(partial, path)


def load(path: Path) -> Any:
    """Tensors and plain values only (`weights_only`): a file cannot execute anything."""
    if not path.is_file():
        raise ValueError(f"no checkpoint {path}")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # unpickling a broken file raises nearly anything
        raise ValueError(
            f"{path} cannot be read as a checkpoint: {type(error).__name__}"
        ) from error


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:12]


def _require_vpsde(node: Any) -> None:
    if isinstance(node, dict):
        target = str(node.get("_target_", "vpsde."))
        if not target.startswith("vpsde.") or target.count(".") > 1:
            raise ValueError(f"the model's sde names {target}, which is not part of vpsde")
        for value in node.values():
            _require_vpsde(value)
