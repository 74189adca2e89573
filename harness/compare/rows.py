"""From records to rows: which cells are there, who is paired with whom, what that says."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from harness.compare.answers import PREFIX, Answers, alike, of_record
from harness.compare.documents import Windows, documents
from harness.compare.gain import Ladder, gains
from harness.compare.likeness import hardware
from harness.compare.match import LOSS, PARAMETERS, SAVED, SPEED, TOKENS, matched
from harness.compare.pairing import on_one_curve, pair
from harness.compare.results import FULL_ACCURACY, NOTHING, PLAIN, Arm, ArmResult, Comparison, Sources, View, Wanted
from harness.compare.statistics import (
    geometric_mean,
    mean_interval,
    minimum_detectable_effect,
    pairs,
    seeds_to_resolve,
)
from harness.compare.verdicts import best_group, verdicts
from harness.tracking import TAG_STATE, Record

BITS_PER_BYTE, PERPLEXITY = "validation/bits_per_byte", "validation/perplexity"
ACCURACY, MFU, EXPERT_LOAD = "validation/accuracy", "cost/mfu", "router/max_load"

ALPHA = 0.05


def comparisons(
    wanted: Iterable[Wanted],
    records: Iterable[Record],
    arms: Mapping[str, Arm],
    view: View = PLAIN,
    sources: Sources = NOTHING,
    reported: Mapping[str, Mapping[str, float]] | None = None,
) -> list[Comparison]:
    """One table for every baseline, in the order in which arms first name one."""
    groups: dict[str, list[Wanted]] = {}
    for cell in wanted:
        groups.setdefault(arms[cell.arm].baseline, []).append(cell)
    # The latest run of a cell stands for it: a cell that was trained anew has an older run besides.
    latest = {record.cell: record for record in records}
    made = []
    for baseline, cells in groups.items():
        names = {cell.arm for cell in cells}
        columns = {title: values for title, values in (reported or {}).items() if names & values.keys() - {baseline}}
        table = _Table(cells, latest, arms, baseline, view, sources)
        made.append(
            Comparison(
                baseline=baseline,
                unit=arms[baseline].unit,
                rows=[replace(row, reported=_reported(row.arm, baseline, columns)) for row in table.rows()],
                view=view,
                hardware=table.hardware(),
                tokens=mean_of(table.done.get(baseline, {}), TOKENS),
                measured_on=sources.machine if any(arm in sources.costs for arm in names) else "",
            )
        )
    return made


def _reported(arm: str, baseline: str, columns: Mapping[str, Mapping[str, float]]) -> dict[str, float | None]:
    return {
        title: values[arm] - values[baseline] if arm in values and baseline in values and arm != baseline else None
        for title, values in columns.items()
    }


class _Table:
    """The cells of one table, sorted by arm and seed."""

    def __init__(
        self,
        cells: Sequence[Wanted],
        latest: Mapping[str, Record],
        arms: Mapping[str, Arm],
        baseline: str,
        view: View,
        sources: Sources,
    ):
        self.arms, self.baseline, self.view, self.sources = arms, baseline, view, sources
        self.seeds: dict[str, dict[int, Record | None]] = {}
        self.done: dict[str, dict[int, Record]] = {}
        self.windows: dict[str, dict[int, Windows]] = {}
        said: dict[tuple[str, int], list[Answers]] = {}
        for cell in cells:
            record = latest.get(cell.cell)
            self.seeds.setdefault(cell.arm, {})[cell.seed] = record
            mine = self.done.setdefault(cell.arm, {})
            if record is not None and _finished(record, cell.evaluation):
                mine[cell.seed] = record
                said[cell.arm, cell.seed] = [of_record(record), *cell.answers]
                if cell.windows is not None:
                    self.windows.setdefault(cell.arm, {})[cell.seed] = cell.windows
        found, self.unlike = alike(list(said.values()))
        self.scores = dict(zip(said, found, strict=True))
        self.twins = {twin: name for name in self.seeds if (twin := arms[name].twin_of) is not None}

    def rows(self) -> list[ArmResult]:
        rows = [self._row(arm) for arm in self.seeds]
        judged = [row if self._judged(row) else None for row in rows]
        words = verdicts([row.pairs if row else None for row in judged], self.view.margin)
        best = best_group(self._comparable(rows)) if self.view.match == "tokens" else set()
        like = self._on_one_curve()
        gained = gains(
            Ladder({arm: like.get(arm, {}) for arm in self.view.ladder}),
            like,
            self.baseline,
            {row.arm: row.throughput_ratio for row in rows},
            borrow=self.arms[self.baseline].unit == "nats per token",
        )
        rows = [replace(row, best=row.arm in best, gain=gained.get(row.arm)) for row in rows]
        # Holm may ask the smallest p of K arms for a K-th of alpha: what is promised must hold there.
        alpha = ALPHA / max(sum(row is not None for row in judged), 1)
        return [
            _planned(replace(row, verdict=one.verdict, p_holm=one.p), self.view.margin, alpha) if known else row
            for row, known, one in zip(rows, judged, words, strict=True)
        ]

    def _judged(self, row: ArmResult) -> bool:
        """Whether the row's difference gets a verdict, and counts among those that p is corrected for."""
        held = row.matched is not None and row.matched.how in ("end", "resized")
        return held and row.pairs is not None and not row.control

    def _on_one_curve(self) -> dict[str, dict[int, Record]]:
        """The finished cells whose losses may be held against the baseline's of their seed, whatever their budget."""
        base, forced = self.done.get(self.baseline, {}), self.view.forced
        return {
            arm: {s: one for s, one in records.items() if s in base and on_one_curve(one, base[s], forced)}
            for arm, records in self.done.items()
        }

    def _comparable(self, rows: Sequence[ArmResult]) -> dict[str, dict[int, float]]:
        """Losses of the baseline, and of every arm at the seeds at which it is its pair: what is no pair of the
        baseline (another budget, other held-out data, other hardware) has no lowest loss either."""
        seeds = {row.arm: row.pairs.seeds for row in rows if row.pairs is not None}
        if base := self.done.get(self.baseline):
            seeds[self.baseline] = tuple(base)
        return {arm: {seed: self.done[arm][seed].metrics[LOSS] for seed in seeds[arm]} for arm in seeds}

    def hardware(self) -> tuple[str, ...]:
        """What all finished cells were trained on, each once."""
        found = (hardware(record) for records in self.done.values() for record in records.values())
        return tuple(dict.fromkeys(name for name in found if name))

    def _row(self, arm: str) -> ArmResult:
        done, base = self.done[arm], self.done.get(self.baseline, {})
        seeds = self.seeds[arm]
        failed = {s for s, record in seeds.items() if record is not None and _failed(record)}
        losses = _values(done, LOSS)
        cost = self.sources.costs.get(arm) or {}
        speed, interval = cost.get("throughput_ratio"), cost.get("throughput_ci")
        right = FULL_ACCURACY if any(FULL_ACCURACY in record.metrics for record in done.values()) else ACCURACY
        row = ArmResult(
            arm=arm,
            n=len(done),
            control=self.arms[arm].twin_of is not None or (arm in self.view.ladder and arm != self.baseline),
            missing=tuple(seed for seed in seeds if seed not in done),
            failed=tuple(seed for seed in seeds if seed in failed and seed not in done),
            loss=mean_interval(list(losses.values())) if losses else None,
            bits_per_byte=mean_of(done, BITS_PER_BYTE),
            perplexity=mean_of(done, PERPLEXITY),
            accuracy=mean_of(done, right),
            mfu=mean_of(done, MFU),
            expert_load=mean_of(done, EXPERT_LOAD),
            throughput_ratio=_ratio(done, base, SPEED) if speed is None else speed,
            throughput_interval=tuple(interval) if speed is not None and interval else None,
            measured=speed is not None,
            saved_bytes_ratio=_ratio(done, base, SAVED),
            peak_bytes_ratio=cost.get("peak_bytes_ratio"),
            parameters=int(value) if (value := mean_of(done, PARAMETERS)) is not None else None,
            scores=_means([self.scores[arm, seed] for seed in done]),
            unlike=self.unlike,
            runs={seed: record.run_id for seed, record in done.items()},
        )
        return row if arm == self.baseline else self._compared(row)

    def _compared(self, row: ArmResult) -> ArmResult:
        """The row with its difference to what it is held against in this view."""
        view = self.view
        against = matched(
            view.match, row.arm, self.baseline, self.done, self.twins, self.sources.costs, self.sources.curve
        )
        same_start = self.arms[row.arm].start == self.arms[against.against].start
        pairing = pair(
            self.done[row.arm], self.done.get(against.against, {}), same_start=same_start, forced=view.forced
        )
        mine = {seed: against.mine[seed] for seed in pairing.seeds if seed in against.mine}
        theirs = {seed: against.theirs[seed] for seed in pairing.seeds if seed in against.theirs}
        found = pairs(mine, theirs)
        shown = None
        if found is not None and against.how in ("end", "resized"):
            shown = documents(self.windows.get(row.arm, {}), self.windows.get(against.against, {}), found.seeds)
        return replace(
            row,
            pairs=found,
            pairing=pairing,
            matched=against,
            documents=shown,
        )


def _planned(row: ArmResult, margin: float, alpha: float) -> ArmResult:
    """The row with what its pairs can find, and how many more would find the margin."""
    deviation = row.pairs.sd_paired if row.pairs else None
    if row.pairs is None or not deviation:
        return row
    return replace(
        row,
        detectable=minimum_detectable_effect(deviation, row.pairs.n, alpha),
        more_seeds=seeds_to_resolve(margin, deviation, row.pairs.n, alpha),
    )


def _failed(record: Record) -> bool:
    """A cell that ended without a finite loss failed, whatever it says itself."""
    state = record.tags.get(TAG_STATE)
    return state == "failed" or (state == "done" and not math.isfinite(record.metrics.get(LOSS, 0.0)))


def _finished(record: Record, evaluation: str) -> bool:
    return (
        record.tags.get(TAG_STATE) == "done"
        and math.isfinite(record.metrics.get(LOSS, math.nan))
        and record.was_asked(evaluation)
    )


def _values(records: Mapping[int, Record], metric: str) -> dict[int, float]:
    return {seed: record.metrics[metric] for seed, record in records.items() if metric in record.metrics}


def mean_of(records: Mapping[int, Record], metric: str) -> float | None:
    """Over the seeds that have the metric; None where none has."""
    values = list(_values(records, metric).values())
    return sum(values) / len(values) if values else None


def _ratio(records: Mapping[int, Record], base: Mapping[int, Record], metric: str) -> float | None:
    """Geometric mean over the seeds that both have, on the same hardware, of arm / baseline."""
    mine, theirs = _values(records, metric), _values(base, metric)
    seeds = [seed for seed in mine.keys() & theirs.keys() if hardware(records[seed]) == hardware(base[seed])]
    ratios = [mine[seed] / theirs[seed] for seed in seeds if mine[seed] > 0 and theirs[seed] > 0]
    return geometric_mean(sorted(ratios)) if ratios else None


def _means(seeds: list[dict[str, float]]) -> dict[str, float]:
    """Mean over seeds of every score, as `task/metric`; a seed that lacks one leaves it out for the arm."""
    common = sorted(set.intersection(*(set(scores) for scores in seeds))) if seeds else []
    return {name.removeprefix(PREFIX): sum(scores[name] for scores in seeds) / len(seeds) for name in common}
