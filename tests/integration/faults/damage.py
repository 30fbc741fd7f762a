"""Damage to files, drawn from a seed: of bytes, and of what a file of a known form says."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

Rng = np.random.Generator

VALUES: tuple[Any, ...] = (
    None, True, False, -1, 0, 1, 10**9, 10**30, 1.5, -0.0, 1e308, float("nan"), float("inf"), "",
    "x", "../../x", "/x", "\0", "é" * 300, [], [[]], [1], ["x"], [None, None], {},
    {"a": {"b": [1]}},    {"_target_": "os.mkdir", "path": "was_here"},
)  # fmt: skip
"""What a value is replaced by: wrong types, wrong sizes, ways out, code."""

TEXTS = (
    b"", b"\n", b"{}", b"[]", b"null", b"3", b'"text"', b"\0", b"\xff\xfe\x00", b"{", b"[" * 20000,
    b"a: &a {b: *a}\n", b"a: &a [1]\nb: [*a, *a]\n", b"a: &a {x: 1}\nb:\n  <<: *a\n", b"1: 2\n",
    b"a: !!python/object/apply:os.mkdir [was_here]\n", b"a: !mine {x: 1}\n", b"- a\n- b\n",
    b"a: 2020-13-45\n", b"a: 2020-01-01\n", b"a: 1\na: 2\n", b"? [a, b]\n: c\n", b"a: \t- b\n",
    b"9" * 5000 + b"\n", b'{"a": NaN}\n', b'{"a": 1e999}\n', b'{"a": ' + b"9" * 5000 + b"}\n",
    b"train: {steps: many}\nn: some\nwindow: wide\ntracking: [1]\ntask: 3\n",
)  # fmt: skip
"""What a file is replaced by."""


def of_bytes(content: bytes, rng: Rng) -> bytes:
    """Cut, lose, repeat or change some bytes, or be another text."""
    a, b = sorted(rng.integers(0, len(content) + 1, 2).tolist())
    match rng.integers(0, 7):
        case 0:
            return content[:a]
        case 1:
            return content[:a] + content[b:]
        case 2:
            return content[:b] + content[a:]
        case 3:
            return content[:a] + rng.bytes(rng.integers(1, 9)) + content[a:]
        case 4:
            changed = bytearray(content)
            for k in rng.integers(0, max(1, len(content)), rng.integers(1, 20)).tolist():
                if changed:
                    changed[k] = rng.integers(0, 256)
            return bytes(changed)
        case 5:
            lines = content.splitlines(keepends=True)
            rng.shuffle(lines)
            return b"".join(lines[: rng.integers(0, len(lines) + 1)])
        case _:
            return TEXTS[rng.integers(0, len(TEXTS))]


def of_tree(tree: Any, rng: Rng, values: Callable[[Any, Rng], Any] | None = None) -> Any:
    """Replace, lose or add something at a random place of nested dicts and lists."""
    places = list(_places(tree))
    where, key = places[rng.integers(0, len(places))]
    kind = rng.integers(0, 5)
    if kind == 0:
        del where[key]
    elif kind == 1 and isinstance(where, dict):
        where[[3, "more", ("a", "b"), "../x"][rng.integers(0, 4)]] = _value(rng)
    elif values is not None and kind < 4:
        where[key] = values(where[key], rng)
    else:
        where[key] = _value(rng)
    return tree


def _value(rng: Rng) -> Any:
    return VALUES[rng.integers(0, len(VALUES))]


def _places(tree: Any) -> Any:
    for key in list(tree) if isinstance(tree, dict) else range(len(tree)):
        yield tree, key
        if isinstance(tree[key], (dict, list)):
            yield from _places(tree[key])


def _tensor(value: Any, rng: Rng) -> Any:
    """Another shape, type or content of an array."""
    if not isinstance(value, torch.Tensor):
        return _value(rng)
    flat = torch.zeros(3) if value.dim() == 0 else value
    others = (
        lambda: flat[:-1].clone(), lambda: flat[None].clone(), lambda: value.to(torch.complex64),
        lambda: value * float("nan"), lambda: value.to(torch.int8), lambda: torch.zeros(()),
        lambda: value.double() * 1e300,
    )  # fmt: skip
    return others[rng.integers(0, len(others))]()


def _array(value: np.ndarray, rng: Rng) -> np.ndarray:
    others = (
        lambda: value[:-1], lambda: value[None], lambda: value.astype(str), lambda: value * 0,
        lambda: value.astype(float) * np.nan, lambda: np.full(value.shape, -1),
        lambda: np.full(value.shape, 300), lambda: value.astype(complex), lambda: np.array(3),
        lambda: value.reshape(-1), lambda: value.astype(float) * 1e30, lambda: value.astype("S9"),
        lambda: np.full(value.shape, 10**12), lambda: value.astype(float) * 1e-9,
    )  # fmt: skip
    return others[rng.integers(0, len(others))]()


def of_json(content: bytes, rng: Rng) -> bytes:
    return json.dumps(of_tree(json.loads(content), rng), default=str, skipkeys=True).encode()


def of_rows(content: bytes, rng: Rng) -> bytes:
    lines = content.splitlines()
    k = rng.integers(0, len(lines))
    lines[k] = of_json(lines[k], rng)
    return b"\n".join(lines) + b"\n"


def of_yaml(content: bytes, rng: Rng) -> bytes:
    tree = of_tree(yaml.safe_load(content), rng)
    return yaml.dump(tree, sort_keys=False, allow_unicode=True).encode()


def of_torch(content: bytes, rng: Rng) -> bytes:
    """Of a checkpoint or a model file, whose card and config are JSON texts."""
    tree = torch.load(io.BytesIO(content), weights_only=True)
    texts = [key for key in ("card", "config") if key in tree]
    if texts and rng.random() < 0.7:
        key = texts[rng.integers(0, len(texts))]
        tree[key] = of_json(tree[key].encode(), rng).decode()
    else:
        tree = of_tree(tree, rng, _tensor)
    packed = io.BytesIO()
    torch.save(tree, packed)
    return packed.getvalue()


def of_npz(content: bytes, rng: Rng) -> bytes:
    with np.load(io.BytesIO(content)) as file:
        arrays = {name: file[name] for name in file.files}
    name = sorted(arrays)[rng.integers(0, len(arrays))]
    if name == "meta":
        value = of_json(str(arrays[name]).encode(), rng).decode()
        arrays[name] = np.array([value, "[]", "3", "null"][rng.integers(0, 4)])
    elif rng.random() < 0.15:
        del arrays[name]
    else:
        arrays[name] = _array(arrays[name], rng)
    packed = io.BytesIO()
    np.savez_compressed(packed, **arrays)
    return packed.getvalue()


COUNTS = (b"0", b"-3", b"1000000000", b"9" * 5000, b"99999999999999999999", b"3.5", b"", b"x")
HEADERS = (
    (b"energy=", b"energy=text "), (b"energy=", b"other="), (b"energy=", b'energy="1 2 3" '),
    (b"forces:R:3", b"forces:R:1"), (b"forces:R:3", b"forces:S:3"), (b"pos:R:3", b"pos:R:2"),
    (b"pos:R:3", b"pos:R:99999999"), (b"species:S:1", b"species:I:1"), (b"species", b"Z"),
    (b'Lattice="', b'Lattice="1e300 '), (b'Lattice="', b'Lattice="nan '), (b"Lattice=", b"Box="),
    (b'Lattice="', b'Lattice="1 2" x="'), (b"Properties=", b"Properties"),
    (b'pbc="T T F"', b"pbc=5"),
    (b'"', b"'"), (b'"', b""), (b"index=", b"index=x"), (b"index=", b"index=-"), (b"index=", b"i="),
    (b"finite=T", b"finite=maybe"), (b"finite=", b"f="), (b"t=", b"t=x"), (b"step=", b"step=1.5"),
    (b"=", b"==" * 500), (b" ", b' ="' * 200),
)  # fmt: skip


def of_extxyz(content: bytes, rng: Rng) -> bytes:
    """Other counts, headers and columns."""
    lines = content.splitlines()
    heads = [k for k, line in enumerate(lines) if line.strip().isdigit()]
    k = heads[rng.integers(0, len(heads))]
    match rng.integers(0, 4):
        case 0:
            lines[k] = COUNTS[rng.integers(0, len(COUNTS))]
        case 1:
            old, new = HEADERS[rng.integers(0, len(HEADERS))]
            lines[k + 1] = lines[k + 1].replace(old, new)
        case 2:
            words = lines[k + 2].split()
            words[rng.integers(0, len(words))] = [b"x", b"nan", b"1e300", b"", b"Qq", b"-1"][
                rng.integers(0, 6)
            ]
            lines[k + 2] = b" ".join(words)
        case _:
            lines[k + 1] = of_bytes(lines[k + 1], rng)
    return b"\n".join(lines) + b"\n"


FORMS: dict[str, Callable[[bytes, Rng], bytes]] = {
    ".json": of_json, ".jsonl": of_rows, ".yaml": of_yaml, ".pt": of_torch, ".npz": of_npz,
    ".extxyz": of_extxyz,
}  # fmt: skip
"""Damage to what a file says, by its ending."""


def damage(path: Path, rng: Rng) -> str:
    """Damage a file in one way; returns how it was done."""
    content = path.read_bytes()
    if path.suffix in FORMS and content and rng.random() < 0.6:
        how = FORMS[path.suffix]
        path.write_bytes(how(content, rng))
        return how.__name__
    path.write_bytes(of_bytes(content, rng))
    return "of_bytes"
