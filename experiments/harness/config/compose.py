"""A command's config, composed by Hydra from `conf/` and checked by its schema."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.errors import HydraException, OverrideParseException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

CONF = Path(__file__).parent / "conf"


def load(entry: str, overrides: Sequence[str] = ()) -> Any:
    """Compose and check a command's settings: the model of `settings.SCHEMAS[entry]`.

    Raises ValueError, in one sentence, for a config that is not valid.
    """
    from experiments.harness.config.settings import checked

    try:
        with initialize_config_dir(str(CONF), version_base=None):
            config = compose(entry, list(overrides))
        content: Any = OmegaConf.to_container(config, resolve=True)
    except (HydraException, OmegaConfBaseException) as error:
        raise ValueError(_sentence(error)) from error
    return checked(entry, content)


def _sentence(error: Exception) -> str:
    """What a Hydra or OmegaConf error tells, without advice on Hydra's syntax."""
    text = str(error).split("Config search path")[0].split("See https")[0]
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if isinstance(error, OverrideParseException):
        return f"cannot read {error.override!r} as KEY=VALUE: {lines[-1]}"
    if lines[0].startswith("Could not override"):
        from experiments.harness.config.settings import new_name

        key = lines[0].split()[3].rstrip(".")
        advice = new_name(key.strip("'")) or "; --help lists them"
        return f"there is no config key or group {key}{advice}"
    return " ".join(lines)
