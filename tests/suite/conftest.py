"""Suites written from a short text with changes, and a corpus small enough for any number of cells."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from harness.data.documents import Corpus, Document
from harness.errors import UsageError
from harness.suite.file import load_suite
from harness.suite.schema import Suite

BASE = """\
name: small
baseline: residual
seeds: 2
scale: toy
arms:
  residual:
    connection: residual
  dhc:
    connection:
      type: hyper
      rate: 4
train:
  steps: 100
  lr: 3e-4
data:
  corpus: stdlib
evaluation:
  limit: 8
streams:
  data: 7
"""
Change = tuple[str, str]


@pytest.fixture
def load(tmp_path: Path) -> Callable[..., Suite]:
    """The suite of BASE, or of `text`, with (old, new) replaced in it and overrides applied."""

    def load(*changes: Change, text: str = BASE, overrides: Sequence[str] = ()) -> Suite:
        for old, new in changes:
            assert old in text, f"the test's own text has no {old!r}"
            text = text.replace(old, new, 1)
        path = tmp_path / "suite.yaml"
        path.write_text(text, encoding="utf-8")
        return load_suite(path, list(overrides))

    return load


@pytest.fixture
def refusal(load: Callable[..., Suite], tmp_path: Path) -> Callable[..., str]:
    """The message with which such a suite is refused, without the folder; its exit code is 2."""

    def refusal(*changes: Change, **more: object) -> str:
        with pytest.raises(UsageError) as caught:
            load(*changes, **more)
        assert caught.value.exit_code == 2
        return str(caught.value).replace(f"{tmp_path}/", "")

    return refusal


@pytest.fixture
def corpus() -> Corpus:
    return Corpus("fake", (Document("a", b"some text to train on"),), (Document("b", b"some held-out text"),))
