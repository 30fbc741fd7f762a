"""The Ag6 model by its coordination: two hexagon-packed triangles, oxygen in the furrows."""

import numpy as np
import pytest
from ase.build import fcc111

from sdedata import Template
from sdedata.ag6 import ag6_model
from sdedata.template import A0_AG

A = A0_AG / 2**0.5


@pytest.fixture(scope="module")
def model():
    return ag6_model(Template.ag111("p4x4"))


def planar_distances(atoms, ones, others):
    """Shortest in-plane distances, by all images around."""
    cell = np.asarray(atoms.cell)[:2, :2]
    images = np.array([[i, j] for i in (-1, 0, 1) for j in (-1, 0, 1)]) @ cell
    delta = atoms.positions[ones, None, :2] - atoms.positions[None, others, :2]
    return np.linalg.norm(delta[:, :, None] + images, axis=-1).min(-1)


def parts(atoms):
    index = np.arange(len(atoms))
    top = index[:32][atoms.positions[:32, 2] > 2.0]
    return index[:32][atoms.positions[:32, 2] < 2.0], top, index[32:44], index[44:]


def test_composition_heights_and_constraint(model):
    _, top, silver, oxygen = parts(model)
    assert model[32:].get_chemical_formula(mode="reduce") == "Ag12O6"
    surface = model.positions[top, 2].max()
    assert np.allclose(model.positions[silver, 2] - surface, 2.40)
    assert np.allclose(model.positions[oxygen, 2] - surface, 1.60)
    assert model.constraints[0].get_indices().tolist() == list(range(32))


def test_silver_sits_on_hollows_six_fcc_and_six_hcp(model):
    """An hcp hollow has a second-layer atom below it, an fcc hollow none; both three top atoms."""
    second, top, silver, _ = parts(model)
    to_top = np.sort(planar_distances(model, silver, top), axis=1)
    assert np.allclose(to_top[:, :3], A / 3**0.5, atol=1e-8)
    assert (to_top[:, 3] > 1.1).all()
    on_second = planar_distances(model, silver, second).min(1) < 1e-8
    assert on_second.sum() == 6
    # Each triangle is of one kind.
    assert on_second[:6].all() != on_second[6:].all()
    assert on_second[:6].any() != on_second[6:].any()


def test_two_triangles_of_six(model):
    """Corners touch two silver atoms, middles of edges four; the triangles stay apart."""
    _, _, silver, _ = parts(model)
    distances = planar_distances(model, silver, silver)
    touching = np.abs(distances - A) < 1e-6
    assert sorted(touching[:6, :6].sum(1).tolist()) == [2, 2, 2, 4, 4, 4]
    assert sorted(touching[6:, 6:].sum(1).tolist()) == [2, 2, 2, 4, 4, 4]
    assert not touching[:6, 6:].any()
    assert distances[:6, 6:].min() > A + 0.3


def test_oxygen_bridges_the_triangles(model):
    """Every O lies above a bridge of the top layer, between silver of both triangles alike."""
    _, top, silver, oxygen = parts(model)
    to_top = np.sort(planar_distances(model, oxygen, top), axis=1)
    assert np.allclose(to_top[:, :2], A / 2, atol=1e-8)
    to_silver = planar_distances(model, oxygen, silver)
    assert np.allclose(np.sort(to_silver[:, :6], axis=1), np.sort(to_silver[:, 6:], axis=1))
    full = model.get_all_distances(mic=True)[np.ix_(oxygen, silver)]
    assert ((full < 2.5).sum(1) >= 4).all()
    assert (
        model.get_all_distances(mic=True)[np.ix_(oxygen, oxygen)][~np.eye(6, dtype=bool)].min()
        > 2.5
    )


def test_the_registry_follows_the_top_layer_wherever_it_is():
    template = Template.ag111("p4x4")
    shifted = template.slab.copy()
    shifted.positions[:, :2] += [0.4, -0.7]
    moved = ag6_model(Template.from_slab(shifted))
    reference = ag6_model(template)
    assert np.allclose(moved.positions - reference.positions, [0.4, -0.7, 0.0], atol=1e-9)


@pytest.mark.parametrize(
    "template",
    [
        Template.ag111("p3x3"),
        Template.ag111("c2x8"),
        Template.from_slab(fcc111("Ag", (8, 2, 2), a=A0_AG, vacuum=8.0, periodic=True)),
    ],
)
def test_other_cells_are_refused(template):
    with pytest.raises(ValueError, match=r"needs a p\(4x4\) cell"):
        ag6_model(template)
