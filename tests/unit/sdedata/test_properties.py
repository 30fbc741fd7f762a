"""Properties of a structure do not depend on how much of the surface its cell shows."""

import math

import pytest
import torch

from sdedata import Graph, Template, collate, repeat, shipped
from sdedata.properties import columns, energy_per_mobile_atom, properties

ELEMENTS = (8, 47)


@pytest.fixture(scope="module")
def minimum() -> Graph:
    data = shipped.load("rss_ag6o3_p3x3")
    return data.select([0]).graphs(6.0, (1.0, 5.0))[0]


def test_the_composition_counts_overlayer_atoms_for_each_area(minimum):
    slab = Template.load("ag111_p3x3").slab
    area = slab.cell.areas()[2]
    (oxygen, silver) = properties(minimum, ["composition"], ELEMENTS)[0].tolist()
    assert 0.1 * oxygen * area == pytest.approx(3, abs=1e-4)
    assert 0.1 * silver * area == pytest.approx(6, abs=1e-4)  # not those of the slab


@pytest.mark.parametrize("repeats", [(1, 2), (2, 2)])
def test_a_repeated_cell_has_the_same_properties(minimum, repeats):
    names = ["energy", "composition"]
    both = collate([minimum, repeat(minimum, repeats)])
    energy = energy_per_mobile_atom(both)
    found = properties(both, names, ELEMENTS, energy)
    assert found.shape == (2, columns(names, ELEMENTS))
    torch.testing.assert_close(found[0], found[1])
    assert float(found[0, 0]) == pytest.approx(float(minimum.energy) / 9 / 0.1, rel=1e-6)


def test_an_energy_that_is_not_known_is_not_a_number(minimum):
    (found,) = properties(minimum, ["energy"], ELEMENTS).tolist()
    assert math.isnan(found[0])
    with pytest.raises(ValueError, match="have no energies"):
        energy_per_mobile_atom(minimum.at(minimum.positions))


@pytest.mark.parametrize("names", [["composition", "energy"], ["energy", "energy"]])
def test_a_property_counts_once_in_any_order(minimum, names):
    assert properties(minimum, names, ELEMENTS).shape == (1, columns(names, ELEMENTS))
