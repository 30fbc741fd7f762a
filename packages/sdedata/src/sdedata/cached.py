"""A cached property that torch can trace and that inference mode does not spoil."""

from collections.abc import Callable
from typing import Any, Generic, TypeVar, overload

import torch

Value = TypeVar("Value")


class cached_property(Generic[Value]):
    """`functools.cached_property` without its lock, which torch cannot trace before Python 3.12.

    The value is computed outside inference mode, so that a later use may differentiate with it.
    """

    def __init__(self, compute: Callable[[Any], Value]) -> None:
        self.compute, self.name, self.__doc__ = compute, compute.__name__, compute.__doc__

    @overload
    def __get__(self, instance: None, owner: type) -> "cached_property[Value]": ...
    @overload
    def __get__(self, instance: Any, owner: type) -> Value: ...
    def __get__(self, instance: Any, owner: type) -> "cached_property[Value] | Value":
        if instance is None:
            return self
        with torch.inference_mode(False):
            value = self.compute(instance)
        instance.__dict__[self.name] = value
        return value
