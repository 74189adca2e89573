"""Trained cells are asked again: other tasks, all documents instead of some, other examples. Nothing is trained."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from harness.data.settings import data_settings
from harness.errors import FAILED, INTERRUPTED, OK, UsageError
from harness.evaluation.asked import resolve
from harness.evaluation.local import eval_folder
from harness.evaluation.settings import EvaluationSettings
from harness.run.cell import needs_data
from harness.run.layout import Layout
from harness.run.members import Member, directory, find
from harness.run.questions import check_data, check_questions
from harness.run.runner import RunOptions, run_suite, will_run
from harness.suite.cells import Cell, evaluation_key

OPTIONS = {"tasks": "--tasks", "data": "--data", "num_fewshot": "--shots", "limit": "--limit", "tier": "--tier"}


@dataclass(frozen=True)
class Evaluated:
    """A cell with what it answered; `scores` is None where it could not be asked."""

    member: Member
    folder: Path
    key: str
    scores: dict[str, Any] | None


def evaluate(
    layout: Layout, targets: Sequence[str], suite: str | None, changes: dict[str, Any], jobs: int
) -> tuple[int, list[Evaluated]]:
    """Ask the cells that the targets name (`members.find`) what their suite asks, with `changes` of its settings.
    Returns (exit code, the cells with their scores). Raises UsageError before any is asked."""
    members, untrained = find(layout, targets, suite)
    if untrained:
        names = ", ".join(member.name for member in untrained)
        print(f"not trained yet and left out: {names}", file=sys.stderr)
    options = RunOptions(jobs=jobs, retry_failed=True)
    try:
        asked = [(member, _cell(layout, member, changes)) for member in members]
        # What was answered before is shown, whether or not the corpus or the hub can still be had.
        todo = {cell.identity for cell in will_run([cell for _, cell in asked], layout, options)}
        check_questions(cell for _, cell in asked if cell.identity in todo)
    except UsageError as error:
        raise _of_command_line(error) from None
    checked = set()
    for member, cell in asked:
        key = str([cell.config[part] for part in ("data", "digests", "evaluation")]), member.relative_to
        if cell.identity in todo and needs_data(cell.config) and key not in checked:
            check_data(cell.config, member.name, Path(member.relative_to) if member.relative_to else None)
            checked.add(key)
    codes = []
    for place in dict.fromkeys((member.suite, member.relative_to) for member in members):
        chosen = [cell for member, cell in asked if (member.suite, member.relative_to) == place]
        outcome = run_suite(place[0], chosen, layout, options, place[1])
        codes.append(outcome.code)
        if outcome.code == INTERRUPTED:
            break
    code = INTERRUPTED if INTERRUPTED in codes else FAILED if FAILED in codes else OK
    found = []
    for member, cell in asked:
        cell_directory = directory(layout, member)
        scores = cell_directory.scores(cell.evaluation)
        found.append(Evaluated(member, cell_directory.samples(cell.evaluation), cell.evaluation, scores))
    return code, found


def _cell(layout: Layout, member: Member, changes: dict[str, Any]) -> Cell:
    config = directory(layout, member).trained_config()
    if "tier" in changes and "limit" not in changes:
        changes = {**changes, "limit": None}  # the suite's limit would stand in the tier's way
    try:
        settings = EvaluationSettings.model_validate({**config["evaluation"], **changes})
    except ValidationError as error:
        detail = error.errors()[0]
        raise UsageError(f"evaluation.{detail['loc'][0]}: {detail['msg']}, got {detail['input']!r}") from None
    if problem := settings.problem(data_settings(**config["data"]).KIND):
        raise UsageError(f"evaluation.{problem[0]}: {problem[1]}")
    folder = eval_folder(settings.data, None)
    settings = settings.model_copy(update={"data": str(folder) if folder else None})
    key = evaluation_key(settings, resolve(settings), config["model"]["type"])
    config = {**config, "evaluation": settings.model_dump(mode="json")}
    return Cell(member.arm, member.seed, config, member.tag, member.identity, key)


def _of_command_line(error: UsageError) -> UsageError:
    """The message with the option in the place of the suite file's key."""
    key, _, message = str(error).partition(": ")
    option = OPTIONS.get(key.removeprefix("evaluation.")) if key.startswith("evaluation.") else None
    return UsageError(f"{option}: {message}" if option else str(error))


def document(found: Sequence[Evaluated]) -> dict[str, Any]:
    """What `evaluate --json` prints."""
    cells = []
    for one in found:
        scores = one.scores or {"metrics": {}, "stamps": {}}
        numbers = {name.removeprefix("eval/"): v for name, v in scores["metrics"].items() if name.startswith("eval/")}
        cells.append(
            {
                "cell": one.member.name,
                "suite": one.member.suite,
                "arm": one.member.arm,
                "seed": one.member.seed,
                "evaluation": one.key,
                "asked": scores["stamps"],
                "scores": numbers,
                "samples": str(one.folder) if one.folder.exists() else None,
            }
        )
    return {"cells": cells}
