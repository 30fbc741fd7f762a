"""A command's settings, composed by Hydra from `conf/` and checked by their schema."""

from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

from experiments.harness.config import CONF


def load(entry: str, overrides: Sequence[str] = (), directory: Path | None = None) -> Any:
    """Compose and check a command's settings: the model of `settings.SCHEMAS[entry]`.

    Args:
        entry: the command, whose file is `conf/ENTRY.yaml`.
        overrides: KEY=VALUE and GROUP=NAME, in Hydra's syntax; kept in `settings.overrides`.
        directory: a folder with more files of groups, such as experiment/ and calculator/.

    Raises ValueError, in one sentence, for a config that is not valid.
    """
    from hydra import compose, initialize_config_dir
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    from experiments.harness.config import overriding
    from experiments.harness.config.settings import checked
    from experiments.harness.config.texts import as_texts

    parsed: list[Any] = []
    try:
        parsed = overriding.parse(as_texts(overrides, entry))
        pairs = zip(parsed, overrides, strict=True)
        given = [overriding.as_listed(one, entry, typed) for one, typed in pairs]
        if directory is not None:
            given.append(f"hydra.searchpath=['file://{_existing(directory)}']")
        with initialize_config_dir(str(CONF), version_base=None):
            config = compose(entry, given)
        overriding.drop_former_arguments(config, parsed)
        content: Any = OmegaConf.to_container(config, resolve=True)
    except (HydraException, OmegaConfBaseException) as error:
        raise ValueError(overriding.sentence(error, lambda: _keys(entry), parsed)) from error
    return checked(entry, content, overrides)


def _keys(entry: str) -> set[str]:
    """Return the keys and groups of a command, with dots."""
    from hydra import compose, initialize_config_dir
    from omegaconf import OmegaConf

    from experiments.harness.runs.config_keys import flattened

    with initialize_config_dir(str(CONF), version_base=None):
        content: Any = OmegaConf.to_container(compose(entry))
    file: Any = OmegaConf.to_container(OmegaConf.load(CONF / f"{entry}.yaml"))
    groups = {name for one in file.get("defaults", []) if isinstance(one, dict) for name in one}
    return groups | {
        key for leaf in flattened(content) for key in accumulate(leaf.split("."), "{}.{}".format)
    }


def _existing(directory: Path) -> Path:
    if not directory.is_dir():
        raise ValueError(f"there is no folder {directory} for --config-dir")
    return directory.resolve()
