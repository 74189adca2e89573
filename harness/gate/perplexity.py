"""L2: losses against a baseline, seed by seed, by the rule of `rule.py`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from harness.gate.baseline import SeedRun
from harness.gate.findings import Finding, Layer, SeedLine, State
from harness.gate.reading import seed_run
from harness.gate.reference import Reference
from harness.gate.rule import Course, Drawn, Look, Spread, Stage, judge, more_seeds
from harness.gate.runs import Here, Key
from harness.suite.gating import GateSettings


class Perplexity:
    """The suite's seeds, trained stage by stage as the rule asks for them."""

    def __init__(
        self,
        here: Here,
        reference: Reference,
        seeds: Sequence[int],
        rule: GateSettings,
        paired: Spread | None,
        unpaired: Spread | None,
    ):
        self.here, self.reference, self.rule = here, reference, rule
        self.paired, self.unpaired = paired, unpaired
        self.stages: dict[Stage, tuple[int, ...]] = {
            "look 1": tuple(seeds[: rule.first_look]),
            "look 2": tuple(seeds[rule.first_look :]),
            "confirmation": tuple(rule.confirm),
        }
        self.mine: dict[Key, SeedRun] = {}
        self.theirs: dict[Key, SeedRun] = {}
        self.lines: list[SeedLine] = []

    def findings(self, arms: Sequence[str], incomparable: Mapping[str, str]) -> list[Finding]:
        """One for every arm. `incomparable`: arm -> why no number of it is compared."""
        found = [
            Finding(layer="L2", rule="loss", arm=arm, state="inconclusive", measured=why)
            for arm, why in incomparable.items()
        ]
        compared = [arm for arm in arms if arm not in incomparable]
        judged = judge(compared, self._take, self.rule) if compared else {}
        for arm, one in judged.items():
            crashed = [line.seed for line in self.lines if line.arm == arm and line.loss is None]
            # The seeds that are left are no fair sample of all.
            state: State = "fail" if crashed else one.verdict
            found.append(
                Finding(
                    layer="L2", rule="loss", arm=arm, state=state, measured=self._words(arm, one, crashed),
                    limit=f"fail: p ≤ {self.rule.alpha:g} and Δ > {self.rule.trivial * self.rule.margin:g}; "
                    f"pass: Δ < {self.rule.margin:g} at 95%",
                )
            )  # fmt: skip
        return sorted(found, key=lambda finding: arms.index(finding.arm or arms[0]))

    def _take(self, stage: Stage, arms: Sequence[str]) -> Mapping[str, Drawn]:
        seeds = self.stages[stage]
        if not seeds:
            return {arm: Drawn((), self.paired) for arm in arms}
        mine = {key: seed_run(cell) for key, cell in self.here.seeds(seeds, arms).items()}
        theirs = self.reference.runs(seeds, arms)
        self.mine |= mine
        self.theirs |= theirs
        return {arm: self._drawn(stage, arm, seeds) for arm in arms}

    def _drawn(self, stage: Stage, arm: str, seeds: Sequence[int]) -> Drawn:
        lines = [
            seed_line("L2", stage, (arm, seed), self.mine.get((arm, seed)), self.theirs.get((arm, seed)))
            for seed in seeds
        ]
        self.lines += lines
        # The second look is of all seeds so far; a confirmation is of its own.
        judged = lines if stage == "confirmation" else [line for line in self.lines if line.arm == arm]
        return Drawn(differences_of(lines), self.spread_of(judged))

    def spread_of(self, lines: Sequence[SeedLine]) -> Spread | None:
        """The calibrated spread of such differences. Where one seed is no pair, all are taken for strangers."""
        return self.paired if all(line.paired for line in lines if line.difference is not None) else self.unpaired

    def _words(self, arm: str, one: Course, crashed: Sequence[int]) -> str:
        failed = f"runs failed: seed {', '.join(map(str, crashed))}; " if crashed else ""
        if not one.looks:
            return f"{failed}fewer than two seeds have a loss on both sides"
        bits = self._bits(arm)
        words = failed + "; ".join(_look_words(each, text=bits is not None) for each in one.looks)
        pairs = [line for line in self.lines if line.arm == arm and line.difference is not None]
        if not all(line.paired for line in pairs):
            words += "; not paired: other batches or initial weights"
        if bits is not None:
            words += f"; {bits:+.4f} bits per byte"
        if one.why:
            words += f"; {one.why}"
        elif one.verdict == "inconclusive" and (need := more_seeds(one.looks[-1], self.rule)) is not None:
            words += f"; needs about {need} more seeds"
        return words

    def _bits(self, arm: str) -> float | None:
        """Mean difference in bits per byte, where the loss is one of text."""
        found = []
        for key, mine in self.mine.items():
            theirs = self.theirs.get(key)
            if key[0] == arm and theirs and mine.bits_per_byte is not None and theirs.bits_per_byte is not None:
                found.append(mine.bits_per_byte - theirs.bits_per_byte)
        return sum(found) / len(found) if found else None


def _look_words(one: Look, *, text: bool) -> str:
    spread = "calibrated" if one.calibrated else "its own"
    perplexity = f" (perplexity {100 * math.expm1(min(one.mean, 50.0)):+.2f}%)" if text else ""
    return (
        f"{one.stage} ({one.n} seeds): Δ {one.mean:+.4f}{perplexity}, below {one.upper:+.4f} at 95%, "
        f"SD {one.sd:.4f} ({spread}), p {one.p:.2g}, corrected {one.p_corrected:.2g}"
    )


def seed_line(layer: Layer, stage: str, key: Key, mine: SeedRun | None, theirs: SeedRun | None) -> SeedLine:
    """One seed on both sides, whatever became of it on either."""
    failure = mine.failure if mine else "was not trained"
    if theirs is None:
        failure = failure or "the baseline has no such seed"
    elif theirs.failure is not None:
        failure = failure or f"the baseline's failed: {theirs.failure}"
    return SeedLine(
        layer=layer, stage=stage, arm=key[0], seed=key[1], loss=mine.loss if mine else None,
        baseline=theirs.loss if theirs else None, failure=failure,
        paired=mine is not None and theirs is not None and mine.paired_with(theirs),
    )  # fmt: skip


def differences_of(lines: Sequence[SeedLine]) -> tuple[float, ...]:
    """Those that there are."""
    return tuple(line.difference for line in lines if line.difference is not None)


def budget(settings: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """What must be equal for losses to be of the same amount of training."""
    keys = (("train", "steps"), ("train", "batch_size"), ("model", "context"))
    return {f"{part}.{key}": str(settings[part].get(key)) for part, key in keys}
