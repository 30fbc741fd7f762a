"""A property that is computed at its first use and kept."""

from collections.abc import Callable
from typing import Any, Generic, TypeVar, overload

import torch

Value = TypeVar("Value")


class kept(Generic[Value]):
    """`functools.cached_property` in a form that torch can trace, for values of any later use.

    (The original has a lock before Python 3.12. What inference mode makes no gradient may use.)
    """

    def __init__(self, compute: Callable[[Any], Value]) -> None:
        self.compute, self.name, self.__doc__ = compute, compute.__name__, compute.__doc__

    @overload
    def __get__(self, instance: None, owner: type) -> "kept[Value]": ...
    @overload
    def __get__(self, instance: Any, owner: type) -> Value: ...
    def __get__(self, instance: Any, owner: type) -> "kept[Value] | Value":
        if instance is None:
            return self
        with torch.inference_mode(False):
            value = self.compute(instance)
        instance.__dict__[self.name] = value
        return value
