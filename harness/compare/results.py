"""What the record says about a suite's arms, seed by seed."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from harness.compare.answers import PREFIX, Answers, alike, of_record
from harness.compare.documents import Documents, Windows, documents
from harness.compare.gain import Gain, Ladder, gains
from harness.compare.likeness import hardware
from harness.compare.match import LOSS, TOKENS, Costs, Curve, Match, Matched, matched
from harness.compare.pairing import Pairing, on_one_curve, pair
from harness.compare.statistics import (
    Estimate,
    Pairs,
    geometric_mean,
    mean_interval,
    minimum_detectable_effect,
    pairs,
    seeds_to_resolve,
)
from harness.compare.verdicts import Verdict, best_group, verdicts
from harness.tracking import TAG_STATE, Record

BITS_PER_BYTE, PERPLEXITY = "validation/bits_per_byte", "validation/perplexity"
ACCURACY, FULL_ACCURACY = "validation/accuracy", "eval/classification/acc"
THROUGHPUT, SAVED_BYTES, PARAMETERS = "cost/tokens_per_second", "cost/saved_activation_bytes", "cost/parameters"
MFU, EXPERT_LOAD = "cost/mfu", "router/max_load"

MARGIN = 0.005
"""Losses closer than this are equivalent where the suite says nothing else."""


@dataclass(frozen=True)
class Wanted:
    """A cell that the suite has, by what the record knows it by."""

    arm: str
    seed: int
    cell: str
    evaluation: str
    answers: tuple[Answers, ...] = ()
    """All that the cell was ever asked, where that is at hand, what its suite asks last."""
    windows: Windows | None = None
    """Losses on the pieces of the held-out side, where they were kept."""


@dataclass(frozen=True, kw_only=True)
class Arm:
    """What the suite says of an arm, as far as a comparison needs it."""

    baseline: str
    unit: str
    start: str = ""
    """Equal for two arms whose settings draw the same shared weights."""
    twin_of: tuple[str, str] | None = None
    """(match, arm): it was resized until it costs as much as that arm."""


@dataclass(frozen=True, kw_only=True)
class View:
    """How a comparison is to be made."""

    match: Match = "tokens"
    forced: bool = False
    """Also what is unlike (hardware, code, ...) is compared, and marked."""
    margin: float = MARGIN
    ladder: tuple[str, ...] = ()
    """Arms that are the baseline at several budgets or sizes."""


PLAIN = View()


@dataclass(frozen=True, kw_only=True)
class ArmResult:
    """One row of the table. Ratios are to the baseline; None is what the record does not have."""

    arm: str
    n: int
    missing: tuple[int, ...]
    """Seeds without a finished cell."""
    failed: tuple[int, ...]
    """Seeds whose cell failed; never left out without being named."""
    loss: Estimate | None
    pairs: Pairs | None = None
    """The paired difference to what the arm is held against in this view."""
    pairing: Pairing = field(default_factory=Pairing)
    matched: Matched | None = None
    """What that is; None for the baseline itself."""
    documents: Documents | None = None
    verdict: Verdict | None = None
    p_holm: float | None = None
    """Of the paired t test, corrected for the arms of the table."""
    detectable: float | None = None
    """The difference that so many pairs find with a power of 80%."""
    more_seeds: int | None = None
    """About how many more would find one of the suite's margin."""
    best: bool = False
    """In the group that is not told apart from the lowest loss, of the arms that have pairs with the baseline at equal
    tokens; in other views none is, for a row's loss is that of its own end."""
    gain: Gain | None = None
    bits_per_byte: float | None = None
    perplexity: float | None = None
    accuracy: float | None = None
    """Of a classifier, on the whole held-out side where it was scored."""
    mfu: float | None = None
    """Share of the chip's dense peak; None where the chip has no entry."""
    expert_load: float | None = None
    """Of a mixture of experts, the largest share of one expert in one layer, times the number of experts."""
    throughput_ratio: float | None = None
    throughput_interval: tuple[float, float] | None = None
    """95%, of the interleaved measurement; None where the ratio is that of the cells as they ran."""
    saved_bytes_ratio: float | None = None
    peak_bytes_ratio: float | None = None
    """On CUDA, from the interleaved measurement."""
    parameters: int | None = None
    scores: dict[str, float] = field(default_factory=dict)
    unlike: tuple[str, ...] = ()
    """Tasks of which the cells of the table were asked other questions: their scores are left out."""
    runs: dict[int, str] = field(default_factory=dict)
    """MLflow run of every seed."""
    reported: dict[str, float | None] = field(default_factory=dict)
    """By column: the difference to the baseline that a paper printed; None where it has no number for the arm."""

    @property
    def delta(self) -> Estimate | None:
        return self.pairs


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One table: arms against their baseline, whose losses have one unit."""

    baseline: str
    unit: str
    rows: list[ArmResult]
    view: View = PLAIN
    hardware: tuple[str, ...] = ()
    """All that its cells were trained on."""
    tokens: float | None = None
    """Training tokens of a cell of the baseline."""

    @property
    def bold(self) -> set[str]:
        """The best group, where it is not everything."""
        best = {row.arm for row in self.rows if row.best}
        compared = [row for row in self.rows if row.arm == self.baseline or row.pairs is not None]
        return best if len(best) < sum(row.n > 0 for row in compared) else set()


@dataclass(frozen=True, kw_only=True)
class Sources:
    """What a comparison reads besides the records."""

    costs: Costs = field(default_factory=dict)
    """By arm, from the interleaved measurement on this machine."""
    curve: Curve | None = None


NOTHING = Sources()


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
                tokens=_mean(table.done.get(baseline, {}), TOKENS),
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
        judged = verdicts([row.pairs for row in rows], self.view.margin)
        best = best_group(self._comparable(rows)) if self.view.match == "tokens" else set()
        like = self._on_one_curve()
        gained = gains(
            Ladder({arm: like.get(arm, {}) for arm in self.view.ladder}),
            like,
            self.baseline,
            {row.arm: row.throughput_ratio for row in rows},
            borrow=self.arms[self.baseline].unit == "nats per token",
        )
        return [
            replace(row, verdict=one.verdict, p_holm=one.p, best=row.arm in best, gain=gained.get(row.arm))
            for row, one in zip(rows, judged, strict=True)
        ]

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
        failed = {s for s, record in seeds.items() if record is not None and record.tags.get(TAG_STATE) == "failed"}
        losses = _values(done, LOSS)
        cost = self.sources.costs.get(arm) or {}
        speed, interval = cost.get("throughput_ratio"), cost.get("throughput_ci")
        row = ArmResult(
            arm=arm,
            n=len(done),
            missing=tuple(seed for seed in seeds if seed not in done),
            failed=tuple(seed for seed in seeds if seed in failed and seed not in done),
            loss=mean_interval(list(losses.values())) if losses else None,
            bits_per_byte=_mean(done, BITS_PER_BYTE),
            perplexity=_mean(done, PERPLEXITY),
            accuracy=_mean(done, FULL_ACCURACY if any(FULL_ACCURACY in r.metrics for r in done.values()) else ACCURACY),
            mfu=_mean(done, MFU),
            expert_load=_mean(done, EXPERT_LOAD),
            throughput_ratio=_ratio(done, base, THROUGHPUT) if speed is None else speed,
            throughput_interval=tuple(interval) if speed is not None and interval else None,
            saved_bytes_ratio=_ratio(done, base, SAVED_BYTES),
            peak_bytes_ratio=cost.get("peak_bytes_ratio"),
            parameters=int(value) if (value := _mean(done, PARAMETERS)) is not None else None,
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
        deviation = found.sd_paired if found else None
        shown = None
        if found is not None and against.how in ("end", "resized"):
            shown = documents(self.windows.get(row.arm, {}), self.windows.get(against.against, {}), found.seeds)
        return replace(
            row,
            pairs=found,
            pairing=pairing,
            matched=against,
            documents=shown,
            detectable=minimum_detectable_effect(deviation, found.n) if found and deviation else None,
            more_seeds=seeds_to_resolve(view.margin, deviation, found.n) if found and deviation else None,
        )


def _finished(record: Record, evaluation: str) -> bool:
    return (
        record.tags.get(TAG_STATE) == "done"
        and math.isfinite(record.metrics.get(LOSS, math.nan))
        and record.was_asked(evaluation)
    )


def _values(records: Mapping[int, Record], metric: str) -> dict[int, float]:
    return {seed: record.metrics[metric] for seed, record in records.items() if metric in record.metrics}


def _mean(records: Mapping[int, Record], metric: str) -> float | None:
    values = list(_values(records, metric).values())
    return sum(values) / len(values) if values else None


def _ratio(records: Mapping[int, Record], base: Mapping[int, Record], metric: str) -> float | None:
    """Geometric mean over the seeds that both have of arm / baseline."""
    mine, theirs = _values(records, metric), _values(base, metric)
    ratios = [mine[seed] / theirs[seed] for seed in mine.keys() & theirs.keys() if mine[seed] > 0 and theirs[seed] > 0]
    return geometric_mean(sorted(ratios)) if ratios else None


def _means(seeds: list[dict[str, float]]) -> dict[str, float]:
    """Mean over seeds of every score, as `task/metric`; a seed that lacks one leaves it out for the arm."""
    common = sorted(set.intersection(*(set(scores) for scores in seeds))) if seeds else []
    return {name.removeprefix(PREFIX): sum(scores[name] for scores in seeds) / len(seeds) for name in common}
