"""The columns of a comparison: what each is called, what it shows of a row, and how rows are sorted by it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from harness.compare.documents import fragile
from harness.compare.gain import Gain
from harness.compare.match import WORDS
from harness.compare.results import FULL_ACCURACY, ArmResult, Comparison
from harness.compare.statistics import Estimate
from harness.errors import UsageError, nearest

MISSING = "–"
FORCED, BY_DATA = "†", "‡"
NOT_JUDGED = "not judged"


@dataclass(frozen=True)
class Column:
    key: str
    """What `--columns` and `--sort` call it."""
    title: str
    text: Callable[[ArmResult], str]
    number: Callable[[ArmResult], float | None] = lambda row: None
    default: bool = True
    """Shown where nobody chooses."""


def columns(table: Comparison) -> list[Column]:
    """All that can be asked for, in the order in which they are shown: those of which no row has anything only then."""
    rows, view = table.rows, table.view
    budget = view.match != "tokens"
    speed = functools.partial(_speed, any(row.measured for row in rows))
    fitted = any(row.gain and not row.gain.borrowed for row in rows)
    found = [
        Column("arm", "arm", lambda row: row.arm),
        Column("seeds", "seeds", _seeds, lambda row: float(row.n)),
        _plain("params", "parameters", lambda row: row.parameters, ",d"),
        Column("loss", "loss", lambda row: plus_minus(row.loss), lambda row: row.loss.mean if row.loss else None),
        _plain("budget", f"{WORDS[view.match]} ×", _budget, ".2f", budget),
        Column("against", "against", _against, default=budget),
        Column("delta", "Δ loss", _delta, lambda row: row.delta.mean if row.delta else None),
        _plain("p", "p (Holm)", lambda row: row.p_holm, ".2g"),
        Column("verdict", "verdict", _verdict),
        _plain("pairs", "pairs", lambda row: row.pairs.n if row.pairs else None, ",d", False),
        _plain("rho", "ρ", lambda row: row.pairs.rho if row.pairs else None, ".2f", False),
        _plain("sd_paired", "SD of Δ", lambda row: row.pairs.sd_paired if row.pairs else None, ".4f", False),
        _plain("sd_unpaired", "if unpaired", lambda row: row.pairs.sd_unpaired if row.pairs else None, ".4f", False),
        Column("pairing", "pairing", _pairing, lambda row: row.pairs.gain if row.pairs else None, False),
        _plain("detectable", "detectable ±", lambda row: row.detectable, ".4f", False),
        _plain("more_seeds", f"more seeds for ±{view.margin:g}", lambda row: row.more_seeds, ",d", False),
        Column("text", "Δ over text", _over_text, default=False),
        Column("both", "Δ over seeds and text", _over_both, default=False),
        _plain("bpb", "bits/byte", lambda row: row.bits_per_byte, ".4f"),
        _plain("ppl", "ppl", lambda row: row.perplexity, ".2f"),
        _plain("accuracy", "accuracy", lambda row: row.accuracy, ".4f"),
        _plain("mfu", "MFU", lambda row: row.mfu, ".3f"),
        _plain("expert_load", "expert load", lambda row: row.expert_load, ".2f"),
        Column("speed", "tokens/s ×", speed, lambda row: row.throughput_ratio),
        _plain("saved_bytes", "saved bytes ×", lambda row: row.saved_bytes_ratio, ".2f"),
        _plain("peak_bytes", "peak memory ×", lambda row: row.peak_bytes_ratio, ".2f"),
        Column("gain", "compute gain ×", _gain, lambda row: row.gain.compute if row.gain else None, fitted),
        Column("net_gain", "net of speed ×", _net_gain, lambda row: row.gain.net if row.gain else None, fitted),
    ]
    always = {"arm", "seeds", "loss", "delta", "p", "verdict", "speed", "saved_bytes", "params"}
    found = [
        column if column.key in always or known(column, rows) else replace(column, default=False) for column in found
    ]
    for title in list(rows[0].reported) if rows else []:
        found.append(_plain(f"paper:{title}", f"paper Δ {title}", functools.partial(_reported, title), "+.4g"))
    for name in dict.fromkeys(name for row in rows for name in row.scores):
        title = name.replace("/", " ")
        found.append(_plain(name, title, functools.partial(_score, name), ".3f", is_main(name)))
    return found


PAIRS = ("arm", "pairs", "rho", "sd_paired", "sd_unpaired", "pairing", "detectable", "more_seeds", "both")
"""Of the second table, on the pairs themselves."""


def pair_columns(table: Comparison) -> list[Column]:
    return [column for column in columns(table) if column.key in PAIRS and known(column, table.rows)]


def known(column: Column, rows: Sequence[ArmResult]) -> bool:
    """Whether any row has something there."""
    return any(column.text(row) != MISSING for row in rows)


def choose(table: Comparison, names: Sequence[str] | None = None, only_changed: bool = False) -> list[Column]:
    """The columns that were asked for by key, or those that are shown by default; of these with `only_changed` those in
    which rows differ. Raises UsageError for a key that the table has not, with the nearest."""
    found = columns(table)
    if names is None:
        chosen = [column for column in found if column.default]
    else:
        by_key = {column.key: column for column in found}
        for name in names:
            if name not in by_key:
                raise UsageError(f"--columns: no column is called '{name}'{nearest(name, by_key)}")
        chosen = [by_key[name] for name in dict.fromkeys(("arm", *names))]
    if only_changed:
        chosen = [c for c in chosen if c.key == "arm" or len({c.text(row) for row in table.rows}) > 1]
    return chosen


def order(table: Comparison, key: str | None) -> list[ArmResult]:
    """The rows, by a column's number where one is named, the largest first after a minus; unknown numbers come last.
    Raises UsageError for a column that has none."""
    if key is None:
        return list(table.rows)
    name, falling = key.removeprefix("-"), key.startswith("-")
    by_key = {column.key: column for column in columns(table)}
    if name not in by_key:
        raise UsageError(f"--sort: no column is called '{name}'{nearest(name, by_key)}")
    column = by_key[name]
    if name in ("arm", "verdict"):
        return sorted(table.rows, key=column.text, reverse=falling)
    sign = -1 if falling else 1
    numbers = {row.arm: column.number(row) for row in table.rows}
    return sorted(table.rows, key=lambda row: _last_if_unknown(numbers[row.arm], sign))


def _last_if_unknown(value: float | None, sign: int) -> tuple[bool, float]:
    return value is None, 0.0 if value is None else sign * value


def is_main(score: str) -> bool:
    """The table has one column a task: the accuracy, byte perplexity or error; the rest, and the members of groups, is
    in the JSON."""
    main = metric_name(score) in ("acc", "exact_match", "byte_perplexity", "mse") and score.count("/") == 1
    return main and f"eval/{score}" != FULL_ACCURACY


def metric_name(score: str) -> str:
    """`exact_match` of `gsm8k/exact_match.strict-match`: the metric without the filter of the answers."""
    return score.rsplit("/", 1)[1].partition(".")[0]


def number(value: float | None, form: str) -> str:
    return MISSING if value is None else format(value, form)


def plus_minus(estimate: Estimate | None, sign: bool = False) -> str:
    """Mean ± half of the interval, the mean alone where there is none."""
    if estimate is None:
        return MISSING
    mean = f"{estimate.mean:{'+' if sign else ''}.4f}"
    if estimate.interval is None or estimate.interval[0] == estimate.interval[1]:
        return mean  # values that happen to be equal show no spread, which is not to say that there is none
    return f"{mean} ± {(estimate.interval[1] - estimate.interval[0]) / 2:.4f}"


def _plain(key: str, title: str, value: Callable[[ArmResult], float | None], form: str, default: bool = True) -> Column:
    return Column(key, title, lambda row: number(value(row), form), value, default)


def _reported(title: str, row: ArmResult) -> float | None:
    return row.reported.get(title)


def _score(name: str, row: ArmResult) -> float | None:
    return row.scores.get(name)


def _verdict(row: ArmResult) -> str:
    """A word; of what was read on a curve, that no word is given."""
    if row.verdict is not None:
        return row.verdict
    return NOT_JUDGED if row.pairs is not None else MISSING


def _against(row: ArmResult) -> str:
    return row.matched.against if row.matched and row.matched.how != "none" else MISSING


def _budget(row: ArmResult) -> float | None:
    return row.matched.ratio if row.matched else 1.0


def _seeds(row: ArmResult) -> str:
    return f"{row.n}/{row.n + len(row.missing)}" if row.missing else str(row.n)


def _delta(row: ArmResult) -> str:
    mark = f" {FORCED}" if row.pairing.forced else ""
    mark += f" {BY_DATA}" if row.pairs and row.pairing.by_data else ""
    return plus_minus(row.delta, sign=True) + mark


def _pairing(row: ArmResult) -> str:
    """What pairing bought, which is not always anything."""
    if row.pairs is None or row.pairs.gain is None:
        return MISSING
    return f"SD / {row.pairs.gain:.1f}" if row.pairs.gain > 1 else f"no help ({row.pairs.gain:.2f})"


def _over_text(row: ArmResult) -> str:
    return between(row.documents.text if row.documents else None)


def _over_both(row: ArmResult) -> str:
    text = between(row.documents.both if row.documents else None)
    return f"{text} (fragile)" if fragile(row.delta.interval if row.delta else None, row.documents) else text


def between(interval: tuple[float, float] | None) -> str:
    """An interval of a difference."""
    return MISSING if interval is None else f"{interval[0]:+.4f} to {interval[1]:+.4f}"


def _speed(measured: bool, row: ArmResult) -> str:
    """`measured`: some rows are, so that one that is not has to be told apart."""
    text = number(row.throughput_ratio, ".2f")
    if row.throughput_interval is None:
        return f"{text} (as run)" if measured and not row.measured and text != MISSING else text
    low, high = row.throughput_interval
    return text if f"{low:.2f}" == f"{high:.2f}" else f"{text} [{low:.2f}, {high:.2f}]"


def _gain(row: ArmResult) -> str:
    return MISSING if row.gain is None else _times(row.gain, row.gain.compute, row.gain.compute_interval)


def _net_gain(row: ArmResult) -> str:
    return MISSING if row.gain is None else _times(row.gain, row.gain.net, row.gain.net_interval)


def _times(gain: Gain, value: float | None, interval: tuple[float, float] | None) -> str:
    if value is None:
        return MISSING
    text = f"{value:.2f}" + (f" [{interval[0]:.2f}, {interval[1]:.2f}]" if interval else "")
    return f"{text} (borrowed)" if gain.borrowed else f"{text} (beyond the ladder)" if gain.beyond else text
