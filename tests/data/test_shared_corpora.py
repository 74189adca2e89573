"""Published corpora, where they are at hand, are read and split as they were published."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from harness.data.batches import BatchSource, validation_windows
from harness.data.corpora import load_corpus
from harness.data.settings import data_settings
from harness.data.shards import shard

ROOT = Path(__file__).parents[2]
WIKITEXT = Path(os.environ.get("HARNESS_DATA") or ROOT.parent / "shared" / "data") / "corpora" / "wikitext-2"

pytestmark = pytest.mark.skipif(not WIKITEXT.is_dir(), reason=f"no WikiText-2 at {WIKITEXT}; HARNESS_DATA can name it")


def test_wikitext_2_keeps_its_official_split_and_every_byte() -> None:
    settings = data_settings(corpus="text", files=(f"{WIKITEXT}/train.txt",), valid_files=(f"{WIKITEXT}/valid.txt",))
    corpus = load_corpus(settings)
    assert corpus.train[0].data == (WIKITEXT / "train.txt").read_bytes()
    assert corpus.valid[0].data == (WIKITEXT / "valid.txt").read_bytes()
    words = sum(len(line.split()) + 1 for line in corpus.valid[0].data.decode().split("\n")[:-1])
    assert words == 217_646, "the published count of words and line ends"


def test_wikitext_2_in_one_file_is_split_by_blocks_and_batched() -> None:
    corpus = load_corpus(data_settings(corpus="text", files=(f"{WIKITEXT}/train.txt",)))
    blocks = sorted((*corpus.train, *corpus.valid), key=lambda document: document.name)
    assert b"".join(block.data for block in blocks) == (WIKITEXT / "train.txt").read_bytes()
    assert 0.02 < corpus.valid_bytes / (corpus.train_bytes + corpus.valid_bytes) < 0.1
    tokens = shard(corpus, "train").tokens
    assert len(tokens) == corpus.train_bytes + len(corpus.train)
    batch = BatchSource(tokens, batch_size=4, context=256, seed=1).batch(1000)
    assert batch.shape == (4, 257)
    assert bytes(token for token in batch[0] if token < 256) in b"".join(block.data for block in corpus.train)
    assert validation_windows(shard(corpus, "valid").tokens, count=64, context=256).shape == (64, 257)
