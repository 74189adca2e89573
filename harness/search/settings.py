"""What a study file says. No torch, no Optuna."""

from __future__ import annotations

import math
import re
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from harness.errors import nearest
from harness.search.objectives import OBJECTIVES
from harness.settings import Settings
from harness.suite.gating import Seeds
from harness.suite.yaml_lines import KeyPath

Value = bool | int | float | str | None
"""Of a parameter."""
Params = dict[str, Value]
Problem = tuple[KeyPath, str]
FEW = 64
"""Of so many whole numbers every one is looked at."""
NAME = r"[A-Za-z0-9][A-Za-z0-9._-]*"


class Outside:
    """Stands for what is no value of a parameter."""


Matched = Value | type[Outside]


def same(value: Any, other: Any) -> bool:
    """Whether two settings are equal; a truth value is no number."""
    return bool(value == other) and isinstance(value, bool) == isinstance(other, bool)


class ParameterSettings(Settings):
    """What all parameters may say."""

    arms: tuple[str, ...] | None = Field(default=None, min_length=1, strict=False)
    """Only these arms have it; by default all."""
    when: dict[str, Value | list[Value]] = Field(default_factory=dict)
    """Settings of the arm, or parameters above this one, and the values with which a trial has it."""

    def problem(self) -> tuple[str, str] | None:
        """(key, what is wrong) when the numbers do not fit together, else None."""
        return None

    @abstractmethod
    def ends(self) -> tuple[Value, ...]:
        """The values that tell whether all are possible: ends of a range, or every choice."""

    @abstractmethod
    def match(self, value: Any) -> Matched:
        """The value as a trial has it; Outside where none may."""


class RangeSettings(ParameterSettings):
    """A number from `low` to `high`, both included."""

    NO_STEP: ClassVar[float | None] = None

    low: float
    high: float
    log: bool = False
    """Drawn evenly on a logarithmic scale."""
    step: float | None = Field(default=None, gt=0.0)

    def problem(self) -> tuple[str, str] | None:
        if self.low > self.high:
            return "low", f"{self.low:g} is above the high end {self.high:g}"
        if self.log and self.low <= 0:
            return "low", f"a logarithmic range begins above 0, got {self.low:g}"
        if self.log and self.step != self.NO_STEP:
            return "step", "a logarithmic range has none"
        return None

    def ends(self) -> tuple[Value, ...]:
        high = self.high
        if self.step is not None:  # the last value that the steps reach
            high = self.low + math.floor((high - self.low) / self.step + 1e-9) * self.step
        return tuple(dict.fromkeys((self.low, high)))

    def match(self, value: Any) -> Matched:
        if isinstance(value, bool) or not isinstance(value, int | float) or not self.low <= value <= self.high:
            return Outside
        steps = (value - self.low) / self.step if self.step is not None else 0.0
        return float(value) if abs(steps - round(steps)) < 1e-9 else Outside


class FloatParameter(RangeSettings):
    """Any number of the range, or with a step every so many."""

    type: Literal["float"]


class IntParameter(RangeSettings):
    """Whole numbers alone."""

    NO_STEP: ClassVar[float | None] = 1

    type: Literal["int"]
    low: int
    high: int
    step: int = Field(default=1, ge=1)

    def ends(self) -> tuple[Value, ...]:
        """Every value, where these are few: what lies between may not fit where the ends do."""
        few = (self.high - self.low) // self.step < FEW
        return tuple(range(self.low, self.high + 1, self.step)) if few else super().ends()

    def match(self, value: Any) -> Matched:
        found = super().match(value)
        return int(found) if isinstance(found, float) else Outside


class CategoricalParameter(ParameterSettings):
    """One of several values that have no order."""

    type: Literal["categorical"]
    choices: tuple[Value, ...] = Field(min_length=1, strict=False)

    def problem(self) -> tuple[str, str] | None:
        for place, choice in enumerate(self.choices):
            if any(same(choice, other) for other in self.choices[:place]):
                return "choices", f"{choice!r} stands there twice"
        return None

    def ends(self) -> tuple[Value, ...]:
        return self.choices

    def match(self, value: Any) -> Matched:
        return next((choice for choice in self.choices if same(value, choice)), Outside)


AnyParameter = Annotated[FloatParameter | IntParameter | CategoricalParameter, Field(discriminator="type")]


class FreshSettings(Settings):
    """How the best trials of an arm are looked at again, on seeds that no trial has had."""

    top: int = Field(default=3, ge=1)
    """The best trials of an arm, by what the search found, that are trained again."""
    choose: Seeds = Field(default=(101, 102), strict=False)
    """Seeds on which the best of them is chosen. Not needed for one."""
    report: Seeds = Field(default=(201, 202, 203, 204, 205), min_length=2, strict=False)
    """Other seeds, which chose nothing: the chosen setting and the arm's own are quoted from these alone."""


class StudySettings(Settings):
    """A study file: what is searched, and how every arm is treated alike."""

    name: str = Field(min_length=1, max_length=60)
    description: str = ""
    suite: str = Field(min_length=1)
    """Whose arms, data, model and training are searched: a file, or a name in suites/."""
    set: dict[str, Any] = Field(default_factory=dict)
    """Settings of the suite that are others for the search, dotted: `train.steps: 100`."""
    arms: tuple[str, ...] | None = Field(default=None, min_length=1, strict=False)
    """Of the suite; by default all. Every one gets the same space and the same number of trials."""
    trials: int = Field(ge=1)
    """Of every arm, all parents and earlier runs together."""
    seeds: Seeds = Field(default=(1,), min_length=1, strict=False)
    """Of every trial; its value is their mean."""
    objective: tuple[str, ...] = Field(default=("loss",), min_length=1, strict=False)
    """What is made small; of several a Pareto front is found."""
    space: dict[str, AnyParameter] = Field(min_length=1)
    """Dotted settings of an arm, below connection, model or train."""
    sampler: dict[str, Value] = Field(default={"type": "TPESampler"})
    """One of Optuna's by its name, with its settings."""
    pruner: dict[str, Value] | None = None
    """One of Optuna's by its name, with its settings; by default the median of the curves, or with six seeds and more
    Wilcoxon's test over seeds; none for several objectives."""
    seed: int = Field(default=0, ge=0, lt=2**32)
    """Of the sampler."""
    retries: int = Field(default=1, ge=0)
    """How often a trial is tried again whose cell failed, unless it diverged."""
    fresh: FreshSettings = FreshSettings()

    @property
    def several(self) -> bool:
        return len(self.objective) > 1

    def problems(self) -> Iterator[Problem]:
        """What does not fit together, before the suite is read."""
        if not re.fullmatch(NAME, self.name):
            allowed = "letters, digits, '.', '_' and '-', a letter or digit first"
            yield ("name",), f"'{self.name}' names no folder: {allowed}"
        for place, name in enumerate(self.objective):
            if name not in OBJECTIVES:
                yield ("objective", place), f"unknown objective '{name}'{nearest(name, OBJECTIVES)}"
            if name in self.objective[:place]:
                yield ("objective", place), f"'{name}' stands there twice"
        for key, parameter in self.space.items():
            if found := parameter.problem():
                yield ("space", key, found[0]), found[1]
        yield from self._seeds()

    def _seeds(self) -> Iterator[Problem]:
        groups: Mapping[KeyPath, Seeds] = {
            ("seeds",): self.seeds,
            ("fresh", "choose"): self.fresh.choose,
            ("fresh", "report"): self.fresh.report,
        }
        known: dict[int, KeyPath] = {}
        for place, seeds in groups.items():
            for seed in seeds:
                if known.get(seed) == place:
                    yield place, f"seed {seed} is given twice"
                elif seed in known:
                    yield place, f"seed {seed} is not fresh: it stands under {'.'.join(map(str, known[seed]))} already"
                known[seed] = place
        if self.fresh.top > 1 and not self.fresh.choose:
            yield ("fresh", "choose"), f"the best of the {self.fresh.top} best trials is chosen on seeds; name some"
