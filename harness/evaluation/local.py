"""Documents of lm-eval's tasks in a local folder, one folder a task, found by the task's name alone.

`<folder>/<task>/<split>.jsonl`, or, of a group with a folder, `<folder>/<group>/<task without the group's name>.jsonl`
and `<folder>/<group>/<...>/<split>.jsonl`; or as the dataset is called on the hub,
`<folder>/<dataset>/<config>/<split>.jsonl`. Instead of .jsonl also .jsonl.gz, .json (a list), .parquet, and parts as on
the hub, `<split>-00000-of-00002.parquet`.
"""

from __future__ import annotations

import functools
import hashlib
import os
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.data.files import Row, rows_of
from harness.data.places import folders
from harness.errors import UsageError, shown
from harness.evaluation.stock import Leaf, find, known

ENDINGS = (".jsonl", ".jsonl.gz", ".json", ".parquet")
VARIABLE = "HARNESS_EVAL_DATA"
KEY = "evaluation.data"
PART = re.compile(r"-\d{5}-of-\d{5}(?=\.|$)")


@dataclass(frozen=True)
class LocalData:
    """Files of a task. A file without splits stands for the split that is scored, under the name None."""

    place: Path
    splits: dict[str | None, tuple[Path, ...]]

    @property
    def digest(self) -> str:
        """SHA-256 of splits and contents."""
        digest = hashlib.sha256()
        for split, paths in sorted(self.splits.items(), key=lambda item: item[0] or ""):
            for path in paths:
                digest.update(f"\0{split}\0{hashlib.sha256(_bytes(path)).hexdigest()}".encode())
        return digest.hexdigest()

    def files_of(self, leaf: Leaf) -> dict[str, tuple[Path, ...]]:
        """Files by split; those without one are of the split that is scored."""
        scored = scored_split(leaf.config)
        return {str(scored if split is None else split): paths for split, paths in self.splits.items()}

    def files(self, split: str) -> tuple[Path, ...] | None:
        return self.splits.get(split) or self.splits.get(None)

    def rows(self, split: str) -> list[tuple[str, Row]]:
        """Rows with their places, `file:line`. Raises UsageError for a file that cannot be read, by line, and for a row
        without a field that most have: a template would quietly write None."""
        found: list[tuple[str, Row]] = []
        for path in self.files(split) or ():
            rows = rows_of(path, KEY)
            assert rows is not None  # an ending that is one of ENDINGS
            name = shown(path)
            found += [(f"{name}:{number}", row) for number, row in rows]
        if not found:
            raise UsageError(f"{KEY}: {shown(self.place)}: the split '{split}' is empty")
        having = Counter(key for _, row in found for key in row)
        for field in [key for key, count in having.items() if len(found) / 2 < count < len(found)]:
            place = next(place for place, row in found if field not in row)
            raise UsageError(f"{KEY}: {place}: no field '{field}', which most rows have (null, where there is none)")
        return found


def eval_folder(named: str | None, relative_to: Path | None) -> Path | None:
    """The folder of local documents: the one that is named, else HARNESS_EVAL_DATA's, else none. Raises UsageError for
    one that is not there."""
    if named is not None:
        for place in folders(relative_to):
            if (place / named).is_dir():
                return (place / named).resolve()
        raise UsageError(f"{KEY}: no such folder: {shown(named)}")
    if not (variable := os.environ.get(VARIABLE)):
        return None
    if not Path(variable).is_dir():
        raise UsageError(f"{KEY}: {VARIABLE} names no folder: {shown(variable)}")
    return Path(variable).resolve()


def scored_split(config: dict[str, Any]) -> str | None:
    """The split that lm-eval scores: the test split, or the validation split where there is none. None for a task
    written in Python, which only says it once it is made."""
    return config.get("test_split") or config.get("validation_split")


def locate(folder: Path, leaf: Leaf) -> LocalData | None:
    """The task's files, or None where nothing in the folder is called like it. Raises UsageError where the split that
    is scored is missing."""
    for place, name in _places(folder, leaf):
        inside = place / name
        splits = _splits(inside) if inside.is_dir() else {}
        if splits:
            scored = scored_split(leaf.config)
            if scored is not None and scored not in splits:
                there = ", ".join(sorted(str(split) for split in splits))
                raise UsageError(
                    f"{KEY}: '{leaf.name}' is scored on its split '{scored}': no {scored}.jsonl, .json or .parquet in "
                    f"{inside}, which has {there}"
                )
            return LocalData(inside, splits)
        for ending in ENDINGS:
            if (path := place / f"{name}{ending}").is_file():
                return LocalData(path, {None: (path,)})
    return None


def looked_for(folder: Path, leaf: Leaf) -> str:
    """What a person may have meant to put there."""
    return f"{folder / leaf.name}/{scored_split(leaf.config) or 'test'}.jsonl"


def _places(folder: Path, leaf: Leaf) -> Iterator[tuple[Path, str]]:
    """(folder, name in it), the most particular first."""
    yield folder, leaf.name
    groups = [entry.name for entry in folder.iterdir() if entry.is_dir()]
    stems = [leaf.name]
    if isinstance(leaf.config.get("dataset_name"), str):
        stems.append(leaf.config["dataset_name"])
    for group in sorted(groups, key=len, reverse=True):
        if leaf.name.startswith(f"{group}_") and (group in leaf.parents or _same_dataset(group, leaf)):
            yield from ((folder / group, stem) for stem in (leaf.name[len(group) + 1 :], *stems))
        elif group in leaf.parents:
            yield from ((folder / group, stem) for stem in stems)
    dataset = str(leaf.config.get("dataset_path") or "").rsplit("/", 1)[-1]
    if dataset in groups and (not known(dataset) or _same_dataset(dataset, leaf)):
        for stem in stems[1:] or [""]:
            yield folder / dataset, stem


@functools.cache
def _datasets(group: str) -> frozenset[str]:
    """What lm-eval's group of this name is asked of; nothing, where it has none."""
    if not known(group):
        return frozenset()
    return frozenset(str(leaf.config.get("dataset_path")) for leaf in find(group).leaves)


def _same_dataset(group: str, leaf: Leaf) -> bool:
    """A task that is called like a group may still be of other documents: translated, corrected."""
    return str(leaf.config.get("dataset_path")) in _datasets(group)


def _splits(place: Path) -> dict[str | None, tuple[Path, ...]]:
    found: dict[str | None, list[Path]] = {}
    for path in sorted(place.iterdir()):
        name = path.name.lower()
        ending = next((ending for ending in ENDINGS if name.endswith(ending)), None)
        if ending is not None and path.is_file():
            split = PART.sub("", path.name[: -len(ending)])
            found.setdefault(split, []).append(path)
    for paths in found.values():
        # As on the hub: all of one kind, numbered through. Else it may be the same twice.
        ending = next(ending for ending in ENDINGS if paths[0].name.lower().endswith(ending))
        parts = [f"-{number:05d}-of-{len(paths):05d}{ending}" for number in range(len(paths))]
        if len(paths) > 1 and not all(path.name.endswith(part) for path, part in zip(paths, parts, strict=True)):
            names = ", ".join(shown(path.name) for path in paths[:4])
            raise UsageError(f"{KEY}: {shown(place)}: not the parts of one split: {names}")
    return {split: tuple(paths) for split, paths in found.items()}


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"{KEY}: cannot read {shown(path)}: {error.strerror}") from error
