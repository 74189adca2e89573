"""What a gate would say, simulated: the rule itself, on drawn differences."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from harness.compare.statistics import SEED
from harness.gate.noise import Power
from harness.gate.rule import Drawn, Spread, Stage, Verdict, judge
from harness.suite.gating import GateSettings

HARMS = (0.0, 0.001, 0.002, 0.005, 0.01, 0.015, 0.02)
"""Nats per token, or whatever the loss is in."""
SIMULATIONS = 1000

DrawDifferences = Callable[[np.random.Generator, str, int], Sequence[float]]
"""(generator, arm, count) -> differences of so many seeds."""


def stage_sizes(rule: GateSettings, seeds: int) -> dict[Stage, int]:
    """How many seeds every stage has of its own."""
    return {"look 1": min(rule.first_look, seeds), "look 2": max(seeds - rule.first_look, 0),
            "confirmation": len(rule.confirm)}  # fmt: skip


def simulate(
    arms: Sequence[str], draw: DrawDifferences, spread: Spread | None, rule: GateSettings, seeds: int,
    count: int = SIMULATIONS, seed: int = SEED,
) -> list[dict[str, Verdict]]:  # fmt: skip
    """`count` gates: every arm's verdict."""
    generator, sizes = np.random.default_rng(seed), stage_sizes(rule, seeds)

    def take(stage: Stage, wanted: Sequence[str]) -> Mapping[str, Drawn]:
        return {arm: Drawn(tuple(draw(generator, arm, sizes[stage])), spread) for arm in wanted}

    return [{arm: one.verdict for arm, one in judge(arms, take, rule).items()} for _ in range(count)]


def power_table(arms: Sequence[str], spread: Spread, rule: GateSettings, seeds: int) -> tuple[Power, ...]:
    """Of one harmed arm among `arms`, where differences are normal, as wild as `spread` has it."""
    rows = []
    for harm in HARMS:

        def draw(generator: np.random.Generator, arm: str, count: int, harm: float = harm) -> Sequence[float]:
            mean = harm if arm == arms[0] else 0.0
            return [float(one) for one in generator.normal(mean, spread.sd, count)]

        verdicts = Counter(found[arms[0]] for found in simulate(arms, draw, spread, rule, seeds))
        share = {verdict: verdicts[verdict] / SIMULATIONS for verdict in ("fail", "inconclusive")}
        rows.append(Power(harm=harm, **share))
    return tuple(rows)
