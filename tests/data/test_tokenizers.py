"""Tokenizers: a round trip for any text, a boundary that no text has, and lengths that count true bytes."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as Library
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

from harness.data import subwords
from harness.data.documents import Corpus, Document
from harness.data.settings import BPESettings, FileSettings
from harness.data.shards import shard
from harness.data.subwords import BoundaryError, SubwordTokenizer, in_pieces, load_tokenizer, trained
from harness.data.tokenizers import ByteTokenizer, Tokenizer
from harness.errors import UsageError

TEXT = "naïve — 漢字 🙂\n\ttab\0nul  <|endoftext|> don't\r\n  indented\n"
ANY_TEXT = st.text(alphabet=st.characters(exclude_categories=["Cs"]))
SOURCES = sorted((Path(__file__).parents[2] / "harness" / "data").glob("*.py"))


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    documents = [Document(path.name, path.read_bytes()) for path in SOURCES]
    return Corpus("sources", (*documents, Document("odd", TEXT.encode())), documents[:1])


@pytest.fixture(scope="module")
def bpe(corpus: Corpus) -> SubwordTokenizer:
    return trained(BPESettings(vocabulary=600), corpus)


def other_kind(kind: str) -> str:
    """A tokenizer.json that is not byte-level: it normalises, drops blanks, or has unknown words."""
    if kind == "word_piece":
        library = Library(models.WordPiece(unk_token="[UNK]"))
        library.normalizer = normalizers.BertNormalizer(lowercase=True)
        library.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        trainer: Any = trainers.WordPieceTrainer(vocab_size=300, special_tokens=["[UNK]", "[SEP]"], show_progress=False)
    elif kind == "unigram":
        library = Library(models.Unigram())
        library.normalizer = normalizers.NFKC()
        library.pre_tokenizer = pre_tokenizers.Metaspace()
        library.decoder = decoders.Metaspace()
        trainer = trainers.UnigramTrainer(
            vocab_size=300, special_tokens=["<unk>", "</s>"], unk_token="<unk>", show_progress=False
        )
    else:
        library = Library(models.WordLevel(unk_token="<unk>"))
        library.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        trainer = trainers.WordLevelTrainer(
            vocab_size=300, special_tokens=["<unk>", "<|endoftext|>"], show_progress=False
        )
    library.train_from_iterator([path.read_text() for path in SOURCES], trainer)
    return library.to_str()


@settings(deadline=None, database=None)
@given(text=ANY_TEXT)
def test_every_text_comes_back_and_its_lengths_add_up_to_its_bytes(text: str, bpe: SubwordTokenizer) -> None:
    for tokenizer in (ByteTokenizer(), bpe):
        tokens = tokenizer.encode(text)
        assert tokenizer.decode(tokens) == text
        assert tokenizer.boundary not in tokens
        assert all(token < tokenizer.vocabulary for token in tokens)
        [(row, lengths)] = tokenizer.arrays([text], counted=True)
        assert len(row) == len(lengths)
        assert lengths.sum() == len(text.encode())
        assert [len(other) for _, other in tokenizer.arrays([text], counted=False)] == [0]


def test_a_character_of_several_bytes_is_several_tokens_of_one_byte_each() -> None:
    tokenizer = ByteTokenizer()
    assert tokenizer.encode("é漢") == [0xC3, 0xA9, 0xE6, 0xBC, 0xA2]
    [(tokens, lengths)] = tokenizer.arrays(["é漢"], counted=True)
    assert tokens.tolist() == [0xC3, 0xA9, 0xE6, 0xBC, 0xA2]
    assert lengths.tolist() == [1] * 5


def test_half_a_character_and_the_boundary_do_not_break_decoding(bpe: SubwordTokenizer) -> None:
    tokenizer = ByteTokenizer()
    assert tokenizer.decode([97, tokenizer.boundary, 98]) == "ab"
    assert tokenizer.decode([97, 0xE6, 0xBC]) == "a\ufffd"
    assert bpe.decode([*bpe.encode("a"), bpe.boundary, *bpe.encode("b")]) == "ab"
    assert "\ufffd" in bpe.decode(bpe.encode("🙂")[:1])


def test_trained_tokens_are_as_many_as_asked_with_the_boundary_and_merge_what_is_frequent(
    bpe: SubwordTokenizer, corpus: Corpus
) -> None:
    assert (bpe.vocabulary, bpe.boundary) == (600, 599)
    text = corpus.train[0].data.decode()
    [(tokens, lengths)] = bpe.arrays([text], counted=True)
    assert len(tokens) < 0.5 * len(text.encode())
    pieces = [bpe.decode([int(token)]).encode() for token in tokens]
    assert [len(piece) for piece in pieces] == lengths.tolist(), "of ASCII text, every token is its own bytes long"
    assert b"".join(pieces).decode() == text


def test_a_small_text_yields_fewer_tokens_and_says_so() -> None:
    small = Corpus("small", (Document("a", b"ab ab ab"),), (Document("b", b"c"),))
    tokenizer = trained(BPESettings(vocabulary=5000), small)
    assert 257 < tokenizer.vocabulary < 270
    assert tokenizer.decode(tokenizer.encode("any ☃ text")) == "any ☃ text"


def test_training_is_done_once_for_the_same_documents_and_settings_and_is_a_function_of_them(
    corpus: Corpus, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    calls: list[int] = []
    real = subwords._train
    monkeypatch.setattr(subwords, "_train", lambda *args: calls.append(1) or real(*args))
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "one"))
    first = trained(BPESettings(vocabulary=500), corpus)
    again = trained(BPESettings(vocabulary=500), Corpus("other name", corpus.train, corpus.train[:3]))
    assert len(calls) == 1, "the held-out side is none of its business"
    assert again.digest == first.digest
    assert trained(BPESettings(vocabulary=400), corpus).digest != first.digest
    fewer = Corpus("x", corpus.train[:-2], corpus.valid)
    assert trained(BPESettings(vocabulary=500), fewer).digest != first.digest
    assert len(calls) == 3
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "two"))
    assert trained(BPESettings(vocabulary=500), corpus).digest == first.digest
    assert len(calls) == 4


@pytest.mark.parametrize("kind", ["word_piece", "unigram", "word_level"])
def test_of_any_tokenizer_the_bytes_are_those_of_the_text_and_not_of_its_tokens(kind: str) -> None:
    tokenizer = SubwordTokenizer(other_kind(kind))
    texts = [TEXT, "plain words, and   blanks \n", *(path.read_text() for path in SOURCES[:3]), "   \n  ", "ÀÉÎ ﬁ ½ ǅ"]
    for text, (tokens, lengths) in zip(texts, tokenizer.arrays(texts, counted=True), strict=True):
        assert len(tokens) == len(lengths)
        assert tokens.tolist() == [token for piece in in_pieces(text) for token in tokenizer.encode(piece)]
        if len(tokens):
            assert lengths.sum() == len(text.encode())
    [(_, lengths)] = tokenizer.arrays(["two words"], counted=True)
    assert lengths.max() < len("two words"), "each token has a part"


def test_a_boundary_is_a_token_of_the_file_or_one_more_and_text_never_has_it(bpe: SubwordTokenizer) -> None:
    library = Library.from_str(bpe.text)
    library.add_special_tokens(["<|endoftext|>"])
    text = library.to_str()
    plain = SubwordTokenizer(text)
    assert plain.vocabulary == plain.boundary + 1
    named = SubwordTokenizer(text, "<|endoftext|>")
    assert named.vocabulary == plain.boundary
    assert named.boundary < named.vocabulary
    assert named.boundary not in named.encode("a <|endoftext|> b")
    assert named.digest != plain.digest
    with pytest.raises(ValueError, match=r"no token '<\|endoftex\|>'; did you mean '<\|endoftext\|>'"):
        SubwordTokenizer(text, "<|endoftex|>")
    assert SubwordTokenizer(json.dumps(json.loads(text), indent=1)).digest == plain.digest


def test_byte_level_files_with_a_prefix_space_still_count_true_bytes(bpe: SubwordTokenizer) -> None:
    changed = json.loads(bpe.text)
    changed["pre_tokenizer"]["add_prefix_space"] = True
    tokenizer = SubwordTokenizer(json.dumps(changed))
    for text in ("word", TEXT, SOURCES[0].read_text()):
        [(tokens, lengths)] = tokenizer.arrays([text], counted=True)
        assert len(tokens) == len(lengths)
        assert lengths.sum() == len(text.encode())


def test_many_texts_at_a_time_are_the_texts_one_by_one(bpe: SubwordTokenizer) -> None:
    texts = [TEXT, "", "x" * 200_000, "\n".join(["line"] * 50_000)]
    for tokenizer in (bpe, ByteTokenizer()):
        assert tokenizer.encode_all(texts) == [tokenizer.encode(text) for text in texts]
        for text, (tokens, lengths) in zip(texts, tokenizer.arrays(texts, counted=True), strict=True):
            assert tokenizer.decode(tokens.tolist()) == text
            assert lengths.sum() == len(text.encode())


@pytest.fixture
def load(corpus: Corpus, tmp_path: Path) -> Callable[..., Tokenizer]:
    return lambda **keys: load_tokenizer(FileSettings(**keys), corpus, tmp_path)


def test_a_tokenizer_file_is_found_beside_the_suite_and_wrong_ones_are_one_line(
    load: Callable[..., Tokenizer], tmp_path: Path, bpe: SubwordTokenizer
) -> None:
    (tmp_path / "mine.json").write_text(bpe.text)
    assert load(file="mine.json").digest == bpe.digest
    with pytest.raises(
        UsageError, match=r"^data\.tokenizer\.file: no such file: yours\.json; did you mean 'mine\.json'\?$"
    ):
        load(file="yours.json")
    (tmp_path / "torn.json").write_text(bpe.text[:1000])
    with pytest.raises(UsageError, match=r"^data\.tokenizer\.file: .*torn\.json: no tokenizer: ") as caught:
        load(file="torn.json")
    assert "\n" not in str(caught.value)
    with pytest.raises(UsageError, match=r"^data\.tokenizer\.boundary: .*mine\.json: no token '<s>'"):
        load(file="mine.json", boundary="<s>")


def test_ids_that_are_not_dense_still_fit_the_table() -> None:
    library = Library(models.WordLevel({"<unk>": 0, "a": 5}, unk_token="<unk>"))
    library.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = SubwordTokenizer(library.to_str())
    assert tokenizer.encode("a b") == [5, 0]
    assert (tokenizer.boundary, tokenizer.vocabulary) == (6, 7)
    [(tokens, lengths)] = tokenizer.arrays(["a b"], counted=True)
    assert np.array_equal(tokens, [5, 0])
    assert lengths.sum() == 3


def word_level(tokens: dict[str, int], unknown: str | None) -> Library:
    library = Library(models.WordLevel(tokens, **({"unk_token": unknown} if unknown else {})))
    library.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    library.add_special_tokens([token for token in tokens if token.startswith("<")])
    return library


def test_a_boundary_that_text_has_is_refused(corpus: Corpus) -> None:
    text = word_level({"<unk>": 0, "<s>": 1, "a": 2}, "<unk>").to_str()
    with pytest.raises(BoundaryError, match=r"^'<s>' is found in text that spells it"):
        SubwordTokenizer(text, "<s>")
    with pytest.raises(BoundaryError, match=r"^'<unk>' is found in text that spells it"):
        SubwordTokenizer(text, "<unk>")
    tokenizer = SubwordTokenizer(text)
    tokenizer.boundary = 0
    with pytest.raises(UsageError, match=r"^data\.tokenizer\.boundary: the text itself has this token"):
        shard(replace(corpus, tokenizer=tokenizer), "train")


def test_text_that_a_tokenizer_has_no_token_for_is_one_line(corpus: Corpus) -> None:
    tokenizer = SubwordTokenizer(word_level({"a": 0}, None).to_str())
    with pytest.raises(UsageError, match=r"^data\.tokenizer: it cannot encode the text: [^\n]+$"):
        shard(replace(corpus, tokenizer=tokenizer), "valid")


def test_an_id_that_no_table_reaches_is_refused() -> None:
    with pytest.raises(ValueError, match=r"an id of 3,000,000,000"):
        SubwordTokenizer(word_level({"a": 3_000_000_000}, None).to_str())


def test_what_no_text_is_encoded_with_is_not_in_the_digest(bpe: SubwordTokenizer) -> None:
    library = Library.from_str(bpe.text)
    library.enable_truncation(8)
    library.enable_padding(length=8)
    assert SubwordTokenizer(library.to_str()).digest == bpe.digest
    assert SubwordTokenizer(library.to_str()).text != bpe.text
