"""Compute-equivalent gain: how much more compute the baseline would need for an arm's loss, and what speed leaves.

((L_b - floor) / (L_a - floor))^(1 / exponent), with floor and exponent from the suite's own ladder (the baseline at
several budgets or sizes), or borrowed where it has none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from harness.compare.match import FLOPS, LOSS, budget_ratio
from harness.compare.power_law import BORROWED, gain_interval
from harness.compare.rules import RUNGS
from harness.tracking import Record


@dataclass(frozen=True, kw_only=True)
class Gain:
    """`compute`: so many times its FLOPs the baseline would need. `net`: times the arm's throughput ratio, over its
    ratio of training tokens, so many times the arm's own training time; None where one of the two is not known.
    Intervals are 95%, by a bootstrap over seeds."""

    compute: float
    compute_interval: tuple[float, float] | None
    net: float | None
    net_interval: tuple[float, float] | None
    borrowed: bool
    """The curve is another study's, not fitted to this suite."""
    beyond: bool
    """The arm's loss is below that of every budget of the ladder: the curve is followed beyond what was trained."""


@dataclass(frozen=True)
class Ladder:
    """The baseline at several budgets, seed by seed."""

    arms: Mapping[str, Mapping[int, Record]]

    def losses(self) -> dict[float, dict[int, float]]:
        """Training FLOPs -> seed -> loss."""
        found: dict[float, dict[int, float]] = {}
        for records in self.arms.values():
            for seed, record in records.items():
                if FLOPS in record.metrics:
                    found.setdefault(record.metrics[FLOPS], {})[seed] = record.metrics[LOSS]
        return found


def gains(
    ladder: Ladder,
    done: Mapping[str, Mapping[int, Record]],
    baseline: str,
    speeds: Mapping[str, float | None],
    borrow: bool = True,
) -> dict[str, Gain]:
    """Of every arm with finished cells but the baseline and its ladder. Without a ladder of three budgets the curve is
    borrowed, if `borrow` allows it: it is one of nats per token."""
    base = done.get(baseline) or {}
    budget = next((record.metrics[FLOPS] for record in base.values() if FLOPS in record.metrics), None)
    rungs = ladder.losses()
    fitted = len(rungs) >= RUNGS and budget in rungs
    if budget is None or not (fitted or borrow):
        return {}
    if not fitted:
        rungs = {budget: {seed: record.metrics[LOSS] for seed, record in base.items()}}
    found = {}
    for arm, records in done.items():
        if not records or arm == baseline or arm in ladder.arms:
            continue
        losses = {seed: record.metrics[LOSS] for seed, record in records.items()}
        made = gain_interval(rungs, budget, losses, law=None if fitted else BORROWED)
        if made is None:
            continue
        (compute, interval), speed = made, speeds.get(arm)
        tokens = budget_ratio("tokens", arm, records, base, {})
        speed = None if speed is None or tokens is None else speed / tokens
        found[arm] = Gain(
            compute=compute,
            compute_interval=interval,
            net=None if speed is None else compute * speed,
            net_interval=None if speed is None or interval is None else (interval[0] * speed, interval[1] * speed),
            borrowed=not fitted,
            beyond=fitted and _mean(losses) < min(_mean(rung) for rung in rungs.values()),
        )
    return found


def _mean(losses: Mapping[int, float]) -> float:
    return sum(losses.values()) / len(losses)
