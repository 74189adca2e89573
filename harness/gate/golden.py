"""L0: what must not change unless somebody means it to. Settings and data, the losses of short runs step by step, and
that arms which start as the residual network still do. No statistics: this catches slips of refactoring."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.gate.baseline import ArmBaseline, Golden, changed_settings
from harness.gate.findings import Finding, State
from harness.suite.gating import GateSettings

SHOWN = 4
"""Changed settings that are named; the others are counted."""


@dataclass(frozen=True)
class Start:
    """How far an arm's state at initialisation is from the residual network's, relative to it; None, with why, of an
    arm that does not start as that network."""

    distance: float | None
    why: str = ""


def golden_findings(
    arm: str,
    settings: Mapping[str, Any],
    golden: Golden,
    theirs: ArmBaseline | None,
    rule: GateSettings,
    *,
    same_environment: bool,
    same_data: bool,
) -> Iterator[Finding]:
    """Of one arm, but for how it starts."""
    if theirs is None:
        yield Finding(
            layer="L0", rule="golden losses", arm=arm, state="inconclusive",
            measured="the baseline has no such arm", limit="accept a baseline with it",
        )  # fmt: skip
        return
    changed = list(changed_settings(settings, theirs.settings))
    rest = f" and {len(changed) - SHOWN} more" if len(changed) > SHOWN else ""
    yield Finding(
        layer="L0", rule="settings", arm=arm, state="fail" if changed else "pass",
        measured="; ".join(changed[:SHOWN]) + rest if changed else "as they were", limit="none changed, defaults too",
    )  # fmt: skip
    state, measured = _losses(golden, theirs.golden, rule, same_environment, same_data)
    limit = "equal bit for bit" if same_environment else f"{rule.close_steps} steps within {rule.close:g}"
    yield Finding(layer="L0", rule="golden losses", arm=arm, state=state, measured=measured, limit=limit)
    yield _digests(arm, golden, theirs.golden, same_environment, same_data)


def _losses(
    mine: Golden, theirs: Golden, rule: GateSettings, same_environment: bool, same_data: bool
) -> tuple[State, str]:
    if mine.failure is not None:
        return "fail", mine.failure
    if not same_data:
        return "inconclusive", "the data are others: no number is compared"
    pairs = list(zip([*mine.losses, mine.validation], [*theirs.losses, theirs.validation], strict=False))
    if same_environment:
        if len(mine.losses) != len(theirs.losses):
            return "fail", f"{len(mine.losses)} steps, and the baseline has {len(theirs.losses)}"
        for step, (one, other) in enumerate(pairs, 1):
            if one != other:
                where = f"step {step}" if step < len(pairs) else "the held-out loss"
                return "fail", f"{where}: {one} instead of {other}"
        return "pass", f"{len(mine.losses)} steps and the held-out loss: equal bit for bit"
    compared = pairs[: rule.close_steps]
    off = [abs(one - other) / abs(other) if one is not None and other else float("inf") for one, other in compared]
    worst = max(off, default=float("inf"))
    step = off.index(worst) + 1 if off else 0
    return ("pass" if worst <= rule.close else "fail"), f"{worst:.1e} off at most (step {step}); another environment"


def _digests(arm: str, mine: Golden, theirs: Golden, same_environment: bool, same_data: bool) -> Finding:
    """Pairing rests on them: equal batches, held-out data, and on the same machine equal weights to start from."""
    names = ["batches", "held_out", *(["start"] if same_environment else [])] if same_data else []
    other = [name for name in names if getattr(mine, name) != getattr(theirs, name)]
    words = {"batches": "batches", "held_out": "held-out data", "start": "initial shared weights"}
    if mine.failure is not None or not same_data:
        state: State = "not judged"
        measured = "it failed" if mine.failure else "the data are others"
    else:
        state = "fail" if other else "pass"
        measured = ", ".join(f"other {words[name]}" for name in other) or "the same"
    limit = " and ".join(words[name] for name in names) + ": the same" if names else ""
    return Finding(layer="L0", rule="what is seen", arm=arm, state=state, measured=measured, limit=limit)


def start_findings(starts: Mapping[str, Start], rule: GateSettings) -> list[Finding]:
    """That arms which claim to start as the residual network do; nothing of a baseline is needed."""
    found = []
    for arm, start in starts.items():
        if start.distance is None:
            state: State = "not judged"
            measured = start.why
        else:
            state = "pass" if start.distance <= rule.start else "fail"
            measured = start.why or f"{start.distance:.1e} from the residual network's state"
        found.append(
            Finding(layer="L0", rule="start", arm=arm, state=state, measured=measured, limit=f"{rule.start:g}")
        )
    return found


def gone(arms: Sequence[str], theirs: Mapping[str, ArmBaseline]) -> list[Finding]:
    """Arms of the baseline that the suite no longer has."""
    return [
        Finding(
            layer="L0", rule="arms", arm=arm, state="inconclusive", measured="the suite no longer has it",
            limit="accept a baseline without it",
        )
        for arm in theirs
        if arm not in arms
    ]  # fmt: skip
