"""Numbers of a stack that carries rows (streams, fractions, slots), and of what its sub-layers read.

Axes: N tokens (1 where all have the same), R rows, P parts, W width of a row, D width, K sub-layers.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, pairwise

import torch
from torch import Tensor
from torch.nn import functional as F

from harness.connections.base import Matrices

BAND = (0.5, 0.05, 0.95)
"""Quantiles over tokens: the median and the ends of the band (HC, arXiv 2409.19606, Fig. 3; FC, 2503.14125, Fig. 2)."""


def neighbour_cosines(reads: Sequence[Tensor]) -> Tensor:
    """(3, K-1): quantiles `BAND` over tokens of the cosine between what sub-layers k and k+1 read, before their
    norms."""
    cosines_KN = torch.stack(
        [F.cosine_similarity(one.double(), other.double(), dim=-1).flatten() for one, other in pairwise(reads)]
    )
    return torch.quantile(cosines_KN, cosines_KN.new_tensor(BAND), dim=1)


def root_mean_square(h: Tensor) -> Tensor:
    """(R,): of every row of (B, T, R, W), over all tokens and places."""
    return h.double().square().mean(dim=(0, 1, 3)).sqrt()


def copies(enter_RP: Tensor) -> list[list[int]]:
    """Rows that begin as copies of one another, group by group: all streams; slots of one part; no fractions."""
    groups: dict[tuple[float, ...], list[int]] = {}
    for row, made_of in enumerate(enter_RP.tolist()):
        groups.setdefault(tuple(made_of), []).append(row)
    return [rows for rows in groups.values() if len(rows) > 1]


def dispersion(h: Tensor, groups: Sequence[Sequence[int]]) -> float:
    """How far rows that began equal have come apart: sum_i |h_i - mean of its group|² / sum_i |h_i|², mean over tokens.

    0 where they are equal, 1 - 1/R for R rows of one length at right angles, at most 1 (a mean of zero).
    """
    apart, whole = h.new_zeros(h.shape[:2], dtype=torch.float64), h.new_zeros(h.shape[:2], dtype=torch.float64)
    for rows in groups:
        rows_BTRW = h[..., list(rows), :].double()
        from_first = rows_BTRW - rows_BTRW[..., :1, :]  # equal rows are to give 0 and not a rounding error
        apart += (from_first - from_first.mean(dim=-2, keepdim=True)).square().sum(dim=(-1, -2))
        whole += rows_BTRW.square().sum(dim=(-1, -2))
    return float((apart / whole.clamp_min(torch.finfo(torch.float64).tiny)).mean())


def dynamic_share(coefficients: Sequence[Tensor]) -> float:
    """Root mean square, over tokens and entries, of the coefficients' deviation from their mean over tokens, over that
    of the coefficients; (N, ...) each. 0 where all tokens have the same, 0.71 for a static and a dynamic part of equal
    power, 1 where nothing is common to the tokens."""
    deviation, power = 0.0, 0.0
    for c in coefficients:
        deviation += float((c - c.mean(dim=0)).square().mean(dim=0).sum()) if len(c) > 1 else 0.0
        power += float(c.square().mean(dim=0).sum())
    return (deviation / power) ** 0.5 if power else float("nan")


def gain(sublayers: Sequence[Matrices]) -> dict[str, list[float]]:
    """Composite gain of the carried rows (mHC, arXiv 2512.24880, section 3.1 and Fig. 3: "Amax gain magnitude").

    G_k = carry_kᵀ .. carry_0ᵀ takes the rows from the start to behind sub-layer k, and Q_k = carry_Kᵀ .. carry_kᵀ from
    before sub-layer k to the end; products of every token, then the mean over tokens. `forward` of k is the largest and
    the smallest |row sum| of G_k, what becomes of equal rows of size 1; `backward` the same of the column sums of Q_k,
    of gradients. Natural numbers; the smallest shows what a largest hides, that rows die out.
    """
    maps = [one.carry.mT for one in sublayers]
    forward = list(accumulate(maps, lambda product, later: later @ product))
    backward = list(accumulate(maps[::-1], lambda product, earlier: product @ earlier))[::-1]
    rows_KR = torch.stack([product.mean(dim=0).sum(dim=-1) for product in forward]).abs()
    columns_KR = torch.stack([product.mean(dim=0).sum(dim=-2) for product in backward]).abs()
    return {
        f"{way}_{name}": pick(sums_KR, dim=1).tolist()
        for way, sums_KR in (("forward", rows_KR), ("backward", columns_KR))
        for name, pick in (("max", torch.amax), ("min", torch.amin))
    }
