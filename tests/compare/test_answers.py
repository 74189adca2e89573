"""Of cells that were asked several times, a table shows what all of them said to the same questions."""

from __future__ import annotations

from collections.abc import Callable

from compare_support import arm_results

from harness.compare.answers import Answers, alike
from harness.compare.results import Wanted
from harness.tracking import Record


def said(value: float, stamp: str, label: str = "piqa") -> Answers:
    return Answers({f"eval/{label}/acc": value, "cost/score_seconds": 9.0}, {label: stamp})


def test_of_several_answers_the_preferred_one_to_the_questions_of_all_is_shown() -> None:
    one = [said(0.1, "old"), said(0.2, "both"), said(0.3, "other")]
    two = [said(0.4, "other"), said(0.5, "both")]
    assert alike([one, two]) == ([{"eval/piqa/acc": 0.3}, {"eval/piqa/acc": 0.4}], ())
    assert alike([two, one]) == ([{"eval/piqa/acc": 0.5}, {"eval/piqa/acc": 0.2}], ()), "the first cell prefers another"
    assert alike([one, [said(0.4, "new")]]) == ([{}, {}], ("piqa",))
    assert alike([one, [said(0.4, "x", "copa")], []])[0] == [{"eval/piqa/acc": 0.3}, {"eval/copa/acc": 0.4}, {}]


def test_what_was_said_twice_counts_where_it_was_said_last() -> None:
    cell = [said(0.9, "new"), said(0.1, "old"), said(0.8, "new")]
    assert alike([cell, cell])[0] == [{"eval/piqa/acc": 0.8}] * 2


def test_answers_of_one_evaluation_are_never_mixed_with_those_of_another() -> None:
    full = Answers({"eval/piqa/acc": 0.5, "eval/piqa/margin": 1.0}, {"piqa": "a"})
    assert alike([[full, said(0.6, "a")]]) == ([{"eval/piqa/acc": 0.6}], ())


def test_a_table_prefers_what_its_suite_asks_to_what_was_asked_later(record: Callable[..., Record]) -> None:
    wanted = [
        Wanted("residual", 1, "residual1", "e", (said(0.9, "later", "cloze"), said(0.5, "suite", "cloze"))),
        Wanted("dhc", 1, "dhc1", "e", (said(0.6, "suite", "cloze"),)),
    ]
    rows = arm_results(wanted, [record("residual", 1, eval__cloze__acc=0.9), record("dhc", 1)], "residual")
    assert [row.scores["cloze/acc"] for row in rows] == [0.5, 0.6]
    assert all(row.unlike == () for row in rows)
