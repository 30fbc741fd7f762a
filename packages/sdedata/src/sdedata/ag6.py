"""The hand-built Ag6 model of p(4x4)-O/Ag(111): a known good structure to compare with."""

import numpy as np
from ase import Atoms

from sdedata.template import Template

SILVER_HEIGHT = 2.40
OXYGEN_HEIGHT = 1.60
"""Start heights above the top layer, Å; both relax to about 2.4 Å."""

TRIANGLE = [(i, j) for i in range(3) for j in range(3 - i)]
SILVER = [(i + 2 / 3, j + 2 / 3) for i, j in TRIANGLE]
SILVER += [(10 / 3 - i, 10 / 3 - j) for i, j in TRIANGLE]
"""Two opposite triangles, one on fcc and one on hcp sites, in steps of the (1x1) vectors."""
OXYGEN = [(1.5, 0.0), (2.5, 0.0), (0.0, 1.5), (0.0, 2.5), (2.5, 1.5), (1.5, 2.5)]
"""In the furrows between the triangles."""


def ag6_model(template: Template) -> Atoms:
    """Build the model of Schmid et al. and Schnadt et al. (PRL 96, 146101 and 146102, 2006).

    Unrelaxed. Positions are relative to the top-layer atom nearest to the cell's corner; at hollow
    sites the model would be 0.9 eV higher. Raises ValueError unless the cell is p(4x4).
    """
    cell = np.asarray(template.slab.cell)[:2, :2]
    sites = template.slab.positions[template.slab.positions[:, 2] > template.top - 0.5, :2]
    lengths = np.linalg.norm(cell, axis=1)
    rhombus = np.allclose(lengths, lengths[0], rtol=1e-3) and np.isclose(
        cell[0] @ cell[1], lengths[0] * lengths[1] / 2, rtol=1e-3
    )
    if len(sites) != 16 or not rhombus:
        raise ValueError(
            f"the Ag6 model needs a p(4x4) cell of Ag(111) with 60° between its vectors, which "
            f"template {template.name} is not"
        )
    fractions = sites @ np.linalg.inv(cell)
    folded = (fractions - np.round(fractions)) @ cell
    corner = folded[np.linalg.norm(folded, axis=1).argmin()]
    planar = corner + np.array(SILVER + OXYGEN) @ cell / 4
    heights = [SILVER_HEIGHT] * len(SILVER) + [OXYGEN_HEIGHT] * len(OXYGEN)
    return template.surface("Ag12O6", np.column_stack([planar, template.top + np.array(heights)]))
