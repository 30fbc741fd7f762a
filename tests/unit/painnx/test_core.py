"""The repulsion of cores: LAMMPS's numbers, shifted; nothing where data are; the same compiled."""

import pytest
import torch
from ase import Atoms
from ase.data import covalent_radii

from painnx import ForceField
from tests.unit.painnx.systems import CUTOFF, ELEMENTS, assert_close, force_field, graph, slab

# LAMMPS, pair_style zbl 6.0 6.001, units metal: distance (Å), energy (eV, up to a constant of the
# pair) and force (eV/Å). The last distance is 0.7 of the covalent radii, where ours ends.
LAMMPS = {
    (8, 8): [(0.4, 337.7027421, 2056.348607), (0.7, 74.06643468, 318.4254272),
             (0.924, 30.57373368, 111.8313441)],
    (8, 47): [(0.8, 170.6054306, 747.4712163), (1.2, 35.53404246, 126.2195047),
              (1.477, 14.02951538, 44.51006986)],
    (47, 47): [(1.0, 249.9330744, 1065.681893), (1.7, 19.55964831, 61.44145072),
               (2.03, 7.311800743, 20.78860667)],
}  # fmt: skip


def empty() -> ForceField:
    """Make a force field of which the cores are all."""
    field = ForceField(ELEMENTS, features=8, blocks=1, cutoff=CUTOFF).double().eval()
    with torch.no_grad():
        for parameter in field.parameters():
            parameter.zero_()
    return field


def energy_and_force(field: ForceField, pair: tuple[int, int], d: float) -> tuple[float, float]:
    energy, forces = field(graph(Atoms(pair, [[0, 0, 0], [0, d, 0]])))
    return energy.item(), forces[1, 1].item()


@pytest.mark.parametrize("pair", LAMMPS)
def test_is_lammps_shifted_to_end_smoothly(pair) -> None:
    field = empty()
    *points, (end, at_end, force_at_end) = LAMMPS[pair]
    assert end == pytest.approx(0.7 * covalent_radii[list(pair)].sum(), abs=1e-12)
    for d, at_d, force_at_d in points:
        energy, force = energy_and_force(field, pair, d)
        assert force == pytest.approx(force_at_d - force_at_end, rel=2e-5)
        assert energy == pytest.approx(at_d - at_end - force_at_end * (end - d), rel=2e-5)
    near = energy_and_force(field, pair, end - 1e-4)
    assert 0 < near[0] < 1e-5
    assert 0 < near[1] < 0.1
    assert energy_and_force(field, pair, end + 1e-9) == (0, 0)


def test_changes_nothing_between_atoms_of_a_surface() -> None:
    energy, forces = empty()(graph(slab()))
    assert energy == 0
    assert not forces.any()


@pytest.mark.compile
def test_is_the_same_compiled_where_all_pairs_are_computed() -> None:
    core = force_field().core
    compiled = torch.compile(core, backend="eager", fullgraph=True)
    crowded = slab()
    crowded.positions[-1] = crowded.positions[0] + [0.5, 0.3, 0.8]
    g = graph(crowded)
    assert core(g).max() > 1
    assert_close(compiled(g), core(g), 1e-12)


def test_two_atoms_that_overlap_come_apart() -> None:
    """In a trained network the cores must win: here against a random one."""
    field = force_field()
    for d in (0.3, 0.5, 0.7):
        assert energy_and_force(field, (8, 8), d)[1] > 10
