"""A trial as everything after the search sees it: plain, without Optuna."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from harness.search.objectives import OBJECTIVES
from harness.search.settings import Params, Value

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

    from harness.search.trials import ArmTrials


@dataclass(frozen=True, kw_only=True)
class TrialFacts:
    """One trial that counts."""

    arm: str
    number: int
    slot: int
    """Its place among the arm's trials."""
    ended: str
    """complete, pruned, diverged or failed; running while it is not over."""
    params: Params
    values: tuple[float, ...] | None
    """By objective; of a trial that was pruned None."""
    curve: Mapping[int, float] = field(default_factory=dict)
    """By step, or by the seed's place, what it was judged by on the way."""
    steps: int = 0
    """How many steps its cells have been trained."""
    own: bool = False
    """The arm's setting without any search."""
    cells: tuple[str, ...] = ()
    failure: str = ""

    @property
    def value(self) -> float:
        """Of the first objective."""
        return self.values[0] if self.values else float("inf")

    def said(self, objectives: Sequence[str]) -> str:
        """How it ended, in words."""
        if self.ended == "complete" and self.values:
            return ", ".join(
                f"{OBJECTIVES[name].title} {value:.6g}" for name, value in zip(objectives, self.values, strict=True)
            )
        if self.ended == "pruned":
            step, value = max(self.curve.items(), default=(0, float("nan")))
            return f"pruned at {step}, {value:.6g}"
        return f"{self.ended}: {self.failure}" if self.failure else self.ended


def facts_of(arm: ArmTrials, trial: FrozenTrial) -> TrialFacts:
    """From Optuna's."""
    from optuna.trial import TrialState

    from harness.search.trials import CELLS, ENDED, FAILURE, STEPS

    attributes = trial.user_attrs
    complete = trial.state == TrialState.COMPLETE
    slot = arm.slot(trial)
    return TrialFacts(
        arm=arm.arm,
        number=trial.number,
        slot=slot,
        ended="complete"
        if complete
        else str(attributes.get(ENDED, "failed" if trial.state.is_finished() else "running")),
        params=dict(trial.params),
        values=tuple(trial.values) if complete else None,
        curve=dict(trial.intermediate_values),
        steps=int(attributes.get(STEPS, 0)),
        own=arm.own is not None and trial.params == arm.own,
        cells=tuple(attributes.get(CELLS, ())),
        failure=str(attributes.get(FAILURE, "")),
    )


def all_facts(arm: ArmTrials) -> list[TrialFacts]:
    """Of all that count, in order, once they are over."""
    return [facts_of(arm, trial) for trial in arm.ended()]


def value_text(value: Value) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def settings_text(params: Params) -> str:
    """`train.lr=0.002, train.warmup_steps=20`."""
    return ", ".join(f"{name}={value_text(value)}" for name, value in params.items())
