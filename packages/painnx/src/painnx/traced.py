"""What torch compiles of this package, for any device, and how its derivatives are found.

What `torch.compile` makes can be differentiated once, and force fields are trained on second
derivatives. Here a derivative is a function like any other: it is compiled when it is first
wanted, and has derivatives of its own.
"""

from collections.abc import Callable, Sequence
from types import FunctionType
from typing import Any, no_type_check

import torch
from torch import Tensor
from torch.func import vjp

from painnx.awaited import awaited

Function = Callable[..., tuple[Tensor, ...]]


class Traced:
    """A pure function of tensors, compiled, and differentiable as often as one likes.

    function: of tensors that have rows, or None in place of some, to a tuple of tensors. There is
    one program for each shape of the rows, precision and device, whatever their numbers, and one of
    a derivative for each choice of arguments to differentiate by.
    """

    def __init__(self, function: Function):
        self.function = function
        self._compiled: dict[tuple[Any, ...], Function] = {}
        self._gradients: dict[tuple[int, tuple[int, ...]], Traced] = {}

    def __call__(self, *given: Tensor | None) -> Any:
        return _Traced.apply(self, *map(_node, given))

    def run(self, *given: Tensor | None) -> tuple[Tensor, ...]:
        """The function's values, of which autograd does not know."""
        given = tuple(None if x is None else x.detach().contiguous() for x in given)
        tensors = [x for x in given if x is not None]
        if any(len(x) < 2 for x in tensors):  # torch would make another program
            return self.function(*given)
        for x in tensors:  # a number of rows is no part of the program
            torch._dynamo.maybe_mark_dynamic(x, 0)
        key = tuple(None if x is None else _kind(x) for x in given)
        if key in self._compiled:
            return self._compiled[key](*given)
        compiled = torch.compile(_copy(self.function), dynamic=False, fullgraph=True)
        try:
            found = compiled(*given)
        except torch._dynamo.exc.TorchDynamoException as error:
            raise RuntimeError(
                "torch cannot compile here, which takes a C++ compiler for CPUs and Triton for "
                f'GPUs: use messages="edges" ({str(error).strip().splitlines()[0]})'
            ) from error
        self._compiled[key] = compiled
        return found

    def gradient(self, n: int, wanted: tuple[int, ...]) -> "Traced":
        """Of the n arguments (see `gradient`), those at the places `wanted`."""
        if (n, wanted) not in self._gradients:
            self._gradients[n, wanted] = Traced(gradient(self.function, n, wanted))
        return self._gradients[n, wanted]


@no_type_check  # tests check types by wrappers, whose code cannot be copied
def gradient(function: Function, n: int, wanted: Sequence[int]) -> Function:
    """The function of `function`'s n arguments, and of gradients of its values, to gradients.

    wanted: the places of the arguments whose gradients it gives.
    """

    def gradients(*given):
        arguments, grads = given[:n], given[n:]

        def of_wanted(*some):
            every = list(arguments)
            for k, x in zip(wanted, some, strict=True):
                every[k] = x
            return function(*every)

        _, back = vjp(of_wanted, *(arguments[k] for k in wanted))
        return back(grads)

    return gradients


class _Traced(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, traced: Traced, *given: Tensor | None) -> tuple[Tensor, ...]:
        ctx.save_for_backward(*given)
        ctx.traced = traced
        return traced.run(*given)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        given = ctx.saved_tensors
        tensors = [k for k, x in enumerate(given) if x is not None]
        wanted = [k for k, need in zip(tensors, awaited(ctx), strict=True) if need]
        found: list[Tensor | None] = [None] * len(given)
        if wanted:
            gradients = ctx.traced.gradient(len(given), tuple(wanted))(*given, *grads)
            for k, x in zip(wanted, gradients, strict=True):
                found[k] = x
        return None, *found


def _node(x: Tensor | None) -> Tensor | None:
    """The same, but no leaf, of which autograd could not tell whether its gradient is awaited."""
    return x.view_as(x) if x is not None and x.requires_grad and x.is_leaf else x


def _kind(x: Tensor) -> tuple[Any, ...]:
    return x.dtype, x.device, x.shape[1:], x.is_inference()


def _copy(function: Any) -> FunctionType:
    """With code of its own: torch counts programs by code, and makes no more than eight of one."""
    code = function.__code__.replace()
    return FunctionType(
        code, function.__globals__, function.__name__, function.__defaults__, function.__closure__
    )
