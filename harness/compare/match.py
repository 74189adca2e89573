"""Matched views: what an arm is held against when not tokens but parameters, FLOPs, time or memory are to be equal.

FLOPs and time are spent along a run, so the side with the larger budget is read on its recorded curve where the other
ends. A run of that budget would have had its own schedule, so such a reading is off by nobody knows how much, and it is
not judged. Parameters and memory are not spent along a run: there only an arm of the baseline's kind that was resized
until it costs the same will do, and such an arm is preferred for time as well.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from harness.compare.likeness import hardware
from harness.compare.statistics import geometric_mean
from harness.tracking import Record

Match = Literal["tokens", "params", "flops", "time", "memory"]
MATCHES: tuple[Match, ...] = get_args(Match)

LOSS, TOKENS, PARAMETERS = "validation/loss", "train/tokens", "cost/parameters"
FLOPS, SPEED, SAVED = "cost/training_flops", "cost/tokens_per_second", "cost/saved_activation_bytes"

WORDS: dict[Match, str] = {
    "tokens": "training tokens",
    "params": "parameters",
    "flops": "training FLOPs",
    "time": "training time",
    "memory": "memory of a training step",
}
EQUAL = 0.01
"""Budgets that differ by no more than this share count as equal."""
MATCHED = 0.05
"""A resized arm whose measured budget is further from the arm's than this is none that costs the same."""
STATE_BYTES = 16
"""Of a parameter: weight, gradient and two moments, in fp32."""

Curve = Callable[[str], Sequence[tuple[int, float]]]
"""Run -> (step, held-out loss) by step."""
Costs = Mapping[str, Any]
"""What the interleaved measurement found, by arm."""


@dataclass(frozen=True, kw_only=True)
class Matched:
    """An arm and what it is held against in one view."""

    against: str
    """The baseline, or the arm that was resized for this."""
    ratio: float | None = None
    """The arm's budget over the baseline's as trained; None where it is not known."""
    how: Literal["end", "curve", "resized", "none"] = "end"
    """Ends of both runs, equal in budget or in tokens; one of them read on its curve; the resized arm; nothing."""
    reading: str = ""
    """Which side was read where, or what was missing, in words."""
    mine: dict[int, float] = field(default_factory=dict)
    theirs: dict[int, float] = field(default_factory=dict)
    """Losses by seed."""


def matched(
    match: Match,
    arm: str,
    baseline: str,
    done: Mapping[str, Mapping[int, Record]],
    twins: Mapping[tuple[str, str], str],
    costs: Costs,
    curve: Curve | None,
) -> Matched:
    """`twins`: (match, arm) -> the arm that was resized to cost as much as `arm`."""
    mine, theirs = done.get(arm, {}), done.get(baseline, {})
    ratio = budget_ratio(match, arm, mine, theirs, costs)
    end, their_end = _losses(mine), _losses(theirs)
    if match == "tokens" or (ratio is not None and abs(ratio - 1) <= EQUAL):
        return Matched(against=baseline, ratio=ratio, mine=end, theirs=their_end)
    twin, off = twins.get((match, arm)), None
    if twin is not None:
        # Of both measured, or of both reckoned.
        known = costs if twin in costs and arm in costs else {}
        own = budget_ratio(match, arm, mine, theirs, known)
        other = budget_ratio(match, twin, done.get(twin, {}), theirs, known)
        off = own / other if own is not None and other is not None else None
    if twin is not None and (off is None or abs(off - 1) <= MATCHED):
        return Matched(against=twin, ratio=ratio, how="resized", mine=end, theirs=_losses(done.get(twin, {})))
    missed = "" if off is None else f"{twin} was resized to cost the same, and it costs {1 / off:.2f} times as much"
    if match in ("params", "memory") or ratio is None or curve is None:
        return Matched(against=baseline, ratio=ratio, how="none", reading=missed or _wish(match, arm, ratio, twins))
    larger, share = (mine, 1 / ratio) if ratio > 1 else (theirs, ratio)
    read = {
        seed: value for seed, record in larger.items() if (value := loss_at(curve(record.run_id), share)) is not None
    }
    who = arm if ratio > 1 else baseline
    return Matched(
        against=baseline,
        ratio=ratio,
        how="curve",
        reading=(f"{missed}; " if missed else "")
        + f"{who} read after {share:.0%} of its steps, before its learning rate was down: not judged",
        mine=read if ratio > 1 else end,
        theirs=their_end if ratio > 1 else read,
    )


def _wish(match: Match, arm: str, ratio: float | None, twins: Mapping[tuple[str, str], str]) -> str:
    """What is not there, and what to write to have it: no arm can be resized to a resized one, or to FLOPs."""
    text = "nothing of equal cost to hold it against"
    if ratio is None or match == "flops" or arm in twins.values():
        return text
    return f"{text} (an arm with resize: {{match: {match}, arm: {arm}}})"


def budget_ratio(
    match: Match, arm: str, mine: Mapping[int, Record], theirs: Mapping[int, Record], costs: Costs
) -> float | None:
    """The arm's budget over the baseline's: geometric mean over the seeds that both have."""
    if match == "memory" and (peak := (costs.get(arm) or {}).get("peak_bytes_ratio")) is not None:
        return float(peak)
    if match == "time" and (speed := (costs.get(arm) or {}).get("throughput_ratio")):
        tokens = budget_ratio("tokens", arm, mine, theirs, costs)
        return None if tokens is None else tokens / float(speed)
    spent = _SPENT[match]
    # Time that cells took on other hardware says nothing.
    seeds = [s for s in sorted(mine.keys() & theirs.keys()) if match != "time" or _same_hardware(mine[s], theirs[s])]
    pairs = [(spent(mine[seed].metrics), spent(theirs[seed].metrics)) for seed in seeds]
    ratios = [one / other for one, other in pairs if one and other]
    return geometric_mean(ratios) if ratios else None


def _same_hardware(one: Record, other: Record) -> bool:
    return hardware(one) == hardware(other)


def _time(metrics: Mapping[str, float]) -> float:
    speed = metrics.get(SPEED, 0.0)
    return metrics.get(TOKENS, 0.0) / speed if speed > 0 else 0.0


def _memory(metrics: Mapping[str, float]) -> float:
    saved, parameters = metrics.get(SAVED), metrics.get(PARAMETERS)
    return 0.0 if saved is None or parameters is None else saved + STATE_BYTES * parameters


_SPENT: dict[Match, Callable[[Mapping[str, float]], float]] = {
    "tokens": lambda metrics: metrics.get(TOKENS, 0.0),
    "params": lambda metrics: metrics.get(PARAMETERS, 0.0),
    "flops": lambda metrics: metrics.get(FLOPS, 0.0),
    "time": _time,
    "memory": _memory,
}


def loss_at(curve: Sequence[tuple[int, float]], share: float) -> float | None:
    """The loss after a share of the steps, between recorded ones by a straight line; None before the first."""
    if not curve:
        return None
    step = share * curve[-1][0]
    for (before, low), (after, high) in itertools.pairwise(curve):
        if before <= step <= after:
            return low + (high - low) * (step - before) / (after - before)
    return curve[-1][1] if step >= curve[-1][0] else None


def _losses(records: Mapping[int, Record]) -> dict[int, float]:
    return {seed: record.metrics[LOSS] for seed, record in records.items()}
