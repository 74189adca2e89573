"""Everybody's turn: rounds in which all are visited once, in an order that is drawn anew, and ratios within a round."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from harness.compare.bootstrap import Interval, median_ratio
from harness.errors import HarnessError, first_line

WARMUP = 1
"""Rounds that do not count."""
LEAST = 5
"""An interval over fewer covers 75% where it says 95%."""


@dataclass(frozen=True)
class Visit:
    """What one step took."""

    seconds: float
    cpu_seconds: float
    """Of all threads of this process together."""


@dataclass
class Rounds:
    """What was found, round by round."""

    orders: list[list[str]] = field(default_factory=list)
    visits: dict[str, list[Visit]] = field(default_factory=dict)
    """By name, of those that were there to the end."""
    failed: dict[str, str] = field(default_factory=dict)
    """Name -> why."""


def take_turns(
    names: Sequence[str],
    visit: Callable[[str], Visit],
    rounds: int,
    seed: int,
    *,
    begin: Callable[[], None],
    lose: Callable[[str], None],
) -> Rounds:
    """`begin`, then all `names` in an order of its own for every round, `WARMUP` rounds of it before those that count.
    Who fails is lost and not visited again; without the first of `names`, which all are compared with, it ends."""
    draw, found = random.Random(seed), Rounds(visits={name: [] for name in names})  # noqa: S311
    for number in range(-WARMUP, rounds):
        order = [name for name in names if name not in found.failed]
        draw.shuffle(order)
        begin()
        for name in order:
            try:
                took = visit(name)
            except Exception as error:  # whatever a model raises; out of memory first of all
                found.failed[name] = why(error)
                del found.visits[name]
            else:
                if number >= 0:
                    found.visits[name].append(took)
            if name in found.failed:  # only now does no traceback hold its memory any more
                lose(name)
        if number >= 0:
            found.orders.append(order)
        if names[0] in found.failed:
            break
    return found


def why(error: Exception) -> str:
    """In a line."""
    return first_line(error) if isinstance(error, HarnessError) else f"{type(error).__name__}: {first_line(error)}"


def paired_ratio(arm: Sequence[float], baseline: Sequence[float]) -> tuple[float, Interval | None]:
    """Median over rounds of arm / baseline of the same round, with its 95% interval over rounds: what slows a round
    slows both."""
    return median_ratio([a / b for a, b in zip(arm, baseline, strict=True)], [1.0] * len(arm))
