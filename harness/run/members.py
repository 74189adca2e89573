"""Which cells the suites in a results folder have had, so that a cell can be named without its suite file."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from harness.errors import InconclusiveError, UsageError, nearest
from harness.run.celldir import CellDir, read_json, write_json
from harness.run.layout import Layout
from harness.suite.cells import Cell

FILE = "cells.json"


@dataclass(frozen=True)
class Member:
    """A cell as a suite called it."""

    suite: str
    arm: str
    seed: int
    tag: str
    identity: str
    folder: str
    """Its directory's name."""
    relative_to: str | None
    """Folder of the suite file, from which the data's paths are looked for."""

    @property
    def name(self) -> str:
        return f"{self.arm}-s{self.seed}"


def remember(layout: Layout, suite: str, cells: Iterable[Cell], relative_to: str | None) -> None:
    """Add the cells to those that the suite has had; of an arm's seed the latest counts."""
    path = layout.suite(suite) / FILE
    members = {(member.arm, member.seed): member for member in _read(path)}
    for cell in cells:
        members[cell.arm, cell.seed] = Member(
            suite, cell.arm, cell.seed, cell.tag, cell.identity, cell.folder, relative_to
        )
    write_json(path, [asdict(member) for member in members.values()])


def _read(path: Path) -> list[Member]:
    try:
        return [Member(**entry) for entry in read_json(path) or ()]
    except TypeError as error:  # another version's, or edited
        raise UsageError(f"{path}: not the cells of a suite: {error}") from error


def find(layout: Layout, targets: Sequence[str], suite: str | None) -> tuple[list[Member], list[Member]]:
    """(trained, not yet trained) cells that the targets name, each once: a cell by its directory, the directory's name,
    its identity or its name (dhc-n4-s1), or an arm, which is all its seeds. Raises UsageError for a name that nothing
    has or that several suites have, InconclusiveError for a target without a trained cell."""
    everything = [member for path in sorted(layout.root.glob(f"suites/*/{FILE}")) for member in _read(path)]
    if suite is not None:
        suites = list(dict.fromkeys(member.suite for member in everything))
        if suite not in suites:
            raise UsageError(f"--suite: no suite called '{suite}' was run in {layout.root}{nearest(suite, suites)}")
        everything = [member for member in everything if member.suite == suite]
    if not everything:
        raise InconclusiveError(f"nothing was run in {layout.root}")
    trained: dict[tuple[str, str], Member] = {}
    waiting: dict[tuple[str, str], Member] = {}
    for target in targets:
        found = _named(layout, target, everything)
        ready = [member for member in found if directory(layout, member).result() is not None]
        if not ready:
            names = ", ".join(member.name for member in found)
            raise InconclusiveError(f"not trained yet: {names}; harness run trains and asks them")
        for member in found:
            (trained if member in ready else waiting)[member.suite, member.folder] = member
    return list(trained.values()), list(waiting.values())


def directory(layout: Layout, member: Member) -> CellDir:
    return CellDir(layout.root / "cells" / member.folder)


def _named(layout: Layout, target: str, everything: list[Member]) -> list[Member]:
    if os.sep in target:
        place = Path(target).resolve()
        found = [member for member in everything if directory(layout, member).path.resolve() == place]
        if not found:
            raise UsageError(f"'{target}' is no cell of the results in {layout.root}; --results names others")
        return found[:1]
    for names in (
        lambda member: (member.folder, member.identity),
        lambda member: (member.name,),
        lambda member: (member.arm,),
    ):
        found = [member for member in everything if target in names(member)]
        if not found:
            continue
        # One directory that two suites share is one cell, but an arm's name may mean another thing in each.
        suites = {member.suite: {m.folder for m in found if m.suite == member.suite} for member in found}
        first = next(iter(suites))
        if any(folders != suites[first] for folders in suites.values()):
            raise UsageError(f"'{target}' is in several suites: {', '.join(suites)}; --suite names one")
        return [member for member in found if member.suite == first]
    known = dict.fromkeys(name for member in everything for name in (member.arm, member.name))
    raise UsageError(f"'{target}': no cell and no arm is called so{nearest(target, known)}")
