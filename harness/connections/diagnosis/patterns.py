"""Patterns that HC (arXiv 2409.19606, Fig. 7 and the text to it) names in unfolded connection matrices, as numbers.

C is (K+1, K+1) as in `unfold`: row k is what sub-layer k reads, the last row the output; column 0 is the embedding,
column j the output of sub-layer j - 1. Only sizes count, and of a row only how they compare, for every branch norms
what it reads: all is of w_kj = |c_kj| over the mean of its row. A number that cannot be had (too few layers, nothing to
divide by) is NaN.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]

ZONE = 3
"""Columns that count as early (the embedding and the first block) and as recent."""


def patterns(matrix: Matrix) -> dict[str, float]:
    """All of them, by name."""
    weights = relative(matrix)
    recent, early = zones(weights)
    return {
        "lambda": min(recent, early),
        "recent": recent,
        "early": early,
        "parallel": jags(weights, 1),
        "parallel_control": jags(weights, 2),
        "embedding_output": float(weights[-1, 0]),
        "embedding_inputs": float(weights[1:-1, 0].mean()) if len(weights) > 2 else float("nan"),
        "decay": decay(matrix),
    }


def relative(matrix: Matrix) -> Matrix:
    """w_kj: |c_kj| over the mean of row k up to its diagonal. The embedding's column of it is its weight: 1 for the
    residual, 0 where the embedding is gone."""
    size = np.abs(matrix)
    means = size.sum(axis=1) / np.arange(1, len(size) + 1)
    return size / np.where(means > 0, means, np.nan)[:, None]


def zones(weights: Matrix) -> tuple[float, float]:
    """(recent, early): mean weight of a row's last `ZONE` columns and of its first, each over that of the columns in
    between, all three averaged over the rows that have two or more in between. 1 for the residual; the Λ shape is both
    large, so its score is the smaller one."""
    rows = [weights[k, : k + 1] for k in range(2 * ZONE + 1, len(weights))]
    if not rows:
        return float("nan"), float("nan")
    recent, early, middle = (
        float(np.mean([row[part].mean() for row in rows]))
        for part in (slice(-ZONE, None), slice(0, ZONE), slice(ZONE, -ZONE))
    )
    return _ratio(recent, middle), _ratio(early, middle)


def jags(weights: Matrix, first: int) -> float:
    """1 - mean weight of the newest output in the rows `first`, first + 2, ..., over that of the two columns before it.

    With 1 these are the second sub-layers of the blocks, and 1 means that they do not see the first's output: parallel
    blocks. 0 for the residual. With 2 the other pairing, the first sub-layers (and the output), which nothing but the
    same pattern a sub-layer later would make large."""
    rows = range(first, len(weights), 2)
    newest = float(np.mean([weights[k, k] for k in rows])) if rows else float("nan")
    before = float(np.mean([weights[k, max(k - 2, 0) : k].mean() for k in rows])) if rows else float("nan")
    return 1.0 - _ratio(newest, before)


def decay(matrix: Matrix) -> float:
    """Slope, by least squares, of log(mean weight at distance k - j) over the distance. The embedding's column is left
    out, of the rows' means too, and so are distances without weight. 0 for the residual, negative where old outputs
    fade (post-norm)."""
    weights = np.nan_to_num(relative(matrix[1:, 1:]))
    means = np.array([np.diagonal(weights, -d).mean() for d in range(len(weights))])
    distances = np.flatnonzero(means > 0)
    if len(distances) < 2:
        return float("nan")
    return float(np.polyfit(distances, np.log(means[distances]), 1)[0])


def _ratio(above: float, below: float) -> float:
    return above / below if below > 0 else float("nan")
