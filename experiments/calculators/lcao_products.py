"""GPAW's LCAO sums over grid points, as products of matrices.

GPAW 25.7 sums the density and the matrix of the potential pair by pair of basis functions, along
lines of points that see the same functions, and the density again for each k-point. Above a metal
such lines are a few points long. Here all functions on a block of points are one matrix, and the
k-points are summed first, into a density matrix between displaced cells. Of all states, those that
a calculation keeps are found. An oxygen atom on four of silver, with 2x3 k-points, took 5.5 instead
of 27 CPU-seconds side by side.

Letters as in GPAW: M counts basis functions, W their periodic images, G grid points; x is the
displacement between the cells of two images, V_xMM the matrix between functions so displaced.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.interpolate import PPoly
from scipy.linalg import eigh

VERSION = "25.7"
SIDE = 12  # grid points along a block's edge, about


class Rows(NamedTuple):
    """An image's values in a block: rows of GPAW's A_gm, and rows and columns of the block."""

    image: int
    of_image: np.ndarray
    of_block: np.ndarray
    columns: slice


class Cell(NamedTuple):
    """The columns of a block whose atoms lie in one cell: its number x, and their functions M."""

    x: int
    columns: slice
    functions: np.ndarray


class Block(NamedTuple):
    """The values (points, columns) of all images on a block of grid points (flat numbers G)."""

    points: np.ndarray
    values: np.ndarray
    cells: list[Cell]
    rows: list[Rows]


def blocks(basis: Any) -> list[Block]:
    """Put the functions of a `gpaw.lfc.BasisFunctions` on blocks of its grid."""
    block_G = _blocks_of_points(basis.gd.n_c)
    points = np.split(np.argsort(block_G, kind="stable"), np.cumsum(np.bincount(block_G))[:-1])
    row_G = np.empty(len(block_G), int)
    for G in points:
        row_G[G] = np.arange(len(G))
    found: list[list[tuple[int, np.ndarray, np.ndarray]]] = [[] for _ in points]
    by_cell = np.argsort(basis.x_W, kind="stable")
    grid = dict(enumerate(_points_of_images(basis)))
    for W in by_cell:
        G = grid[W]
        order = np.argsort(block_G[G], kind="stable")
        numbers, begin = np.unique(block_G[G][order], return_index=True)
        for number, part in zip(numbers, np.split(order, begin[1:]), strict=True):
            found[number].append((W, part, row_G[G[part]]))
    return [_block(basis, G, images) for G, images in zip(points, found, strict=True)]


def _blocks_of_points(n_c: Sequence[int]) -> np.ndarray:
    """Number the blocks that each point of a grid of n_c points belongs to."""
    numbers = np.zeros(1, int)
    for n in n_c:
        count = max(1, round(n / SIDE))
        numbers = (numbers[:, None] * count + np.arange(n) * count // n).ravel()
    return numbers


def _points_of_images(basis: Any) -> Iterator[np.ndarray]:
    """Yield the grid points of each image, which GPAW keeps as beginnings and ends of lines."""
    for a in basis.atom_indices:
        for ends in basis.sphere_a[a].G_wb:
            begin, end = np.reshape(ends, (-1, 2)).T
            length = end - begin
            yield np.repeat(begin - np.cumsum(length) + length, length) + np.arange(length.sum())


def _block(
    basis: Any, points: np.ndarray, images: list[tuple[int, np.ndarray, np.ndarray]]
) -> Block:
    width = [basis.A_Wgm[W].shape[1] for W, _, _ in images]
    end = np.cumsum(width, dtype=int)
    values = np.zeros((len(points), sum(width)))
    function, x = np.empty((2, sum(width)), int)
    rows = []
    for (W, of_image, of_block), m, stop in zip(images, width, end, strict=True):
        columns = slice(stop - m, stop)
        values[of_block, columns] = basis.A_Wgm[W][of_image]
        function[columns], x[columns] = basis.M_W[W] + np.arange(m), basis.x_W[W]
        rows.append(Rows(W, of_image, of_block, columns))
    numbers, begin = np.unique(x, return_index=True)
    cells = [
        Cell(number, slice(i, j), function[i:j])
        for number, i, j in zip(numbers, begin, [*begin[1:], len(x)], strict=True)
    ]
    return Block(points, values, cells, rows)


def potential_matrices(blocks: Iterable[Block], vt_G: np.ndarray, V_xMM: np.ndarray) -> None:
    """Add the integrals of Phi_M1 vt Phi_M2 to V_xMM; vt_G is the potential times the volume."""
    for block in blocks:
        weighted = block.values * vt_G.ravel()[block.points, None]
        for one in block.cells:
            for two in block.cells:
                if two.x >= one.x:
                    product = weighted[:, one.columns].T @ block.values[:, two.columns]
                    V_xMM[two.x - one.x][np.ix_(one.functions, two.functions)] += product


def between_cells(basis: Any, kpts: Sequence[Any], rho_qMM: Sequence[np.ndarray]) -> np.ndarray:
    """Sum density matrices of k-points to the real one between cells displaced by x: (x, M, M)."""
    k_qc = np.array([basis.ibzk_qc[kpt.q] for kpt in kpts]).reshape(-1, 3)
    phase_qx = np.exp(-2j * np.pi * k_qc @ basis.sdisp_xc.T)
    total = np.zeros((len(basis.sdisp_xc), basis.Mmax, basis.Mmax))
    for rho_MM, phase_x in zip(rho_qMM, phase_qx, strict=True):
        for x, phase in enumerate(phase_x):
            total[x] += phase.real * rho_MM.real - phase.imag * rho_MM.imag
    return total


def add_density(blocks: Iterable[Block], rho_xMM: np.ndarray, nt_G: np.ndarray) -> None:
    """Add the sum of Phi_M1 rho Phi_M2 to the density, each pair of cells once."""
    for block in blocks:
        for one in block.cells:
            for two in block.cells:
                if two.x >= one.x:
                    rho = rho_xMM[two.x - one.x][np.ix_(one.functions, two.functions)]
                    sums = block.values[:, two.columns] @ rho.T
                    both = 1 if two.x == one.x else 2
                    density = both * np.einsum("gm,gm->g", block.values[:, one.columns], sums)
                    nt_G.reshape(-1)[block.points] += density


def forces(
    blocks: Iterable[Block], basis: Any, rho_xMM: np.ndarray, vt_G: np.ndarray
) -> np.ndarray:
    """Return 2 integral of grad Phi_M1 vt rho Phi_M2, summed over each atom's functions: (a, 3).

    vt_G is the potential times the volume of a point.
    """
    sums_Wgm = [np.empty_like(A_gm) for A_gm in basis.A_Wgm]
    for block in blocks:
        sums = np.zeros_like(block.values)
        for one in block.cells:
            for two in block.cells:
                M1, M2 = one.functions, two.functions
                if two.x >= one.x:
                    rho = rho_xMM[two.x - one.x][np.ix_(M1, M2)]
                else:
                    rho = rho_xMM[one.x - two.x][np.ix_(M2, M1)].T
                sums[:, one.columns] += block.values[:, two.columns] @ rho.T
        sums *= vt_G.ravel()[block.points, None]
        for row in block.rows:
            sums_Wgm[row.image][row.of_image] = sums[row.of_block, row.columns]
    F_vM = np.zeros((3, basis.Mmax))
    radial = {id(s): s for sphere in basis.sphere_a for s in sphere.spline_j}
    pieces = {key: _polynomials(spline) for key, spline in radial.items()}
    splines = [s for sphere in basis.sphere_a for s in sphere.spline_j for _ in range(_m(s))]
    for W, G in enumerate(_points_of_images(basis)):
        M, spline = basis.M_W[W], splines[basis.M_W[W]]
        place_c = np.transpose(np.unravel_index(G, tuple(basis.gd.n_c))) + basis.gd.beg_c
        R_gv = place_c @ basis.gd.h_cv - basis.pos_Wv[W]
        F_vM[:, M : M + _m(spline)] += _gradients(pieces[id(spline)], R_gv, sums_Wgm[W])
    atoms = zip(basis.M_a, basis.sphere_a, strict=True)
    return 2 * np.array([F_vM[:, M : M + sphere.Mmax].sum(axis=1) for M, sphere in atoms])


def _m(spline: Any) -> int:
    return 2 * int(spline.get_angular_momentum_number()) + 1


def _polynomials(spline: Any) -> PPoly:
    """Return a spline's cubic pieces, which four values in each determine."""
    edges = np.linspace(0, spline.get_cutoff(), spline.get_npoints())
    inside = np.array([0.125, 0.375, 0.625, 0.875])
    r = (edges[:-1, None] + inside * edges[1]).ravel()
    values = spline.map(r).reshape(-1, 4)
    powers = np.arange(3, -1, -1)
    coefficients = np.linalg.solve(inside[:, None] ** powers, values.T)
    return PPoly(coefficients / edges[1] ** powers[:, None], edges)


def _gradients(radial: PPoly, R_gv: np.ndarray, sums_gm: np.ndarray) -> np.ndarray:
    """Sum the gradient of f(r) r^l Y_lm times `sums_gm` over points: (3, 2 l + 1)."""
    from gpaw.spherical_harmonics import Yarr, nablarlYL

    degree = sums_gm.shape[1] // 2
    r = np.linalg.norm(R_gv, axis=1)
    value, slope = radial(r), radial.derivative()(r)
    outward = R_gv.T / np.maximum(r, 1e-15)
    found = np.empty((3, sums_gm.shape[1]))
    for m, L in enumerate(range(degree**2, (degree + 1) ** 2)):
        (Y,) = np.reshape(Yarr([L], R_gv), (1, -1))
        for v, gradient in enumerate(nablarlYL(L, R_gv.T)):
            found[v, m] = ((value * gradient + slope * outward[v] * Y) * sums_gm[:, m]).sum()
    return found


def use() -> None:
    """Let GPAW's LCAO calculations make these sums from now on; other versions keep their own.

    So do calculations with real functions (the Gamma point alone) and with a distributed grid,
    which find the kept states alone, too, where their matrices are not distributed.
    """
    import gpaw
    from gpaw.kohnsham_layouts import OrbitalLayouts
    from gpaw.lfc import BasisFunctions
    from gpaw.wavefunctions.lcao import LCAOforces, LCAOWaveFunctions

    if not gpaw.__version__.startswith(VERSION) or hasattr(BasisFunctions, "blocks"):
        return
    own_update = BasisFunctions._update
    own_matrices = BasisFunctions.calculate_potential_matrices
    own_density = LCAOWaveFunctions.calculate_density_contribution
    own_forces = LCAOforces.get_pot_term

    def update(self: Any, spos_ac: np.ndarray) -> Any:
        displacements = own_update(self, spos_ac)
        real = self.gamma and self.dtype is float
        self.blocks = None if real or self.gd.comm.size > 1 else blocks(self)
        return displacements

    def matrices(self: Any, vt_G: np.ndarray) -> np.ndarray:
        if self.blocks is None:
            return own_matrices(self, vt_G)
        V_xMM = np.zeros((len(self.sdisp_xc), self.Mmax, self.Mmax))
        potential_matrices(self.blocks, vt_G * self.gd.dv, V_xMM)
        return V_xMM

    def density(self: Any, nt_sG: np.ndarray) -> None:
        if self.basis_functions.blocks is None:
            own_density(self, nt_sG)
            return
        nt_sG[:] = 0
        for s, nt_G in enumerate(nt_sG):
            kpts = [kpt for kpt in self.kpt_u if kpt.s == s]
            rho = [
                self.calculate_density_matrix(kpt.f_n, kpt.C_nM)
                if kpt.rho_MM is None
                else kpt.rho_MM
                for kpt in kpts
            ]
            basis = self.basis_functions
            add_density(basis.blocks, between_cells(basis, kpts, rho), nt_G)
        self.kptband_comm.sum(nt_sG)
        for nt_G in nt_sG:
            self.kd.symmetry.symmetrize(nt_G, self.gd)

    def potential_forces(self: Any) -> np.ndarray:
        basis = self.bfs
        if basis.blocks is None:
            return own_forces(self)
        total = np.zeros_like(self.Fref_av)
        for s, vt_G in enumerate(self.hamiltonian.vt_sG):
            of_spin = [u for u, kpt in enumerate(self.kpt_u) if kpt.s == s]
            rho = [self.rhoT_uMM[u].conj() for u in of_spin]
            rho_xMM = between_cells(basis, [self.kpt_u[u] for u in of_spin], rho)
            total += forces(basis.blocks, basis, rho_xMM, vt_G * self.gd.dv)
        return total

    def diagonalize(self: Any, H_MM: np.ndarray, S_MM: np.ndarray, eps_M: np.ndarray) -> None:
        kept = slice(self.bd.nbands)
        eps_M[kept], C_Mn = eigh(H_MM, S_MM, subset_by_index=(0, self.bd.nbands - 1))
        H_MM[kept] = C_Mn.conj().T

    for owner, name, made in (
        (BasisFunctions, "blocks", None),
        (BasisFunctions, "_update", update),
        (BasisFunctions, "calculate_potential_matrices", matrices),
        (LCAOWaveFunctions, "calculate_density_contribution", density),
        (LCAOforces, "get_pot_term", potential_forces),
        (OrbitalLayouts, "_diagonalize", diagonalize),
    ):
        setattr(owner, name, made)
