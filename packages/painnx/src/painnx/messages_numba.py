"""The message sum of `EagerMessages` by kernels that Numba compiles: the fastest on a CPU.

Differentiable twice in all of its arguments, in float32 and float64, on all of torch's threads.
docs/kernels.md derives what the kernels compute.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property, partial
from itertools import pairwise
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from painnx import kernels, update_numba
from painnx.autograd import needed_gradients
from painnx.blocks import UpdateKernels
from painnx.jit import Last, arrays, run
from painnx.protocols import Graph
from painnx.radial import DEGREE, spline_coefficients

PRECISIONS = (torch.float32, torch.float64)
NODES = {torch.float32: 8, torch.float64: 64}
"""Of the splines in each width of a Gaussian: their error is less than that of rounding."""


@dataclass(frozen=True)
class Geometry:
    """Pairs of opposite edges between two atoms, and what depends on their vectors alone."""

    start: Int[Tensor, " k"]
    """Index of each atom's first pair. Where both edges exist, the other atom is not before it."""
    other: Int[Tensor, " p"]
    there: Int[Tensor, " p"]
    """The edge from the other atom to this one."""
    back: Int[Tensor, " p"]
    """The edge from this atom to the other; -1: there is none."""
    moving: Bool[Tensor, " p"]
    """False between frozen atoms, whose edge vectors are constants."""
    unit: Float[Tensor, "p 3"]
    length: Float[Tensor, " p"]
    first: Int[Tensor, " p"]
    """The first of the B-splines that are not zero at this length."""
    basis: Float[Tensor, "p 6"]
    slope: Float[Tensor, "p 6"]
    cutoff: float
    spline: Float[Tensor, "s r"]
    """The radial basis as sums of B-splines."""

    @classmethod
    def of(cls, graph: Graph, n_radial: int) -> "Geometry":
        """Find the pairs of a graph, for `n_radial` Gaussians; errors as for `NumbaMessages`."""
        vectors, batch, mobile = graph.vectors, graph.batch, graph.mobile
        n, e = len(graph.numbers), len(graph.senders)
        if not (len(batch) == len(mobile) == n and len(graph.receivers) == len(vectors) == e):
            raise ValueError("the graph's lists of atoms, or those of its edges, differ in length")
        if bool((batch[1:] < batch[:-1]).any()):
            raise ValueError("the graph's atoms must be ordered by structure")
        index = graph.senders.new_empty(3, e)
        start, moving = index.new_zeros(n + 1), mobile.new_empty(e)
        given = graph.senders, graph.receivers, vectors, mobile, batch
        found = kernels.find_pairs(*arrays(*given, start, *index, moving))
        other, there, back = index[:, :found]
        g = cls(
            start, other, there, back, moving[:found],
            unit=vectors.new_empty(found, 3),
            length=vectors.new_empty(found),
            first=index.new_empty(found),
            basis=vectors.new_empty(found, DEGREE + 1),
            slope=vectors.new_empty(found, DEGREE + 1),
            cutoff=graph.cutoff,
            spline=_spline(n_radial, graph.cutoff, vectors.dtype),
        )  # fmt: skip
        written = g.unit, g.length, g.first, g.basis, g.slope
        nodes = len(g.spline) - DEGREE
        kernels.radial(*arrays(vectors, there), g.cutoff, nodes, *arrays(*written))
        return g

    def curvature(self) -> Float[Tensor, "p 6"]:
        """Compute the second derivatives of the B-splines by the length."""
        out = torch.empty_like(self.slope)
        nodes = len(self.spline) - DEGREE
        kernels.curvature(*arrays(self.length), self.cutoff, nodes, *arrays(self.first, out))
        return out


@dataclass(frozen=True)
class NumbaMessages:
    """One message per edge, summed at its receiver without being stored."""

    update_kernels: ClassVar[UpdateKernels] = UpdateKernels(
        update_numba.invariants, update_numba.update
    )
    geometry: Geometry
    vectors: Float[Tensor, "e 3"]
    source: Int[Tensor, " n"]
    """Row of the features that each atom sends."""
    n_sources: int
    """Least number of such rows."""
    target: Int[Tensor, " n"]
    """Row of each atom's sums; -1 if it is no receiver."""
    n_targets: int
    structure: Int[Tensor, " n"]
    """Index of each atom's structure, in ascending order."""

    @staticmethod
    def can(graph: Graph) -> bool:
        """Are there kernels for this graph's device and precision?"""
        return graph.vectors.device.type == "cpu" and graph.vectors.dtype in PRECISIONS

    @classmethod
    def of(cls, graph: Graph, n_radial: int) -> "NumbaMessages":
        """Prepare the messages on a graph, with `n_radial` Gaussians.

        The pairs are kept in the graph's `memo`, if it has one, for other networks. Raises
        ValueError if lists differ in length or atoms are not ordered by structure.
        """
        key = f"pairs, {n_radial} Gaussians"
        memo = getattr(graph, "memo", {})
        if key not in memo:
            memo[key] = Geometry.of(graph, n_radial)
        n = len(graph.numbers)
        atoms = torch.arange(n, device=graph.batch.device)
        return cls(memo[key], graph.vectors, atoms, n, atoms, n, graph.batch)

    def from_rows(self, rows: Int[Tensor, " n"]) -> "NumbaMessages":
        """Take each sending atom's features from the given row (one of its own structure)."""
        if len(rows) != len(self.structure) or bool((rows < 0).any()):
            raise IndexError("each atom needs one row of features, numbered from 0")
        last = int(rows.max()) if len(rows) else -1
        return replace(self, source=rows, n_sources=last + 1)

    def only(self, receivers: Int[Tensor, " m"]) -> "NumbaMessages":
        """Restrict the sums to some receivers, renumbered in this order."""
        if bool(((receivers < 0) | (receivers >= self.n_targets)).any()):
            raise IndexError(f"receivers must be from 0 to {self.n_targets - 1}")
        number = receivers.new_full((self.n_targets + 1,), -1)  # the last entry serves target -1
        number[receivers] = torch.arange(len(receivers), device=number.device)
        return replace(self, target=number[self.target], n_targets=len(receivers))

    def __call__(
        self,
        contexts: Float[Tensor, "s 3 f"],
        vectors: Float[Tensor, "s 3 f"] | None,
        filters: Float[Tensor, "r 3 f"],
        to: tuple[Float[Tensor, "m f"], Float[Tensor, "m 3 f"] | None] | None = None,
    ) -> tuple[Float[Tensor, "m f"], Float[Tensor, "m 3 f"]]:
        """Sum the messages of all neighbours; arguments as for `EagerMessages`."""
        radial, n = self.geometry.spline.shape[1], len(contexts)
        if n < self.n_sources or len(filters) != radial:  # the kernels check no bounds
            raise IndexError(
                f"{n} contexts for {self.n_sources} senders, {len(filters)} filters for {radial} "
                "radial functions"
            )
        shape = n, 3, filters.shape[-1]
        own = contexts if vectors is None else vectors
        if not (contexts.shape == own.shape == shape and filters.shape[1] == 3):
            found = [tuple(a.shape) for a in (contexts, own, filters)]
            raise IndexError(f"contexts, vectors and filters of shapes {found} do not fit together")
        if vectors is None:
            vectors = contexts.new_empty(0, 3, contexts.shape[2])
        w, x, v = (a.flatten(1).contiguous() for a in (filters, contexts, vectors))
        w = self.geometry.spline @ w
        s, t = (x.new_zeros(self.n_targets, shape[2]), None) if to is None else to
        of_t = len(s), *shape[1:]
        t = s.new_zeros(of_t) if t is None else t
        if len(s) < self.n_targets or s.shape[1:] != shape[2:] or t.shape != of_t:
            shapes = f"{tuple(s.shape)} and {tuple(t.shape)}"
            raise IndexError(f"sums of shapes {shapes} do not fit {self.n_targets} receivers")
        s, t = _Sum.apply(self.vectors, w, x, v, s, t.flatten(1), self)
        return s, t.unflatten(1, (3, -1))

    def parts(self) -> list[tuple[int, int]]:
        """Cut the atoms into a range for each of torch's threads.

        No two threads share a structure, so that each may write to both atoms of a pair.
        """
        n, threads = len(self.structure), torch.get_num_threads()
        cuts = [k * n // threads for k in range(1, threads)]
        if n and cuts:
            cut = self.structure[cuts]
            begin = torch.searchsorted(self.structure, cut).tolist()
            end = torch.searchsorted(self.structure, cut, right=True).tolist()
            near = zip(cuts, begin, end, strict=True)
            cuts = [a if k - a <= b - k else b for k, a, b in near]
        return [(a, b) for a, b in pairwise([0, *cuts, n]) if b > a]

    @cached_property
    def pairs(self) -> tuple[Any, ...]:
        g = self.geometry
        atoms = g.start, g.other, g.there, g.back, g.moving, self.source, self.target
        pairs = *atoms, g.unit, g.length, g.first, g.basis, g.slope
        return kernels.Pairs(*arrays(*pairs))


class _Sum(torch.autograd.Function):
    """Add the sums of r (the edge vectors), w, x and v to s and t (see `painnx.kernels`)."""

    @staticmethod
    def forward(
        ctx: Any,
        r: Tensor,
        w: Tensor,
        x: Tensor,
        v: Tensor,
        s: Tensor,
        t: Tensor,
        messages: NumbaMessages,
    ) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(r, w, x, v)
        ctx.messages = messages
        s, t = (a.clone(memory_format=torch.contiguous_format) for a in (s, t))
        inputs = named(kernels.Inputs, w, x, v)
        run(kernels.forward, messages.parts(), messages.pairs, inputs, s, t)
        return s, t

    @staticmethod
    def backward(ctx: Any, ds: Tensor, dt: Tensor) -> tuple[Tensor | None, ...]:
        given = *ctx.saved_tensors, ds.contiguous(), dt.contiguous()
        needs = needed_gradients(ctx)[:4]
        return *_Gradients.apply(*given, ctx.messages, needs), ds, dt, None


class _Gradients(torch.autograd.Function):
    """Map r, w, x, v, ds and dt to the gradients by r, w, x and v."""

    @staticmethod
    def forward(
        ctx: Any,
        r: Tensor,
        w: Tensor,
        x: Tensor,
        v: Tensor,
        ds: Tensor,
        dt: Tensor,
        messages: NumbaMessages,
        needs: Sequence[bool],
    ) -> tuple[Tensor | None, ...]:
        ctx.save_for_backward(r, w, x, v, ds, dt)
        ctx.messages = messages
        ctx.set_materialize_grads(False)
        parts = messages.parts()
        dr, dw, dx, dv = _zeros((r, w, x, v), needs, len(parts))
        inputs, out = named(kernels.Inputs, w, x, v), named(kernels.Gradients, dr, dx, dv)
        run(kernels.backward, parts, messages.pairs, inputs, ds, dt, out, each=[dw])
        found = dr, dw.sum(0), dx, dv
        return tuple(a if need else None for a, need in zip(found, needs, strict=True))

    @staticmethod
    def backward(ctx: Any, *at: Tensor | None) -> tuple[Tensor | None, ...]:
        compute = partial(_second, ctx.messages, needed_gradients(ctx))
        return *Last.apply(compute, *ctx.saved_tensors, *at), None, None


def _second(
    messages: NumbaMessages, needs: Sequence[bool], *given: Tensor | None
) -> tuple[Tensor | None, ...]:
    """Compute the vector-Jacobian product of `_Gradients` along the vectors given last."""
    r, w, x, v, ds, dt = (a for a in given[:6] if a is not None)
    along = given[6:]
    at_r, at_w, at_x, at_v = (
        like.new_empty(0, *like.shape[1:]) if a is None else a.contiguous()
        for a, like in zip(along, (r, w, x, v), strict=True)
    )
    at_x = torch.zeros_like(x) if along[2] is None else at_x
    to_s, to_t = torch.zeros_like(ds), torch.zeros_like(dt)
    g, parts = messages.geometry, messages.parts()
    curvature = g.curvature() if needs[0] else g.slope[:0]
    to_r, to_w, to_x, to_v = _zeros((r, w, x, v), needs, len(parts))
    inputs, at = named(kernels.Inputs, w, x, v), named(kernels.Directions, at_r, at_w, at_x, at_v)
    out = named(kernels.SecondGradients, to_s, to_t, to_r, to_x, to_v)
    run(
        kernels.backward_of_backward,
        parts,
        *(messages.pairs, inputs, ds, dt, curvature, at, out),
        each=[to_w],
    )
    found = to_r, to_w.sum(0), to_x, to_v, to_s, to_t
    return tuple(a if need else None for a, need in zip(found, needs, strict=True))


@cache
def _spline(n_radial: int, cutoff: float, dtype: torch.dtype) -> Tensor:
    # with few Gaussians the cutoff function is what has to be resolved
    nodes = NODES[dtype] * (n_radial + 4)
    with torch.inference_mode(False):
        return spline_coefficients(n_radial, cutoff, nodes).to(dtype)


def named(kind: Any, *tensors: Tensor) -> tuple[Tensor, ...]:
    """Make one of the kernels' named tuples of tensors, which `run` turns into arrays."""
    made: tuple[Tensor, ...] = kind(*tensors)
    return made


def _zeros(
    like: tuple[Tensor, Tensor, Tensor, Tensor], needs: Sequence[bool], parts: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Make zeros for the gradients by r, w, x and v: empty if not needed, w's for each part."""
    r, w, x, v = (
        torch.zeros_like(a) if need else a.new_empty(0, *a.shape[1:])
        for a, need in zip(like, needs, strict=False)
    )
    return r, w.repeat(parts, 1, 1), x, v
