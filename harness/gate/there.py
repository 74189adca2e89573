"""Another commit's runs: its own command line, in its own checkout, as a user would run it there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.errors import FAILED, INTERRUPTED, OK, InconclusiveError
from harness.gate.runs import ArmSettings, Key, Question, cost_rows, gate_folder, golden_keys, surroundings
from harness.run.celldir import CellDir
from harness.run.costs import FILE as COSTS
from harness.run.layout import Layout
from harness.suite.cells import digest
from harness.suite.yaml_lines import load

RESOLVE = """
import json, pathlib, sys
from harness.data.load import inputs_of, load_data
from harness.suite.file import SuiteFile
from harness.suite.resize import resized
path = pathlib.Path(sys.argv[1])
suite = SuiteFile(path, sys.argv[2:]).resolve()
arms = resized(suite, inputs_of(load_data(suite.data, path.parent))).arms
parts = "connection", "model", "train"
print(json.dumps({n: {p: getattr(a, p).model_dump(mode="json") for p in parts} for n, a in arms.items()}))
"""
"""What another commit's own code makes of its suite file."""


class There:
    """As `Here`, by the code of a checkout of another commit."""

    def __init__(self, asked: Question, tree: Path, commit: str, suite: Path):
        self.asked, self.tree, self.suite, self.commit = asked, tree, suite, commit
        place = digest([*surroundings(asked.suite), list(asked.overrides)])
        self.root = asked.results / "gate" / gate_folder(asked.suite.name) / f"{commit[:12]}-{place}"

    def settings(self) -> dict[str, ArmSettings]:
        said = self._python("-c", RESOLVE, str(self.suite), *self.asked.overrides, fine=(OK,))
        found: dict[str, ArmSettings] = json.loads(said)
        return found

    def golden(self) -> dict[str, CellDir]:
        suite = self.asked.suite
        raw = load(self.suite)[0]
        if any(str(axis).startswith("train.") for axis in raw.get("grid") or {}):
            raise InconclusiveError("--relative: the runs of a grid over train.* cannot be shortened to golden ones")
        own = {name for name, arm in (raw.get("arms") or {}).items() if "train" in (arm or {})}
        overrides = []
        for place, arm in {"": suite.baseline, **{f"arms.{name}.": name for name in own}}.items():
            warmup = suite.arms[arm if arm in suite.arms else suite.baseline].train.warmup_steps
            short = golden_keys(suite.gate.golden_steps, warmup)
            overrides += [f"{place}train.{key}={value}" for key, value in short.items()]
        # What was measured in another hour is not beside what is measured now.
        (Layout(self.root / "golden").suite_place(suite.name) / COSTS).unlink(missing_ok=True)
        found = self._run(suite.seeds[:1], None, "golden", overrides)
        return {arm: directory for (arm, _), directory in found.items()}

    def seeds(self, seeds: Sequence[int], arms: Sequence[str]) -> dict[Key, CellDir]:
        return self._run(seeds, arms, "full", [])

    def throughput(self) -> dict[str, dict[str, Any]]:
        """As `golden` has measured it."""
        return cost_rows(Layout(self.root / "golden"), self.asked.suite.name)

    def _run(
        self, seeds: Sequence[int], arms: Sequence[str] | None, place: str, overrides: Sequence[str]
    ) -> dict[Key, CellDir]:
        results = (self.root / place).resolve()
        chosen = ["-k", " or ".join(f"arm={arm}" for arm in arms)] if arms is not None else []
        words = [
            str(self.suite), *self.asked.overrides, *overrides, f"seeds=[{','.join(map(str, seeds))}]", *chosen,
            "--results", str(results),
        ]  # fmt: skip
        run = ["run", *words, "--retry-failed", "--jobs", str(self.asked.jobs)]
        self._python("-m", "harness", *run, shown=True)
        states = json.loads(self._python("-m", "harness", "status", *words, "--json"))["cells"]
        return {(one["arm"], one["seed"]): CellDir(Path(one["folder"])) for one in states}

    def _python(self, *words: str, shown: bool = False, fine: tuple[int, ...] = (OK, FAILED)) -> str:
        """Standard output; standard error is `shown` or kept. Raises InconclusiveError with what the commit's own
        harness has to say where it ends with none of the exit codes `fine`."""
        others = [path for path in (os.environ.get("PYTHONPATH"),) if path]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(self.tree), *others])}
        done = subprocess.run(
            [sys.executable, *words], cwd=self.tree, env=environment, stdout=subprocess.PIPE,
            stderr=None if shown else subprocess.PIPE, text=True,
        )  # fmt: skip
        if done.returncode == INTERRUPTED:
            raise KeyboardInterrupt
        if done.returncode not in fine:
            said = (done.stderr or "").strip().splitlines()
            why = f": {said[-1]}" if said else "; what it says stands above"
            raise InconclusiveError(f"--relative: the harness of {self.commit[:12]} cannot run this suite{why}")
        return done.stdout
