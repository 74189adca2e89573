"""The comparison in sentences: the verdict, what the numbers mean, and every seed that is not in them."""

from __future__ import annotations

from collections.abc import Iterable

from harness.compare.columns import BY_DATA, FORCED, is_main, number
from harness.compare.match import WORDS
from harness.compare.results import ArmResult, Comparison


def verdict(table: Comparison) -> str:
    """The answer in a sentence or two: the arm that is better by most, its price, and what became of the others."""
    gone = [row.arm for row in table.rows if row.failed and not row.n]
    return _answer(table) + (f" Failed with every seed that was tried: {', '.join(gone)}." if gone else "")


def _answer(table: Comparison) -> str:
    compared = [row for row in table.rows if row.pairs is not None]
    judged = [row for row in compared if row.verdict is not None]
    at = "" if table.view.match == "tokens" else f" at equal {WORDS[table.view.match]}"
    if not compared:
        return f"Nothing can be compared with '{table.baseline}'{at} yet."
    if not judged:
        return _read_early(compared, table, at)
    better = [row for row in judged if row.verdict == "better"]
    others = _others(judged, table)
    if not better:
        best = min(judged, key=_mean_delta)
        assert best.pairs is not None
        how = f"with p {best.p_holm:.2g} (Holm)" if best.p_holm is not None else "too few for an interval"
        against = best.matched.against if best.matched else table.baseline
        beside = "" if against == table.baseline else f" beside '{against}'"
        return (
            f"No arm is better than '{table.baseline}'{at} beyond doubt: the lowest, {best.arm}, is at "
            f"{best.pairs.mean:+.4f} {table.unit}{beside} over {_pairs(best.pairs.n)}{_lost(best)}, {how}{others}"
        )
    best = min(better, key=_mean_delta)
    assert best.pairs is not None
    assert best.pairs.interval is not None
    low, high = best.pairs.interval
    against = best.matched.against if best.matched else table.baseline
    return (
        f"{best.arm} is better{at}: {-best.pairs.mean:.4f} {table.unit} below '{against}' (95% interval "
        f"{-high:.4f} to {-low:.4f}, {_pairs(best.pairs.n)}{_lost(best)}, p {best.p_holm:.2g} after Holm), at "
        f"{number(best.throughput_ratio, '.2f')} times the tokens per second and "
        f"{number(best.saved_bytes_ratio, '.2f')} times the saved activations of '{table.baseline}'{others}"
        + _pays(best)
    )


def _pays(row: ArmResult) -> str:
    """What the gain is worth in compute, and what its price leaves of that."""
    gain = row.gain if row.matched and row.matched.how == "end" else None  # once, at equal tokens
    if gain is None or gain.borrowed or gain.net is None:
        return ""
    text = f" For {row.arm}'s loss the baseline would need {_times(gain.compute, gain.compute_interval)} its compute"
    net = f"{text}; with {row.arm}'s speed {_times(gain.net, gain.net_interval)} the time"
    low, high = gain.net_interval or (gain.net, gain.net)
    if low > 1:
        return f"{net}: it pays."
    return f"{net}: it does not pay." if high < 1 else f"{net}: whether it pays is unresolved."


def _times(value: float, interval: tuple[float, float] | None) -> str:
    return f"{value:.2f} times" + (f" (95% {interval[0]:.2f} to {interval[1]:.2f})" if interval else "")


def _read_early(compared: list[ArmResult], table: Comparison, at: str) -> str:
    best = min(compared, key=_mean_delta)
    assert best.pairs is not None
    return (
        f"Nothing was trained to be compared{at}. Read on their curves before their end, where no run of that budget "
        f"would have been, the lowest is {best.arm}, at {best.pairs.mean:+.4f} {table.unit}; that is not judged."
    )


def _lost(row: ArmResult) -> str:
    """Seeds that failed are part of the answer."""
    return f", {len(row.failed)} of its seeds failed" if row.failed else ""


def _mean_delta(row: ArmResult) -> float:
    return row.delta.mean if row.delta else 0.0


def _pairs(n: int) -> str:
    return f"{n} pair{'s' if n > 1 else ''} of seeds"


def _others(compared: list[ArmResult], table: Comparison) -> str:
    """How many arms got which word."""
    if len(compared) < 2:
        return "."
    words = [row.verdict for row in compared]
    counts = [
        f"{words.count(word)} {word}" for word in ("better", "worse", "equivalent", "unresolved") if word in words
    ]
    return f". Of {len(compared)} arms: {', '.join(counts)} (margin ±{table.view.margin:g})."


def notes(table: Comparison) -> list[str]:
    """What the numbers mean, and every seed that is not in them."""
    rows = table.rows
    absent = [] if any(row.arm == table.baseline for row in rows) else [f"{table.baseline}, the baseline, is left out."]
    return [
        *table.view.remarks, *absent, *_meanings(table), *_prices(table), *_tasks(rows), *_views(table), *_seeds(rows)
    ]  # fmt: skip


def _meanings(table: Comparison) -> list[str]:
    margin = table.view.margin
    bold = " Bold: the group that is not told apart from the lowest loss (paired t, Holm, 5%)." if table.bold else ""
    held = "what stands under 'against'" if table.view.match != "tokens" else f"'{table.baseline}'"
    lines = [
        f"loss: held-out {table.unit}, mean over seeds; ± is half the 95% t interval over seeds.{bold}",
        f"Δ loss: paired with {held} seed by seed, ± half the 95% paired t interval; p: two-sided, corrected for the "
        "arms of this table that are judged (Holm).",
        f"verdict: equivalent where both one-sided tests put Δ within ±{margin:g}; else better or worse where p is "
        "below 0.05; else unresolved. The number of seeds is to be fixed beforehand: to add some until p is small "
        "finds what is not there.",
    ]
    unjudged = [row for row in table.rows if row.pairs and row.verdict is None]
    reasons = [
        *(["controls (the baseline in another size)"] if any(row.control for row in unjudged) else []),
        *(["what was read on a curve before its end"] if any(not row.control for row in unjudged) else []),
    ]
    if reasons:
        lines.append(f"not judged: {' and '.join(reasons)}; not counted in the correction of p.")
    if any(row.pairing.forced for row in table.rows):
        lines.append(f"{FORCED} compared because it was forced, though cells are unlike: see below.")
    if any(row.pairs and row.pairing.by_data for row in table.rows):
        lines.append(f"{BY_DATA} paired by data alone: the arm's settings give it other initial weights.")
    return lines


def _prices(table: Comparison) -> list[str]:
    rows = table.rows
    speeds = "of the speeds measured in the cells as they ran, not interleaved"
    if any(row.measured for row in rows):
        speeds = f"measured interleaved on {table.measured_on or 'one machine'}, ratio of medians [95% over rounds]"
        if table.measured_on and table.hardware and table.measured_on not in table.hardware:
            speeds += ", which is not what the cells were trained on"
    lines = [
        f"tokens/s ×: ratio to the baseline, {speeds}; saved bytes ×: activations kept for the backward pass, counted, "
        "the same on every machine with this kind of device and torch."
    ]
    if any(row.expert_load is not None for row in rows):
        lines.append(
            "expert load: the largest share of one expert in one layer, on held-out text at the end, times the number "
            "of experts; 1 is even."
        )
    if any(row.gain and not row.gain.borrowed for row in rows):
        lines.append(
            "compute gain ×: so many times its FLOPs the baseline would need for the arm's loss, by a curve through "
            "the suite's ladder; net of speed ×: times tokens/s ×. [95%, over seeds: neither the curve's form nor the "
            "speed is in it]"
        )
    if rows and rows[0].reported:
        lines.append(
            "paper Δ: what a paper printed, at its own scale and from its own runs (source in the suite file); it is "
            "in none of the other columns."
        )
    return lines


def _tasks(rows: list[ArmResult]) -> list[str]:
    lines = []
    if limited := sorted({name.split("/")[0] for row in rows for name in row.scores if ":" in name and is_main(name)}):
        lines.append(f"task:N: the first N documents of a task only ({', '.join(limited)}).")
    if rows and rows[0].unlike:
        lines.append(
            f"left out, for not all cells were asked the same questions: {', '.join(rows[0].unlike)}; "
            "harness evaluate asks them again."
        )
    return lines


def _views(table: Comparison) -> list[str]:
    """By how much budgets differ, and what was compared instead."""
    match = table.view.match
    lines = []
    for row in table.rows:
        found = row.matched
        if (
            found is None
            or (row.control and match != "tokens")
            or (match == "tokens" and (found.ratio is None or abs(found.ratio - 1) < 0.005))
        ):
            continue
        size = "an unknown multiple of" if found.ratio is None else f"{found.ratio:.2f} times"
        text = f"{row.arm}: {size} the {WORDS[match]} of {table.baseline}"
        if found.how == "resized":
            text += f"; held against {found.against}, resized to cost the same"
        elif found.how == "curve" and row.pairs is None:
            text += "; nothing is compared"
        elif found.reading:
            text += f"; {found.reading}"
        lines.append(f"{text}.")
    return lines


def pair_notes(table: Comparison) -> list[str]:
    """What the second table means."""
    lines = [
        "pairs: of seeds. ρ: correlation of the two arms' losses over them; pairing: what it divided the standard "
        "deviation (SD) of Δ by against unpaired seeds, or that it was no help. detectable ±: a difference that so "
        "many pairs find four times in five, by the strictest test that the correction of p can ask for; more seeds: "
        f"about so many would find {table.view.margin:g}."
    ]
    if any(row.documents and row.documents.both for row in table.rows):
        pieces = next(row.documents.pieces for row in table.rows if row.documents)
        lines.append(
            f"Δ over seeds and text: 95%, as if seeds and the {pieces:,} pieces of held-out data (in blocks of "
            "neighbours) were drawn again; "
            "fragile: excludes zero over seeds, and not over both."
        )
    return lines


def _seeds(rows: Iterable[ArmResult]) -> list[str]:
    lines = []
    for row in rows:
        waiting = [str(seed) for seed in row.missing if seed not in row.failed]
        if row.failed:
            lines.append(f"{row.arm}: failed with seed {', '.join(str(seed) for seed in row.failed)}.")
        if waiting:
            lines.append(f"{row.arm}: not finished with seed {', '.join(waiting)}.")
        for reason in dict.fromkeys(row.pairing.left_out.values()):
            seeds = ", ".join(str(seed) for seed, why in row.pairing.left_out.items() if why == reason)
            hint = (
                "" if reason.startswith("other batches") or "weights" in reason else "; --force compares them, marked"
            )
            lines.append(f"{row.arm}: seed {seeds} has {reason} than the baseline: not paired{hint}.")
        for reason in dict.fromkeys(row.pairing.forced.values()):
            seeds = ", ".join(str(seed) for seed, why in row.pairing.forced.items() if why == reason)
            lines.append(f"{row.arm}: seed {seeds} has {reason} than the baseline, and was compared all the same.")
    return lines
