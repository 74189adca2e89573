"""Arms measured beside each other: the order of visits, what counts, and ratios under clocks that are made up."""

from __future__ import annotations

import random
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from training_support import fixed_corpus

from harness.run import interleave
from harness.run.costs import Wanted, made_document
from harness.run.interleave import LEAST_ROUNDS, ROUNDS, alternate, grouped, measure
from harness.run.lane import Lane
from harness.training import step
from harness.training.step import Stepper

Arms = dict[str, dict[str, Any]]


@pytest.fixture
def configs(recipe: Callable[..., Any]) -> Arms:
    """Of cells, as far as measuring reads them."""

    def config(connection: dict[str, Any], **train: Any) -> dict[str, Any]:
        made = recipe(connection, **train)
        return {
            "connection": made.connection.model_dump(mode="json"),
            "model": {**made.model.model_dump(mode="json"), "layers": 2},
            "train": made.train.model_dump(mode="json"),
            "data": {"corpus": "stdlib"},
            "streams": made.streams,
        }

    residual = {"type": "residual"}
    return {
        "residual": config(residual),
        "dhc": config({"type": "hyper", "rate": 2}),
        "dfc": config({"type": "frac", "rate": 2}),
        "twice": config(residual, batch_size=8),
    }


@pytest.fixture
def visits(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Every call of `Stepper.seconds` as (type of the connection, steps), under a clock that only these calls move: a
    step takes a second, 1.7 of Hyper-Connections, ten if it is an arm's first, all with noise."""
    now, noise, seen = 0.0, random.Random(1), []
    real = Stepper.seconds

    def seconds(self: Stepper, count: int) -> float:
        nonlocal now
        kind = self.model.connections.__class__.__name__
        seen.append((kind, count))
        each = 10.0 if self.steps == 0 else (1.7 if "Hyper" in kind else 1.0) * noise.uniform(0.97, 1.03)
        real(self, count)
        now += each * count
        return each

    monkeypatch.setattr(Stepper, "seconds", seconds)
    for module in (interleave, step):
        monkeypatch.setattr(module, "time", SimpleNamespace(perf_counter=lambda: now))
    return seen


def document(found: dict[str, Any], configs: Arms) -> dict[str, Any]:
    wanted = {name: Wanted(config, name, "residual") for name, config in configs.items()}
    return made_document({**found, "machine": {}}, wanted, {name: name for name in wanted}, {}, "now")


def test_every_other_round_is_reversed_and_a_round_is_never_cut() -> None:
    seen: list[str] = []
    assert alternate("abc", seen.append, 1e9) == ROUNDS
    assert "".join(seen) == ("abc" + "cba") * (ROUNDS // 2) + "abc"


@pytest.mark.parametrize(("seconds", "rounds"), [(0.0, LEAST_ROUNDS), (20.9, 6), (21.1, 7), (1e9, ROUNDS)])
def test_a_budget_makes_rounds_fewer_and_never_too_few(
    monkeypatch: pytest.MonkeyPatch, seconds: float, rounds: int
) -> None:
    now = 0.0

    def visit(_: str) -> None:
        nonlocal now
        now += 1.0

    monkeypatch.setattr(interleave, "time", SimpleNamespace(perf_counter=lambda: now))
    assert alternate("abc", visit, seconds) == rounds
    assert now == 3 * rounds


def test_warming_up_is_left_out_and_told_apart(configs: Arms, visits: list[tuple[str, int]]) -> None:
    chosen = {name: configs[name] for name in ("residual", "dhc", "dfc")}
    found = measure(chosen, [("residual", "residual"), ("dhc", "residual"), ("dfc", "residual")], fixed_corpus(), 1e9)
    (group,) = found["groups"]
    kinds = [kind for kind, _ in visits]
    a, b, c = kinds[0], kinds[2], kinds[4]
    assert len({a, b, c}) == 3
    assert kinds[:6] == [a, a, b, b, c, c], "made and warmed up one after another"
    assert kinds[6:] == [a, b, c, c, b, a] * (ROUNDS // 2) + [a, b, c]
    assert [count for _, count in visits[6:]] == [interleave.STEPS] * 3 * ROUNDS
    assert group["first_step_seconds"] == dict.fromkeys(chosen, 10.0)
    for name, around in {"residual": 1.0, "dhc": 1.7, "dfc": 1.0}.items():
        assert len(group["seconds"][name]) == group["rounds"] == ROUNDS
        assert all(abs(each / around - 1) < 0.031 for each in group["seconds"][name]), "no first step among them"


def test_a_slow_arm_has_its_ratio_and_arms_alike_have_one_within_their_intervals(
    configs: Arms, visits: list[tuple[str, int]]
) -> None:
    pairs = [(name, "residual") for name in configs]
    arms = document(measure(configs, pairs, fixed_corpus(), 1e9), configs)["arms"]
    for name, ratio in {"dhc": 1 / 1.7, "dfc": 1.0, "twice": 2.0}.items():
        low, high = arms[name]["throughput_ci"]
        assert low <= ratio <= high, name
        assert low < arms[name]["throughput_ratio"] < high
        assert high - low < 0.1 * ratio
    assert (arms["residual"]["throughput_ratio"], arms["residual"]["throughput_ci"]) == (1.0, [1.0, 1.0])
    assert arms["twice"]["positions_per_step"] == 2 * arms["residual"]["positions_per_step"] == 8 * 32
    assert arms["twice"]["saved_bytes_ratio"] == pytest.approx(2.0, rel=0.01)
    assert arms["dhc"]["saved_bytes_ratio"] > 1.1, "by kernels, which keep less than plain PyTorch"
    assert arms["dhc"]["parameters"] > arms["residual"]["parameters"]
    assert arms["dhc"]["peak_bytes"] is arms["dhc"]["compile_seconds"] is None


def test_arms_that_do_not_fit_together_are_measured_in_groups_with_their_baseline(
    configs: Arms, visits: list[tuple[str, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    recipes = {
        name: interleave.recipe_of(config, interleave.inputs_of(fixed_corpus())) for name, config in configs.items()
    }
    pairs = [(name, "residual") for name in configs]

    def groups(free: float) -> tuple[list[list[str]], dict[str, str]]:
        monkeypatch.setattr(interleave, "free_memory", lambda device: free)
        return grouped(recipes, pairs)

    assert groups(1e12) == ([list(configs)], {})
    sizes = sorted({int(free) for free in range(100_000, 20_000_000, 50_000)})
    found = [groups(free) for free in sizes]
    assert found[0][0] == []
    assert found[0][1].keys() == set(configs)
    assert "beside its baseline it needs about 0.00" in found[0][1]["dhc"]
    apart = [one for one, skipped in found if len(one) > 1 and not skipped]
    assert apart
    assert all("residual" in names for one in apart for names in one)
    free = next(free for free, (one, skipped) in zip(sizes, found, strict=True) if len(one) > 1 and not skipped)
    monkeypatch.setattr(interleave, "free_memory", lambda device: free)
    told = document(measure(configs, pairs, fixed_corpus(), 1e9), configs)
    assert [group["arms"] for group in told["groups"]] == groups(free)[0]
    assert told["arms"].keys() == set(configs)
    late = told["groups"][-1]["arms"][-1]
    assert told["arms"][late]["baseline_seconds"] != told["arms"]["residual"]["seconds"], "those measured beside it"
    some = next(skipped for one, skipped in found if one and skipped)
    assert 0 < len(some) < len(configs)


def test_an_arm_that_cannot_run_is_left_out_with_its_reason_and_the_others_are_measured(
    configs: Arms, visits: list[tuple[str, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Stepper.of

    def broken(recipe: Any, *rest: Any) -> Stepper:
        if recipe.connection.type == "frac":
            raise RuntimeError("no kernel for this\nand more")
        return real(recipe, *rest)

    monkeypatch.setattr(Stepper, "of", broken)
    told = document(measure(configs, [(name, "residual") for name in configs], fixed_corpus(), 1e9), configs)
    assert told["arms"].keys() == {"residual", "dhc", "twice"}
    assert told["skipped"] == {
        "dfc": {"key": "dfc", "baseline": "residual", "why": "RuntimeError: no kernel for this"}
    }  # fmt: skip


def test_a_peak_on_a_gpu_is_without_what_others_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    """An allocator with 700 bytes in use, of which 100 are the arm's; a step takes 40 more, then 30."""
    peaks = iter([740, 730])
    calls: list[str] = []
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda: 700)
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda: calls.append("reset"))
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: next(peaks))
    stepper: Any = SimpleNamespace(device=torch.device("cuda"), seconds=lambda count: calls.append("steps") or 1.0)
    lane = Lane(stepper, 0, 1.0, 1.0, resident=100)
    lane.visit(3)
    lane.visit(3)
    assert lane.peak == 140
    assert calls == ["reset", "steps"] * 2
