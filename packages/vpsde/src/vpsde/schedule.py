"""The noise schedule. Its integral is the primitive; beta is the integral's derivative."""

import math
from dataclasses import dataclass
from typing import TypeVar

from torch import Tensor

Time = TypeVar("Time", float, Tensor)


@dataclass(frozen=True)
class LinearBeta:
    """The schedule of the paper's Eq. 1: beta(t) = beta_min + t (beta_max - beta_min).

    In units of Å² per unit of time. Raises ValueError unless 0 <= beta_min < beta_max.
    """

    beta_min: float
    beta_max: float

    def __post_init__(self) -> None:
        if not 0 <= self.beta_min < self.beta_max:
            raise ValueError(
                "the noise schedule needs 0 <= beta_min < beta_max, "
                f"got beta_min={self.beta_min} and beta_max={self.beta_max}"
            )

    def beta(self, t: Time) -> Time:
        """Evaluate beta(t), Å² per unit of t."""
        return self.beta_min + t * (self.beta_max - self.beta_min)

    def integral(self, t: Time) -> Time:
        """Integrate beta from 0 to t, Å²."""
        return self.beta_min * t + 0.5 * (self.beta_max - self.beta_min) * t * t

    def time_of(self, integral: float) -> float:
        """Find the time at which the integral of beta is this (Å²): it is quadratic in t."""
        slope = self.beta_max - self.beta_min
        return (math.sqrt(self.beta_min**2 + 2 * slope * integral) - self.beta_min) / slope
