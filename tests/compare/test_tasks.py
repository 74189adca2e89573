"""Answers document by document: accuracy with McNemar's test and nats, from samples of questions that both were asked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from compare_support import compared
from scipy import stats

from harness.compare.results import Comparison, Wanted
from harness.compare.tasks import task_results, tasks_markdown
from harness.evaluation.samples import Sample
from harness.tracking import Record

Make = Callable[..., Record]
SEEDS = (1, 2, 3, 4)
GENERATOR = np.random.default_rng(0)


def choice(document: int, right: bool, nats: float, question: str = "") -> Sample:
    return Sample(
        task="cloze", document=document, question=question or f"q{document}", scores=(-nats, -9.0), bytes=(4, 4),
        gold=(0,), metrics={"acc": float(right)},
    )  # fmt: skip


@pytest.fixture
def table(record: Make, wanted: list[Wanted]) -> Comparison:
    return compared(wanted, [record(arm, s) for arm in ("residual", "dhc") for s in SEEDS], "residual")


def test_accuracy_and_nats_are_differences_over_the_same_documents(table: Comparison) -> None:
    right = {arm: GENERATOR.random((4, 50)) < share for arm, share in (("residual", 0.4), ("dhc", 0.7))}
    nats = {arm: GENERATOR.random((4, 50)) for arm in right}

    def load(arm: str, seed: int, label: str) -> dict[tuple[str, int], Sample]:
        assert label == "cloze:50"
        return {("cloze", d): choice(d, right[arm][seed - 1, d], nats[arm][seed - 1, d]) for d in range(50)}

    accuracy, loss = task_results(table, ["cloze:50"], load)
    assert (accuracy.arm, accuracy.measure, accuracy.documents) == ("dhc", "accuracy", 50)
    seeds = (right["dhc"].astype(float) - right["residual"]).mean(axis=1)
    assert accuracy.delta.mean == pytest.approx(seeds.mean())
    assert accuracy.delta.p == pytest.approx(stats.ttest_1samp(seeds, 0).pvalue)
    ahead = right["dhc"].sum(axis=0) - right["residual"].sum(axis=0).astype(int)
    only, base = int((ahead > 0).sum()), int((ahead < 0).sum())
    assert accuracy.mcnemar is not None
    assert (accuracy.mcnemar.b, accuracy.mcnemar.c) == (only, base)
    assert accuracy.mcnemar.p == pytest.approx(stats.binomtest(only, only + base).pvalue)
    assert accuracy.text is not None
    assert accuracy.text[0] < accuracy.delta.mean < accuracy.text[1]
    assert (loss.measure, loss.mcnemar) == ("nats", None)
    assert loss.delta.mean == pytest.approx((nats["dhc"] - nats["residual"]).mean())
    text = tasks_markdown([accuracy, loss])
    assert len({len(line) for line in text.splitlines() if line.startswith("|")}) == 1
    assert f"{only} / {base}" in text


def test_seeds_that_answer_alike_are_no_more_evidence_about_a_document(table: Comparison) -> None:
    """12 documents that only the arm has right and 5 that only the baseline has: four equal seeds know no more of them
    than one, where pooled answers would have p .0009."""

    def load(arm: str, seed: int, label: str) -> dict[tuple[str, int], Sample]:
        return {("cloze", d): choice(d, (d < 12) == (arm == "dhc"), 1.0) for d in range(17)}

    test = task_results(table, ["cloze:17"], load)[0].mcnemar
    assert test is not None
    assert (test.b, test.c) == (12, 5)
    assert test.p == pytest.approx(stats.binomtest(5, 17).pvalue)


def test_documents_that_were_not_asked_alike_are_left_out(table: Comparison) -> None:
    def load(arm: str, seed: int, label: str) -> dict[tuple[str, int], Sample]:
        mine = {("cloze", d): choice(d, True, 1.0) for d in range(6)}
        if arm == "dhc":
            mine["cloze", 0] = choice(0, False, 1.0, question="another prompt")
            if seed == 2:
                del mine["cloze", 1]
        return mine

    found = task_results(table, ["cloze"], load)
    assert [one.documents for one in found] == [4, 4]
    assert found[0].delta.mean == 0.0


def test_texts_have_nats_alone_and_what_was_not_kept_is_left_out(table: Comparison) -> None:
    def load(arm: str, seed: int, label: str) -> dict[tuple[str, int], Any] | None:
        if label == "cloze":
            return None
        score = -3.0 if arm == "dhc" else -4.0
        return {("text", 0): Sample(task="text", document=0, question="q", scores=(score,), bytes=(9,))}

    (one,) = task_results(table, ["cloze", "text"], load)
    assert (one.label, one.measure, one.delta.mean, one.text) == ("text", "nats", -1.0, None)


def test_a_cell_without_samples_leaves_its_seed_out(table: Comparison) -> None:
    def load(arm: str, seed: int, label: str) -> dict[tuple[str, int], Sample] | None:
        return None if (arm, seed) == ("residual", 3) else {("cloze", 0): choice(0, True, float(seed))}

    assert [one.delta.n for one in task_results(table, ["cloze"], load)] == [3, 3]
