"""What a search says: its verdict in words, its tables, and what a reader must know."""

from __future__ import annotations

import math
from collections.abc import Iterator

from harness.compare.columns import MISSING, number, plus_minus
from harness.compare.markdown import grid
from harness.compare.statistics import Estimate, pairs
from harness.search.facts import settings_text
from harness.search.objectives import OBJECTIVES
from harness.search.result import ArmFound, Candidate, Compared, SearchResult, mean_of
from harness.search.settings import Value

Rows = list[list[str]]
NEAR = 0.05
"""So near an end of its range, as a share of it, a value lies at it."""


def markdown(result: SearchResult) -> str:
    """Answer, the best looked at again, and what it cost."""
    parts = [head(result), *(["\n".join(said)] if (said := answer(result)) else [])]
    parts += [
        "\n".join(grid(rows, right)) for rows, right in (answer_rows(result), again_rows(result)) if len(rows) > 1
    ]
    parts += ["\n".join(grid(*budget_rows(result))), "\n".join(f"- {line}" for line in notes(result))]
    return "\n\n".join(parts)


def head(result: SearchResult) -> str:
    what = " × ".join(OBJECTIVES[name].title for name in result.objectives)
    seeds = f"{len(result.seeds)} seed{'s' if len(result.seeds) > 1 else ''}"
    arms = f"each of {len(result.arms)} arms" if len(result.arms) > 1 else f"'{result.arms[0].arm}'"
    budget = f"{result.arms[0].budget} trials of {seeds} for {arms}"
    return f"{result.name}: {what}, {budget}; {result.sampler}, {result.pruner}"


def answer(result: SearchResult) -> list[str]:
    """The verdict in words."""
    if result.several:
        return [
            f"{one.arm}: {len(one.front())} of {len(one.trials)} trials are not beaten in everything by another"
            for one in result.arms
        ]
    words = []
    for one in result.compared():
        if one.delta is None or one.delta.interval is None:
            continue
        untuned = f" (untuned {one.delta_own.mean:+.4f})" if one.delta_own else ""
        low, high = one.delta.interval
        verdict = one.judgement.verdict if one.judgement else "not judged, for seeds were lost"
        words.append(
            f"{one.found.arm} against {one.baseline}, both tuned by {one.found.budget} trials: {verdict}, "
            f"Δ {one.delta.mean:+.4f}, 95% interval {low:+.4f} to {high:+.4f}{untuned}"
        )
    return words


def answer_rows(result: SearchResult) -> tuple[Rows, set[int]]:
    """Every arm: its own setting, the best found, what tuning gained, and the difference to the baseline before and
    after. Of several objectives the front."""
    if result.several:
        return _front_rows(result)
    rows = [["arm", "its own setting", "best found", "tuning gained", "Δ untuned", "Δ tuned", "p (Holm)", "verdict",
             "best setting"]]  # fmt: skip
    for one in result.compared():
        chosen = one.found.chosen
        rows.append(
            [
                one.found.arm,
                _of_seeds(result, one.own),
                _of_seeds(result, one.best),
                plus_minus(one.gained, sign=True),
                *_deltas(one),
                settings_text(chosen.trial.params) if chosen else MISSING,
            ]
        )
    return rows, {1, 2, 3, 4, 5, 6}


def _of_seeds(result: SearchResult, one: Estimate | None) -> str:
    few = f" ({one.n} of {len(result.report)})" if one is not None and one.n < len(result.report) else ""
    return plus_minus(one) + few


def _deltas(one: Compared) -> list[str]:
    if one.delta is None:
        return [MISSING] * 4
    judged = one.judgement
    return [
        plus_minus(one.delta_own, sign=True),
        plus_minus(one.delta, sign=True),
        number(judged.p if judged else None, ".2g"),
        judged.verdict if judged else MISSING,
    ]


def _front_rows(result: SearchResult) -> tuple[Rows, set[int]]:
    titles = [OBJECTIVES[name].title for name in result.objectives]
    rows = [["arm", "trial", *titles, f"{titles[0]} again", "Δ to own", "setting"]]
    for one in result.arms:
        own = one.own_report.get(result.objectives[0], {})
        measured = [mean_of(one.own_report.get(name, {})) for name in result.objectives[1:]]
        rows.append(
            [
                one.arm,
                "own",
                MISSING,
                *(_short(found.mean if found else None) for found in measured),
                plus_minus(mean_of(own)),
                MISSING,
                "",
            ]
        )
        again = {found.trial.number: found for found in one.candidates}
        for trial in one.front():
            seen = again[trial.number].report.get(result.objectives[0], {}) if trial.number in again else {}
            rows.append(
                [
                    one.arm,
                    str(trial.number),
                    *(_short(value) for value in trial.values or ()),
                    plus_minus(mean_of(seen)),
                    plus_minus(pairs(seen, own), sign=True),
                    settings_text(trial.params),
                ]
            )
    return rows, set(range(1, len(titles) + 4))


def again_rows(result: SearchResult) -> tuple[Rows, set[int]]:
    """The winner's curse: what the search saw of its best beside what fresh seeds say."""
    if result.several:
        return [[]], set()
    rows = [
        [
            "arm",
            "rank",
            "trial",
            "the search saw",
            "seeds that choose",
            "seeds that are quoted",
            "rise",
            "curse",
            "setting",
        ]
    ]
    for one in result.arms:
        for place, candidate in enumerate(one.candidates, 1):
            rows.append(_candidate(one, place, candidate))
    return rows, {1, 2, 3, 4, 5, 6, 7}


def _candidate(one: ArmFound, place: int, candidate: Candidate) -> list[str]:
    chosen = candidate is one.chosen
    return [
        one.arm,
        f"{place}{' ←' if chosen else ''}",
        f"{candidate.trial.number}{' (own)' if candidate.trial.own else ''}",
        f"{candidate.trial.value:.4f}",
        plus_minus(candidate.fresh),
        plus_minus(mean_of(candidate.quoted)),
        number(candidate.rise, "+.4f"),
        number(one.curse if chosen else None, "+.4f"),
        settings_text(candidate.trial.params),
    ]


def budget_rows(result: SearchResult) -> tuple[Rows, set[int]]:
    """What every arm was given, and what it spent."""
    rows = [["arm", "trials", "complete", "pruned", "diverged", "failed", "steps", "of", "parameters"]]
    for one in result.arms:
        share = f" ({one.steps / one.full_steps:.0%})" if one.full_steps else ""
        rows.append(
            [
                one.arm,
                f"{len(one.trials)}/{one.budget}",
                *(str(one.ended(how)) for how in ("complete", "pruned", "diverged", "failed")),
                f"{one.steps:,}{share}",
                f"{one.full_steps:,}",
                str(len({name for trial in one.trials for name in trial.params})),
            ]
        )
    return rows, set(range(1, 9))


def trial_rows(result: SearchResult) -> tuple[Rows, set[int]]:
    """Every trial that counts."""
    titles = [OBJECTIVES[name].title for name in result.objectives]
    rows = [["arm", "trial", "ended", *titles, "steps", "setting", "cells"]]
    for one in result.arms:
        for trial in one.trials:
            values = [_short(value) for value in trial.values] if trial.values else [MISSING] * len(titles)
            ended = trial.ended if trial.values else trial.said(result.objectives)
            cells = ", ".join(trial.cells)
            rows.append(
                [one.arm, str(trial.number), ended, *values, f"{trial.steps:,}", settings_text(trial.params), cells]
            )
    return rows, {1, *range(3, len(titles) + 4)}


def notes(result: SearchResult) -> Iterator[str]:
    """What a reader must know."""
    if result.smoke:
        yield "a smoke run: suite and study shrunk until they say nothing about the arms"
    title, unit, many = OBJECTIVES[result.objectives[0]].title, result.unit_of(), len(result.report)
    yield (
        f"{title}{f': {unit}' if unit else ''}; less is better. ± half the 95% t interval over {many} seeds "
        f"({', '.join(map(str, result.report))}) that no trial was trained on and nothing was chosen by"
    )
    if result.several:
        yield "what the search saw is of the trials' own seeds; again: trained anew on the others"
    else:
        yield from _comparisons(result)
        yield (
            "rise: how much worse a trial is on fresh seeds than the search saw it; curse: the winner's, what its rise "
            "is beyond that of the arm's own setting, which nothing picked and which shows what the seeds themselves do"
        )
        yield from _edges(result)
    outside = [one.arm for one in result.arms if one.own is None]
    if outside:
        yield f"the space does not hold the own setting of {', '.join(outside)}; elsewhere it is the first trial"
    counts = {one.arm: frozenset(name for trial in one.trials for name in trial.params) for one in result.arms}
    if len(set(counts.values())) > 1:
        yield (
            "arms do not have the same parameters ("
            + "; ".join(f"{arm}: {', '.join(sorted(names))}" for arm, names in counts.items())
            + "): the same number of trials covers fewer parameters more densely"
        )
    if any(OBJECTIVES[name].clock for name in result.objectives):
        yield "time is that of the cells as they ran: with --jobs above 1 they slow each other down"
    if broken := [f"{trial.arm} trial {trial.number}" for one in result.arms for trial in one.trials if trial.failure]:
        yield f"diverged or failed, and counted: {', '.join(broken)}"


def _comparisons(result: SearchResult) -> Iterator[str]:
    """What Δ is, and what it is not."""
    rows = result.compared()
    heads = dict.fromkeys(one.baseline for one in rows if one.baseline)
    if heads:
        same = f"; equivalent within {result.margin:g}" if result.margin else ""
        yield (
            f"Δ: to {' or '.join(heads)}, paired by seed; tuned: both at their best after the same number of trials; p "
            f"corrected for the arms of one baseline{same}. The interval is over seeds, for the settings that were "
            "found: another search might have found others"
        )
    alone = [one.found.arm for one in rows if not one.baseline and result.baselines.get(one.found.arm) != one.found.arm]
    if alone:
        yield f"no Δ for {', '.join(alone)}: what the suite compares them with is not searched"
    for one in rows:
        for what, losses in (
            ("best found", one.found.chosen.quoted if one.found.chosen else None),
            ("own setting", one.found.own_report.get(result.objectives[0], {})),
        ):
            if losses is not None and (lost := result.lost(losses)):
                yield (
                    f"the {what} of {one.found.arm} has no value on seed{'s' if len(lost) > 1 else ''} "
                    f"{', '.join(map(str, lost))} (diverged, or failed): what it is there is in no number here"
                )
    lengths = {one.found.chosen.trial.params.get("train.steps") for one in rows if one.found.chosen}
    if len(lengths) > 1:
        yield "the best settings train for different numbers of steps: not at equal compute"


def _edges(result: SearchResult) -> Iterator[str]:
    """Where the best lies at an end of its range, a wider space might have had a better one."""
    for one in result.arms:
        params = one.chosen.trial.params if one.chosen else {}
        ends = [name for name, value in params.items() if name in one.ranges and _at_end(value, *one.ranges[name])]
        if ends:
            yield f"the best of {one.arm} lies at an end of {', '.join(ends)}: a wider space may have a better one"


def _at_end(value: Value, low: float, high: float, log: bool) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float) or low == high:
        return False
    place = math.log(value / low) / math.log(high / low) if log else (value - low) / (high - low)
    return not NEAR < place < 1 - NEAR


def _short(value: float | None) -> str:
    return MISSING if value is None else f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4f}"
