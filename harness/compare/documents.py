"""Noise of the text beside noise of the seeds: differences block by block of the held-out side.

Windows that stand beside each other in a text are alike: taken for independent they give intervals that are too narrow
by up to a half (measured on the quickstart's). So neighbours are put together in `BLOCKS` blocks first.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from harness.compare.bootstrap import document_interval, hierarchical_interval

BLOCKS = 32


@dataclass(frozen=True, kw_only=True)
class Windows:
    """Loss and size of every piece (window, sequence, image) of the held-out side, in its order."""

    losses: tuple[float, ...]
    """Sums over a piece."""
    sizes: tuple[float, ...]
    """Items (tokens, answers) of a piece."""

    def blocks(self) -> np.ndarray:
        """One number for every block of neighbours, whose mean is the loss: (`BLOCKS`,), or as many as there are
        pieces."""
        losses = np.asarray(self.losses, dtype=np.float64) / math.fsum(self.sizes)
        count = min(BLOCKS, len(losses))
        return count * np.array([part.sum() for part in np.array_split(losses, count)])


@dataclass(frozen=True, kw_only=True)
class Documents:
    """95% intervals of one mean difference: over the pieces of text with these seeds, and over seeds and pieces."""

    pieces: int
    """Windows, sequences or images."""
    text: tuple[float, float] | None
    both: tuple[float, float] | None
    """None with one seed."""


def documents(arm: Mapping[int, Windows], baseline: Mapping[int, Windows], seeds: Iterable[int]) -> Documents | None:
    """None where a seed's pieces were not kept, or are not the same."""
    chosen = list(seeds)
    if not chosen or any(seed not in arm or seed not in baseline for seed in chosen):
        return None
    if len({side[seed].sizes for side in (arm, baseline) for seed in chosen}) > 1:
        return None
    differences_SK = np.stack([arm[seed].blocks() - baseline[seed].blocks() for seed in chosen])
    return Documents(
        pieces=len(arm[chosen[0]].sizes),
        text=document_interval(differences_SK.mean(axis=0)),
        both=hierarchical_interval(differences_SK) if len(chosen) > 1 else None,
    )


def fragile(seeds: tuple[float, float] | None, found: Documents | None) -> bool:
    """Whether a difference that excludes zero over seeds does not when the text is drawn again as well: robust over
    seeds, fragile over text."""
    if seeds is None or found is None or found.both is None:
        return False
    return _excludes_zero(seeds) and not _excludes_zero(found.both)


def _excludes_zero(interval: tuple[float, float]) -> bool:
    return interval[0] > 0 or interval[1] < 0
