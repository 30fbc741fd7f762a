"""Put random searches among the data that `sdedata` carries, and rewrite its datasheet.

    surfdiff package_data rss_c2x8=runs/generate_data/c2x8

Without arguments only the datasheet is rewritten: its numbers between the markers, its picture, and
the relaxed Ag6 model, which is made if it is missing. The text is generated from the files.
"""

import shutil
from pathlib import Path

import numpy as np

from experiments.harness.runs.markdown import fill
from experiments.harness.runs.markdown import table as markdown
from sdedata import StructureSet, Template, shipped
from sdedata.composition import parse_formula
from sdedata.dataset import (
    LOW_MAX_ENERGY,
    SUBSETS,
    WINDOW,
    counts_table,
    distinct,
    inside_window,
    totals,
)
from sdedata.similarity import same

SHEET, PICTURE = "DATASHEET.md", "lowest.png"
TRAINING = "rss_c2x8"
AG6, AG6_SEARCH = "ag6_p4x4", "rss_ag12o6_p4x4"
RATTLES = 12
TIGHT = {"fmax": 0.02, "max_steps": 500}
"""Starts of the Ag6 model, and how they are relaxed."""
ROWS = 4
"""Of the picture: one per number of oxygen atoms."""


def package(runs: dict[str, Path], folder: Path) -> None:
    """Copy the sets of finished searches, by the name that each is to have, into the folder."""
    for name, run in runs.items():
        if not name.startswith(shipped.SEARCH):
            raise ValueError(f"the name of a search begins with {shipped.SEARCH}, not {name}")
        StructureSet.read(run / "minima.npz")  # it is there, and whole
        StructureSet.read(run / "frames.npz")
    for name, run in runs.items():
        shutil.copy(run / "minima.npz", folder / f"{name}.npz")
        if name == TRAINING:
            shutil.copy(run / "frames.npz", folder / f"{name}{shipped.FRAMES}.npz")


def relaxed_ag6(search: StructureSet) -> StructureSet:
    """The hand-built Ag6 model, relaxed with the calculator of this search.

    Built with the symmetry of its lattice, it would stay at the saddle between the minima in which
    every other oxygen atom goes up: it is rattled, relaxed until little force is left (the way down
    is flat), and the lowest of `RATTLES` is kept.
    """
    from experiments.harness.config.instantiate import build
    from experiments.harness.config.trust import require_known
    from guidance import LBFGS
    from sdedata.ag6 import ag6_model
    from sdedata.rss import relax

    kept = ("template", "calculator", "relaxation", "versions")
    meta = {key: search.meta[key] for key in kept if key in search.meta}
    atoms = ag6_model(Template.load(meta["template"]["slab"]))
    require_known(meta["calculator"], f"{AG6_SEARCH}.npz")
    calculator = build(meta["calculator"])
    paths, relaxation = [], meta["relaxation"] | TIGHT
    for seed in range(RATTLES):
        start = atoms.copy()
        start.rattle(0.1, seed=seed)  # Å; the frozen atoms stay
        paths.append(relax(start, calculator, optimizer=LBFGS, **relaxation))
    path = min(paths, key=lambda one: one.energies[-1])
    atoms = path.frame(-1, atoms)
    atoms.info |= {
        "index": 0, "relax_steps": path.steps, "converged": path.converged,
        "energy_initial": float(path.energies[0]),
    }  # fmt: skip
    return StructureSet.from_atoms([atoms], meta=meta | {"relaxation": relaxation})


def sets_table(sets: dict[str, StructureSet]) -> str:
    """Markdown: what each set holds."""
    header = ["set", "structures", "surfaces", "energy, median (eV)", "largest (eV)", "digest"]
    lines = []
    for name, data in sets.items():
        energy = data.relative_energy
        surfaces = "–" if name.endswith(shipped.FRAMES) else str(len(distinct(data)))
        lines.append([
            f"`{name}`", str(len(data)), surfaces, f"{np.median(energy):.2f}",
            f"{energy.max():.2f}", f"`{data.digest}`",
        ])  # fmt: skip
    return markdown(header, lines)


def stoichiometry_table(minima: StructureSet) -> str:
    """Markdown: minima and surfaces of each stoichiometry, and what the paper's sets hold."""
    counts = counts_table(minima)
    header = ["stoichiometry", "minima", "surfaces", "lowest (eV)", *SUBSETS]
    lines = []
    found, formulas = distinct(minima).compositions, minima.compositions
    for row in counts:
        formula = str(row["stoichiometry"])
        mine = formulas == formula
        lowest = minima.energy[mine].min()
        numbers = [str(mine.sum()), str((found == formula).sum()), f"{lowest:.2f}"]
        lines.append([formula, *numbers, *(str(row[key]) for key in SUBSETS)])
    sums = totals(counts)
    numbers = [str(len(minima)), str(len(found)), "–"]
    lines.append([str(sums["stoichiometry"]), *numbers, *(str(sums[key]) for key in SUBSETS)])
    return markdown(header, lines)


def place_of_ag6(ag6: StructureSet, search: StructureSet) -> str:
    """A sentence: the model among the minima of random search."""
    model, above = ag6.atoms(0), search.energy - ag6.energy[0]
    hits = sum(same(atoms, model) for atoms in search.to_atoms())
    return (
        f"The Ag6 model, built by hand, rattled and relaxed to {TIGHT['fmax']} eV/Å, has "
        f"{ag6.energy[0]:.3f} eV. "
        f"Of the {len(search)} minima of random search {int((above < 0).sum())} lie below it; the "
        f"lowest is {above.min():+.3f} eV from it, the median {np.median(above):+.2f} eV. "
        f"{hits} of them "
        f"{'is' if hits == 1 else 'are'} the model itself."
    )


def numbers(folder: Path) -> str:
    """Describe, as the datasheet does, the sets in this folder, in markdown."""
    sets = {path.stem: StructureSet.read(path) for path in sorted(folder.glob("*.npz"))}
    minima = sets[TRAINING]
    low, high = WINDOW
    inside = int(inside_window(minima, WINDOW).sum())
    return "\n\n".join([
        sets_table(sets),
        f"Energies are above the lowest of the same stoichiometry. In `{TRAINING}`, where {inside} "
        f"minima lie wholly {low:g} to {high:g} Å above the slab (D within 2 eV and D_lowE within "
        f"{LOW_MAX_ENERGY:g} eV of the lowest count those only, and each surface once):",
        stoichiometry_table(minima),
        place_of_ag6(sets[AG6], sets[AG6_SEARCH]),
    ])  # fmt: skip


def draw_lowest(minima: StructureSet, path: Path) -> None:
    """The lowest structure of each stoichiometry, from the top and from the side."""
    from matplotlib.image import imsave

    from experiments.harness.figures.pictures import structures
    from experiments.harness.publishing.publish import pixels

    formulas, lowest_of_all = minima.compositions, minima.relative_energy == 0
    every = sorted(set(formulas), key=lambda f: tuple(parse_formula(f).items())[::-1])
    rows = []
    for some in np.array_split(np.array(every), ROWS):
        lowest = [np.flatnonzero((formulas == f) & lowest_of_all)[0] for f in some]
        rows.append(pixels(structures([minima.atoms(int(i)) for i in lowest], some.tolist()), 60))
    width, height = (min(row.shape[k] for row in rows) for k in (1, 0))
    half = len(rows) // 2
    cut = [row[:height, :width] for row in rows]
    picture = np.hstack([np.vstack(cut[:half]), np.vstack(cut[half:])])
    imsave(path, picture, pil_kwargs={"optimize": True})


def rewrite(folder: Path) -> None:
    """The datasheet's numbers and its picture."""
    if not (folder / f"{AG6}.npz").is_file():
        relaxed_ag6(StructureSet.read(folder / f"{AG6_SEARCH}.npz")).write(folder / f"{AG6}.npz")
    draw_lowest(StructureSet.read(folder / f"{TRAINING}.npz"), folder / PICTURE)
    sheet = folder / SHEET
    text = fill(sheet.read_text(encoding="utf-8"), "numbers", numbers(folder))
    sheet.write_text(text, encoding="utf-8")
