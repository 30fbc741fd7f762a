"""Equivariant networks for surfaces: a time-conditioned score and a force field, both PaiNN."""

from painnx.heads import ForceField, ScoreNetwork, fit_shift_and_scale
from painnx.painn import PaiNN

__all__ = ["ForceField", "PaiNN", "ScoreNetwork", "fit_shift_and_scale"]
