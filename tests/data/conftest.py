"""What tests of data share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.data import hub
from harness.data.corpora import load_corpus
from harness.data.documents import Corpus
from harness.data.settings import data_settings


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the test's own."""
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def load(tmp_path: Path) -> Callable[..., Corpus]:
    """The corpus of files beside each other."""
    return lambda *names, **keys: load_corpus(data_settings(corpus="text", files=names, **keys), tmp_path)


@pytest.fixture
def no_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Neither the user's cache nor the network is touched, whatever the machine has."""
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    import datasets
    import huggingface_hub.constants

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "hf"))
    for module in (datasets.config, huggingface_hub.constants):
        monkeypatch.setattr(module, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_OFFLINE", True)
    for name in hub.OFFLINE:
        monkeypatch.setenv(name, "1")
    offline = hub.offline
    offline.cache_clear()
    yield
    offline.cache_clear()
