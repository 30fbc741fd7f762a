"""The table of several runs: what differs between their configs, and what came out."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from experiments.harness.comparison.run_reader import Run

MISSING = object()
MAIN = (
    "optuna/state", "gen_relaxed/energy_median", "gen_relaxed/energy_p10", "gen_relaxed/energy_min",
    "gen/energy_median", "gen/frac_valid", "gen/frac_unique", "gen/hit_rate",
    "gen/frac_below_reference", "gen/n", "val/loss", "score/loss", "forcefield/energy_mae",
    "forcefield/force_mae", "seconds/all", "optuna/reason",
)  # fmt: skip
"""Results that the table shows at first; of the others it shows all or none."""
UNITS = (
    (r"energy_mae$", "meV/atom"),
    (r"force_mae$", "meV/Å"),
    (r"/energy_\w+$", "eV"),
    (r"(^|/)(frac_\w+|hit_rate)$", "%"),
    (r"_per_second$", "1/s"),
    (r"^seconds/", "s"),
    (r"(^|\.)(cutoff|max_step|tolerance|window)$", "Å"),
    (r"(^|\.)(fmax|max_force)$", "eV/Å"),
    (r"(^|\.)within$", "eV"),
    (r"(^|\.)eta_dt$", "Å²/eV"),
)
BOOKKEEPING = re.compile(r"(^|\.)(tracking|tracking_mode|executor|output|name|trial|id)(\.|$)")
"""Keys of a config that differ without making a difference."""
PROVENANCE = re.compile(r"(^|\.)(study|sample|digest|digests\.\w+|device|threads)$")
"""Keys that say where a run came from; the table shows them with the other results."""


def table(runs: Sequence[Run]) -> tuple[list[dict[str, Any]], list[dict[str, str]]]:
    """Columns of what differs between the runs' configs and of what came out; and the rest."""
    configs, results = [run.config for run in runs], [run.results for run in runs]
    columns, same = [], []
    seen: dict[tuple[str, str], dict[str, Any]] = {}
    for key in _keys(configs):
        if BOOKKEEPING.search(key) or _is_group(key, configs):
            continue
        values = [config.get(key, MISSING) for config in configs]
        asked = [v for v, c in zip(values, configs, strict=True) if key in c or _could_have(key, c)]
        column = _column("config", key, ".", values)
        if len({repr(value) for value in asked}) < 2:
            same.append({"key": key, "text": _with_unit(key, asked[0])})
        # Stages are told the same: one column for the seed of all.
        elif (twin := seen.get((column["name"], repr(values)))) is not None:
            twin["also"].append(key)
        else:
            seen[column["name"], repr(values)] = column
            columns.append(column)
    told = _keys(results)
    for key in [*(k for k in MAIN if k in told), *(k for k in told if k not in MAIN)]:
        values = [result.get(key, MISSING) for result in results]
        if len(runs) > 1 and len({repr(value) for value in values}) == 1:
            same.append({"key": key, "text": _with_unit(key, values[0])})
        else:
            columns.append(_column("result", key, "/", values))
    return columns, same


def text(key: str, value: Any) -> str:
    """A value of the table as people read it, without its unit."""
    if value is MISSING:
        return "–"
    if value is None or isinstance(value, bool):
        return {None: "none", True: "yes", False: "no"}[value]
    if isinstance(value, (int, float)):
        number = 100 * value if unit(key) == "%" else value
        if isinstance(number, int):
            return str(number)
        return f"{number:.0f}" if 1000 <= abs(number) < 1e6 else f"{number:.4g}"
    if isinstance(value, (list, tuple)):
        return ", ".join(text(key, one) for one in value) or "none"
    shown = str(value).rpartition(".")[2] if key.endswith("_target_") else str(value)
    return "…/" + "/".join(shown.split("/")[-2:]) if shown.count("/") > 2 else shown


def unit(key: str) -> str:
    return next((found for pattern, found in UNITS if re.search(pattern, key)), "")


def _with_unit(key: str, value: Any) -> str:
    return f"{text(key, value)} {unit(key) if value is not None else ''}".strip()


def _keys(tables: Sequence[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(key for one in tables for key in one))


def _is_group(key: str, configs: Sequence[Mapping[str, Any]]) -> bool:
    """Whether ``key`` is none in some configs and a group of keys in others, which tell more."""
    return all(config.get(key) in (None, {}) for config in configs) and any(
        other.startswith(key + ".") for config in configs for other in config
    )


def _could_have(key: str, config: Mapping[str, Any]) -> bool:
    """Whether a config without ``key`` says none of its group; a run of another kind lacks it."""
    return any(key[: match.start()] in config for match in re.finditer(r"\.", key))


def _column(kind: str, key: str, separator: str, values: Sequence[Any]) -> dict[str, Any]:
    group, _, name = key.rpartition(separator)
    return {
        "kind": kind,
        "key": key,
        "group": group,
        "name": name,
        "unit": unit(key),
        "main": key in MAIN if kind == "result" else not PROVENANCE.search(key),
        "also": [],
        "cells": [{"value": _sortable(value), "text": text(key, value)} for value in values],
    }


def _sortable(value: Any) -> float | str | None:
    """None sorts last."""
    if value is MISSING or value is None:
        return None
    return float(value) if isinstance(value, (int, float)) else str(value)
