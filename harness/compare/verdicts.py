"""Words for paired differences: which arms are better, and which belong to the best. Losses: lower is better.

The rules, in one place, for a family of arms against one baseline and a margin below which nobody cares:

1. `unresolved` where there are fewer than two pairs.
2. `equivalent` where both one-sided t tests (TOST, Schuirmann 1987) put the mean difference inside ±margin: the larger
   of their two p values, Holm-corrected over the family, is at most α. It goes first: significant and trivial is
   trivial.
3. `better` or `worse`, by the sign of the mean, where the two-sided paired t test, Holm-corrected over the family, is
   at most α.
4. `unresolved` otherwise.

So the chance that any arm without an effect is called better or worse is at most α, and so is the chance that any arm
whose effect is the margin or more is called equivalent. They are two families: a wrong word of either kind has at most
2α.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from scipy import special

from harness.compare.statistics import Pairs, finite, holm, paired_difference

Verdict = Literal["better", "worse", "equivalent", "unresolved"]


@dataclass(frozen=True)
class Judgement:
    """A verdict with the two p values that it rests on, both corrected for the family; None where n < 2."""

    verdict: Verdict
    p: float | None
    """Of no difference."""
    p_equivalent: float | None
    """Of a difference of the margin or more."""


def verdicts(pairs: Sequence[Pairs | None], margin: float, alpha: float = 0.05) -> list[Judgement]:
    """One judgement for every arm of a family, in the order given; the rules stand at the head of this file. None (no
    pairs at all) is unresolved and does not count in the family. A margin of 0 makes nothing equivalent.

    Raises ValueError for a margin that is negative or not finite.
    """
    if finite([margin])[0] < 0:
        raise ValueError(f"a negative margin: {margin}")
    different = holm([one.p if one is not None else None for one in pairs])
    trivial = holm([_equivalence_p(one, margin) if one is not None else None for one in pairs])
    made = []
    for one, p, p_equivalent in zip(pairs, different, trivial, strict=True):
        verdict: Verdict = "unresolved"
        if p_equivalent is not None and p_equivalent <= alpha:
            verdict = "equivalent"
        elif one is not None and p is not None and p <= alpha:
            verdict = "better" if one.mean < 0 else "worse"
        made.append(Judgement(verdict, p, p_equivalent))
    return made


def _equivalence_p(one: Pairs, margin: float) -> float | None:
    """The larger p of the two one-sided tests, which is that against the nearer margin."""
    if one.sd_paired is None:
        return None
    inside, error = margin - abs(one.mean), one.sd_paired / math.sqrt(one.n)
    if error == 0:
        return 0.0 if inside > 0 else 1.0
    return float(special.stdtr(one.n - 1, -inside / error))


def best_group(values: Mapping[str, Mapping[int, float]], alpha: float = 0.05) -> set[str]:
    """The arm with the lowest mean and all that cannot be told from it: whose paired difference to it is not
    significantly above 0 after Holm's correction over the arms. `values`: arm -> seed -> loss.

    Means are over the seeds that all arms have, where there are two such, otherwise over each arm's own. Arms with
    fewer than two seeds in common with the best are not judged and left out; where none can be judged the group is
    empty, and an arm without others is the best. Arms without values do not count.

    The arm that is truly best is left out with a chance of less than α. Of equal arms, some one is left out more often
    (12 arms, 8 seeds: 14%), because the one that they are held against was chosen for its luck.

    Raises ValueError for a value that is not finite.
    """
    having = {arm: losses for arm, losses in values.items() if finite(losses.values())}
    if len(having) < 2:
        return set(having)
    common = set.intersection(*(set(losses) for losses in having.values()))
    best = min(having, key=lambda arm: _mean(having[arm], common if len(common) > 1 else having[arm].keys()))
    differences = {arm: paired_difference(losses, having[best]) for arm, losses in having.items() if arm != best}
    judged = {arm: one for arm, one in differences.items() if one is not None and one.p is not None}
    ps = holm([one.p for one in judged.values()])
    alike = {
        arm for (arm, one), p in zip(judged.items(), ps, strict=True) if one.mean <= 0 or (p is not None and p > alpha)
    }
    return alike | {best} if judged else set()


def _mean(losses: Mapping[int, float], seeds: Iterable[int]) -> float:
    chosen = [losses[seed] for seed in seeds]
    return math.fsum(chosen) / len(chosen)
