"""The winning settings as a suite file that is ready to run."""

from __future__ import annotations

import glob
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from harness.data.places import folders
from harness.run.celldir import write_whole
from harness.search.facts import settings_text
from harness.search.file import Study
from harness.search.fresh import chosen, name_of
from harness.search.result import Candidate
from harness.suite.schema import Arm, Suite

PATHS = ("files", "valid_files", "test_files")
"""Keys of data that name files, relative to their suite file."""


def best_suite(study: Study, candidates: Mapping[str, Sequence[Candidate]]) -> Suite | None:
    """The arms at their best, on the seeds that are quoted; of several objectives the front's, beside the arms as their
    file has them. None where no trial was completed."""
    arms: dict[str, Arm] = {}
    for arm, found in candidates.items():
        if study.settings.several and found:
            arms[own_name(arm)] = study.suite.arms[arm]
            arms |= {name_of(one.trial): study.space.arm(arm, one.trial.params) for one in found}
        elif (best := chosen(found)) is not None:
            arms[arm] = study.space.arm(arm, best.trial.params)
    if not arms:
        return None
    heads = [name for name in (study.suite.baseline, own_name(study.suite.baseline)) if name in arms]
    suite = study.space.trial_suite(arms, study.settings.fresh.report)
    own = {name: study.suite.arms[name].baseline for name in arms if name in study.suite.arms}
    kept = {
        name: arm.model_copy(update={"baseline": own.get(name) if own.get(name) in arms else None})
        for name, arm in suite.arms.items()
    }
    return suite.model_copy(
        update={
            "arms": kept,
            "name": f"{study.settings.name}-best",
            "description": f"The best settings that the search '{study.settings.name}' found",
            "baseline": heads[0] if heads else next(iter(arms)),
            "evaluation": study.suite.evaluation,
        }
    )


def write_best(study: Study, suite: Suite, candidates: Mapping[str, Sequence[Candidate]], path: Path) -> None:
    """Write the suite; the cells that it asks for are those that the search has trained to quote them."""
    document: dict[str, Any] = {
        "name": suite.name,
        "description": suite.description,
        "baseline": suite.baseline,
        "seeds": list(suite.seeds),
        "streams": suite.streams.model_dump(mode="json", exclude_none=True),
        "margin": suite.margin,
        "arms": {name: _arm(arm) for name, arm in suite.arms.items()},
        "data": _data(study),
        "evaluation": _placed(
            suite.evaluation.model_dump(mode="json", exclude_none=True), ("data",), study.relative_to
        ),
    }
    text = yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=120)
    lines = [f"# Found by the search '{study.settings.name}': {study.settings.trials} trials of every arm."]
    for arm, found in candidates.items():
        if (best := chosen(found)) is not None and not study.settings.several:
            lines.append(f"# {arm}: trial {best.trial.number}, {settings_text(best.trial.params)}")
    write_whole(path, "\n".join([*lines, text]).encode())


def own_name(arm: str) -> str:
    """Of the arm as its file has it, beside a front."""
    return f"{arm}-own"


def _arm(arm: Arm) -> dict[str, Any]:
    made = {section: getattr(arm, section).model_dump(mode="json") for section in ("connection", "model", "train")}
    return {**made, **({"baseline": arm.baseline} if arm.baseline else {})}


def _data(study: Study) -> dict[str, Any]:
    data = _placed(study.suite.data.model_dump(mode="json"), PATHS, study.relative_to)
    if "tokenizer" in data:
        data["tokenizer"] = _placed(data["tokenizer"], ("file",), study.relative_to)
    return data


def _placed(settings: Mapping[str, Any], keys: Sequence[str], relative_to: Path) -> dict[str, Any]:
    """With paths that hold wherever the file lies."""
    moved = dict(settings)
    for key in keys:
        if (value := settings.get(key)) and isinstance(value, str):
            moved[key] = _place(value, relative_to)
        elif isinstance(value, list):
            moved[key] = [_place(one, relative_to) for one in value]
    return moved


def _place(name: str, relative_to: Path) -> str:
    """The first place that has it: a file, whatever signs its name has, or what a pattern finds."""
    for folder in folders(relative_to):
        if (folder / name).exists() or glob.glob(name, root_dir=folder, recursive=True):
            return str((folder / name).absolute())
    return name
