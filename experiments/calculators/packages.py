"""Calculators of packages that are installed on request, each as its documentation builds it."""

from pathlib import Path
from typing import Any

from ase.calculators.calculator import Calculator
from ase.data import chemical_symbols

from experiments.calculators import lcao_products
from experiments.calculators.requirements import module, weights
from experiments.calculators.slab_dft import SlabDFT

DOWNLOAD = "they are downloaded at first use: do so once with network, or give calculator.model="


def mace(
    model: str = "medium-mpa-0", device: str = "cpu", default_dtype: str = "float64"
) -> Calculator:
    """Build a MACE foundation model by `mace.calculators.mace_mp`; `model` is a name or a file.

    Raises ImportError or ValueError if package or weights are missing.
    """
    calculators = module("mace.calculators")
    with weights(f"MACE {model}", f"{DOWNLOAD}FILE"):
        made = calculators.mace_mp(model=model, device=device, default_dtype=default_dtype)
    made.elements = frozenset(int(z) for z in made.z_table.zs)
    return made


def mattersim(model: str = "MatterSim-v1.0.0-5M.pth", device: str = "cpu") -> Calculator:
    """Build `mattersim.forcefield.MatterSimCalculator`, without stress; `model` is a name or file.

    Raises ImportError or ValueError if package or weights are missing.
    """
    forcefield = module("mattersim.forcefield")
    with weights(model, f"{DOWNLOAD}FILE"):
        return forcefield.MatterSimCalculator(load_path=model, device=device, compute_stress=False)


def orb(
    model: str = "orb_v3_conservative_inf_omat",
    device: str = "cpu",
    precision: str = "float32-highest",
) -> Calculator:
    """Build ORB; `model` names a function of `orb_models.forcefield.pretrained`.

    Raises ImportError or ValueError if package, model or weights are missing.
    """
    pretrained = module("orb_models.forcefield.pretrained")
    calculator = module("orb_models.forcefield.calculator")
    if not hasattr(pretrained, model):
        raise ValueError(f"orb_models has no pretrained model {model}")
    with weights(model, "they are downloaded at first use: do so once with network"):
        network = getattr(pretrained, model)(device=device, precision=precision, compile=False)
        return calculator.ORBCalculator(network, device=device)


def uma(model: str = "uma-s-1p1", task: str = "omat", device: str = "cpu") -> Calculator:
    """Build UMA by fairchem; `model` is a name or a file, `task` omat (PBE), oc20, ...

    Raises ImportError or ValueError if package or weights are missing.
    """
    core = module("fairchem.core")
    remedy = "Hugging Face gives them to accounts that accepted facebook/UMA: log in once, or "
    with weights(model, f"{remedy}give calculator.model=FILE"):
        unit = core.pretrained_mlip.get_predict_unit(model, device=device)
        return core.FAIRChemCalculator(unit, task_name=task)


def gpaw(xc: str = "PBE", **settings: Any) -> Calculator:
    """Build `SlabDFT` with GPAW; the elements it knows are those with an atomic data set.

    Raises ImportError if it is missing, ValueError if it finds no data sets of the functional.
    """
    package = module("gpaw")
    lcao_products.use()
    elements = frozenset(
        number
        for folder in map(Path, package.setup_paths)
        for number, symbol in enumerate(chemical_symbols)
        for ending in ("", ".gz", ".bz2")
        if (folder / f"{symbol}.{xc}{ending}").is_file()
    )
    if not elements:
        raise ValueError(f"GPAW finds no data sets of {xc}: gpaw install-data FOLDER")
    return SlabDFT(package.GPAW, elements, xc=xc, **settings)
