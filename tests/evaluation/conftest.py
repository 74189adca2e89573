"""A real text in documents on two sides, with characters of several bytes among them, and small models."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from evaluation_support import MAKERS, write_blimp, write_mmlu, write_task

from harness.connections.settings import HyperSettings
from harness.data.documents import Corpus, Document
from harness.models.decoder import Decoder
from harness.models.settings import DecoderSettings

LICENSE = Path(__file__).parents[2] / "LICENSE"
GREEK = """\
Ἐν ἀρχῇ ἦν ὁ λόγος καὶ ὁ λόγος ἦν
πρὸς τὸν θεόν — naïve café 漢字 🙂 ends here
and the last line has plain words
"""


@pytest.fixture(scope="session")
def corpus() -> Corpus:
    lines = LICENSE.read_text(encoding="utf-8").splitlines(keepends=True)
    parts = ["".join(lines[start : start + 20]) for start in range(0, len(lines), 20)]
    documents = [Document(f"{number:02d}", part.encode()) for number, part in enumerate(parts) if part.strip()]
    return Corpus("licence", tuple(documents[::2]), (*documents[1::2], Document("greek", GREEK.encode())))


@pytest.fixture(scope="session")
def documents(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with every stock task that the field uses."""
    folder = tmp_path_factory.mktemp("evals")
    for name in MAKERS:
        write_task(folder, name)
    write_mmlu(folder)
    for paradigm in ("adjunct_island", "complex_NP_island"):
        write_blimp(folder, paradigm)
    return folder


@pytest.fixture
def decoder() -> Callable[..., Decoder]:
    """A small decoder in evaluation mode, with weights wide enough that its answers differ."""

    def make(context: int = 16) -> Decoder:
        settings = DecoderSettings(layers=2, width=16, heads=2, context=context, init_std=0.5)
        return Decoder(settings, HyperSettings(rate=2), 257, backbone_seed=1).eval()

    return make


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)
