"""Universal potentials whose weights come with their package: CHGNet and SevenNet."""

import contextlib
import io
import warnings
from types import SimpleNamespace
from typing import Any

import torch
from ase.calculators.calculator import Calculator
from torch import Tensor

from experiments.calculators.batched import BatchedPotential, Neighbours
from experiments.calculators.convolution import compile_convolutions
from experiments.calculators.requirements import module, weights

FIDELITY = {"7net-mf-0": "PBE"}
"""Of models of several functionals, the one that is taken where none is named."""


def chgnet(model: str = "0.3.0", device: str = "cpu") -> Calculator:
    """CHGNet with the weights that its wheel carries (no download); energies and forces only.

    Raises ImportError if the package is missing, ValueError for a model that the installed wheel
    does not hold.
    """
    network = module("chgnet.model").CHGNet
    warnings.filterwarnings("ignore", category=UserWarning, module="chgnet")
    with contextlib.redirect_stdout(io.StringIO()):  # it announces itself on standard output
        return CHGNetPotential(network.load(model_name=model, use_device=device, verbose=False))


def sevennet(model: str = "7net-0", fidelity: str | None = None, device: str = "cpu") -> Calculator:
    """SevenNet; the wheel of `sevenn` carries 7net-0, 7net-l3i5 and 7net-mf-0 (no download).

    `fidelity` chooses among the functionals of a model of several: PBE (the default) or R2SCAN of
    7net-mf-0.
    Raises ImportError if the package is missing, ValueError for a model without weights here.
    """
    # not sevenn.calculator, which imports torch_geometric and scikit-learn: 3.5 CPU seconds
    load = module("sevenn.util").load_checkpoint
    remedy = "the wheel of sevenn holds 7net-0, 7net-l3i5 and 7net-mf-0"
    with warnings.catch_warnings(), weights(f"SevenNet {model}", remedy):
        warnings.simplefilter("ignore")  # about accelerators for GPUs
        network = load(model).build_model().to(device)
    return SevenNetPotential(network, fidelity or FIDELITY.get(model.lower()))


class SevenNetPotential(BatchedPotential):
    """SevenNet on graphs of several structures, without stress.

    `fidelity` is one of the network's functionals, None if it has but one; ValueError if not.
    """

    def __init__(self, network: Any, fidelity: str | None) -> None:
        super().__init__()
        self.network = network.eval().requires_grad_(False)
        compile_convolutions(self.network)
        self.elements = frozenset(int(z) for z in network.type_map)
        self.cutoff = float(network.cutoff)
        modes = network.modal_map or {None: None}
        if fidelity not in modes:
            known = ", ".join(one or "null" for one in modes)
            raise ValueError(f"calculator.fidelity={fidelity} is none of this SevenNet: {known}")
        self.mode = modes[fidelity]
        self.network.eval_modal_map = False
        self.network.set_is_batch_data(True)

    def energies(self, graph: Neighbours, vectors: Tensor) -> Tensor:
        from sevenn import _keys as key

        data = {
            key.ATOMIC_NUMBERS: graph.numbers,
            key.EDGE_IDX: torch.stack([graph.receivers, graph.senders]),
            key.EDGE_VEC: vectors,
            key.BATCH: graph.batch,
            key.NUM_ATOMS: graph.counts,
        }
        if self.mode is not None:
            data[key.MODAL_TYPE] = torch.full_like(graph.counts, self.mode)
        data = self.network._preprocess(data)
        for name, layer in self.network._modules.items():
            if name not in ("reduce_total_enegy", "force_output"):
                data = layer(data)
        atomic = data[key.ATOMIC_ENERGY].flatten().double()
        return atomic.new_zeros(len(graph.counts)).index_add(0, graph.batch, atomic)


class CHGNetPotential(BatchedPotential):
    """CHGNet on graphs of several structures, without stress and magnetic moments."""

    elements = frozenset(range(1, 95))

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network.eval().requires_grad_(False)
        self.cutoff = float(network.graph_converter.atom_graph_cutoff)
        self.bond_cutoff = float(network.graph_converter.bond_graph_cutoff)

    def energies(self, graph: Neighbours, vectors: Tensor) -> Tensor:
        network, batched = self.network, module("chgnet.model.model").BatchedGraph
        lengths = torch.linalg.vector_norm(vectors, dim=1)
        bond_of, edge_of = _bonds(graph)
        first, second = _angles(graph.receivers, lengths.detach() < self.bond_cutoff)
        basis, along = network.bond_basis_expansion, vectors / lengths[:, None]
        prediction = network._compute(
            batched(
                atomic_numbers=graph.numbers,
                bond_bases_ag=basis.rbf_expansion_ag(lengths[edge_of]),
                bond_bases_bg=basis.rbf_expansion_bg(lengths[edge_of]),
                angle_bases=network.angle_basis_expansion(along[first], along[second])
                if len(first)
                else lengths[:0],
                batched_atom_graph=torch.stack([graph.receivers, graph.senders], dim=1),
                batched_bond_graph=torch.stack(
                    [graph.receivers[first], bond_of[first], bond_of[second]], dim=1
                ),
                atom_owners=graph.batch,
                directed2undirected=bond_of,
                atom_positions=[],
                strains=[],
                volumes=[],
            )
        )
        parts = graph.numbers.split(graph.counts.tolist())
        free = network.composition_model([SimpleNamespace(atomic_number=z) for z in parts])
        energy = (prediction["e"] + free).double()
        return energy * graph.counts if network.is_intensive else energy


def _bonds(graph: Neighbours) -> tuple[Tensor, Tensor]:
    """Pair each edge with its reverse: the bond of each edge, and one edge of each bond."""
    offsets = graph.offsets.long()
    reach = int(offsets.abs().max()) + 1 if len(offsets) else 1
    size = 2 * reach + 1
    digits = offsets.new_tensor([size * size, size, 1])
    place = ((offsets + reach) * digits).sum(1)
    back = ((reach - offsets) * digits).sum(1)
    n = len(graph.numbers)
    one = (graph.receivers * n + graph.senders) * size**3 + place
    other = (graph.senders * n + graph.receivers) * size**3 + back
    _, bond_of = torch.unique(torch.minimum(one, other), return_inverse=True)
    edge_of = bond_of.new_empty(int(bond_of.max()) + 1 if len(bond_of) else 0)
    edge_of[bond_of] = torch.arange(len(bond_of), device=bond_of.device)
    return bond_of, edge_of


def _angles(receivers: Tensor, short: Tensor) -> tuple[Tensor, Tensor]:
    """List all ordered pairs of different short edges that end on the same atom."""
    edges = short.nonzero().flatten()
    centre = receivers[edges]
    degree = torch.bincount(centre)[centre] if len(edges) else centre
    first = torch.repeat_interleave(degree)
    begin = torch.searchsorted(centre, centre)  # edges are sorted by receiver
    before = degree.cumsum(0) - degree
    second = begin[first] + torch.arange(len(first), device=first.device) - before[first]
    different = first != second
    return edges[first[different]], edges[second[different]]
