"""Where results lie: one folder for all suites, so that a cell two of them ask for is trained once."""

from __future__ import annotations

import os
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path

from harness.errors import UsageError
from harness.run.celldir import CellDir
from harness.suite.cells import Cell
from harness.tracking import Tracker, tracking_uri


@dataclass(frozen=True)
class Layout:
    """`root`/cells/<cell>, `root`/suites/<suite>, `root`/mlflow.db. Smoke results have a root of their own below."""

    root: Path
    smoke: bool = False
    """The results are of suites that were shrunk."""

    @classmethod
    def choose(cls, option: str | None, smoke: bool) -> Layout:
        root = Path(option or os.environ.get("HARNESS_RESULTS") or "results")
        return cls(root / "smoke" if smoke else root, smoke)

    def prepare(self) -> None:
        """Make the folders. Raises UsageError when they cannot be written to."""
        odd = [character for character in "?#%" if character in str(self.root.resolve())]
        if odd and tracking_uri(self.root).startswith("sqlite:"):
            raise UsageError(
                f"--results: the path of the results folder {self.root} holds '{odd[0]}', which the address "
                "of MLflow's database cannot; name another folder"
            )
        try:
            for name in ("cells", "suites"):
                (self.root / name).mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.root):
                pass
        except OSError as error:
            raise UsageError(
                f"--results: the results folder {self.root} is not writable: {error.strerror}; "
                "name another with --results or HARNESS_RESULTS"
            ) from error

    def cell(self, cell: Cell) -> CellDir:
        return CellDir(self.root / "cells" / cell.folder)

    def suite(self, name: str, partial: bool = False) -> Path:
        """Folder of a suite's tables and plots; those of a selection of its cells do not replace the whole's."""
        folder = self.suite_place(name) / ("selection" if partial else "")
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def suite_place(self, name: str) -> Path:
        """Where that folder is, whether or not it is there."""
        return self.root / "suites" / re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip(".-")[:80]

    def tracker(self) -> Tracker:
        return Tracker(tracking_uri(self.root), self.root)
