"""The perplexity rule (L2): paired differences of seeds, two looks, one-sided, and a failure confirmed on fresh seeds.

An arm at a look, with the mean d of its differences (loss now − loss of the baseline):

- `fail` where the one-sided t test of d > 0 has p ≤ α, Bonferroni-Holm-corrected over all arms of the suite, *and* d is
  above the trivial share of the margin δ: significant and not trivial.
- `pass` where the upper end of the one-sided 95% interval of d is below δ: that it rose by less is shown.
- else undecided: the second look adds seeds, none is dropped. Still undecided is inconclusive.

A failure is looked for again on fresh seeds, by the same rule; only where both find it the arm fails. A failure that is
not found again is inconclusive. All tests are of looks that were fixed beforehand, so an arm without harm fails with a
chance of at most 2α before confirmation, and of the order of 2α² after it.

The spread of the differences is taken from a calibration where there is one: five differences alone know it badly. It
is pooled with their own, and their own stands alone where it is larger than chance would have it (F test at 1%).
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from scipy import special

from harness.compare.statistics import finite, holm
from harness.suite.gating import GateSettings

Stage = Literal["look 1", "look 2", "confirmation"]
Verdict = Literal["pass", "fail", "inconclusive"]
CONFIDENCE = 0.95
"""One-sided, of the interval that shows a pass."""
IMPLAUSIBLE = 0.01
"""Of the F test that the calibrated spread is put to."""


@dataclass(frozen=True)
class Spread:
    """A calibrated standard deviation with its degrees of freedom."""

    sd: float
    df: int


@dataclass(frozen=True)
class Drawn:
    """Differences of one stage, in the order of its seeds, and the calibrated spread of such differences. Fewer than
    the stage has seeds where a run failed."""

    differences: tuple[float, ...]
    spread: Spread | None


@dataclass(frozen=True, kw_only=True)
class Look:
    """What was found of one arm at one stage. `p` is one-sided and not corrected; `upper` is the upper end of the
    one-sided 95% interval; `sd` with `df` is what they rest on."""

    stage: Stage
    n: int
    mean: float
    sd: float
    df: int
    calibrated: bool
    p: float
    upper: float
    p_corrected: float = 1.0
    verdict: Verdict = "inconclusive"


@dataclass
class Course:
    """How an arm fared, look by look."""

    looks: list[Look] = field(default_factory=list)
    verdict: Verdict = "inconclusive"
    why: str = ""


def look(stage: Stage, differences: Sequence[float], spread: Spread | None) -> Look | None:
    """The test of one arm; None where fewer than two differences are known. Raises ValueError for one that is not
    finite."""
    values = finite(differences)
    n = len(values)
    if n < 2:
        return None
    mean, own = statistics.mean(values), statistics.stdev(values)
    sd, df, calibrated = own, n - 1, False
    if spread is not None and spread.sd > 0:
        implausible = (own / spread.sd) ** 2 > float(special.fdtri(n - 1, spread.df, 1 - IMPLAUSIBLE))
        if not implausible:
            df, calibrated = n - 1 + spread.df, True
            sd = math.sqrt(((n - 1) * own**2 + spread.df * spread.sd**2) / df)
    error = sd / math.sqrt(n)
    if error == 0:
        p, upper = (1.0 if mean <= 0 else 0.0), mean
    else:
        p = float(special.stdtr(df, -mean / error))
        upper = mean + error * float(special.stdtrit(df, CONFIDENCE))
    return Look(
        stage=stage, n=n, mean=mean, sd=sd, df=df, calibrated=calibrated, p=p, upper=upper,
    )  # fmt: skip


def judge(
    arms: Sequence[str], take: Callable[[Stage, Sequence[str]], Mapping[str, Drawn]], rule: GateSettings
) -> dict[str, Course]:
    """Every arm's verdict. `take(stage, arms)` trains, or draws, what a stage needs: the differences of that stage's
    own seeds."""
    found = {arm: Course() for arm in arms}
    known: dict[str, tuple[float, ...]] = dict.fromkeys(arms, ())
    for stage in ("look 1", "look 2"):
        undecided = [arm for arm in arms if found[arm].verdict == "inconclusive"]
        if not undecided:
            break
        drawn = take(stage, undecided)
        if stage == "look 2" and not any(drawn[arm].differences for arm in undecided):
            break  # the suite has no seeds beyond the first look
        looks = {}
        for arm in undecided:
            known[arm] += drawn[arm].differences
            looks[arm] = look(stage, known[arm], drawn[arm].spread)
        _decide(found, looks, len(arms), rule)
    if suspects := [arm for arm in arms if found[arm].verdict == "fail"]:
        drawn = take("confirmation", suspects)
        fresh = {arm: look("confirmation", drawn[arm].differences, drawn[arm].spread) for arm in suspects}
        _decide(found, fresh, len(arms), rule)
        for arm in suspects:
            confirmed = fresh[arm] is not None and found[arm].looks[-1].verdict == "fail"
            found[arm].verdict = "fail" if confirmed else "inconclusive"
            again = "not found again on fresh seeds" if fresh[arm] else "not confirmed: no fresh seeds on both sides"
            found[arm].why = "found again on fresh seeds" if confirmed else again
    return found


def _decide(found: Mapping[str, Course], looks: Mapping[str, Look | None], family: int, rule: GateSettings) -> None:
    """One stage: verdicts of `looks` are added to `found`. The family is all arms of the suite, whoever is left of
    them: which are left was decided by the data."""
    tested = [arm for arm, one in looks.items() if one is not None]
    ps: list[float | None] = [one.p for one in looks.values() if one is not None]
    corrected = holm([*ps, *[1.0] * (family - len(ps))])[: len(ps)]
    for arm, p in zip(tested, corrected, strict=True):
        one = looks[arm]
        assert one is not None
        assert p is not None
        verdict: Verdict = "inconclusive"
        if p <= rule.alpha and one.mean > rule.trivial * rule.margin:
            verdict = "fail"
        elif one.upper < rule.margin:
            verdict = "pass"
        found[arm].looks.append(replace(one, p_corrected=p, verdict=verdict))
        found[arm].verdict = verdict


def more_seeds(one: Look, rule: GateSettings) -> int | None:
    """How many seeds more would decide, if mean and spread stayed as they are: until the interval is below the margin,
    or the test significant. None where none of both can happen, or more than 10,000 would be needed."""
    inside, above = rule.margin - one.mean, one.mean
    needed = []
    if inside > 0:
        needed.append((float(special.ndtri(CONFIDENCE)) * one.sd / inside) ** 2)
    if above > rule.trivial * rule.margin:
        needed.append((float(special.ndtri(1 - rule.alpha)) * one.sd / above) ** 2)
    total = math.ceil(min(needed)) + 1 if needed else None
    return None if total is None or total > 10_000 else max(total - one.n, 1)


def pooled(groups: Iterable[Sequence[float]]) -> Spread | None:
    """The spread that several groups have about their own means; None where no group has two values."""
    kept = [finite(group) for group in groups if len(group) > 1]
    df = sum(len(group) - 1 for group in kept)
    if not df:
        return None
    squares = sum((len(group) - 1) * statistics.variance(group) for group in kept)
    return Spread(math.sqrt(squares / df), df)
