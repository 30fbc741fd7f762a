"""The table of several runs: their results, and what differs between their configs."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from experiments.harness.comparison.run_reader import Run
from experiments.harness.config.units import unit_of
from experiments.harness.runs.metrics import ENERGY_UNIT, METRICS, SHARE, STAGES, metric

MISSING = object()
MAIN = (
    "optuna/state", "gen_relaxed/energy_median", "gen_relaxed/energy_p10", "gen_relaxed/energy_min",
    "gen/energy_median", "gen/frac_valid", "gen/frac_unique", "gen/hit_rate",
    "gen/frac_below_reference", "gen/n", "val/loss", "score/loss", "forcefield/energy_mae",
    "forcefield/force_mae", "seconds/all", "optuna/reason",
)  # fmt: skip
"""Results that the table shows at first; of the others it shows all or none."""
BOOKKEEPING = re.compile(r"(^|\.)(tracking|tracking_mode|executor|output|name|trial|id)(\.|$)")
"""Keys of a config that differ without making a difference."""
PROVENANCE = re.compile(r"(^|\.)(study|sample|digest|digests\.\w+|device|threads)$")
"""Keys that identify where a run came from; the table shows them only on request."""


def table(runs: Sequence[Run]) -> tuple[list[dict[str, Any]], list[dict[str, str]]]:
    """Return columns of the results and of what differs between the configs, and what is the same.

    Results come before configs, the main ones first.
    """
    results, equal_results = _results([run.results for run in runs])
    configs, equal_configs = _configs([run.config for run in runs])
    main, others = ([c for c in results if c["main"] == shown] for shown in (True, False))
    return [*main, *others, *configs], equal_configs + equal_results


def _configs(
    configs: Sequence[Mapping[str, Any]],
) -> tuple[list[dict[str, Any]], list[dict[str, str]]]:
    columns: dict[tuple[str, str], dict[str, Any]] = {}
    same = []
    for key in _keys(configs):
        if BOOKKEEPING.search(key) or _is_group(key, configs):
            continue
        values = [config.get(key, MISSING) for config in configs]
        present = [
            value
            for value, config in zip(values, configs, strict=True)
            if key in config or _could_have(key, config)
        ]
        column = _column("config", key, ".", values)
        twin = columns.get((column["name"], repr(values)))
        if len({repr(value) for value in present}) < 2:
            same.append({"key": key, "text": _with_unit(key, present[0])})
        elif twin is not None:  # stages that share a value, such as the seed, share a column
            twin["also"].append(key)
        else:
            columns[column["name"], repr(values)] = column
    return list(columns.values()), same


def _results(
    results: Sequence[Mapping[str, Any]],
) -> tuple[list[dict[str, Any]], list[dict[str, str]]]:
    columns, same = [], []
    found = _keys(results)
    for key in [*(k for k in MAIN if k in found), *(k for k in found if k not in MAIN)]:
        values = [result.get(key, MISSING) for result in results]
        if len(results) > 1 and len({repr(value) for value in values}) == 1:
            same.append({"key": key, "text": _with_unit(key, values[0])})
        else:
            columns.append(_column("result", key, "/", values))
    return columns, same


def text(key: str, value: Any) -> str:
    """Return a value of the table as people read it, without its unit."""
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
    """Return the unit of a result or of a config key; shares of structures are in percent."""
    if key not in METRICS and "/" not in key:
        return unit_of(key)
    found = metric(key).unit
    return {SHARE: "%", ENERGY_UNIT: "eV"}.get(found, found)


def _with_unit(key: str, value: Any) -> str:
    return f"{text(key, value)} {unit(key) if value is not None else ''}".strip()


def _keys(tables: Sequence[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(key for one in tables for key in one))


def _is_group(key: str, configs: Sequence[Mapping[str, Any]]) -> bool:
    """Whether ``key`` is none in some configs and a group of keys in others, which hold more."""
    return all(config.get(key) in (None, {}) for config in configs) and any(
        other.startswith(key + ".") for config in configs for other in config
    )


def _could_have(key: str, config: Mapping[str, Any]) -> bool:
    """Whether a config without ``key`` has its group; a run of another kind has not."""
    return any(key[: match.start()] in config for match in re.finditer(r"\.", key))


def _column(kind: str, key: str, separator: str, values: Sequence[Any]) -> dict[str, Any]:
    group, _, name = key.rpartition(separator)
    if kind == "result":
        group, name = STAGES.get(metric(key).stage, group), metric(key).title
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
