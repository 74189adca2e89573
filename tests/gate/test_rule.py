"""The rule of L2: how often it errs, how much it sees, and every way through it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from scipy import stats

from harness.gate.power import power_table, simulate
from harness.gate.rule import Drawn, Spread, Stage, judge, look, more_seeds, pooled
from harness.suite.gating import GateSettings

RULE = GateSettings(margin=0.01)
CALM = Spread(0.004, 42)


def test_a_look_without_calibration_is_scipys_one_sided_t_test() -> None:
    differences = [0.011, 0.004, 0.013, 0.002, 0.009]
    found = look("look 1", differences, None)
    assert found is not None
    expected = stats.ttest_1samp(differences, 0.0, alternative="greater")
    assert found.p == pytest.approx(expected.pvalue, rel=1e-9)
    assert found.upper == pytest.approx(
        stats.ttest_1samp(differences, 0, alternative="less").confidence_interval().high
    )
    assert (found.n, found.df, found.calibrated) == (5, 4, False)


def test_a_calibrated_spread_is_pooled_with_the_differences_own() -> None:
    differences = [0.011, 0.004, 0.013, 0.002, 0.009]
    found = look("look 1", differences, CALM)
    assert found is not None
    assert found.calibrated
    assert found.df == 46
    assert found.sd == pytest.approx(math.sqrt((4 * np.var(differences, ddof=1) + 42 * 0.004**2) / 46))
    assert found.p == pytest.approx(stats.t.sf(np.mean(differences) / (found.sd / math.sqrt(5)), 46))


def test_differences_far_wilder_than_the_calibration_stand_on_their_own() -> None:
    found = look("look 1", [0.03, -0.02, 0.04, -0.01, 0.02], CALM)
    assert found is not None
    assert not found.calibrated
    assert found.df == 4


@pytest.mark.parametrize("differences", [[], [0.1]])
def test_fewer_than_two_differences_say_nothing(differences: list[float]) -> None:
    assert look("look 1", differences, CALM) is None


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_difference_that_is_no_number_is_refused(bad: float) -> None:
    with pytest.raises(ValueError, match="finite"):
        look("look 1", [0.0, bad], None)


def test_equal_runs_pass_and_have_no_p_of_zero() -> None:
    found = look("look 1", [0.0] * 5, None)
    assert found is not None
    assert (found.p, found.upper) == (1.0, 0.0)


class Script:
    """Answers stage by stage, and remembers what was asked."""

    def __init__(self, **differences: Sequence[float]):
        self.differences, self.asked = differences, list[tuple[Stage, tuple[str, ...]]]()

    def __call__(self, stage: Stage, arms: Sequence[str]) -> Mapping[str, Drawn]:
        self.asked.append((stage, tuple(arms)))
        return {arm: Drawn(tuple(self.differences[f"{arm}_{stage.replace(' ', '')}"]), CALM) for arm in arms}


STRICT, UNDECIDED = GateSettings(margin=0.004), [0.003, 0.001, 0.005, 0.002, 0.004]
FLAT, WORSE, MIDDLING = [0.0, 0.001, -0.001, 0.0, 0.001], [0.02, 0.021, 0.019, 0.02, 0.022], [0.008] * 5


def test_an_arm_that_did_not_get_worse_passes_at_the_first_look() -> None:
    take = Script(a_look1=FLAT)
    found = judge(["a"], take, RULE)["a"]
    assert found.verdict == "pass"
    assert take.asked == [("look 1", ("a",))]


def test_a_failure_is_looked_for_again_on_fresh_seeds() -> None:
    take = Script(a_look1=WORSE, a_confirmation=WORSE)
    found = judge(["a"], take, RULE)["a"]
    assert found.verdict == "fail"
    assert [one.stage for one in found.looks] == ["look 1", "confirmation"]
    assert take.asked[-1] == ("confirmation", ("a",))


@pytest.mark.parametrize("fresh", [FLAT, MIDDLING, []])
def test_a_failure_that_is_not_found_again_is_inconclusive(fresh: list[float]) -> None:
    found = judge(["a"], Script(a_look1=WORSE, a_confirmation=fresh), GateSettings(margin=0.05))["a"]
    assert found.verdict == "inconclusive"
    assert found.why == ("not found again on fresh seeds" if fresh else "not confirmed: no fresh seeds on both sides")


def test_what_is_undecided_gets_a_second_look_with_all_seeds_and_nobody_else_does() -> None:
    take = Script(a_look1=UNDECIDED, a_look2=[-0.002, -0.001, -0.003, 0.0, -0.004], b_look1=[-0.001] * 5)
    found = judge(["a", "b"], take, STRICT)
    assert take.asked == [("look 1", ("a", "b")), ("look 2", ("a",))]
    assert [one.n for one in found["a"].looks] == [5, 10]
    assert found["a"].verdict == "pass"


def test_undecided_at_both_looks_is_inconclusive_and_says_how_many_seeds_would_do() -> None:
    take = Script(a_look1=UNDECIDED, a_look2=UNDECIDED)
    found = judge(["a"], take, STRICT)["a"]
    assert [one.verdict for one in found.looks] == ["inconclusive", "inconclusive"]
    assert found.verdict == "inconclusive"
    need = more_seeds(found.looks[-1], STRICT)
    assert need is not None
    assert need > 0


def test_significant_and_trivial_never_fails() -> None:
    tiny = [0.0019, 0.00191, 0.00189, 0.0019, 0.0019]  # p is 0 but for rounding, and a fifth of the margin is 0.002
    found = judge(["a"], lambda stage, arms: {"a": Drawn(tuple(tiny), None)}, RULE)["a"]
    assert found.verdict == "pass"


def test_p_is_corrected_for_all_arms_also_when_one_is_left() -> None:
    alone = judge(["a"], Script(a_look1=WORSE, a_confirmation=WORSE), RULE)["a"].looks[0]
    among = judge(["a", "b", "c", "d"], Script(a_look1=WORSE, a_confirmation=WORSE, b_look1=FLAT, c_look1=FLAT,
                                               d_look1=FLAT), RULE)["a"]  # fmt: skip
    assert among.looks[0].p_corrected == pytest.approx(4 * alone.p)
    assert among.looks[1].p_corrected == pytest.approx(4 * among.looks[1].p)


def test_an_arm_whose_runs_all_failed_is_inconclusive() -> None:
    found = judge(["a"], lambda stage, arms: {"a": Drawn((), CALM)}, RULE)["a"]
    assert (found.verdict, found.looks) == ("inconclusive", [])


def test_pooled_is_about_every_groups_own_mean() -> None:
    found = pooled([[1.0, 1.2, 0.8], [5.0, 5.2], [9.0]])
    assert found is not None
    assert found.df == 3
    assert found.sd == pytest.approx(math.sqrt((0.08 + 0.02) / 3))
    assert pooled([[1.0]]) is None


def _shares(sd: float, spread: Spread | None, harm: float, arms: int = 4, count: int = 600) -> Counter[str]:
    names = [f"arm{index}" for index in range(arms)]

    def draw(generator: np.random.Generator, arm: str, size: int) -> list[float]:
        return [float(one) for one in generator.normal(harm, sd, size)]

    gates = simulate(names, draw, spread, RULE, 10, count)
    verdicts = ["fail" if "fail" in one.values() else "else" for one in gates]
    return Counter(verdicts)


@pytest.mark.parametrize(
    ("sd", "spread"), [(0.004, CALM), (0.004, None), (0.02, None), (0.008, CALM), (0.002, CALM), (0.012, CALM)]
)
def test_gates_without_harm_are_red_less_than_once_in_a_hundred(sd: float, spread: Spread | None) -> None:
    """Also where differences are two or three times as wild as the calibration has it."""
    assert _shares(sd, spread, 0.0)["fail"] <= 6


def test_a_harm_of_the_margin_and_a_half_is_red_at_the_calm_suites_noise() -> None:
    assert _shares(0.004, CALM, 0.015)["fail"] >= 0.98 * 600
    assert _shares(0.004, CALM, 0.001)["fail"] == 0


def test_a_power_table_rises_with_the_harm() -> None:
    table = power_table(["a", "b"], CALM, RULE, 10)
    fails = [row.fail for row in table]
    assert fails == sorted(fails)
    assert fails[0] <= 0.01
    assert fails[-1] > 0.9
