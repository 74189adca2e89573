"""L3: gated against yesterday alone, ten harmless steps pass. An anchor, such as the last release, does not move."""

from __future__ import annotations

from collections.abc import Sequence

from harness.gate.baseline import Baseline, SeedRun
from harness.gate.findings import Finding, SeedLine, State
from harness.gate.perplexity import Perplexity, differences_of, seed_line
from harness.gate.reading import seed_run
from harness.gate.rule import Look, look
from harness.suite.gating import GateSettings


class Drift:
    """What the runs of `judged` have lost since the anchor; the first look's seeds where it has none of an arm."""

    def __init__(self, judged: Perplexity, anchor: Baseline, rule: GateSettings, family: int):
        self.judged, self.anchor, self.rule, self.family = judged, anchor, rule, family
        self.lines: list[SeedLine] = []

    def finding(self, arm: str, incomparable: str | None) -> Finding:
        """`pass` where it is shown that the loss rose by less than `rule.drift` margins; `fail` where it rose
        significantly and not trivially, on fresh seeds too. `incomparable`: why no number is compared."""
        limit = f"Δ < {self.rule.drift * self.rule.margin:g} at 95%"
        state: State = "inconclusive"
        if incomparable is not None or arm not in self.anchor.arms:
            words = incomparable or "the anchor has no such arm"
            return Finding(layer="L3", rule="drift", arm=arm, state=state, measured=words, limit=limit)
        looks = [*self.judged.stages["look 1"], *self.judged.stages["look 2"]]
        had = [seed for seed in looks if (arm, seed) in self.judged.mine] or list(self.judged.stages["look 1"])
        first = self._look(arm, "looks", had)
        words = _words(first)
        if first is not None and first.upper < self.rule.drift * self.rule.margin:
            state = "pass"
        elif self._worse(first):
            fresh = self._look(arm, "confirmation", self.judged.stages["confirmation"])
            state = "fail" if self._worse(fresh) else "inconclusive"
            words += f"; on fresh seeds {_words(fresh)}"
        return Finding(layer="L3", rule="drift", arm=arm, state=state, measured=words, limit=limit)

    def _worse(self, one: Look | None) -> bool:
        """As in L2; Bonferroni for the arms."""
        if one is None:
            return False
        return one.p * self.family <= self.rule.alpha and one.mean > self.rule.trivial * self.rule.margin

    def _look(self, arm: str, stage: str, seeds: Sequence[int]) -> Look | None:
        cells = self.judged.here.seeds(seeds, [arm])
        mine: dict[int, SeedRun] = {seed: seed_run(cell) for (_, seed), cell in cells.items()}
        lines = [seed_line("L3", stage, (arm, seed), mine.get(seed), self.anchor.arms[arm].run(seed)) for seed in seeds]
        self.lines += lines
        return look("look 1", differences_of(lines), self.judged.spread_of(lines))


def _words(one: Look | None) -> str:
    if one is None:
        return "fewer than two seeds have a loss on both sides"
    return f"{one.n} seeds: Δ {one.mean:+.4f}, below {one.upper:+.4f} at 95%, p {one.p:.2g}"
