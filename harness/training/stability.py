"""Spikes of the loss and of the gradient norm, counted while training goes on."""

from __future__ import annotations

import math
import statistics
from collections import deque
from typing import Any

WINDOW = 128
"""Steps that a step is held against, those before it."""
LEAST = 16
"""So many must have been, or a step is not judged."""
SIGMAS = 6.0


class Spikes:
    """A spike is a value above the median of the last `WINDOW` ones by more than `SIGMAS` robust standard deviations,
    1.4826 times their median absolute deviation from the median. One that is not finite is a spike too, and is not held
    against later ones."""

    def __init__(self) -> None:
        self.window: deque[float] = deque(maxlen=WINDOW)
        self.spikes = self.judged = 0

    def add(self, value: float) -> None:
        if len(self.window) >= LEAST:
            middle = statistics.median(self.window)
            sigma = 1.4826 * statistics.median(abs(one - middle) for one in self.window)
            self.judged += 1
            self.spikes += not value <= middle + SIGMAS * sigma
        if math.isfinite(value):
            self.window.append(value)

    def share(self) -> float | None:
        """Spikes among the judged steps; None while there are none of these."""
        return self.spikes / self.judged if self.judged else None

    def state(self) -> dict[str, Any]:
        return {"window": list(self.window), "spikes": self.spikes, "judged": self.judged}

    def restore(self, state: dict[str, Any]) -> None:
        self.window = deque(state["window"], maxlen=WINDOW)
        self.spikes, self.judged = state["spikes"], state["judged"]
