"""A gate from start to end: what is compared, the layers one after another, and the report."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from harness.errors import UsageError
from harness.gate.baseline import ArmBaseline, Baseline, SeedRun, anchor_path, differences, noise_path
from harness.gate.drift import Drift
from harness.gate.findings import Finding, Layer, Report, State
from harness.gate.golden import golden_findings, gone, start_findings
from harness.gate.noise import Noise
from harness.gate.perplexity import Perplexity, budget
from harness.gate.price import cost_findings, divergence_findings
from harness.gate.reading import LOSS, cost_of, digests_of, environment_of, golden_run
from harness.gate.reference import FromCommit, FromFile, Reference, worktree
from harness.gate.rule import Spread
from harness.gate.runs import Here, Question
from harness.gate.sealed import is_there
from harness.gate.start import measured_starts
from harness.suite.cells import cells, digest
from harness.suite.yaml_lines import load


@dataclass(frozen=True, kw_only=True)
class GateOptions:
    baseline: Path
    layers: tuple[Layer, ...]
    explicit: bool = False
    """The layers were named, and are to be judged."""
    anchor: Path | None = None
    relative: str | None = None
    stale_ok: bool = False


def gate(asked: Question, options: GateOptions) -> Report:
    """Judge the code at hand. Raises UsageError for a baseline that cannot be read, before anything runs, and
    InconclusiveError where another commit cannot be run."""
    check_seeds(asked)
    noise = Noise.read(noise_path(options.baseline), asked.suite.name)
    anchor = _anchor(asked, options)
    if options.relative is not None:
        with worktree(asked, options.relative) as there:
            return _Gate(asked, options, FromCommit(there, options.relative), noise, anchor).report()
    reference = FromFile(options.baseline, Baseline.read(options.baseline, asked.suite.name))
    return _Gate(asked, options, reference, noise, anchor).report()


def check_seeds(asked: Question) -> None:
    """Raises UsageError where the seeds of looks, confirmation and calibration are not apart."""
    if problem := asked.suite.gate.problem(asked.suite.seeds):
        raise UsageError(f"{asked.path}: gate.{problem[0]}: {problem[1]}")


def suite_digest(asked: Question) -> str:
    """Of a suite file's content, without comments and spacing, and of the settings that followed it."""
    return digest([load(asked.path)[0], list(asked.overrides)])


def _anchor(asked: Question, options: GateOptions) -> Baseline | None:
    path = options.anchor or anchor_path(options.baseline)
    if "L3" not in options.layers or (options.anchor is None and not is_there(path)):
        return None
    return Baseline.read(path, asked.suite.name)


class _Gate:
    def __init__(
        self, asked: Question, options: GateOptions, reference: Reference, noise: Noise | None, anchor: Baseline | None
    ):
        self.asked, self.options, self.reference, self.anchor = asked, options, reference, anchor
        self.rule, self.arms = asked.suite.gate, list(asked.suite.arms)
        self.here = Here(asked)
        say(f"golden runs: {len(self.arms)} arms, {self.rule.golden_steps} steps")
        self.golden = self.here.golden()
        self.environment = next((env for cell in self.golden.values() if (env := environment_of(cell))), {})
        self.digests = next((found for cell in self.golden.values() if (found := digests_of(cell))), {})
        self.settings = self.here.settings()
        self.stale = self._stale(noise) if noise is not None else None
        self.noise = noise if self.stale is None else None
        self.made = Report(
            suite=asked.suite.name,
            unit=unit_of(asked),
            against=reference.about,
            environment=self.environment,
            rules=asked.suite.gate.model_dump(mode="json") | {"seeds": list(asked.suite.seeds), "metric": LOSS},
        )

    def report(self) -> Report:
        made, layers = self.made, self.options.layers
        elsewhere = differences(self.environment, self.reference.environment)
        other_data = differences(self.digests, self.reference.digests)
        if elsewhere:
            made.notes.append(f"another environment than the baseline's: {'; '.join(elsewhere)}")
        if other_data:
            made.notes.append(f"other data than the baseline's: {'; '.join(other_data)}")
        if self.reference.suite_digest not in (None, suite_digest(self.asked)):
            made.notes.append(
                "the suite file, or the settings after it, are others than when the baseline was accepted"
            )
        if "L0" in layers:
            made.findings += self._l0(bool(elsewhere), bool(other_data))
        judged, found = self._perplexity(), list[Finding]()
        if "L2" in layers:
            say(f"perplexity: seeds {', '.join(map(str, self.asked.suite.seeds[: self.rule.first_look]))} first")
            found = judged.findings(self.arms, self._incomparable(elsewhere, other_data))
            made.seeds += judged.lines
        if "L1" in layers:
            made.findings += self._l1(bool(elsewhere), judged)
        made.findings += found
        if "L3" in layers:
            made.findings += self._l3(judged)
        return made

    def _l0(self, elsewhere: bool, other_data: bool) -> list[Finding]:
        found: list[Finding] = []
        for arm, cell in self.golden.items():
            theirs = self.reference.arms.get(arm)
            found += golden_findings(
                arm, self.settings[arm], golden_run(cell), theirs, self.rule,
                same_environment=not elsewhere, same_data=not other_data,
            )  # fmt: skip
        first = self.asked.suite.model_copy(update={"seeds": self.asked.suite.seeds[:1]})
        made = {cell.arm: cell for cell in cells(first, self.asked.data, self.asked.relative_to)}
        starts = measured_starts(made, self.asked.relative_to)
        return [*found, *start_findings(starts, self.rule), *gone(self.arms, self.reference.arms)]

    def _l1(self, elsewhere: bool, judged: Perplexity) -> list[Finding]:
        rows = self.here.throughput()
        found: list[Finding] = []
        for arm, cell in self.golden.items():
            runs = _of_arm(judged.mine, arm)
            reference = _of_arm(judged.theirs, arm)
            sd = self.noise.seed.sd if self.noise else None
            found += divergence_findings(arm, golden_run(cell), runs, reference if not elsewhere else {}, sd, self.rule)
            theirs, mine = self.reference.arms.get(arm), cost_of(cell, rows.get(arm))
            cost = theirs.cost if theirs else None
            found += cost_findings(arm, mine, cost, self.rule, same_environment=not elsewhere)
        return found

    def _perplexity(self) -> Perplexity:
        paired = unpaired = None
        if self.noise is not None:
            paired = self.noise.paired.spread
            # Two runs that have neither batches nor weights in common differ by both of their deviations.
            unpaired = Spread(math.sqrt(2) * self.noise.seed.sd, self.noise.seed.df)
        return Perplexity(self.here, self.reference, self.asked.suite.seeds, self.rule, paired, unpaired)

    def _incomparable(self, elsewhere: list[str], other_data: list[str]) -> dict[str, str]:
        """Arms of which no number is compared, and why."""
        found = {}
        for arm in self.arms:
            theirs = self.reference.arms.get(arm)
            if theirs is None:
                found[arm] = "no comparable baseline: it has no such arm"
            elif elsewhere or other_data:
                what = "environment" if elsewhere else "data"
                found[arm] = f"no comparable baseline: another {what}; --relative REV runs the baseline commit here"
            elif other := self._other_budget(arm, theirs):
                found[arm] = f"no comparable baseline: another budget: {'; '.join(other)}"
            elif self.stale is not None:
                found[arm] = self.stale
        return found

    def _other_budget(self, arm: str, theirs: ArmBaseline) -> list[str]:
        return differences(budget(self.settings[arm]), budget(theirs.settings))

    def _l3(self, judged: Perplexity) -> list[Finding]:
        anchor = self.anchor
        if anchor is None:
            # Whoever asked for it by name wants to know that nothing was judged.
            state: State = "inconclusive" if self.options.explicit else "not judged"
            return [Finding(layer="L3", rule="drift", arm=None, state=state, measured="there is no anchor (--anchor)")]
        drift = Drift(judged, anchor, self.rule, len(self.arms))
        other = differences(self.environment, anchor.environment) + differences(self.digests, anchor.digests)
        found = []
        for arm in self.arms:
            theirs = anchor.arms.get(arm)
            why = other or (self._other_budget(arm, theirs) if theirs is not None else [])
            words = f"the anchor is of something else: {'; '.join(why)}" if why else self.stale
            found.append(drift.finding(arm, words))
        self.made.seeds += drift.lines
        return found

    def _stale(self, noise: Noise) -> str | None:
        """Why the calibration is not used, unless it was asked for as it is: no loss is compared then."""
        precision = self.asked.suite.arms[self.asked.suite.baseline].train.precision
        why = noise.stale(suite_digest(self.asked), self.environment, self.digests, precision, self.rule.stale_days)
        if not why or self.options.stale_ok:
            return None
        return f"the calibration is stale: {'; '.join(why)}; harness gate calibrate makes it anew, --stale-ok uses it"


def unit_of(asked: Question) -> str:
    suite = asked.suite
    return suite.arms[suite.baseline].model.unit(suite.data.KIND)


def say(text: str) -> None:
    print(f"gate: {text}", file=sys.stderr, flush=True)


def _of_arm(runs: Mapping[tuple[str, int], SeedRun], arm: str) -> dict[int, SeedRun]:
    return {seed: run for (name, seed), run in runs.items() if name == arm}
