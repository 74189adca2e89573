"""Scores of cells that were asked several times: those that all of a table's cells gave to the same questions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from harness.tracking import TAG_SCORED, Record

PREFIX = "eval/"


@dataclass(frozen=True)
class Answers:
    """What a cell said at one time: `eval/<label>/<metric>`, and of labels what exactly was asked."""

    metrics: Mapping[str, float]
    stamps: Mapping[str, str]

    @cached_property
    def _names(self) -> dict[str, list[str]]:
        """Of every label the metrics. Kept, because every label of a table asks every cell."""
        found: dict[str, list[str]] = {}
        for name in self.metrics:
            if name.startswith(PREFIX):
                found.setdefault(name.split("/")[1], []).append(name)
        return found

    @cached_property
    def labels(self) -> dict[str, str]:
        """Every label with its stamp."""
        return {label: self.stamps.get(label, "") for label in self._names}

    def of(self, label: str) -> dict[str, float]:
        return {name: self.metrics[name] for name in self._names.get(label, ())}


def of_record(record: Record) -> Answers:
    """The latest of every label: all that the record has by itself."""
    tags = {name.removeprefix(TAG_SCORED): stamp for name, stamp in record.tags.items() if name.startswith(TAG_SCORED)}
    return Answers(record.metrics, tags)


def alike(cells: Sequence[Sequence[Answers]]) -> tuple[list[dict[str, float]], tuple[str, ...]]:
    """(scores of every cell, labels that are left out). Of every cell come its answers, the preferred last. Under a
    label all cells that have it show what they said to the same questions; where there are none that all were asked
    (other documents, another lm-eval), it is left out."""
    found: list[dict[str, float]] = [{} for _ in cells]
    left_out = []
    for label in sorted({label for cell in cells for answers in cell for label in answers.labels}):
        asked = [_by_stamp(label, cell) for cell in cells]
        having = [one for one in asked if one]
        common = [stamp for stamp in having[0] if all(stamp in one for one in having)]
        if not common:
            left_out.append(label)
            continue
        for scores, stamps in zip(found, asked, strict=True):
            if stamps:
                scores.update(stamps[common[-1]].of(label))
    return found, tuple(left_out)


def _by_stamp(label: str, cell: Sequence[Answers]) -> dict[str, Answers]:
    """A cell's answers under a label, of equal stamps the last, in the order of these."""
    found: dict[str, Answers] = {}
    for answers in cell:
        if (stamp := answers.labels.get(label)) is not None:
            found.pop(stamp, None)
            found[stamp] = answers
    return found
