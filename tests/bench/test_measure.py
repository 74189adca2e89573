"""Models beside each other: the clock is made up, the models are real."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from bench_support import HERE, TOY, quick

from harness.bench import arms, measure
from harness.bench.arms import Entry
from harness.bench.measure import Block
from harness.bench.rounds import WARMUP
from harness.bench.rows import rows
from harness.bench.work import RandomTokens, make_stepper
from harness.errors import HarnessError
from harness.progress import Meter
from harness.training import compiled
from harness.training.step import Stepper

ROUNDS = 6
COST = {"ResidualConnections": 1.0, "HyperConnections": 1.5, "FracConnections": 1.125, "PeerConnections": 2.0}
Block_ = Callable[..., Block]


@pytest.fixture
def block(monkeypatch: pytest.MonkeyPatch) -> Block_:
    """Measures arms under a clock that only steps move: as `COST` has it, times a load that grows from visit to round;
    peaks are 1000 bytes, 1500 of Hyper-Connections. `block.steps` are the steps of every call."""
    now = 0.0
    calls: list[tuple[str, int]] = []

    def seconds(self: Stepper, count: int) -> float:
        nonlocal now
        kind = type(self.model.connections).__name__
        load = 1 + max(len(calls) - 12, 0) // 4  # the same within a round of four
        calls.append((kind, count))
        now += COST[kind] * load * count / 8
        return COST[kind] * load / 8

    monkeypatch.setattr(Stepper, "seconds", seconds)
    monkeypatch.setattr("harness.run.lane.time", SimpleNamespace(process_time=lambda: now))
    monkeypatch.setattr(
        measure, "peak_bytes", lambda entry, *_: 1500 if entry.connection.type == "hyper" and not entry.peer else 1000
    )
    quick(monkeypatch)
    monkeypatch.setattr(measure, "VISIT_SECONDS", 0.3)

    def make(entries: list[Entry], rounds: int = ROUNDS) -> Block:
        with Meter("bench", measure.visits(len(entries), rounds), "visits") as meter:
            found = measure.measure(entries, TOY, HERE, rounds, meter)
        assert meter.done == meter.total or found.failed
        return found

    make.calls = calls  # type: ignore[attr-defined]
    return make


def entries(words: str = "dhc-n2,dfc-m2", peers: bool = True) -> list[Entry]:
    return [*arms.find(words, TOY), *(arms.peers(TOY)[:1] if peers else [])]


def test_ratios_are_those_of_the_clock_whatever_the_load(block: Block_) -> None:
    found = block(entries())
    table = {row["arm"]: row for row in rows(found, TOY)}
    assert list(table) == ["residual", "dhc-n2", "dfc-m2", "hyper-connections/hc-n4"]
    for arm, ratio in (("residual", 1.0), ("dhc-n2", 1.5), ("dfc-m2", 1.125), ("hyper-connections/hc-n4", 2.0)):
        assert table[arm]["time_ratio"] == pytest.approx(ratio)
        assert table[arm]["time_ratio_ci"] == pytest.approx((ratio, ratio))
        assert table[arm]["cpu_time_ratio"] == pytest.approx(ratio)
        assert len(table[arm]["seconds"]) == ROUNDS
    assert table["residual"]["seconds"][-1] > 2 * table["residual"]["seconds"][0], "the load grew all the while"
    assert table["dhc-n2"]["peak_memory_ratio"] == 1.5
    assert table["dhc-n2"]["tokens_per_second"] == pytest.approx(TOY.tokens / table["dhc-n2"]["step_seconds"])
    assert len(found.bandwidths) == ROUNDS
    assert all(rate > 0 for rate in found.bandwidths)


def test_a_visit_is_as_many_steps_as_make_it_long_enough(block: Block_) -> None:
    found = block(entries(peers=False))
    assert found.steps == 3  # of an eighth of a second
    assert {count for _, count in block.calls[-(3 * ROUNDS) :]} == {3}  # type: ignore[attr-defined]


def test_an_arm_that_cannot_be_made_is_named_and_the_others_are_measured(
    block: Block_, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(entry: Entry, *rest: object) -> Stepper:
        if entry.connection.type == "frac":
            raise torch.OutOfMemoryError("CUDA out of memory\nTried to ...")
        return make_stepper(entry, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(measure, "make_stepper", broken)
    found = block(entries(peers=False))
    assert found.failed == {"dfc-m2": "OutOfMemoryError: CUDA out of memory"}
    assert [row["arm"] for row in rows(found, TOY)] == ["residual", "dhc-n2"]


def test_an_arm_that_fails_later_loses_its_rounds_and_its_model(block: Block_, monkeypatch: pytest.MonkeyPatch) -> None:
    timed, count = Stepper.seconds, 0

    def seconds(self: Stepper, steps: int) -> float:
        nonlocal count
        if type(self.model.connections).__name__ == "HyperConnections":
            count += 1
            if count > 2 + WARMUP + 2:
                raise RuntimeError("no memory left")
        return timed(self, steps)

    monkeypatch.setattr(Stepper, "seconds", seconds)
    found = block(entries(peers=False))
    assert found.failed == {"dhc-n2": "RuntimeError: no memory left"}
    assert [row["arm"] for row in rows(found, TOY)] == ["residual", "dfc-m2"]
    assert [len(order) for order in found.rounds.orders] == [3, 3, 3, 2, 2, 2]


def test_without_the_residual_there_is_nothing_to_say(block: Block_, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(entry: Entry, *rest: object) -> Stepper:
        raise RuntimeError("broken")

    monkeypatch.setattr(measure, "make_stepper", broken)
    with pytest.raises(HarnessError, match="the baseline 'residual' cannot be measured: RuntimeError: broken"):
        block(entries(peers=False))


def compiled_entries() -> list[Entry]:
    return [replace(one, compiled=True) for one in entries(peers=False)]


def test_compiled_models_are_compiled_once_each_and_their_peak_is_not_asked(
    block: Block_, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiled, "BACKEND", "eager")
    table = rows(block(compiled_entries()), TOY)
    assert len(table) == 3
    for row in table:
        assert row["compiled"]
        assert row["compile_seconds"] >= 0
        assert row["peak_bytes"] is row["peak_memory_ratio"] is None
    assert table[1]["time_ratio"] == pytest.approx(1.5)


def test_what_cannot_be_compiled_is_a_failure_and_no_eager_row(block: Block_, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "BACKEND", "no-such-backend")
    with pytest.raises(HarnessError, match=r"the baseline .* cannot be measured: train\.compile: .*failed"):
        block(compiled_entries())


def test_a_peers_network_is_the_residual_network_at_first() -> None:
    """As many times as it has streams, which are equal and summed."""
    tokens = torch.from_numpy(RandomTokens(TOY).batch(0)[0][:, :-1])
    residual = make_stepper(arms.find("residual", TOY)[0], TOY, HERE).model
    for entry in arms.peers(TOY)[:2]:
        model = make_stepper(entry, TOY, HERE).model
        expected = arms.rate_of(entry) * residual.hidden(tokens)
        assert torch.allclose(model.hidden(tokens), expected, rtol=1e-4, atol=1e-5), entry.arm
        assert sum(p.numel() for p in model.connections.parameters()) > 0
        assert {name for name, _ in model.connections.named_parameters() if model.connections.decays(name)}


def test_tokens_are_a_function_of_the_step() -> None:
    one, same = RandomTokens(TOY), RandomTokens(TOY)
    assert (one.batch(3)[0] == same.batch(3)[0]).all()
    assert (one.batch(3)[0] != one.batch(4)[0]).any()
    assert one.batch(0)[0].shape == (TOY.batch, TOY.model.context + 1)
    assert 0 <= one.batch(0)[0].min() <= one.batch(0)[0].max() < TOY.inputs.vocabulary
