"""Shared fixtures: one thread, results and trackers in temporary folders, small real cells."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from tiny_support import ROOT, TINY, fixed_text

# The same examples every time: what a change did not break must not turn red. Others: --hypothesis-profile=default.
settings.register_profile("fixed", derandomize=True)
settings.load_profile("fixed")

# Before anything loads OpenMP: tests run beside each other, and threads that wait by spinning cost the others theirs.
os.environ.setdefault("OMP_NUM_THREADS", "1")

if not Path("/dev/nvidiactl").exists():
    # Without a GPU Triton's kernels are interpreted. It decides on its first import, and torch may be the first to.
    os.environ.setdefault("TRITON_INTERPRET", "1")


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """One cache for all tests of a process, and none of the user's."""
    os.environ["HARNESS_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(autouse=True)
def _own_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test writes into the checkout or speaks to a tracker of the user's."""
    monkeypatch.setenv("HARNESS_RESULTS", str(tmp_path / "results"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(ROOT)


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made once: the migrations of a fresh database take seconds, a copy takes none."""
    from harness.tracking import Tracker

    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    Tracker(f"sqlite:///{path}").connect()
    return path


@pytest.fixture
def layout(tmp_path: Path, empty_store: Path) -> Any:
    """Of a results folder with an empty record."""
    from harness.run.layout import Layout

    found = Layout(tmp_path / "results")
    found.prepare()
    shutil.copy(empty_store, found.root / "mlflow.db")
    return found


@pytest.fixture
def tracker(layout: Any) -> Any:
    return layout.tracker()


@pytest.fixture
def tiny_suite(tmp_path: Path) -> Callable[..., Path]:
    """Writes a suite of 2 arms x 2 seeds, seconds each, on real text; returns its file."""

    def write(text: str = TINY, **replace: str) -> Path:
        for old, new in replace.items():
            text = text.replace(old, new)
        (tmp_path / "corpus.txt").write_bytes(fixed_text())
        path = tmp_path / "tiny.yaml"
        path.write_text(text)
        return path

    return write


@pytest.fixture
def recipe() -> Callable[..., Any]:
    """A small recipe of any connection; keyword arguments change the training."""
    from pydantic import TypeAdapter

    from harness.connections.settings import AnyConnection
    from harness.data.inputs import TextInputs
    from harness.models.settings import DecoderSettings
    from harness.suite.cells import stream_seeds
    from harness.suite.schema import SeedStreams
    from harness.training.recipe import Recipe
    from harness.training.settings import TrainSettings

    def make(connection: dict[str, Any], seed: int = 1, dropout: float = 0.0, **train: Any) -> Recipe:
        settings = {
            "steps": 20, "batch_size": 4, "lr": 2e-3, "warmup_steps": 4, "log_every": 1, "checkpoint_every": 5,
            "validate_every": 10, "validation_tokens": 512, "device": "cpu",
        }  # fmt: skip
        return Recipe(
            connection=TypeAdapter(AnyConnection).validate_python(connection),
            model=DecoderSettings(layers=4, width=32, heads=2, context=32, dropout=dropout),
            train=TrainSettings(**{**settings, **train}),
            inputs=TextInputs(257, 256),
            streams=stream_seeds(seed, SeedStreams()),
        )

    return make
