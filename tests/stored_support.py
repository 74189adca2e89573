"""A finished search, kept in a storage, that tests may spoil copies of."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
import pytest
from search_support import STUDY, Planted

from harness.cli import main
from harness.run import runner
from harness.search import run

ARMS = ("residual", "dhc-n2")
KEPT = STUDY.replace("name: planted", "name: kept").replace("trials: 12", "trials: 4").replace("top: 2", "top: 1")
JOURNAL = Path("results/search/kept/optuna-journal.log")
Contents = dict[str, Any]


@contextmanager
def nothing_is_trained() -> Iterator[pytest.MonkeyPatch]:
    """Cells are planted, and no tracker of the user's is spoken to."""
    with pytest.MonkeyPatch.context() as patched:
        for module in (run, runner):
            patched.setattr(module, "LocalExecutor", lambda layout, jobs, relative_to: Planted(layout, jobs))
        patched.delenv("MLFLOW_TRACKING_URI", raising=False)
        yield patched


def search_in(folder: Path, *words: str) -> int:
    return main(["search", str(folder / "study.yaml"), *words, "--results", str(folder / "results")])


def refused(capsys: pytest.CaptureFixture[str], folder: Path, *words: str) -> str:
    """The one line that is said."""
    capsys.readouterr()
    assert search_in(folder, *words) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert len(said.err.splitlines()) == 1
    return said.err.strip()


def opened(place: Path | str) -> Any:
    """As any program opens it."""
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    return str(place) if "://" in str(place) else JournalStorage(JournalFileBackend(str(place)))


def contents(place: Path | str) -> Contents:
    """All studies in a storage with all that is known of their trials."""
    storage = opened(place)
    studies = [optuna.load_study(study_name=name, storage=storage) for name in optuna.get_all_study_names(storage)]
    return {one.study_name: (one.directions, one.user_attrs, one.get_trials()) for one in studies}


def told(place: Path | str, arm: str) -> list[tuple[Any, ...]]:
    """Of the arm's trials, what does not depend on clock and storage."""
    return [(trial.params, trial.values, trial.state.name) for trial in contents(place)[f"kept/{arm}"][2]]


def sqlite_of(folder: Path) -> str:
    return f"sqlite:///{folder / 'trials.db'}"
