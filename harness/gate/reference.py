"""What a gate holds its runs against: the numbers of a file, or another commit's runs beside our own."""

from __future__ import annotations

import signal
import subprocess
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from harness.errors import InconclusiveError, UsageError, first_line, shown
from harness.gate.baseline import ArmBaseline, Baseline, Environment, SeedRun
from harness.gate.reading import cost_of, digests_of, environment_of, golden_run, seed_run
from harness.gate.runs import ArmSettings, Key, Question
from harness.gate.there import There
from harness.run.celldir import CellDir


class Reference(ABC):
    """`arms` have what was measured once; `runs` are those of the seeds."""

    arms: Mapping[str, ArmBaseline]
    environment: Environment
    digests: Mapping[str, str]
    about: dict[str, Any]
    suite_digest: str | None = None
    """Of the suite file that it was accepted for."""

    @abstractmethod
    def runs(self, seeds: Sequence[int], arms: Sequence[str]) -> dict[Key, SeedRun]:
        """Those that there are."""


class FromFile(Reference):
    def __init__(self, path: Path, baseline: Baseline):
        self.arms, self.environment, self.digests = baseline.arms, baseline.environment, baseline.digests
        self.suite_digest = baseline.suite_digest
        self.about = {
            "file": path.as_posix(),
            "reason": baseline.reason,
            "created": baseline.created,
            "commit": baseline.commit,
            "dirty": baseline.dirty,
        }

    def runs(self, seeds: Sequence[int], arms: Sequence[str]) -> dict[Key, SeedRun]:
        found = {(arm, seed): self.arms[arm].run(seed) for arm in arms if arm in self.arms for seed in seeds}
        return {key: run for key, run in found.items() if run is not None}


class FromCommit(Reference):
    def __init__(self, there: There, revision: str):
        self.there = there
        cells = there.golden()
        rows = there.throughput()
        settings = there.settings()
        made = {arm: measured_arm(cell, rows.get(arm), settings[arm]) for arm, cell in cells.items()}
        self.arms = {arm: one for arm, one in made.items() if one is not None}
        self.environment = next((found for cell in cells.values() if (found := environment_of(cell))), {})
        self.digests = next((found for cell in cells.values() if (found := digests_of(cell))), {})
        self.about = {"commit": there.commit, "revision": revision, "reason": "run beside this code in the same job"}

    def runs(self, seeds: Sequence[int], arms: Sequence[str]) -> dict[Key, SeedRun]:
        known = [arm for arm in arms if arm in self.arms]
        return {key: seed_run(cell) for key, cell in self.there.seeds(seeds, known).items()} if known else {}


def measured_arm(cell: CellDir, row: Mapping[str, Any] | None, settings: ArmSettings) -> ArmBaseline | None:
    """An arm from its golden cell, without seeds; None where that run failed."""
    golden, cost = golden_run(cell), cost_of(cell, row)
    if golden.failure is not None or cost is None:
        return None
    return ArmBaseline(settings=settings, golden=golden, cost=cost, seeds={})


@contextmanager
def worktree(asked: Question, revision: str) -> Iterator[There]:
    """The runs of another commit of the harness's own checkout, from a worktree that is removed afterwards. Raises
    UsageError for a revision that there is not."""
    root = Path(__file__).resolve().parents[2]
    commit = _git(root, "rev-parse", "--verify", f"{revision}^{{commit}}", about=revision)
    top = Path(_git(root, "rev-parse", "--show-toplevel", about=revision)).resolve()
    if top != root:
        raise UsageError(f"--relative: the harness is installed in {shown(root)}, which is no checkout of it")
    _git(root, "worktree", "prune", about=revision)
    with _sigterm_is_ctrl_c(), tempfile.TemporaryDirectory(prefix="harness-gate-") as folder:
        tree = Path(folder) / "tree"
        _git(root, "worktree", "add", "--detach", str(tree), commit, about=revision)
        try:
            if not (tree / "harness" / "__init__.py").exists():
                raise InconclusiveError(f"--relative: {revision} has no package 'harness'")
            yield There(asked, tree, commit, _suite_there(asked.path.resolve(), top, tree, revision))
        finally:
            _git(root, "worktree", "remove", "--force", str(tree), about=revision)


@contextmanager
def _sigterm_is_ctrl_c() -> Iterator[None]:
    """While inside, being asked to end is as good as Ctrl-C."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _suite_there(path: Path, top: Path, tree: Path, revision: str) -> Path:
    """The suite as that commit has it; a suite from elsewhere is itself."""
    if not path.is_relative_to(top):
        return path
    there = tree / path.relative_to(top)
    if not there.exists():
        raise InconclusiveError(f"--relative: {revision} has no {path.relative_to(top)} to be compared with")
    return there


def _git(root: Path, *arguments: str, about: str) -> str:
    if about.startswith("-"):
        raise UsageError(f"--relative: '{about}' is no revision")
    command = ["git", "-C", str(root), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    except (OSError, subprocess.SubprocessError) as error:
        raise UsageError(f"--relative: git cannot be run: {first_line(error)}") from error
    if done.returncode:
        raise UsageError(f"--relative: '{about}' is no revision of {root.name}'s checkout: {first_line(done.stderr)}")
    return done.stdout.strip()
