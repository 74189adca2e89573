"""L0 and L1 as rules: what is found, and what decides."""

from __future__ import annotations

from typing import Any

import pytest
from gate_support import COST, ENVIRONMENT, GOLDEN, SETTINGS, arm_baseline, seed_run

from harness.gate.findings import Finding, Report, worst
from harness.gate.golden import Start, golden_findings, gone, start_findings
from harness.gate.price import cost_findings, divergence_findings, slowdown_interval
from harness.suite.gating import GateSettings

RULE = GateSettings(golden_steps=4, close_steps=2)


def states(findings: Any) -> dict[str, str]:
    return {finding.rule: finding.state for finding in findings}


def golden(settings: Any = SETTINGS, run: Any = GOLDEN, *, same: bool = True, data: bool = True) -> list[Finding]:
    return list(golden_findings("residual", settings, run, arm_baseline(), RULE, same_environment=same, same_data=data))


def test_equal_runs_pass_bit_for_bit() -> None:
    found = golden()
    assert states(found) == {"settings": "pass", "golden losses": "pass", "what is seen": "pass"}
    assert "equal bit for bit" in found[1].measured


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"losses": (5.0, 4.5, 4.250001, 4.125)}, "step 3: 4.250001 instead of 4.25"),
        ({"validation": 4.0000001}, "the held-out loss: 4.0000001 instead of 4.0"),
        ({"losses": (5.0, 4.5)}, "2 steps, and the baseline has 4"),
        ({"losses": (5.0,), "validation": None, "failure": "diverged: loss is nan at step 2"}, "loss is nan at step 2"),
    ],
)
def test_the_same_machine_forgives_nothing(change: dict[str, Any], words: str) -> None:
    found = golden(run=GOLDEN.model_copy(update=change))
    assert states(found)["golden losses"] == "fail"
    assert words in found[1].measured


@pytest.mark.parametrize(("loss", "state"), [(5.00009, "pass"), (5.00011, "fail"), (4.9999, "pass")])
def test_another_machine_is_held_to_closeness_in_the_first_steps(loss: float, state: str) -> None:
    late = (loss, 4.5, 9.0, 9.0)
    found = golden(run=GOLDEN.model_copy(update={"losses": late, "validation": 9.0, "start": "another"}), same=False)
    assert states(found) == {"settings": "pass", "golden losses": state, "what is seen": "pass"}


def test_other_data_are_not_compared() -> None:
    assert states(golden(run=GOLDEN.model_copy(update={"losses": (1.0,)}), data=False)) == {
        "settings": "pass", "golden losses": "inconclusive", "what is seen": "not judged"
    }  # fmt: skip


@pytest.mark.parametrize(("key", "words"), [("batches", "other batches"), ("start", "other initial shared weights")])
def test_broken_pairing_is_found_by_its_digests(key: str, words: str) -> None:
    found = golden(run=GOLDEN.model_copy(update={key: "x"}))
    assert states(found)["what is seen"] == "fail"
    assert found[2].measured == words


def test_a_changed_default_is_named() -> None:
    changed = {**SETTINGS, "train": {**SETTINGS["train"], "lr": 7e-4}}
    found = golden(settings=changed)
    assert states(found)["settings"] == "fail"
    assert found[0].measured == "train.lr 0.001 -> 0.0007"


def test_arms_that_came_or_went_are_inconclusive() -> None:
    new = list(golden_findings("new", SETTINGS, GOLDEN, None, RULE, same_environment=True, same_data=True))
    assert [one.state for one in new] == ["inconclusive"]
    assert [one.arm for one in gone(["residual"], {"residual": arm_baseline(), "old": arm_baseline()})] == ["old"]


def test_an_arm_must_start_as_it_claims() -> None:
    broken = Start(float("inf"), "RuntimeError: shapes")
    starts = {"a": Start(1e-12), "b": Start(1e-3), "c": Start(None, "another network"), "d": broken}
    found = start_findings(starts, RULE)
    assert [one.state for one in found] == ["pass", "fail", "not judged", "fail"]
    assert found[3].measured == "RuntimeError: shapes"


def test_a_failed_seed_a_spike_and_a_divergence_are_found() -> None:
    runs = {1: seed_run(3.0), 2: seed_run(None, failure="diverged: loss is nan at step 9"), 3: seed_run(3.2)}
    reference = {1: seed_run(3.0), 2: seed_run(3.01)}
    found = list(divergence_findings("a", GOLDEN, runs, reference, 0.01, RULE))
    assert states(found) == {"runs": "fail", "spikes": "pass", "divergence": "fail"}
    assert "seed 2: diverged: loss is nan at step 9" in found[0].measured
    assert "seed 3" in found[2].measured
    calm = list(divergence_findings("a", GOLDEN, {1: seed_run(3.0, spikes=0.03)}, reference, 0.01, RULE))
    assert states(calm) == {"runs": "pass", "spikes": "fail", "divergence": "pass"}


@pytest.mark.parametrize(
    ("change", "rule", "state"),
    [
        ({}, "parameters", "pass"),
        ({"parameters": 101}, "parameters", "fail"),
        ({"training_flops": 999}, "training FLOPs", "fail"),
        ({"saved_bytes": 10_200}, "saved bytes", "pass"),
        ({"saved_bytes": 10_300}, "saved bytes", "fail"),
        ({"saved_bytes": 5_000}, "saved bytes", "pass"),
        ({"throughput": 0.6, "interval": (0.59, 0.61)}, "throughput", "report"),
        ({"throughput": 0.78, "interval": (0.70, 0.85)}, "throughput", "pass"),
        ({"throughput": None, "interval": None}, "throughput", "not judged"),
    ],
)
def test_costs_are_held_to_what_they_were(change: dict[str, Any], rule: str, state: str) -> None:
    found = cost_findings("a", COST.model_copy(update=change), COST, RULE, same_environment=True)
    assert states(found)[rule] == state


def test_slow_is_a_failure_where_the_suite_says_so() -> None:
    slow = COST.model_copy(update={"throughput": 0.6, "interval": (0.59, 0.61)})
    strict = RULE.model_copy(update={"throughput": "fail"})
    assert states(cost_findings("a", slow, COST, strict, same_environment=True))["throughput"] == "fail"


@pytest.mark.parametrize(
    ("peak", "state"), [(1020, "pass"), (1031, "pass"), (1033, "fail"), (500, "pass"), (None, "not judged")]
)
def test_peak_memory_may_rise_by_two_percent_and_by_32_mebibytes(peak: int | None, state: str) -> None:
    base = COST.model_copy(update={"peak_bytes": 1000 * 2**20})
    mine = COST.model_copy(update={"peak_bytes": peak * 2**20 if peak else None})
    assert states(cost_findings("a", mine, base, RULE, same_environment=True))["peak memory"] == state


def test_elsewhere_counts_are_held_and_measurements_are_not() -> None:
    mine = COST.model_copy(update={"saved_bytes": 99_999, "parameters": 101})
    assert states(cost_findings("a", mine, COST, RULE, same_environment=False)) == {
        "parameters": "fail", "training FLOPs": "pass", "measured costs": "not judged"
    }  # fmt: skip


def test_the_interval_of_a_slowdown_holds_both_uncertainties() -> None:
    middle, low, high = slowdown_interval((0.5, (0.45, 0.55)), (1.0, (0.9, 1.1)))
    assert middle == pytest.approx(2.0)
    assert low < 2.0 / 1.1
    assert high > 2.0 * 1.1
    assert slowdown_interval((0.5, (0.5, 0.5)), (1.0, (1.0, 1.0))) == pytest.approx((2.0, 2.0, 2.0))


def test_what_fails_decides_before_what_is_inconclusive() -> None:
    def report(*found: str) -> Report:
        made = Report(suite="s", unit="nats", against={}, environment=ENVIRONMENT, rules={})
        made.findings = [
            Finding(layer="L1", rule="r", arm=None, state=state, measured="")  # type: ignore[arg-type]
            for state in found
        ]
        return made

    assert report("pass", "report", "not judged").exit_code == 0
    assert report("pass", "inconclusive").exit_code == 3
    assert report("inconclusive", "fail", "pass").exit_code == 1
    assert report().exit_code == 0
    assert worst(report("pass", "report", "not judged").findings) == "pass"
    assert worst([]) == "not judged"
