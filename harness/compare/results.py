"""What the record says about a suite's arms, seed by seed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from harness.compare.answers import PREFIX, Answers, alike, of_record
from harness.compare.statistics import Estimate, geometric_mean, mean_interval, paired_difference
from harness.tracking import TAG_STATE, Record

LOSS, BITS_PER_BYTE, PERPLEXITY = "validation/loss", "validation/bits_per_byte", "validation/perplexity"
ACCURACY, FULL_ACCURACY = "validation/accuracy", "eval/classification/acc"
THROUGHPUT, SAVED_BYTES, PARAMETERS = "cost/tokens_per_second", "cost/saved_activation_bytes", "cost/parameters"
MFU, EXPERT_LOAD = "cost/mfu", "router/max_load"
PAIRING = ("harness.digest.batches", "harness.digest.validation")
"""Digests that must be equal before two cells of one seed count as a pair: what they learned from and are judged on."""
SHARED_WEIGHTS = "harness.digest.shared_weights"


@dataclass(frozen=True)
class Wanted:
    """A cell that the suite has, by what the record knows it by."""

    arm: str
    seed: int
    cell: str
    evaluation: str
    answers: tuple[Answers, ...] = ()
    """All that the cell was ever asked, where that is at hand, what its suite asks last."""


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
    delta: Estimate | None
    unpaired: tuple[int, ...]
    """Seeds that both arms have but whose training batches or held-out data differ: not compared."""
    other_start: tuple[int, ...]
    """Paired seeds that did not start from the baseline's shared weights."""
    bits_per_byte: float | None
    perplexity: float | None
    accuracy: float | None
    """Of a classifier, on the whole held-out side where it was scored."""
    mfu: float | None
    """Share of the chip's dense peak; None where the chip has no entry."""
    expert_load: float | None
    """Of a mixture of experts, the largest share of one expert in one layer, times the number of experts."""
    throughput_ratio: float | None
    saved_bytes_ratio: float | None
    parameters: int | None
    scores: dict[str, float] = field(default_factory=dict)
    unlike: tuple[str, ...] = ()
    """Tasks of which the cells of the table were asked other questions: their scores are left out."""
    runs: dict[int, str] = field(default_factory=dict)
    """MLflow run of every seed."""
    reported: dict[str, float | None] = field(default_factory=dict)
    """By column: the difference to the baseline that a paper printed; None where it has no number for the arm."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One table: arms against their baseline, whose losses have one unit."""

    baseline: str
    unit: str
    rows: list[ArmResult]


def comparisons(
    wanted: Iterable[Wanted],
    records: Iterable[Record],
    baselines: Mapping[str, str],
    units: Mapping[str, str],
    reported: Mapping[str, Mapping[str, float]] | None = None,
) -> list[Comparison]:
    """One table for every baseline, in the order in which arms first name one. `baselines` and `units` are by arm."""
    groups: dict[str, list[Wanted]] = {}
    for cell in wanted:
        groups.setdefault(baselines[cell.arm], []).append(cell)
    known = list(records)
    made = []
    for baseline, cells in groups.items():
        arms = {cell.arm for cell in cells}
        columns = {title: values for title, values in (reported or {}).items() if arms & values.keys() - {baseline}}
        made.append(
            Comparison(baseline=baseline, unit=units[baseline], rows=arm_results(cells, known, baseline, columns))
        )
    return made


def arm_results(
    wanted: Iterable[Wanted],
    records: Iterable[Record],
    baseline: str,
    reported: Mapping[str, Mapping[str, float]] | None = None,
) -> list[ArmResult]:
    """One row for every arm, in the suite's order. `reported` is what papers printed: column -> arm -> value."""
    # The latest run of a cell stands for it: a cell that was trained anew has an older run besides.
    latest = {record.cell: record for record in records}
    arms: dict[str, dict[int, Record | None]] = {}
    done: dict[str, dict[int, Record]] = {}
    said: dict[tuple[str, int], list[Answers]] = {}
    for cell in wanted:
        record = latest.get(cell.cell)
        arms.setdefault(cell.arm, {})[cell.seed] = record
        mine = done.setdefault(cell.arm, {})
        if record is not None and _finished(record, cell.evaluation):
            mine[cell.seed] = record
            said[cell.arm, cell.seed] = [of_record(record), *cell.answers]
    found, unlike = alike(list(said.values()))
    scores = dict(zip(said, found, strict=True))
    rows = [_row(arm, seeds, done[arm], done.get(baseline, {}), arm == baseline) for arm, seeds in arms.items()]
    return [
        replace(
            row,
            scores=_means([scores[row.arm, seed] for seed in done[row.arm]]),
            unlike=unlike,
            reported=_reported(row.arm, baseline, reported or {}),
        )
        for row in rows
    ]


def _reported(arm: str, baseline: str, columns: Mapping[str, Mapping[str, float]]) -> dict[str, float | None]:
    return {
        title: values[arm] - values[baseline] if arm in values and baseline in values and arm != baseline else None
        for title, values in columns.items()
    }


def _finished(record: Record, evaluation: str) -> bool:
    return record.tags.get(TAG_STATE) == "done" and LOSS in record.metrics and record.was_asked(evaluation)


def _row(
    arm: str,
    seeds: dict[int, Record | None],
    done: dict[int, Record],
    base: dict[int, Record],
    is_baseline: bool,
) -> ArmResult:
    failed = {s for s, record in seeds.items() if record is not None and record.tags.get(TAG_STATE) == "failed"}
    shared = done.keys() & base.keys()
    paired = {s for s in shared if all(done[s].tags.get(tag, "a") == base[s].tags.get(tag, "b") for tag in PAIRING)}
    losses = _values(done, LOSS)
    delta = None
    if not is_baseline and paired:
        delta = paired_difference({s: losses[s] for s in paired}, _values(base, LOSS))
    return ArmResult(
        arm=arm,
        n=len(done),
        missing=tuple(seed for seed in seeds if seed not in done),
        failed=tuple(seed for seed in seeds if seed in failed and seed not in done),
        loss=mean_interval(list(losses.values())) if losses else None,
        delta=delta,
        unpaired=tuple(sorted(shared - paired)),
        other_start=tuple(
            s for s in sorted(paired) if done[s].tags.get(SHARED_WEIGHTS) != base[s].tags.get(SHARED_WEIGHTS)
        ),
        bits_per_byte=_mean(done, BITS_PER_BYTE),
        perplexity=_mean(done, PERPLEXITY),
        accuracy=_mean(done, FULL_ACCURACY if any(FULL_ACCURACY in r.metrics for r in done.values()) else ACCURACY),
        mfu=_mean(done, MFU),
        expert_load=_mean(done, EXPERT_LOAD),
        throughput_ratio=_ratio(done, base, THROUGHPUT),
        saved_bytes_ratio=_ratio(done, base, SAVED_BYTES),
        parameters=int(value) if (value := _mean(done, PARAMETERS)) is not None else None,
        runs={seed: record.run_id for seed, record in done.items()},
    )


def _values(records: dict[int, Record], metric: str) -> dict[int, float]:
    return {seed: record.metrics[metric] for seed, record in records.items() if metric in record.metrics}


def _mean(records: dict[int, Record], metric: str) -> float | None:
    values = list(_values(records, metric).values())
    return sum(values) / len(values) if values else None


def _ratio(records: dict[int, Record], base: dict[int, Record], metric: str) -> float | None:
    """Geometric mean over the seeds that both have of arm / baseline."""
    mine, theirs = _values(records, metric), _values(base, metric)
    ratios = [mine[seed] / theirs[seed] for seed in mine.keys() & theirs.keys() if mine[seed] > 0 and theirs[seed] > 0]
    return geometric_mean(sorted(ratios)) if ratios else None


def _means(seeds: list[dict[str, float]]) -> dict[str, float]:
    """Mean over seeds of every score, as `task/metric`; a seed that lacks one leaves it out for the arm."""
    common = sorted(set.intersection(*(set(scores) for scores in seeds))) if seeds else []
    return {name.removeprefix(PREFIX): sum(scores[name] for scores in seeds) / len(seeds) for name in common}
