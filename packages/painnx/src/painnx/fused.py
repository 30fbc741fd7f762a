"""The sum over neighbours of `EdgeMessages` by the compiled kernels: the quickest way on a CPU.

Differentiable twice in all of its arguments, in float32 and float64, on all of torch's threads.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from painnx import fused_update, kernels
from painnx.awaited import awaited
from painnx.blocks import Between
from painnx.jit import Last, arrays, run
from painnx.protocols import Graph

PRECISIONS = (torch.float32, torch.float64)


@dataclass(frozen=True)
class Geometry:
    """Pairs of edges, there and back, and all that depends on their vectors alone."""

    start: Int[Tensor, " k"]
    """Where each atom's pairs begin; the other atom is not before it, if it hears and is heard."""
    other: Int[Tensor, " p"]
    there: Int[Tensor, " p"]
    """The edge by which the atom hears the other."""
    back: Int[Tensor, " p"]
    """The one by which the other hears it; -1: there is none."""
    moving: Bool[Tensor, " p"]
    """False between frozen atoms: nothing is differentiated by these."""
    unit: Float[Tensor, "p 3"]
    length: Float[Tensor, " p"]
    basis: Float[Tensor, "p r"]
    slope: Float[Tensor, "p r"]
    window: Int[Tensor, "p 2"]
    """The first Gaussian that counts, and the one after the last."""
    cutoff: float

    def curvature(self) -> Float[Tensor, "p r"]:
        """The slopes of `slope`."""
        out = torch.empty_like(self.slope)
        n = out.shape[1] - 1
        kernels.curvature(*arrays(self.length), self.cutoff, n, *arrays(self.window, out))
        return out


@dataclass(frozen=True)
class FusedMessages:
    """One message per edge, summed at its receiver, of which nothing is stored."""

    between: ClassVar[Between] = Between(fused_update.invariants, fused_update.update)
    geometry: Geometry
    vectors: Float[Tensor, "e 3"]
    speaker: Int[Tensor, " n"]
    """Who speaks for each atom."""
    speakers: int
    """All of them are below this."""
    row: Int[Tensor, " n"]
    """The place of each atom among those that hear, or -1."""
    hearers: int
    structure: Int[Tensor, " n"]
    """That of each atom; in ascending order."""

    @staticmethod
    def can(graph: Graph) -> bool:
        """Are there kernels for this device and precision?"""
        return graph.vectors.device.type == "cpu" and graph.vectors.dtype in PRECISIONS

    @classmethod
    def of(cls, graph: Graph, n_radial: int) -> "FusedMessages":
        """The messages between the atoms of this graph, with `n_radial` Gaussians."""
        vectors, batch, mobile = graph.vectors, graph.batch, graph.mobile
        n, e = len(graph.numbers), len(graph.senders)
        if not (len(batch) == len(mobile) == n and len(graph.receivers) == len(vectors) == e):
            raise ValueError("the graph's lists of atoms, or those of its edges, differ in length")
        if bool((batch[1:] < batch[:-1]).any()):
            raise ValueError("the graph's atoms must come structure by structure")
        index = graph.senders.new_empty(3, e)
        start, moving = index.new_zeros(n + 1), mobile.new_empty(e)
        given = graph.senders, graph.receivers, vectors, mobile, batch
        found = kernels.find_pairs(*arrays(*given, start, *index, moving))
        other, there, back = index[:, :found]
        g = Geometry(
            start, other, there, back, moving[:found],
            unit=vectors.new_empty(found, 3),
            length=vectors.new_empty(found),
            basis=vectors.new_empty(found, n_radial + 1),
            slope=vectors.new_empty(found, n_radial + 1),
            window=index.new_empty(found, 2),
            cutoff=graph.cutoff,
        )  # fmt: skip
        written = g.unit, g.length, g.basis, g.slope, g.window
        kernels.radial(*arrays(vectors, there), g.cutoff, n_radial, *arrays(*written))
        atoms = torch.arange(n, device=batch.device)
        return cls(g, vectors, atoms, n, atoms, n, batch)

    def said_by(self, speakers: Int[Tensor, " n"]) -> "FusedMessages":
        """The same, with another speaker for each atom (of its own structure alone)."""
        if len(speakers) != len(self.structure) or bool((speakers < 0).any()):
            raise IndexError("each atom needs one speaker, a number from 0 on")
        last = int(speakers.max()) if len(speakers) else -1
        return replace(self, speaker=speakers, speakers=last + 1)

    def only(self, receivers: Int[Tensor, " m"]) -> "FusedMessages":
        """The same, heard by some atoms alone, which are numbered anew in this order."""
        if bool(((receivers < 0) | (receivers >= self.hearers)).any()):
            raise IndexError(f"receivers must be from 0 to {self.hearers - 1}")
        number = receivers.new_full((self.hearers + 1,), -1)  # and -1 for row -1
        number[receivers] = torch.arange(len(receivers), device=number.device)
        return replace(self, row=number[self.row], hearers=len(receivers))

    def __call__(
        self,
        contexts: Float[Tensor, "s 3 f"],
        vectors: Float[Tensor, "s 3 f"] | None,
        filters: Float[Tensor, "r 3 f"],
    ) -> tuple[Float[Tensor, "m f"], Float[Tensor, "m 3 f"]]:
        """Sum the messages of all neighbours; arguments as for `EdgeMessages`."""
        radial, n = self.geometry.basis.shape[1], len(contexts)
        if n < self.speakers or len(filters) != radial:  # kernels trust their arguments
            raise IndexError(
                f"{n} contexts for {self.speakers} speakers, {len(filters)} filters for {radial} "
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
        to_scalars, to_vectors = _Sum.apply(self.vectors, w, x, v, self)
        return to_scalars, to_vectors.unflatten(1, (3, -1))

    def parts(self) -> list[tuple[int, int]]:
        """Where the atoms of each of torch's threads begin and end.

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

    @property
    def pairs(self) -> tuple[Tensor, ...]:
        """What derivatives ask for, in the kernels' order."""
        g = self.geometry
        who = g.start, g.other, g.there, g.back, g.moving, self.speaker, self.row
        return *who, g.unit, g.length, g.basis, g.slope, g.window


class _Sum(torch.autograd.Function):
    """s and t by r (the edges' vectors), w, x and v (see `painnx.kernels`)."""

    @staticmethod
    def forward(
        ctx: Any, r: Tensor, w: Tensor, x: Tensor, v: Tensor, messages: FusedMessages
    ) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(r, w, x, v)
        ctx.messages = messages
        g, m, f = messages.geometry, messages.hearers, x.shape[1] // 3
        s, t = x.new_zeros(m, f), x.new_zeros(m, 3 * f)
        pairs = g.start, g.other, g.back, messages.speaker, messages.row
        given = *pairs, g.unit, g.basis, g.window, w, x, v
        run(kernels.forward, messages.parts(), *given, s, t)
        return s, t

    @staticmethod
    def backward(ctx: Any, ds: Tensor, dt: Tensor) -> tuple[Tensor | None, ...]:
        given = *ctx.saved_tensors, ds.contiguous(), dt.contiguous()
        return *_Gradients.apply(*given, ctx.messages, awaited(ctx)), None


class _Gradients(torch.autograd.Function):
    """Of r, w, x and v, by those and by ds and dt."""

    @staticmethod
    def forward(
        ctx: Any,
        r: Tensor,
        w: Tensor,
        x: Tensor,
        v: Tensor,
        ds: Tensor,
        dt: Tensor,
        messages: FusedMessages,
        needs: Sequence[bool],
    ) -> tuple[Tensor | None, ...]:
        ctx.save_for_backward(r, w, x, v, ds, dt)
        ctx.messages = messages
        ctx.set_materialize_grads(False)
        parts = messages.parts()
        dr, dw, dx, dv = _zeros((r, w, x, v), needs, len(parts))
        given = *messages.pairs, w, x, v, ds, dt
        run(kernels.backward, parts, *given, dx, dv, dr, each=[dw])
        found = dr, dw.sum(0), dx, dv
        return tuple(a if need else None for a, need in zip(found, needs, strict=True))

    @staticmethod
    def backward(ctx: Any, *at: Tensor | None) -> tuple[Tensor | None, ...]:
        compute = partial(_second, ctx.messages, awaited(ctx))
        return *Last.apply(compute, *ctx.saved_tensors, *at), None, None


def _second(
    messages: FusedMessages, needs: Sequence[bool], *given: Tensor | None
) -> tuple[Tensor | None, ...]:
    """Gradients of those of `_Gradients` along their own, by its arguments."""
    r, w, x, v, ds, dt = (a for a in given[:6] if a is not None)
    at = given[6:]
    at_r, at_w, at_x, at_v = (
        like.new_empty(0, *like.shape[1:]) if a is None else a.contiguous()
        for a, like in zip(at, (r, w, x, v), strict=True)
    )
    at_x = torch.zeros_like(x) if at[2] is None else at_x
    to_s, to_t = torch.zeros_like(ds), torch.zeros_like(dt)
    g, parts = messages.geometry, messages.parts()
    curvature = g.curvature() if needs[0] else g.slope[:0]
    to_r, to_w, to_x, to_v = _zeros((r, w, x, v), needs, len(parts))
    run(
        kernels.backward_of_backward,
        parts,
        *(*messages.pairs, w, x, v, ds, dt),
        *(curvature, at_r, at_w, at_x, at_v, to_s, to_t, to_r, to_x, to_v),
        each=[to_w],
    )
    found = to_r, to_w.sum(0), to_x, to_v, to_s, to_t
    return tuple(a if need else None for a, need in zip(found, needs, strict=True))


def _zeros(
    like: tuple[Tensor, Tensor, Tensor, Tensor], needs: Sequence[bool], parts: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """For the gradients of r, w, x and v; empty where not needed; w's for each part."""
    r, w, x, v = (
        torch.zeros_like(a) if need else a.new_empty(0, *a.shape[1:])
        for a, need in zip(like, needs, strict=False)
    )
    return r, w.repeat(parts, 1, 1), x, v
