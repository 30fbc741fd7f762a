"""The shipped labels come from the calculator that is named beside them."""

import numpy as np
import pytest

from experiments.harness.config import compose
from experiments.harness.config.instantiate import build
from sdedata import shipped


def test_a_shipped_label_is_chgnet_s():
    pytest.importorskip("chgnet", reason="the reference calculator is not installed")
    data = shipped.load("rss_c2x8")
    node = compose.load("generate_data").calculator
    assert data.meta["calculator"] == node.plain()
    atoms = data.atoms(0)
    energy, forces = data.energy[0], atoms.get_forces(apply_constraint=False)
    atoms.calc = build(node)
    assert atoms.get_potential_energy() == pytest.approx(energy, abs=1e-3)
    # positions are kept to 1e-5 Å
    np.testing.assert_allclose(atoms.get_forces(apply_constraint=False), forces, atol=2e-3)
