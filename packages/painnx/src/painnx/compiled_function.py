"""Functions compiled by torch, for any device, with derivatives of any order.

A function from `torch.compile` can be differentiated once, but force fields are trained on second
derivatives. Here a derivative is a function like any other: it is compiled when it is first needed,
and has derivatives of its own.
"""

from collections.abc import Callable, Sequence
from types import FunctionType
from typing import Any, no_type_check

import torch
from torch import Tensor
from torch.func import vjp

from painnx.autograd import needed_gradients

Function = Callable[..., tuple[Tensor, ...]]


class CompiledFunction:
    """Compile a pure function of tensors, differentiable any number of times.

    function: maps tensors with rows (None in place of some) to a tuple of tensors. There is one
    program for each shape of the rows, precision and device, whatever the number of rows, and one
    of a derivative for each choice of arguments to differentiate by.
    """

    def __init__(self, function: Function):
        self.function = function
        self._compiled: dict[tuple[Any, ...], Function] = {}
        self._gradients: dict[tuple[int, tuple[int, ...]], CompiledFunction] = {}

    def __call__(self, *given: Tensor | None) -> Any:
        return _Apply.apply(self, *map(_node, given))

    def run(self, *given: Tensor | None) -> tuple[Tensor, ...]:
        """Evaluate the function without recording it for autograd."""
        given = tuple(None if x is None else x.detach().contiguous() for x in given)
        tensors = [x for x in given if x is not None]
        if any(len(x) < 2 for x in tensors):  # torch would compile another program
            return self.function(*given)
        for x in tensors:  # the program does not depend on the number of rows
            torch._dynamo.maybe_mark_dynamic(x, 0)
        key = tuple(None if x is None else _kind(x) for x in given)
        if key in self._compiled:
            return self._compiled[key](*given)
        compiled = torch.compile(_copy(self.function), dynamic=False, fullgraph=True)
        try:
            found = compiled(*given)
        except torch._dynamo.exc.TorchDynamoException as error:
            raise RuntimeError(
                "torch cannot compile here, which needs a C++ compiler for CPUs and Triton for "
                f'GPUs: use backend="eager" ({str(error).strip().splitlines()[0]})'
            ) from error
        self._compiled[key] = compiled
        return found

    def gradient(self, n: int, wanted: tuple[int, ...]) -> "CompiledFunction":
        """Return the gradients by the arguments at the places `wanted` (see `gradient`)."""
        if (n, wanted) not in self._gradients:
            self._gradients[n, wanted] = CompiledFunction(gradient(self.function, n, wanted))
        return self._gradients[n, wanted]


@no_type_check  # the tests' type checks wrap functions, whose code could not be copied
def gradient(function: Function, n: int, wanted: Sequence[int]) -> Function:
    """Build the vector-Jacobian product of `function`, a function of its n arguments and gradients.

    wanted: the places of the arguments by which to differentiate.
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


class _Apply(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, compiled: CompiledFunction, *given: Tensor | None) -> tuple[Tensor, ...]:
        ctx.save_for_backward(*given)
        ctx.compiled = compiled
        return compiled.run(*given)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        given = ctx.saved_tensors
        tensors = [k for k, x in enumerate(given) if x is not None]
        wanted = [k for k, need in zip(tensors, needed_gradients(ctx), strict=True) if need]
        found: list[Tensor | None] = [None] * len(given)
        if wanted:
            gradients = ctx.compiled.gradient(len(given), tuple(wanted))(*given, *grads)
            for k, x in zip(wanted, gradients, strict=True):
                found[k] = x
        return None, *found


def _node(x: Tensor | None) -> Tensor | None:
    """Return a view of a leaf: `needed_gradients` cannot answer for leaves."""
    return x.view_as(x) if x is not None and x.requires_grad and x.is_leaf else x


def _kind(x: Tensor) -> tuple[Any, ...]:
    return x.dtype, x.device, x.shape[1:], x.is_inference()


def _copy(function: Any) -> FunctionType:
    """Copy the code: torch counts programs by code, and compiles at most eight of one."""
    code = function.__code__.replace()
    return FunctionType(
        code, function.__globals__, function.__name__, function.__defaults__, function.__closure__
    )
