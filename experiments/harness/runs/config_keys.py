"""Keys of a nested configuration, joined by dots, and how two configurations differ."""

from collections.abc import Mapping
from typing import Any


def flattened(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Join nested keys by dots; an empty mapping counts as a value."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping) and value:
            flat |= flattened(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Compare nested configurations: each differing key with one phrase on how."""
    old, new, missing = flattened(old), flattened(new), object()
    found = []
    for key in sorted(old.keys() | new.keys()):
        there, now = old.get(key, missing), new.get(key, missing)
        if there is missing and now is None:
            continue
        if there is missing:
            found.append((key, f"{key} is new"))
        elif now is missing:
            found.append((key, f"{key} is gone"))
        elif there != now:
            found.append((key, f"{key} was {there}, is now {now}"))
    return found
