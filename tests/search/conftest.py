"""A study over the tiny suite, and searches in which nothing is trained."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from search_support import STUDY, Planted, Search, write_study
from stored_support import KEPT, nothing_is_trained, search_in
from tiny_support import TINY, fixed_text

from harness.run.layout import Layout
from harness.search import fresh, run
from harness.search.file import StudyFile
from harness.tracking import Tracker


@pytest.fixture
def study(tiny_suite: Callable[..., Path], tmp_path: Path) -> Callable[..., Path]:
    """Writes a study of the tiny suite; keyword arguments replace its text."""

    def write(text: str = STUDY, **replace: str) -> Path:
        tiny_suite()
        return write_study(tmp_path, text, **replace)

    return write


@pytest.fixture
def search(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> Search:
    """Searches with planted cells, also on the fresh seeds; returns the answer and the executor of the trials."""

    def off(_: Tracker) -> None:
        raise OSError("the record has tests of its own, and takes longer than all the rest")

    monkeypatch.setattr(Tracker, "connect", off)

    def begin(
        path: Path, *overrides: str, jobs: int = 1, retry_failed: bool = False, **how: Any
    ) -> tuple[Any, Planted]:
        file = StudyFile(path, overrides)
        found = file.resolve()
        executor = Planted(layout, jobs, **how)
        with _planted_runner(monkeypatch, layout, executor):
            answer = run.search(
                file, found, layout, run.SearchOptions(jobs=jobs, retry_failed=retry_failed), "again", lambda: executor
            )
        return answer, executor

    return begin


@contextmanager
def _planted_runner(monkeypatch: pytest.MonkeyPatch, layout: Layout, executor: Planted) -> Iterator[None]:
    from harness.run import runner

    with monkeypatch.context() as patched:
        patched.setattr(runner, "LocalExecutor", lambda _, jobs, relative_to: Planted(layout, jobs, executor.curve))
        patched.setattr(fresh, "run_suite", runner.run_suite)
        yield


@pytest.fixture
def patched() -> Iterator[pytest.MonkeyPatch]:
    with nothing_is_trained() as found:
        yield found


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, empty_store: Path) -> Path:
    """A study of two arms with four trials each, in the journal of its results folder."""
    folder = tmp_path_factory.mktemp("finished")
    (folder / "corpus.txt").write_bytes(fixed_text())
    (folder / "tiny.yaml").write_text(TINY)
    (folder / "study.yaml").write_text(KEPT)
    (folder / "results").mkdir()
    shutil.copy(empty_store, folder / "results" / "mlflow.db")
    with nothing_is_trained():
        assert search_in(folder) == 0
    return folder


@pytest.fixture
def folder(finished: Path, empty_store: Path, tmp_path: Path, patched: pytest.MonkeyPatch) -> Path:
    """A copy that a test may spoil."""
    found = tmp_path / "copy"
    shutil.copytree(finished, found, ignore=shutil.ignore_patterns("mlflow.db"))
    shutil.copy(empty_store, found / "results" / "mlflow.db")
    return found
