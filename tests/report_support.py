"""Facts of a study that nobody trained: losses, curves, costs and diagnostics with the shapes of real ones."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import Any

from compare_support import compared

from harness.compare.match import MATCHES
from harness.compare.results import Sources, View, Wanted
from harness.report.facts import Budget, Facts, Invocation, Made, Study
from harness.tracking import TAG_STATE, Record

STEPS = (0, 50, 100, 150, 200, 300, 400)
ARMS: dict[str, tuple[dict[str, Any], float, float, float]] = {
    # connection, difference in loss, throughput ratio, saved bytes ratio
    "residual": ({"type": "residual"}, 0.0, 1.0, 1.0),
    "shc-n2": ({"type": "hyper", "rate": 2, "dynamic": False}, -0.117, 0.78, 1.25),
    "dhc-n2": ({"type": "hyper", "rate": 2, "dynamic": True}, -0.135, 0.69, 1.36),
    "dhc-n4": ({"type": "hyper", "rate": 4, "dynamic": True}, -0.149, 0.58, 1.82),
    "sfc-m2": ({"type": "frac", "rate": 2, "dynamic": False}, -0.070, 0.82, 1.17),
    "dfc-m2": ({"type": "frac", "rate": 2, "dynamic": True}, -0.002, 0.72, 1.29),
}


def many(count: int) -> dict[str, tuple[dict[str, Any], float, float, float]]:
    """The baseline and `count` arms, one of which does not learn."""
    arms = {"residual": ARMS["residual"]}
    for number in range(count):
        kind = ("hyper", "frac", "mhc", "altup")[number % 4]
        connection = {"type": kind, "rate": 2 ** (1 + number // 8), "dynamic": number % 8 < 4}
        delta = 0.6 if number == 3 else -0.16 + 0.19 * number / count
        arms[f"{kind}-arm-{number}"] = (connection, delta, 1.1 - 0.7 * number / count, 1 + 0.9 * number / count)
    return arms


def curve(end: float, seed: int) -> dict[int, float]:
    noise = random.Random(f"{end} {seed}")
    return {
        step: end + (5.55 - end) * math.exp(-step / 60) + (0.0 if step == STEPS[-1] else noise.gauss(0, 0.004))
        for step in STEPS
    }


def facts(
    arms: dict[str, tuple[dict[str, Any], float, float, float]] | None = None,
    seeds: Sequence[int] = (1, 2, 3, 4),
    *,
    name: str = "quickstart",
    diagnostics: bool = True,
    costs: bool = True,
    baselines: Sequence[str] = ("residual",),
) -> Facts:
    """Of every baseline a study with the same numbers."""
    arms = arms or ARMS
    studies = [_study(arms, seeds, diagnostics, costs, baseline) for baseline in baselines]
    invocation = Invocation(suite="suites/quickstart.yaml", overrides=("train.steps=400",))
    environment = {"python": "3.11.4", "torch": "2.13.0", "hardware": "a CPU", "commit": "0123456789ab"}
    return Facts(
        suite=name,
        description="Does a connection other than the residual pay, in a deep and thin decoder?",
        about=[("data", "stdlib, tokens: bytes"), ("seeds", ", ".join(map(str, seeds))), ("machine", "a CPU")],
        studies=studies,
        made=[
            Made(
                arm=arm, seed=seed, state="done", folder=f"cells/{arm}-s{seed}-0123456789ab", run_id=f"{arm}{seed}",
                command=invocation.command("run", f"arm={arm} and seed={seed}"), environment=environment,
            )
            for arm in arms for seed in seeds
        ],
        invocation=invocation,
        command=invocation.command("report"),
        measured="12 rounds, A B B A" if costs else "",
    )  # fmt: skip


def _study(arms: dict[str, Any], seeds: Sequence[int], diagnostics: bool, costs: bool, baseline: str) -> Study:
    losses = {arm: {seed: _loss(arm, arms[arm][1], seed) for seed in seeds} for arm in arms}
    curves = {arm: {seed: curve(losses[arm][seed], seed) for seed in seeds} for arm in arms}
    measured = {arm: _costs(arm, arms, baseline) for arm in arms} if costs else {}
    records = [_record(arm, seed, arms[arm], losses[arm][seed]) for seed in seeds for arm in arms]
    by_run = {f"{arm}{seed}": sorted(curves[arm][seed].items()) for arm in arms for seed in seeds}
    wanted = [Wanted(arm, seed, f"{arm}{seed}", "e") for seed in seeds for arm in arms]
    sources = Sources(costs={arm: one for arm, one in measured.items() if arm != baseline}, curve=by_run.__getitem__)
    views = {match: compared(wanted, records, baseline, view=View(match=match), sources=sources) for match in MATCHES}
    return Study(
        views=views,
        losses=losses,
        curves=curves,
        budgets={
            arm: Budget(tokens=204_800.0, flops=5.1e12 * (2 - speed) ** 0.2, time=1 / speed)
            for arm, (_, _, speed, _) in arms.items()
        },
        settings={arm: {"connection": one[0], "model": {}, "train": {}} for arm, one in arms.items()},
        diagnostics={arm: {seed: diagnosed(arms[arm][0], seed) for seed in seeds} for arm in arms}
        if diagnostics
        else {},
        costs=measured,
    )  # fmt: skip


def _loss(arm: str, delta: float, seed: int) -> float:
    shared = random.Random(seed).gauss(0, 0.04)
    return 2.3155 + delta + shared + random.Random(f"{arm} {seed}").gauss(0, 0.012)


def _record(arm: str, seed: int, one: tuple[Any, float, float, float], loss: float) -> Record:
    return Record(
        run_id=f"{arm}{seed}", cell=f"{arm}{seed}", evaluations=("e",),
        tags={
            TAG_STATE: "done", "harness.digest.batches": f"b{seed}", "harness.digest.validation": "v",
            "harness.digest.shared_weights": f"w{seed}", "harness.env.cpu": '"a CPU"',
        },
        metrics={
            "validation/loss": loss, "validation/bits_per_byte": loss / math.log(2), "validation/perplexity": math.exp(loss),
            "cost/parameters": 620_160.0, "cost/tokens_per_second": 9000.0 * one[2], "train/tokens": 204_800.0,
            "cost/saved_activation_bytes": 3e6 * one[3], "cost/training_flops": 5.1e12 * (2 - one[2]) ** 0.2,
            "eval/cloze:100/acc": 0.3 - one[1] / 3,
        },
    )  # fmt: skip


def _costs(arm: str, arms: dict[str, Any], baseline: str) -> dict[str, Any]:
    noise = random.Random(f"costs {arm}")
    speed = arms[arm][2]
    return {
        "baseline": baseline, "seconds": [noise.gauss(1, 0.02) / speed for _ in range(12)], "throughput_ratio": speed,
        "throughput_ci": [speed * 0.98, speed * 1.015], "saved_bytes": int(3e6 * arms[arm][3]),
        "saved_bytes_ratio": arms[arm][3], "peak_bytes": None, "peak_bytes_ratio": None, "first_step_seconds": 0.4,
        "compile_seconds": None,
    }  # fmt: skip


def diagnosed(connection: dict[str, Any], seed: int, layers: int = 12) -> dict[str, Any]:
    """A document as training leaves it; streams where the connection has any."""
    depth, streams = 2 * layers, connection.get("rate", 1) if connection["type"] in ("hyper", "mhc", "altup") else 1
    noise = random.Random(f"{connection} {seed}")
    like = 0.93 if connection["type"] == "residual" else 0.7 + 0.02 * streams
    cosine = [like - 0.25 * math.exp(-k / 3) + noise.gauss(0, 0.01) for k in range(depth - 1)]
    step = {
        "step": 400,
        "cosine": {"median": cosine, "low": [c - 0.12 for c in cosine], "high": [min(c + 0.08, 1) for c in cosine]},
        "gradient_norm": [0.3 * math.exp(-k / 14) * (1 + 0.1 * noise.random()) for k in range(depth)],
        "row_rms": [[1 + 0.15 * k * (1 + 0.3 * n) for n in range(streams)] for k in range(depth + 1)],
        "dispersion": [0.6 * (1 - math.exp(-k / 4)) for k in range(depth + 1)] if streams > 1 else None,
        "dynamic_share": [0.1 + 0.01 * k for k in range(depth)] if connection.get("dynamic") else None,
        "gain": {
            "forward_max": [1.02 ** (k * streams) for k in range(depth)], "forward_min": [0.97**k for k in range(depth)],
            "backward_max": [1.03 ** (depth - k) for k in range(depth)], "backward_min": [0.95 ** (depth - k) for k in range(depth)],
        },
    }  # fmt: skip
    matrix = [[_entry(row, column, streams, noise) for column in range(depth + 1)] for row in range(depth + 1)]
    end = {
        "tokens": 2048, "matrix": matrix, "hidden_matrices": [matrix] * streams if streams > 1 else None,
        "patterns": {"Λ shape": 0.4 + 0.1 * noise.random(), "embedding kept": 0.2 * streams},
    }  # fmt: skip
    return {"format": 1, "steps": [{**step, "step": 0}, step], "end": end}


def _entry(row: int, column: int, streams: int, noise: random.Random) -> float:
    if column > row:
        return 0.0
    if streams == 1:
        return 1.0
    return math.exp(-(row - column) / 6) * (1 + 0.3 * noise.gauss(0, 1)) - (0.25 if column == 0 and row > 10 else 0.0)
