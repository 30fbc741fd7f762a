"""What a sweep varies, and the bounds that its trials must keep to."""

from typing import Literal, Self

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from pydantic import Field, model_validator

from experiments.harness.config.fields import Positive, Section


class Parameter(Section):
    """A range from low to high, or a list of choices."""

    low: float | None = None
    high: float | None = None
    log: bool = False
    step: Positive | None = None
    choices: list[bool | int | float | str] | None = Field(default=None, min_length=1)

    @model_validator(mode="after")
    def _is_range_or_choices(self) -> Self:
        if self.choices and (self.low, self.high, self.log, self.step) != (None, None, False, None):
            raise ValueError("a parameter has either choices, or low and high")
        if self.choices and len(set(map(str, self.choices))) < len(self.choices):
            raise ValueError("a choice is listed twice")
        if not self.choices and (self.low is None or self.high is None):
            raise ValueError("a parameter needs low and high, or choices")
        return self

    def distribution(self, whole: bool) -> BaseDistribution:
        """Return Optuna's distribution; `whole`: the config value is a whole number.

        ValueError for a range that Optuna refuses, or not of whole numbers although the value is.
        """
        if self.choices is not None:
            return CategoricalDistribution(self.choices)
        assert self.low is not None and self.high is not None  # noqa: PT018  (as checked above)
        if not whole:
            return FloatDistribution(self.low, self.high, log=self.log, step=self.step)
        low, high, step = map(int, (self.low, self.high, self.step or 1))
        if (low, high, step) != (self.low, self.high, self.step or 1):
            raise ValueError("low, high and step must be whole numbers, as the value itself is")
        return IntDistribution(low, high, log=self.log, step=step)


class Bound(Section):
    """What a metric must keep to."""

    at_least: float | None = None
    at_most: float | None = None

    @model_validator(mode="after")
    def _is_one_side(self) -> Self:
        if (self.at_least is None) == (self.at_most is None):
            raise ValueError("a constraint has either at_least or at_most")
        return self

    def excess(self, value: float) -> float:
        """Return how far `value` is beyond the bound; above 0 the trial is infeasible."""
        return self.at_least - value if self.at_least is not None else value - (self.at_most or 0)


class Report(Section):
    """The metric of a running stage that the pruner reads."""

    stage: str
    metric: str
    step: Literal["train/step"] = "train/step"
