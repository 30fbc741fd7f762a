"""Units of the keys of configs."""

UNITS = {
    "cutoff": "Å",
    "max_step": "Å",
    "trust_radius": "Å",
    "tolerance": "Å",
    "z_range": "Å",
    "fmax": "eV/Å",
    "max_force": "eV/Å",
    "max_energy": "eV",
    "eta_dt": "Å²/eV",
}
"""By the last part of the key, of those that have one."""


def unit_of(key: str) -> str:
    """Return the unit of a config key such as ``sample.guide.eta_dt``; empty without one."""
    return UNITS.get(key.rpartition(".")[2], "")
