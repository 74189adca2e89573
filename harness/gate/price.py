"""L1: runs that fail or diverge, and costs that rise."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping

from harness.gate.baseline import Cost, Golden, SeedRun
from harness.gate.findings import Finding, State
from harness.suite.gating import GateSettings

Z95 = 1.959964
"""Half the width of an interval of 95%, in standard errors."""


def divergence_findings(
    arm: str,
    golden: Golden,
    runs: Mapping[int, SeedRun],
    reference: Mapping[int, SeedRun],
    sd: float | None,
    rule: GateSettings,
) -> Iterator[Finding]:
    """Over all runs that there were: the golden one, and those of the seeds. `sd` is of losses over seeds."""
    failed = [f"seed {seed}: {run.failure}" for seed, run in sorted(runs.items()) if run.failure is not None]
    if golden.failure is not None:
        failed.insert(0, f"golden run: {golden.failure}")
    count = len(runs) + 1
    yield Finding(
        layer="L1", rule="runs", arm=arm, state="fail" if failed else "pass",
        measured="; ".join(failed) if failed else f"{count} of {count} ended with a finite loss", limit="all end",
    )  # fmt: skip
    spikes = {seed: run.spikes for seed, run in runs.items() if run.spikes is not None}
    if spikes:
        seed = max(spikes, key=lambda one: spikes[one])
        yield Finding(
            layer="L1", rule="spikes", arm=arm, state="pass" if spikes[seed] <= rule.spikes else "fail",
            measured=f"{spikes[seed]:.2%} of the steps at most (seed {seed})", limit=f"{rule.spikes:.2%}",
        )  # fmt: skip
    known = [run.loss for run in reference.values() if run.loss is not None]
    losses = {seed: run.loss for seed, run in runs.items() if run.loss is not None}
    spread = sd or (statistics.stdev(known) if len(known) > 1 else 0.0)
    if losses and known and spread > 0:
        worst = max(losses, key=lambda one: losses[one])
        most = statistics.mean(known) + rule.sigmas * spread
        yield Finding(
            layer="L1", rule="divergence", arm=arm, state="pass" if losses[worst] <= most else "fail",
            measured=f"loss {losses[worst]:.4f} at most (seed {worst})", limit=f"{most:.4f} ({rule.sigmas:g} SD)",
        )  # fmt: skip


def cost_findings(
    arm: str, mine: Cost | None, theirs: Cost | None, rule: GateSettings, *, same_environment: bool
) -> Iterator[Finding]:
    """Counts are exact anywhere; what is measured is compared on the same machine only."""
    if mine is None or theirs is None:
        state: State = "not judged"
        measured = "the run failed" if mine is None else "the baseline has no such arm"
        yield Finding(layer="L1", rule="costs", arm=arm, state=state, measured=measured)
        return
    for name, one, other in (
        ("parameters", mine.parameters, theirs.parameters),
        ("training FLOPs", mine.training_flops, theirs.training_flops),
    ):
        yield Finding(
            layer="L1", rule=name, arm=arm, state="pass" if one == other else "fail",
            measured=f"{one:,}", limit=f"{other:,} exactly",
        )  # fmt: skip
    if not same_environment:
        yield Finding(
            layer="L1", rule="measured costs", arm=arm, state="not judged", measured="another environment",
        )  # fmt: skip
        return
    rise = mine.saved_bytes - theirs.saved_bytes
    yield Finding(
        layer="L1", rule="saved bytes", arm=arm, state="pass" if rise <= rule.memory * theirs.saved_bytes else "fail",
        measured=f"{mine.saved_bytes:,} ({rise / theirs.saved_bytes:+.1%})", limit=f"{rule.memory:+.1%}",
    )  # fmt: skip
    yield _peak(arm, mine.peak_bytes, theirs.peak_bytes, rule)
    yield _throughput(arm, mine, theirs, rule)


def _peak(arm: str, mine: int | None, theirs: int | None, rule: GateSettings) -> Finding:
    if mine is None or theirs is None:
        return Finding(
            layer="L1", rule="peak memory", arm=arm, state="not judged", measured="known on GPUs alone",
        )  # fmt: skip
    rise = mine - theirs
    over = rise > rule.memory * theirs and rise > rule.memory_floor
    floor = f"{rule.memory_floor / 2**20:g} MiB"
    return Finding(
        layer="L1", rule="peak memory", arm=arm, state="fail" if over else "pass",
        measured=f"{mine / 2**20:,.0f} MiB ({rise / theirs:+.1%})", limit=f"{rule.memory:+.1%} or {floor}",
    )  # fmt: skip


def _throughput(arm: str, mine: Cost, theirs: Cost, rule: GateSettings) -> Finding:
    """Ratios to the baseline arm, each measured interleaved; of their quotient the interval follows from both."""
    if mine.throughput is None or theirs.throughput is None or mine.interval is None or theirs.interval is None:
        return Finding(layer="L1", rule="throughput", arm=arm, state="not judged", measured="not measured")
    slowdown, low, high = slowdown_interval((mine.throughput, mine.interval), (theirs.throughput, theirs.interval))
    slow = low - 1 > rule.slowdown
    state: State = "pass"
    if slow:
        state = "fail" if rule.throughput == "fail" else "report"
    return Finding(
        layer="L1", rule="throughput", arm=arm, state=state,
        measured=f"{mine.throughput:.2f} of the baseline arm's, {slowdown:.2f} times as slow [{low:.2f}, {high:.2f}]",
        limit=f"interval above {1 + rule.slowdown:g}" + (": only reported" if rule.throughput == "report" else ""),
    )  # fmt: skip


Measured = tuple[float, tuple[float, float]]


def slowdown_interval(mine: Measured, theirs: Measured) -> tuple[float, float, float]:
    """(times as slow, lower, upper end of 95%) of two ratios with intervals, as if their logarithms were normal and
    independent: two measurements at two times are."""
    errors = [math.log(high / low) / (2 * Z95) for _, (low, high) in (mine, theirs)]
    error, middle = math.hypot(*errors), math.log(theirs[0] / mine[0])
    return math.exp(middle), math.exp(middle - Z95 * error), math.exp(middle + Z95 * error)
