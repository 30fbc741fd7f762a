"""Templates: a frozen slab, its periodic cell and the window in z that confines the overlayer."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase import Atoms

from sdedata.composition import formula, parse_formula
from sdedata.files import read_frames
from sdedata.frames import require_atoms
from sdedata.frozen import freeze, frozen_mask
from sdedata.layers import continued
from sdedata.surface import upright

log = logging.getLogger(__name__)

LEAST_VACUUM = 2.0  # Å
A0_AG = 4.15  # Å, PBE lattice constant of silver
AG111_CELLS = {
    "c2x8": [[2, 0], [-3, 4]],  # primitive cell of the centred 2a x 4√3a rectangle
    "p3x3": [[3, 0], [0, 3]],
    "p4x4": [[4, 0], [0, 4]],
}


@dataclass(frozen=True, eq=False)
class Template:
    """A frozen slab (all atoms fixed), its cell and the confinement of an overlayer.

    `window` is (lowest, highest) z in Å, absolute. Raises ValueError if the window is empty, begins
    inside the slab, or does not fit below the slab's periodic image.
    """

    name: str
    slab: Atoms
    window: tuple[float, float]

    def __post_init__(self) -> None:
        low, high = self.window
        if not low < high:
            raise ValueError(f"template {self.name}: the z range {low:g} to {high:g} Å is empty")
        if low <= self.top:
            raise ValueError(
                f"template {self.name}: the z range begins at z = {low:g} Å, inside the slab, "
                f"whose highest atom is at {self.top:g} Å; begin it about 1 Å above"
            )
        self.require_vacuum(LEAST_VACUUM)

    def require_vacuum(self, needed: float) -> None:
        """Raise ValueError unless `needed` Å separate the window from the slab's periodic image."""
        height = float(self.slab.cell[2, 2])
        image = float(self.slab.positions[:, 2].min()) + height
        if height > 0 and self.slab.pbc[2] and image - self.window[1] < needed:
            raise ValueError(
                f"template {self.name}: the cell is too thin in z: the z range ends at "
                f"{self.window[1]:g} Å and the slab's image begins at {image:g} Å, with less than "
                f"{needed:g} Å between; add vacuum"
            )

    @property
    def top(self) -> float:
        """z of the highest slab atom, in Å."""
        return float(self.slab.positions[:, 2].max())

    @classmethod
    def ag111(
        cls, cell: str = "p3x3", window: tuple[float, float] = (1.0, 5.0), layers: int = 2
    ) -> "Template":
        """Build Ag(111) with all atoms fixed; `window` in Å above the top layer.

        `cell` is c2x8, p3x3 or p4x4 (8, 9 and 16 atoms per layer); 10 Å of vacuum on either side.
        """
        from ase.build import fcc111, make_supercell

        if cell not in AG111_CELLS:
            raise ValueError(f"no Ag(111) cell {cell!r}: choose one of {', '.join(AG111_CELLS)}")
        unit = fcc111("Ag", (1, 1, layers), a=A0_AG, vacuum=10.0)
        matrix = np.eye(3, dtype=int)
        matrix[:2, :2] = AG111_CELLS[cell]
        slab = make_supercell(unit, matrix)
        slab.pbc = True
        slab.positions[:, 2] -= slab.positions[:, 2].min()
        slab.wrap(pbc=[True, True, False])
        slab = slab[np.argsort(slab.positions[:, 2], kind="stable")]
        return cls.from_slab(slab, window, name=f"ag111_{cell}")

    @classmethod
    def from_slab(
        cls, slab: Atoms | str | Path, window: tuple[float, float] = (1.0, 5.0), name: str = "slab"
    ) -> "Template":
        """Make a template from a slab or a file that ASE reads; `window` in Å above the slab.

        The substrate are the frozen atoms and, above them, free layers of the same atoms as a
        frozen layer; other free atoms (an old overlayer) are removed, which is logged. If none
        is frozen, all are substrate. Of a file, the last frame is used. Raises ValueError for a
        slab without atoms, or one that does not stand upright (`surface.upright`).
        """
        where = f"template {name}"
        if not isinstance(slab, Atoms):
            name, where = Path(slab).stem, str(slab)
            slab = read_frames(slab)[-1]
        if len(slab) == 0 or not np.isfinite(slab.positions).all():
            raise ValueError(f"{where}: the slab has no atoms, or positions that are not finite")
        frozen = frozen_mask(slab)
        slab = upright(slab, where)
        require_atoms(slab, where)
        if frozen.any():
            slab = _substrate(slab, frozen, where)
        elif len(set(slab.numbers)) > 1:  # an adsorbate may be among them
            log.info(f"{where}: no atom is fixed: all of {formula(slab.numbers)} are the slab")
        freeze(slab, np.ones(len(slab), dtype=bool))
        top = float(slab.positions[:, 2].max())
        return cls(name, slab, (top + window[0], top + window[1]))

    @classmethod
    def load(cls, slab: str, window: tuple[float, float] = (1.0, 5.0)) -> "Template":
        """Load a template by name (ag111_c2x8, ag111_p3x3, ag111_p4x4) or from a file of ASE.

        `window` in Å above the highest slab atom. Raises ValueError for any other name.
        """
        names = [f"ag111_{cell}" for cell in AG111_CELLS]
        if slab in names:
            return cls.ag111(slab.removeprefix("ag111_"), window)
        if not Path(slab).is_file():
            raise ValueError(f"no slab {slab!r}: give a file, or one of {', '.join(names)}")
        return cls.from_slab(slab, window)

    @property
    def area(self) -> float:
        """Area of the cell in the plane, Å²."""
        return float(np.linalg.norm(np.cross(self.slab.cell[0], self.slab.cell[1])))

    def surface(self, composition: str | Mapping[str, int], positions: np.ndarray) -> Atoms:
        """Add an overlayer at these positions (Å, in the order of the formula) to the slab."""
        count = parse_formula(composition) if isinstance(composition, str) else dict(composition)
        symbols = [symbol for symbol, n in count.items() for _ in range(n)]
        atoms = self.slab + Atoms(symbols, positions=positions)
        freeze(atoms, np.arange(len(atoms)) < len(self.slab))
        return atoms


def _substrate(slab: Atoms, frozen: np.ndarray, where: str) -> Atoms:
    """Select the frozen atoms and the free layers that continue them; log what is removed."""
    kept = continued(slab, frozen)
    free, removed = int((kept & ~frozen).sum()), int((~kept).sum())
    if free:
        log.info(f"{where}: {free} free atoms in layers like the frozen ones belong to the slab")
    if removed:
        log.info(
            f"{where}: {removed} free atoms ({formula(slab.numbers[~kept])}) are removed, as an "
            "old overlayer; to keep them in the slab, fix them"
        )
    return slab[kept]
