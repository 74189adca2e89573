"""Token shards are the tokenizer's tokens, document by document, made once; bits per byte come from true bytes."""

from __future__ import annotations

import functools
import json
import math
import os
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer as Library
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers
from torch.nn import functional as F

from harness.data import pieces, shards
from harness.data.documents import SIDES, Corpus, Document
from harness.data.files import named_by_content
from harness.data.pieces import in_pieces, sections
from harness.data.settings import BPESettings
from harness.data.shards import BYTES, TOKENS, Shard, shard
from harness.data.subwords import SubwordTokenizer, trained
from harness.data.tokenizers import ByteTokenizer, Tokenizer, token_type
from harness.training.objective import LanguageModelling

SOURCES = sorted((Path(__file__).parents[2] / "harness" / "data").glob("*.py"))
ODD = [
    "naïve — 漢字 🙂\n\ttab\0nul  <|endoftext|> don't\r\n  indented\n",
    "   \n\n   two   blanks   \n\n",
    "ÀÉÎ ﬁ ½ ǅ e\u0301\n",
    "one",
    "\u200b\u200b",
    "no line end " * 12_000,
    "x" * 140_000,
    "漢字" * 70_000 + "\n",
]

Make = Callable[..., Any]


pytestmark = pytest.mark.usefixtures("cache")


def documents(paths: list[Path]) -> tuple[Document, ...]:
    return tuple(Document(path.name, path.read_bytes()) for path in paths)


PLAIN = Corpus(
    "sources",
    documents(SOURCES[:-6]),
    (*documents(SOURCES[-6:-2]), *(named_by_content(text.encode()) for text in ODD)),
    documents(SOURCES[-2:]),
)


@pytest.fixture(scope="module")
def bpe(tmp_path_factory: pytest.TempPathFactory) -> SubwordTokenizer:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HARNESS_CACHE", str(tmp_path_factory.mktemp("cache")))
        return trained(BPESettings(vocabulary=700), PLAIN)


@functools.cache
def lossy(kind: str) -> SubwordTokenizer:
    """A tokenizer.json that does not keep the text: it normalises, drops blanks, or drops whole texts."""
    if kind == "lower case":
        library = Library(models.WordPiece(unk_token="[UNK]"))
        library.normalizer = normalizers.BertNormalizer(lowercase=True)
        library.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        trainer: Any = trainers.WordPieceTrainer(vocab_size=300, special_tokens=["[UNK]"], show_progress=False)
    elif kind == "compatible forms":
        library = Library(models.Unigram())
        library.normalizer = normalizers.NFKC()
        library.pre_tokenizer = pre_tokenizers.Metaspace()
        trainer = trainers.UnigramTrainer(
            vocab_size=300, special_tokens=["<unk>"], unk_token="<unk>", show_progress=False
        )
    else:
        library = Library(models.BPE())
        library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
        library.decoder = decoders.ByteLevel()
        library.normalizer = normalizers.Sequence([normalizers.NFD(), normalizers.StripAccents(), normalizers.Strip()])
        trainer = trainers.BpeTrainer(
            vocab_size=400, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
        )
    library.train_from_iterator([path.read_text() for path in SOURCES[:4]], trainer)
    return SubwordTokenizer(library.to_str())


LOSSY = ("lower case", "compatible forms", "stripped")


def by_document(found: Shard, boundary: int) -> list[list[int]]:
    """The tokens cut at boundaries; there is one before the first document."""
    rows: list[list[int]] = []
    for token in found.tokens.tolist():
        if token == boundary:
            rows.append([])
        else:
            rows[-1].append(token)
    return rows


def pieces_of(tokenizer: Tokenizer, document: Document) -> list[int]:
    """The tokens of a document by its definition: those of its pieces, one after another."""
    return [token for piece in in_pieces(document.data.decode()) for token in tokenizer.encode(piece)]


@pytest.mark.parametrize("kind", ["bytes", "bpe", *LOSSY])
@pytest.mark.parametrize("side", SIDES)
def test_tokens_are_the_tokenizers_document_by_document_with_the_boundary_before_each(
    side: str, kind: str, bpe: SubwordTokenizer
) -> None:
    tokenizer: Tokenizer = ByteTokenizer() if kind == "bytes" else bpe if kind == "bpe" else lossy(kind)
    found = shard(replace(PLAIN, tokenizer=tokenizer), side)
    assert found.tokens[0] == tokenizer.boundary
    rows = by_document(found, tokenizer.boundary)
    assert rows == [pieces_of(tokenizer, document) for document in getattr(PLAIN, side)]
    if kind in ("bytes", "bpe"):
        assert [tokenizer.decode(row).encode() for row in rows] == [d.data for d in getattr(PLAIN, side)]


def test_a_document_of_one_piece_is_encoded_as_a_whole(bpe: SubwordTokenizer) -> None:
    rows = by_document(shard(replace(PLAIN, tokenizer=bpe), "train"), bpe.boundary)
    assert rows == [bpe.encode(document.data.decode()) for document in PLAIN.train]


@pytest.mark.parametrize("side", ["valid", "test"])
@pytest.mark.parametrize("kind", ["bytes", "bpe", *LOSSY])
def test_byte_counts_add_up_to_the_bytes_of_every_document_whatever_a_tokenizer_drops(
    kind: str, side: str, bpe: SubwordTokenizer
) -> None:
    tokenizer: Tokenizer = ByteTokenizer() if kind == "bytes" else bpe if kind == "bpe" else lossy(kind)
    found = shard(replace(PLAIN, tokenizer=tokenizer), side)
    assert len(found.bytes) == len(found.tokens)
    starts = np.flatnonzero(found.tokens == tokenizer.boundary)
    sizes = [len(document.data) for document in getattr(PLAIN, side)]
    assert np.add.reduceat(found.bytes, starts).tolist() == sizes
    ends = [*starts[1:], len(found.tokens)]
    for start, end in zip(starts, ends, strict=True):
        assert found.bytes[start] == 0 or end == start + 1, "only a document without tokens counts for its boundary"


def test_a_document_that_a_tokenizer_drops_entirely_is_still_counted() -> None:
    tokenizer = lossy("lower case")
    blank = Corpus(
        "x", PLAIN.train, (named_by_content(b"\xe2\x80\x8b \n"), named_by_content(b"words\n")), tokenizer=tokenizer
    )
    assert tokenizer.encode("\u200b \n") == []
    found = shard(blank, "valid")
    assert found.bytes.sum() == 11
    assert found.bytes[0] == 5


def test_training_shards_hold_no_byte_counts(bpe: SubwordTokenizer, cache: Path) -> None:
    for tokenizer in (ByteTokenizer(), bpe):
        assert len(shard(replace(PLAIN, tokenizer=tokenizer), "train").bytes) == 0
    assert {path.stat().st_size for path in cache.glob(f"tokens/*/{BYTES}")} == {0}


def test_shards_are_memory_mapped_and_as_small_as_the_vocabulary_allows(bpe: SubwordTokenizer, cache: Path) -> None:
    for side in ("train", "valid"):
        found = shard(replace(PLAIN, tokenizer=bpe), side)
        assert found.tokens.dtype == np.uint16
        for array in (found.tokens, found.bytes) if side == "valid" else (found.tokens,):
            assert isinstance(array.base, np.memmap)
            assert not array.flags.writeable
    sizes = {path.stat().st_size for path in cache.glob(f"tokens/*/{TOKENS}")}
    assert sizes == {2 * len(shard(replace(PLAIN, tokenizer=bpe), side).tokens) for side in ("train", "valid")}


def words(size: int) -> SubwordTokenizer:
    """A vocabulary of `size` tokens with the boundary."""
    library = Library(models.WordLevel({f"w{number}": number for number in range(size - 1)}, unk_token="w0"))
    library.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return SubwordTokenizer(library.to_str())


@pytest.mark.parametrize(
    ("size", "dtype"), [(2**16 - 1, np.uint16), (2**16, np.uint16), (2**16 + 1, np.uint32), (2**17, np.uint32)]
)
def test_the_largest_token_fits_at_every_size_of_vocabulary(size: int, dtype: type) -> None:
    tokenizer = words(size)
    assert (tokenizer.vocabulary, tokenizer.boundary) == (size, size - 1)
    text = named_by_content(f"w{size - 2} w1 w{size // 2}\n".encode())
    found = shard(Corpus("x", (text,), (text,), tokenizer=tokenizer), "valid")
    assert token_type(size) is dtype
    assert found.tokens.dtype == dtype
    assert found.tokens.tolist() == [size - 1, size - 2, 1, size // 2]


def test_a_shard_is_made_once_for_a_content_and_a_tokenizer(
    cache: Path, bpe: SubwordTokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []
    real = SubwordTokenizer.arrays
    monkeypatch.setattr(SubwordTokenizer, "arrays", lambda *args: calls.append(1) or real(*args))
    corpus = replace(PLAIN, tokenizer=bpe)
    first = shard(corpus, "valid")
    made = len(calls)
    assert made
    again = Corpus("another name", PLAIN.train[:1], PLAIN.valid, tokenizer=SubwordTokenizer(bpe.text))
    second = shard(again, "valid")
    assert len(calls) == made
    assert second.tokens.base.filename == first.tokens.base.filename
    assert len(list((cache / "tokens").glob("*/"))) == 1
    others = [
        shard(corpus, "test"),
        shard(replace(PLAIN, tokenizer=trained(BPESettings(vocabulary=699), PLAIN)), "valid"),
        shard(Corpus("x", PLAIN.train, PLAIN.valid[:-1], tokenizer=bpe), "valid"),
        shard(Corpus("x", PLAIN.valid, PLAIN.train, tokenizer=bpe), "train"),
    ]
    files = {str(found.tokens.base.filename) for found in (first, *others)}
    assert len(files) == 5


def test_a_shard_that_lost_bytes_is_made_again(cache: Path) -> None:
    first = shard(PLAIN, "valid").tokens.copy()
    (file,) = cache.glob(f"tokens/*/{TOKENS}")
    os.truncate(file, 10)
    assert np.array_equal(shard(PLAIN, "valid").tokens, first)


@pytest.mark.parametrize("kind", ["bytes", "bpe", *LOSSY])
def test_a_long_document_is_taken_in_sections_without_another_token_or_count(
    kind: str, bpe: SubwordTokenizer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    tokenizer: Tokenizer = ByteTokenizer() if kind == "bytes" else bpe if kind == "bpe" else lossy(kind)
    texts = [path.read_text() for path in SOURCES]
    long = named_by_content("".join([*texts, " " * 5000, "\n" * 3000, *ODD[:5], "漢字 " * 900, *texts]).encode())
    corpus = Corpus("x", (long,), (*PLAIN.valid[:3], long), tokenizer=tokenizer)
    monkeypatch.setattr(pieces, "PIECE_CHARS", 1000)
    whole = shard(corpus, "valid")
    monkeypatch.setattr(pieces, "SECTION_BYTES", 3001)
    monkeypatch.setattr(shards, "CHUNK_CHARS", 7000)
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "other"))
    assert len(list(sections(long.data))) > 50
    cut = shard(corpus, "valid")
    assert np.array_equal(cut.tokens, whole.tokens)
    assert cut.bytes.sum() == whole.bytes.sum() == corpus.valid_bytes


LONG = [*ODD, "".join(ODD) * 3, "a\n" * 200_000, "\n" * 400_000, "", "a" * 131_072, "ab " * 43_691]


@pytest.mark.parametrize("text", LONG, ids=range(len(LONG)))
def test_pieces_and_sections_join_to_the_text_and_are_small(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = list(in_pieces(text))
    assert "".join(found) == text
    assert all(0 < len(piece) <= 2 * 64 * 1024 for piece in found)
    assert [piece for section in sections(text.encode()) for piece in in_pieces(section)] == found
    monkeypatch.setattr(pieces, "SECTION_BYTES", 150_001)
    assert [piece for section in sections(text.encode()) for piece in in_pieces(section)] == found


def test_long_lines_are_cut_before_blanks_where_tokens_are_not_changed_by_it(bpe: SubwordTokenizer) -> None:
    line = " ".join(path.read_text().replace("\n", " ") for path in SOURCES * 3)
    cut = list(in_pieces(line))
    assert len(cut) > 1
    assert all(piece.startswith(" ") for piece in cut[1:])
    assert [token for piece in cut for token in bpe.encode(piece)] == bpe.encode(line)


def test_merges_that_a_tokenizer_draws_are_not_drawn_here(bpe: SubwordTokenizer) -> None:
    text = json.loads(bpe.text)
    text["model"]["dropout"] = 0.5
    drawing = SubwordTokenizer(json.dumps(text))
    sentence = PLAIN.train[0].data.decode()
    assert drawing.encode(sentence) == drawing.encode(sentence) == bpe.encode(sentence)


def test_an_ordinary_word_cannot_be_the_boundary() -> None:
    with pytest.raises(ValueError, match=r"^'w7' is an ordinary token, which text can have$"):
        SubwordTokenizer(words(20).text, "w7")


class Bigrams(torch.nn.Module):
    """Logits of the next token by the last one alone."""

    def __init__(self, vocabulary: int):
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        self.table = torch.randn(vocabulary, vocabulary, generator=generator, dtype=torch.float64)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.table[tokens]


def judged(recipe: Make, corpus: Corpus, context: int, tokens: int) -> tuple[dict[str, float], np.ndarray, Any]:
    """What `LanguageModelling` measures of a bigram model, the windows that it measures on, and the model."""
    made = recipe({"type": "residual"}, validation_tokens=tokens)
    made = replace(made, model=made.model.model_copy(update={"context": context}))
    objective, model = LanguageModelling(made, corpus), Bigrams(corpus.tokenizer.vocabulary)
    return objective.judge(model, torch.device("cpu"), nullcontext), objective.held_out[0], model  # type: ignore[arg-type]


def nats(model: Any, windows: np.ndarray) -> float:
    tokens = torch.from_numpy(windows)
    return F.cross_entropy(model(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten(), reduction="sum").item()


def test_bits_per_byte_of_trained_tokens_count_the_true_bytes_of_exactly_the_windows_text(
    recipe: Make, bpe: SubwordTokenizer
) -> None:
    corpus = Corpus("ascii", PLAIN.train, PLAIN.test, tokenizer=bpe)
    side = b"".join(document.data for document in PLAIN.test)
    assert side.isascii()
    # All windows, so that their targets are the side's first tokens, and each is as many bytes as it has letters.
    found, windows, model = judged(recipe, corpus, context=32, tokens=10**9)
    text = bpe.decode(windows[:, 1:].flatten().tolist()).encode()
    assert side.startswith(text)
    assert len(side) - len(text) < 32 * 16
    assert found["validation/bits_per_byte"] == pytest.approx(nats(model, windows) / len(text) / math.log(2), rel=1e-12)
    # A few, spread over the side.
    found, windows, model = judged(recipe, corpus, context=32, tokens=32 * 5)
    assert len(windows) == 5
    texts = [bpe.decode(window[1:].tolist()).encode() for window in windows]
    assert all(text in side for text in texts)
    size = sum(map(len, texts))
    assert found["validation/bits_per_byte"] == pytest.approx(nats(model, windows) / size / math.log(2), rel=1e-12)


@pytest.mark.parametrize("kind", ["bytes", "bpe", *LOSSY])
def test_over_a_whole_side_bits_per_byte_divide_by_the_sides_own_bytes(
    kind: str, recipe: Make, bpe: SubwordTokenizer
) -> None:
    tokenizer: Tokenizer = ByteTokenizer() if kind == "bytes" else bpe if kind == "bpe" else lossy(kind)
    valid = (*PLAIN.valid[4:9], named_by_content(PLAIN.test[0].data[:600]))
    corpus = Corpus("x", PLAIN.train, valid, tokenizer=tokenizer)
    found, windows, model = judged(recipe, corpus, context=1, tokens=10**9)  # every token but the first is a target
    assert len(windows) == len(shard(corpus, "valid").tokens) - 1
    expected = nats(model, windows) / sum(len(document.data) for document in valid) / math.log(2)
    assert found["validation/bits_per_byte"] == pytest.approx(expected, rel=1e-12)
