"""The shipped labels come from the calculator that is named beside them."""

import numpy as np
import pytest

from experiments.harness.config import compose
from experiments.harness.config.instantiate import build
from experiments.harness.training.calculator import identified
from sdedata import shipped


@pytest.mark.parametrize("name", [*shipped.searches(), "ag6_p4x4"])
def test_a_shipped_label_is_the_corrected_calculator_s(name):
    data = shipped.load(name)
    usual = identified(compose.load("label", ["calculator=corrected", "structures=x"]).calculator)
    words = {"learned_from": data.meta["calculator"]["learned_from"]}  # may be others
    assert data.meta["calculator"] == usual.plain() | words
    atoms = data.atoms(0)
    energy, forces = data.energy[0], atoms.get_forces(apply_constraint=False)
    atoms.calc = build(data.meta["calculator"])
    assert atoms.get_potential_energy() == pytest.approx(energy, abs=1e-3)
    # positions are kept to 1e-5 Å
    np.testing.assert_allclose(atoms.get_forces(apply_constraint=False), forces, atol=2e-3)
