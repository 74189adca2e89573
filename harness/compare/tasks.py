"""Answers held against each other document by document: accuracy with McNemar's test, nats of the right answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

from harness.compare.bootstrap import document_interval, hierarchical_interval
from harness.compare.columns import MISSING, between, plus_minus
from harness.compare.markdown import grid
from harness.compare.results import Comparison
from harness.compare.statistics import Estimate, McNemar, mcnemar, mean_interval

Key = tuple[str, int]
"""Task and document."""
Answered = Mapping[Key, Any]
"""The samples of a cell under one label (`harness.evaluation.samples.Sample`)."""
Load = Callable[[str, int, str], Answered | None]
"""(arm, seed, label) -> samples; None where none were kept."""
Measure = Literal["accuracy", "nats"]
MEASURES: tuple[Measure, ...] = get_args(Measure)


@dataclass(frozen=True, kw_only=True)
class TaskResult:
    """One arm on one task, against the baseline: differences over the documents that both were asked alike."""

    label: str
    arm: str
    measure: Measure
    """`accuracy`, more is better; `nats` of the right answer, or of the text, less is better."""
    documents: int
    delta: Estimate
    """Over seeds."""
    text: tuple[float, float] | None
    both: tuple[float, float] | None
    mcnemar: McNemar | None
    """Of documents, by which side has more of its paired seeds right: `b` the arm, `c` the baseline. Answers of several
    seeds to one document are no independent ones, so a document counts once. Whether these very models differ, not
    whether the arms do."""


def task_results(table: Comparison, labels: Sequence[str], load: Load) -> list[TaskResult]:
    """Of every label and every arm that has pairs."""
    found = []
    for label in labels:
        for row in table.rows:
            if row.pairs is None or row.matched is None:
                continue
            cells = [(load(row.arm, s, label), load(row.matched.against, s, label)) for s in row.pairs.seeds]
            whole = [(mine, theirs) for mine, theirs in cells if mine and theirs]
            made = (_result(label, row.arm, measure, whole) for measure in MEASURES)
            found += [result for result in made if result is not None]
    return found


def _result(label: str, arm: str, measure: Measure, cells: Sequence[tuple[Answered, Answered]]) -> TaskResult | None:
    value = _accuracy if measure == "accuracy" else _nats
    keys = [key for key in (cells[0][0] if cells else ()) if all(_comparable(key, pair, value) for pair in cells)]
    if not keys:
        return None
    mine, theirs = (np.array([[value(pair[side][key]) for key in keys] for pair in cells]) for side in (0, 1))
    differences_SK = mine - theirs
    several = len(cells) > 1
    return TaskResult(
        label=label,
        arm=arm,
        measure=measure,
        documents=len(keys),
        delta=mean_interval(differences_SK.mean(axis=1).tolist()),
        text=document_interval(differences_SK.mean(axis=0)) if len(keys) > 1 else None,
        both=hierarchical_interval(differences_SK) if several and len(keys) > 1 else None,
        mcnemar=_by_document(differences_SK.sum(axis=0)) if measure == "accuracy" else None,
    )


def _by_document(ahead_K: np.ndarray) -> McNemar:
    """With one seed, McNemar's test; with several the exact sign test over documents."""
    return mcnemar((ahead_K > 0).tolist(), (ahead_K < 0).tolist())


def _comparable(key: Key, pair: tuple[Answered, Answered], value: Callable[[Any], float | None]) -> bool:
    mine, theirs = pair[0].get(key), pair[1].get(key)
    alike = mine is not None and theirs is not None and mine.question == theirs.question
    return alike and value(mine) is not None and value(theirs) is not None


def _accuracy(sample: Any) -> float | None:
    right = sample.metrics.get("acc", sample.metrics.get("exact_match"))
    return float(right) if isinstance(right, (int, float)) else None


def _nats(sample: Any) -> float | None:
    if (gold := sample.gold_score) is not None:
        return -float(gold[0])
    return -float(sample.scores[0]) if not sample.gold and len(sample.scores) == 1 else None


HEADS = (
    "task", "arm", "measure", "documents", "Δ", "over text", "over seeds and text", "McNemar p", "ahead: arm / base",
)  # fmt: skip
ABOUT = (
    "Δ: arm − baseline on the same documents, ± half the 95% t interval over seeds; accuracy: more is better, nats of "
    "the right answer: less is. McNemar: exact, of the documents on which one side has more of its seeds right; it "
    "says whether these very models differ. Not corrected for the number of tasks."
)


def cells_of(one: TaskResult) -> tuple[str, ...]:
    """What stands under `HEADS`."""
    test = one.mcnemar
    return (
        one.label,
        one.arm,
        one.measure,
        f"{one.documents:,}",
        plus_minus(one.delta, sign=True),
        between(one.text),
        between(one.both),
        MISSING if test is None else f"{test.p:.2g}",
        MISSING if test is None else f"{test.b} / {test.c}",
    )


def tasks_markdown(results: Sequence[TaskResult]) -> str:
    """A line for every task, measure and arm."""
    return "\n".join([*grid([HEADS, *(cells_of(one) for one in results)]), "", ABOUT])
