"""Calculators by name: what they compute, and what is missing is refused in one sentence."""

import ast
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import add_adsorbate, fcc111
from ase.calculators.calculator import PropertyNotImplementedError

from experiments.calculators.requirements import INSTALL
from experiments.harness.config import compose
from experiments.harness.config.instantiate import build, calculator_for, named_calculators
from sdedata import shipped

PACKAGES = {
    "chgnet": "chgnet", "sevennet": "sevenn", "mace": "mace", "mattersim": "mattersim",
    "orb": "orb_models", "uma": "fairchem", "gpaw": "gpaw",
}  # fmt: skip


def named(name: str, *more: str):
    return compose.load("generate_data", [f"calculator={name}", *more]).calculator


def test_every_package_is_known():
    assert set(named_calculators().values()) == {"corrected", "emt", "forcefield", *PACKAGES}
    assert set(INSTALL) == set(PACKAGES.values())


@pytest.mark.parametrize(("name", "package"), PACKAGES.items())
def test_a_missing_package_is_refused_with_the_line_that_installs_it(name, package, monkeypatch):
    for loaded in [key for key in sys.modules if key.split(".")[0] == package]:
        monkeypatch.delitem(sys.modules, loaded)
    monkeypatch.setattr(sys, "path", [])  # nothing can be imported anew
    monkeypatch.setattr(sys, "meta_path", [one for one in sys.meta_path if _is_builtin(one)])
    with pytest.raises(ValueError, match=INSTALL[package].split(",")[0]) as error:
        build(named(name))
    assert f"package {package} is not installed" in str(error.value)


def _is_builtin(finder) -> bool:
    return getattr(finder, "__name__", "") in ("BuiltinImporter", "FrozenImporter", "PathFinder")


def test_elements_that_a_calculator_does_not_know_are_refused():
    calculator_for(named("emt"), {8, 47})
    with pytest.raises(ValueError, match="EMT does not know He, Ti"):
        calculator_for(named("emt"), {2, 22, 47})
    with pytest.raises(ValueError, match="CHGNetPotential does not know Am"):
        calculator_for(named("chgnet"), {95})


@pytest.fixture(scope="module")
def sevennet():
    return calculator_for(named("sevennet"), {8, 47})


@pytest.fixture(scope="module")
def chgnet():
    return calculator_for(named("chgnet"), {8, 47})


def images() -> list[Atoms]:
    """Minima shaken, of two sizes, one in a cell smaller than the cutoff, one lone molecule."""
    rng, found = np.random.default_rng(3), []
    for name in ("rss_ag6o3_p3x3", "ag6_p4x4"):
        atoms = shipped.load(name).atoms(0)
        atoms.set_constraint()
        atoms.calc = None
        atoms.positions += rng.normal(scale=0.1, size=atoms.positions.shape)
        found.append(atoms)
    small = fcc111("Ag", (1, 1, 3), vacuum=10.0, periodic=True)
    add_adsorbate(small, "O", 1.2, "fcc")
    small.positions += rng.normal(scale=0.1, size=small.positions.shape)
    return [*found, small, Atoms("O2", [[0, 0, 0], [0, 0, 1.3]], cell=[30, 30, 30], pbc=True)]


def own_calculator(name: str):
    if name == "sevennet":
        from sevenn.calculator import SevenNetCalculator

        return SevenNetCalculator("7net-0", device="cpu")
    from chgnet.model.dynamics import CHGNetCalculator

    return CHGNetCalculator(use_device="cpu", on_isolated_atoms="ignore")


@pytest.mark.parametrize("name", ["sevennet", "chgnet"])
def test_a_batch_has_the_energies_and_forces_of_the_package_s_own_calculator(name, request):
    potential, theirs = request.getfixturevalue(name), own_calculator(name)
    for atoms, (energy, forces) in zip(images(), potential.batch(images()), strict=True):
        atoms.calc = theirs
        assert energy == pytest.approx(atoms.get_potential_energy(), abs=2e-4)
        np.testing.assert_allclose(forces, atoms.get_forces(), atol=5e-4)
        alone = atoms.copy()
        alone.calc = potential
        assert alone.get_potential_energy() == pytest.approx(energy, abs=1e-4)
        np.testing.assert_allclose(alone.get_forces(), forces, atol=2e-4)


@pytest.mark.parametrize("name", ["sevennet", "chgnet"])
def test_a_slab_needs_no_third_cell_vector(name, request):
    potential = request.getfixturevalue(name)
    slabs = [fcc111("Ag", (1, 1, 3)) for _ in range(3)]  # pbc T T F
    slabs[1].cell[2], slabs[2].cell[2] = [0, 0, 30], [0, 0, 300]
    energies = [energy for energy, _ in potential.batch(slabs)]
    np.testing.assert_allclose(energies, energies[0], atol=1e-5)
    if name == "chgnet":
        assert energies[0] == pytest.approx(-7.98463, abs=1e-4)  # by CHGNet's own, at 30 Å


@pytest.mark.slow  # each is built by e3nn for seconds
def test_the_other_models_of_the_wheel_load_too():
    from sevenn.calculator import SevenNetCalculator

    atoms = images()[0]
    for model, fidelity in (("7net-l3i5", None), ("7net-mf-0", "PBE"), ("7net-mf-0", "R2SCAN")):
        more = [] if fidelity in (None, "PBE") else [f"+calculator.fidelity={fidelity}"]
        ours = build(named("sevennet", f"calculator.model={model}", *more))
        ((energy, forces),) = ours.batch([atoms])
        atoms.calc = SevenNetCalculator(model, device="cpu", modal=fidelity)
        assert energy == pytest.approx(atoms.get_potential_energy(), abs=2e-4)
        np.testing.assert_allclose(forces, atoms.get_forces(), atol=5e-4)
    with pytest.raises(ValueError, match="fidelity=HSE is none of this SevenNet: R2SCAN, PBE"):
        build(named("sevennet", "calculator.model=7net-mf-0", "+calculator.fidelity=HSE"))


def test_the_compiled_convolution_is_e3nn_s_tensor_product():
    """Messages, their sum and all derivatives, for features of several degrees."""
    from e3nn.o3 import Irreps, TensorProduct

    from experiments.calculators.convolution import _Convolve, paths

    torch.manual_seed(0)
    first, second = Irreps("4x0e+3x1o+2x2e"), Irreps("1x0e+1x1o+1x2e")
    ways = [(a, b, ir) for a, (_, one) in enumerate(first) for b, (_, two) in enumerate(second)
            for ir in one * two if ir.l <= 2]  # fmt: skip
    out = Irreps([(first[a].mul, ir) for a, _, ir in ways])
    product = TensorProduct(
        first, second, out, [(a, b, k, "uvu", True) for k, (a, b, _) in enumerate(ways)],
        shared_weights=False, internal_weights=False,
    )  # fmt: skip
    receivers, senders = torch.tensor([0, 0, 1, 2, 2]), torch.tensor([1, 2, 0, 0, 2])
    x, y = torch.randn(3, first.dim), torch.randn(5, second.dim)
    given = [x, y, torch.randn(5, product.weight_numel)]
    pull = torch.randn(3, out.dim)
    tables = paths(product)

    def plain(x, y, w):
        return torch.zeros(3, out.dim).index_add(0, receivers, product(x[senders], y, w))

    def compiled(x, y, w):
        edges = torch.stack([receivers, senders])
        summed = _Convolve.apply(x[:, tables.inwards], y, w, edges, tables, out.dim)
        return summed[:, tables.outwards]

    results = []
    for convolve in (plain, compiled):
        leaves = [one.clone().requires_grad_() for one in given]
        found = convolve(*leaves)
        results.append([found.detach(), *torch.autograd.grad((found * pull).sum(), leaves)])
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


def test_a_model_without_weights_is_refused_in_a_sentence():
    with pytest.raises(ValueError, match="weights of SevenNet nowhere.pth cannot be loaded") as e:
        build(named("sevennet", "calculator.model=nowhere.pth"))
    assert "holds 7net-0, 7net-l3i5 and 7net-mf-0" in str(e.value)
    with pytest.raises(ValueError, match="experiments.calculators.chgnet: .*9.9"):
        build(named("chgnet", "calculator.model='9.9'"))


CALLS = {
    ("mace", "mace/calculators/foundations_models.py", "mace_mp"): (
        "model", "device", "default_dtype"
    ),
    ("mattersim", "mattersim/forcefield/potential.py", "MatterSimCalculator.__init__"): (
        "device", "compute_stress"
    ),
    ("mattersim", "mattersim/forcefield/potential.py", "Potential.from_checkpoint"): (
        "load_path", "device"
    ),
    ("orb_models", "orb_models/forcefield/pretrained.py", "orb_v3_conservative_inf_omat"): (
        "device", "precision", "compile"
    ),
    ("orb_models", "orb_models/forcefield/calculator.py", "ORBCalculator.__init__"): (
        "model", "device"
    ),
    ("fairchem", "fairchem/core/calculate/pretrained_mlip.py", "get_predict_unit"): (
        "model_name", "device"
    ),
    ("fairchem", "fairchem/core/calculate/ase_calculator.py", "FAIRChemCalculator.__init__"): (
        "predict_unit", "task_name"
    ),
}  # fmt: skip
"""What `experiments.calculators.packages` calls in packages whose weights must be downloaded."""


@pytest.mark.parametrize(("where", "passed"), CALLS.items(), ids=[c[2] for c in CALLS])
def test_calls_match_the_signatures_of_an_installed_package(where, passed):
    """The source is read, not imported: `pip install --no-deps` is enough."""
    package, file, name = where
    found = find_spec(package)
    if found is None:
        pytest.skip(f"{package} is not installed ({INSTALL[package]})")
    (home, *_) = found.submodule_search_locations
    scope: ast.AST = ast.parse((Path(home).parent / file).read_text(encoding="utf-8"))
    for part in name.split("."):
        kinds = (ast.FunctionDef, ast.ClassDef)
        same = [n for n in ast.walk(scope) if isinstance(n, kinds) and n.name == part]
        scope = same[-1]  # the last one: overloads come before it
    names = {one.arg for one in (*scope.args.args, *scope.args.kwonlyargs)}
    assert names >= set(passed)


def test_a_slab_for_dft_is_open_along_z_with_its_own_vacuum_and_k_points():
    """EMT in the place of GPAW: it computes the same slab."""
    from ase.calculators.emt import EMT

    from experiments.calculators.slab_dft import SlabDFT

    heard = []

    def make(**settings):
        heard.append(settings)
        return EMT()

    for name, mesh in (("rss_ag6o3_p3x3", (5, 5, 1)), ("rss_ag12o6_p4x4", (4, 4, 1))):
        atoms = shipped.load(name).atoms(0)
        calculator = SlabDFT(make, frozenset({8, 47}), xc="PBE")
        atoms.calc = calculator
        energy = atoms.get_potential_energy()
        forces = atoms.get_forces(apply_constraint=False)
        assert heard[-1]["xc"] == "PBE"
        assert heard[-1]["kpts"] == {"size": mesh, "gamma": True}
        slab = calculator.prepared(atoms)
        assert slab.pbc.tolist() == [True, True, False]
        z = slab.positions[:, 2]
        assert (z.min(), slab.cell[2, 2] - z.max()) == pytest.approx((5.5, 5.5))
        atoms.set_constraint()
        atoms.pbc = (True, True, False)
        atoms.calc = EMT()
        assert energy == pytest.approx(atoms.get_potential_energy())
        np.testing.assert_allclose(forces, atoms.get_forces(), atol=1e-9)
    assert len(heard) == 2, "energy and forces come from one calculation"


def test_magnetic_moments_begin_as_given_by_element():
    from experiments.calculators.slab_dft import SlabDFT

    atoms = shipped.load("rss_ag6o3_p3x3").atoms(0)
    slab = SlabDFT(lambda: None, frozenset({8, 47}), magmoms={"O": 1.0}).prepared(atoms)
    assert slab.get_initial_magnetic_moments().tolist() == [float(s == "O") for s in atoms.symbols]
    assert not SlabDFT(lambda: None, frozenset({8, 47})).prepared(atoms).has("initial_magmoms")


def test_oxygen_begins_with_a_moment_where_it_is_a_molecule():
    """In p(3x3) sets O-O distances are 1.3 to 1.5 Å or above 2.5: bonded are the pairs below 2."""
    from experiments.calculators.slab_dft import SlabDFT

    molecules = SlabDFT(lambda: None, frozenset({8, 47}), magmoms={"O2": 1.0})
    both = SlabDFT(lambda: None, frozenset({8, 47}), magmoms={"O2": 1.0, "O": 0.5})
    found = set()
    for atoms in shipped.load("rss_ag6o3_p3x3").to_atoms()[::7]:
        oxygen = np.flatnonzero(atoms.numbers == 8)
        apart = atoms.get_all_distances(mic=True)[np.ix_(oxygen, oxygen)] + 9 * np.eye(3)
        bonded = oxygen[apart.min(1) < 2]
        slab = molecules.prepared(atoms)
        assert np.flatnonzero(slab.get_initial_magnetic_moments()).tolist() == bonded.tolist()
        assert slab.has("initial_magmoms") == bool(len(bonded)), "closed shell: half the time"
        atoms.set_initial_magnetic_moments([0.25] * len(atoms))
        kept = both.prepared(atoms).get_initial_magnetic_moments()
        assert (kept == 0.25).all(), "its own moments are a structure's to give"
        atoms.set_initial_magnetic_moments(None)
        moments = both.prepared(atoms).get_initial_magnetic_moments()
        assert moments[bonded].tolist() == [1.0] * len(bonded)
        assert moments.sum() == len(bonded) + 0.5 * (3 - len(bonded))
        found.add(len(bonded))
    assert {0, 2} <= found


def test_a_magnetic_moment_of_no_element_is_refused():
    from experiments.calculators.slab_dft import SlabDFT

    with pytest.raises(ValueError, match="magmoms: Oxygen is no element"):
        SlabDFT(lambda: None, frozenset({8, 47}), magmoms={"Oxygen": 1.0})


def test_a_step_of_a_relaxation_by_dft_starts_from_the_density_of_the_one_before():
    """EMT in the place of GPAW; as an ASE calculator it computes what has moved since."""
    from ase.calculators.emt import EMT

    from experiments.calculators.slab_dft import SlabDFT

    made = []

    def make(**settings):
        made.append(EMT())
        return made[-1]

    calculator = SlabDFT(make, frozenset({8, 47}))
    atoms = shipped.load("rss_ag6o3_p3x3").atoms(0)
    atoms.set_constraint()
    for move, computations in ((0.0, 1), (0.3, 1), (0.3, 1), (0.6, 2)):
        atoms.positions[-1, 0] += move
        atoms.calc = calculator
        slab = calculator.prepared(atoms)
        slab.calc = EMT()
        assert atoms.get_potential_energy() == pytest.approx(slab.get_potential_energy())
        np.testing.assert_allclose(atoms.get_forces(), slab.get_forces(), atol=1e-9)
        assert len(made) == computations
    other = shipped.load("rss_ag6o3_p3x3").atoms(1)
    other.calc = calculator
    other.get_potential_energy()
    assert len(made) == 3
    magnetic = other.copy()
    magnetic.set_initial_magnetic_moments([float(s == "O") for s in other.symbols])
    with pytest.raises(PropertyNotImplementedError, match="magmom"):  # EMT has no spin
        calculator.get_potential_energy(magnetic)
    assert len(made) == 4, "a density without spin does not begin one with it"


def test_a_batched_relaxation_ends_where_the_loop_does(sevennet):
    """With the same moves: one structure after the other by the package's own calculator."""
    from experiments.harness.generation.relaxation import relax

    surfaces = [shipped.load("rss_ag6o3_p3x3").atoms(k) for k in (0, 1)]
    rng = np.random.default_rng(1)
    for atoms in surfaces:
        atoms.calc = None
        atoms.positions[18:] += rng.normal(scale=0.05, size=(9, 3))
    start = [atoms.positions.copy() for atoms in surfaces]
    options = {"fmax": 0.1, "max_steps": 8}
    batched = relax(surfaces, sevennet, **options)
    loop = relax(surfaces, own_calculator("sevennet"), **options)
    for one, other, before in zip(batched, loop, start, strict=True):
        assert one.get_potential_energy() == pytest.approx(other.get_potential_energy(), abs=2e-3)
        np.testing.assert_allclose(one.positions, other.positions, atol=0.02)
        np.testing.assert_array_equal(one.positions[:18], before[:18])
        for key in ("relax_steps", "converged"):
            assert one.info[key] == other.info[key]
