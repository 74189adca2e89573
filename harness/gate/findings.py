"""What a gate found: one line for every rule and arm, and the exit code that follows from them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

from harness.errors import FAILED, INCONCLUSIVE, OK

Layer = Literal["L0", "L1", "L2", "L3"]
LAYERS: dict[Layer, str] = {
    "L0": "golden: nothing that should be equal has changed",
    "L1": "divergence and cost",
    "L2": "perplexity, against the baseline",
    "L3": "drift, against the anchor",
}
State = Literal["pass", "fail", "inconclusive", "report", "not judged"]
"""`report` and `not judged` decide nothing."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One rule, applied to one arm, or to the suite as a whole."""

    layer: Layer
    rule: str
    arm: str | None
    state: State
    measured: str
    limit: str = ""
    """What would have passed."""


@dataclass(frozen=True, kw_only=True)
class SeedLine:
    """One seed of an arm as it was used: all of them are shown, those that failed too."""

    layer: Layer
    stage: str
    arm: str
    seed: int
    loss: float | None
    baseline: float | None
    paired: bool
    failure: str | None = None

    @property
    def difference(self) -> float | None:
        return None if self.loss is None or self.baseline is None else self.loss - self.baseline


@dataclass(kw_only=True)
class Report:
    """Everything that one gate says."""

    suite: str
    unit: str
    against: dict[str, Any]
    """Of the baseline: file or commit, reason, when."""
    environment: dict[str, str]
    rules: dict[str, Any]
    notes: list[str] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    seeds: list[SeedLine] = field(default_factory=list)

    @property
    def state(self) -> Literal["pass", "fail", "inconclusive"]:
        states = {finding.state for finding in self.findings}
        return "fail" if "fail" in states else "inconclusive" if "inconclusive" in states else "pass"

    @property
    def exit_code(self) -> int:
        return {"pass": OK, "fail": FAILED, "inconclusive": INCONCLUSIVE}[self.state]


def worst(findings: Iterable[Finding]) -> State:
    """Of a layer: the state that decides."""
    states = [finding.state for finding in findings]
    order: tuple[State, ...] = ("fail", "inconclusive", "pass", "report", "not judged")
    return min(states, key=order.index, default="not judged")
