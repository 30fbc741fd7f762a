"""Configs of the commands: read, composed by Hydra, checked."""

from pathlib import Path

CONF = Path(__file__).parent / "conf"
"""Folder of the commands' configs and their groups."""
