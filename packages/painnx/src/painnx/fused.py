"""The sum over neighbours of `EdgeMessages` by the compiled kernels: the quickest way on a CPU.

Differentiable twice in all of its arguments, in float32 and float64, on all of torch's threads.
"""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from itertools import pairwise
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from painnx import kernels
from painnx.protocols import Graph

PRECISIONS = (torch.float32, torch.float64)


@dataclass(frozen=True)
class Geometry:
    """Edges in the order of their receivers, and all that depends on their vectors alone."""

    start: Int[Tensor, " k"]
    """Where each receiver's edges begin."""
    moving: Bool[Tensor, " e"]
    """False between frozen atoms: nothing is differentiated by these."""
    unit: Float[Tensor, "e 3"]
    length: Float[Tensor, " e"]
    basis: Float[Tensor, "e r"]
    slope: Float[Tensor, "e r"]
    window: Int[Tensor, "e 2"]
    """The first Gaussian that counts, and the one after the last."""
    cutoff: float

    def curvature(self) -> Float[Tensor, "e r"]:
        """The slopes of `slope`."""
        out = torch.empty_like(self.slope)
        n = out.shape[1] - 1
        kernels.curvature(*_arrays(self.length), self.cutoff, n, *_arrays(self.window, out))
        return out


@dataclass(frozen=True)
class FusedMessages:
    """One message per edge, summed at its receiver, of which nothing is stored."""

    geometry: Geometry
    vectors: Float[Tensor, "e 3"]
    senders: Int[Tensor, " e"]
    speakers: int
    """All senders are below this."""
    receivers: Int[Tensor, " m"]
    structure: Int[Tensor, " m"]
    """That of each receiver; in ascending order."""

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
        order, senders = torch.empty_like(graph.senders), torch.empty_like(graph.senders)
        g = Geometry(
            start=order.new_zeros(n + 1),
            moving=mobile.new_empty(e),
            unit=vectors.new_empty(e, 3),
            length=vectors.new_empty(e),
            basis=vectors.new_empty(e, n_radial + 1),
            slope=vectors.new_empty(e, n_radial + 1),
            window=order.new_empty(e, 2),
            cutoff=graph.cutoff,
        )
        given = graph.senders, graph.receivers, mobile, batch
        kernels.by_receiver(*_arrays(*given, g.start, order, senders, g.moving))
        written = g.unit, g.length, g.basis, g.slope, g.window
        kernels.radial(*_arrays(vectors, order), g.cutoff, n_radial, *_arrays(*written))
        receivers = torch.arange(n, device=batch.device)
        return cls(g, vectors.index_select(0, order), senders, n, receivers, batch)

    def said_by(self, speakers: Int[Tensor, " n"]) -> "FusedMessages":
        """The same, with another speaker for each atom (of its own structure alone)."""
        last = int(speakers.max()) if len(speakers) else -1
        return replace(self, senders=speakers[self.senders], speakers=last + 1)

    def only(self, receivers: Int[Tensor, " m"]) -> "FusedMessages":
        """The same, heard by some atoms alone (ascending), numbered anew in this order."""
        structure = self.structure[receivers]
        return replace(self, receivers=self.receivers[receivers], structure=structure)

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
        if vectors is None:
            vectors = contexts.new_empty(0, 3, contexts.shape[2])
        w, x, v = (a.flatten(1).contiguous() for a in (filters, contexts, vectors))
        to_scalars, to_vectors = _Sum.apply(self.vectors, w, x, v, self)
        return to_scalars, to_vectors.unflatten(1, (3, -1))

    def parts(self, whole: bool) -> list[tuple[int, int]]:
        """Where the receivers of each of torch's threads begin and end.

        whole: no two share a structure, so that each may write to its senders.
        """
        m, threads = len(self.receivers), torch.get_num_threads()
        cuts = [k * m // threads for k in range(1, threads)]
        if whole and m and cuts:
            cut = self.structure[cuts]
            begin = torch.searchsorted(self.structure, cut).tolist()
            end = torch.searchsorted(self.structure, cut, right=True).tolist()
            near = zip(cuts, begin, end, strict=True)
            cuts = [a if k - a <= b - k else b for k, a, b in near]
        return [(a, b) for a, b in pairwise([0, *cuts, m]) if b > a]

    def run(
        self,
        kernel: Callable[..., None],
        parts: Sequence[tuple[int, int]],
        *tensors: Tensor,
        each: Sequence[Tensor] = (),
    ) -> None:
        """The kernel for all receivers, by part; each: what all edges write to, for each part."""
        given = _arrays(self.receivers, self.geometry.start, self.senders, *tensors)

        def do(k: int) -> None:
            kernel(*parts[k], *given, *_arrays(*(x[k] for x in each)))

        if len(parts) < 2:
            list(map(do, range(len(parts))))
        else:
            list(_pool(len(parts)).map(do, range(len(parts))))


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, "painnx")


if hasattr(os, "register_at_fork"):  # a fork has none of the pool's threads
    os.register_at_fork(after_in_child=_pool.cache_clear)


def _arrays(*tensors: Tensor) -> list[Any]:
    return [x.detach().numpy() for x in tensors]


class _Sum(torch.autograd.Function):
    """s and t by r (the edges' vectors), w, x and v (see `painnx.kernels`)."""

    @staticmethod
    def forward(
        ctx: Any, r: Tensor, w: Tensor, x: Tensor, v: Tensor, messages: FusedMessages
    ) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(r, w, x, v)
        ctx.messages = messages
        g, m, f = messages.geometry, len(messages.receivers), x.shape[1] // 3
        s, t = x.new_empty(m, f), x.new_empty(m, 3 * f)
        parts = messages.parts(whole=False)
        messages.run(kernels.forward, parts, g.unit, g.basis, g.window, w, x, v, s, t)
        return s, t

    @staticmethod
    def backward(ctx: Any, ds: Tensor, dt: Tensor) -> tuple[Tensor | None, ...]:
        given = *ctx.saved_tensors, ds.contiguous(), dt.contiguous()
        return *_Gradients.apply(*given, ctx.messages, _awaited(ctx)), None


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
        g, parts = messages.geometry, messages.parts(whole=True)
        dr, dw, dx, dv = _zeros((r, w, x, v), needs, len(parts))
        given = g.unit, g.length, g.basis, g.slope, g.window, g.moving, w, x, v, ds, dt
        messages.run(kernels.backward, parts, *given, dx, dv, dr, each=[dw])
        found = dr, dw.sum(0), dx, dv
        return tuple(a if need else None for a, need in zip(found, needs, strict=True))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *at: Tensor | None) -> tuple[Tensor | None, ...]:
        r, w, x, v, ds, dt = ctx.saved_tensors
        needs, messages, g = _awaited(ctx), ctx.messages, ctx.messages.geometry
        at_r, at_w, at_x, at_v = (
            like.new_empty(0, *like.shape[1:]) if a is None else a.contiguous()
            for a, like in zip(at, (r, w, x, v), strict=True)
        )
        at_x = torch.zeros_like(x) if at[2] is None else at_x
        to_s, to_t = torch.empty_like(ds), torch.empty_like(dt)
        curvature = g.curvature() if needs[0] else g.slope[:0]
        parts = messages.parts(whole=True)
        to_r, to_w, to_x, to_v = _zeros((r, w, x, v), needs, len(parts))
        messages.run(
            kernels.backward_of_backward,
            parts,
            *(g.unit, g.length, g.basis, g.slope, g.window, g.moving, w, x, v, ds, dt),
            *(curvature, at_r, at_w, at_x, at_v, to_s, to_t, to_r, to_x, to_v),
            each=[to_w],
        )
        found = to_r, to_w.sum(0), to_x, to_v, to_s, to_t
        return *(a if need else None for a, need in zip(found, needs, strict=True)), None, None


def _awaited(ctx: Any) -> list[bool]:
    """Which gradients this pass is after: `needs_input_grad` tells those that any pass may want.

    Forces want that of r but not of w, and training on them w's but not r's second.
    """
    awaited = []
    for node, _ in ctx.next_functions:
        try:
            awaited.append(node is not None and torch._C._will_engine_execute_node(node))
        except (RuntimeError, AttributeError):  # it cannot tell of a leaf; nor is it public
            awaited.append(True)
    return awaited


def _zeros(
    like: tuple[Tensor, Tensor, Tensor, Tensor], needs: Sequence[bool], parts: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """For the gradients of r, w, x and v; empty where not needed; w's for each part."""
    r, w, x, v = (
        torch.zeros_like(a) if need else a.new_empty(0, *a.shape[1:])
        for a, need in zip(like, needs, strict=False)
    )
    return r, w.repeat(parts, 1, 1), x, v
