"""The overlap of training and held-out text is what counting n-grams of words in plain Python gives."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.data import overlap as module
from harness.data.corpora import load_corpus
from harness.data.documents import Corpus, Document
from harness.data.overlap import WORDS, grams_of, overlap, pieces
from harness.data.settings import data_settings

Gram = tuple[bytes, ...]

SOURCES = [
    Document(path.name, path.read_bytes()) for path in sorted((Path(__file__).parents[2] / "harness").rglob("*.py"))
]
SIGNS = ["a", "b", "A", "é", "É", "漢", "_", "1", " ", " ", " ", "\n", ".", "-", "\0", "\r\n"]
SLICES = st.lists(st.tuples(st.integers(0, 60), st.integers(80, 200)), max_size=4)


def words(data: bytes) -> list[bytes]:
    return [word.lower() for word in re.findall(rb"[A-Za-z0-9_\x80-\xff]+", data)]


def grams(data: bytes) -> set[Gram]:
    found = words(data)
    return {tuple(found[start : start + WORDS]) for start in range(len(found) - WORDS + 1)}


def expected(side: Sequence[Document], train: Sequence[Document]) -> dict[str, object]:
    """By sets of tuples, document by document."""
    present = {gram for document in train for gram in grams(document.data)}
    found = [grams(document.data) for document in side]
    total = sum(map(len, found))
    return {
        "words": 13,
        "share": sum(len(one & present) for one in found) / total if total else 0.0,
        "documents_over_half": sum(len(one & present) > 0.5 * len(one) for one in found if one),
        "documents": len(side),
    }


def documents(*contents: str) -> list[Document]:
    return [Document(str(number), content.encode()) for number, content in enumerate(contents)]


def counted(count: int, start: int = 0, gap: str = " ") -> str:
    return gap.join(f"word{number}" for number in range(start, start + count))


@settings(deadline=None, database=None, max_examples=200)
@given(st.lists(st.sampled_from(SIGNS), min_size=100, max_size=200), SLICES, SLICES, st.integers(4, 60))
def test_shares_of_random_texts_are_those_of_sets_of_tuples_however_they_are_cut(
    text: list[str], side_slices: list[tuple[int, int]], train_slices: list[tuple[int, int]], size: int
) -> None:
    side = documents(*("".join(text[start:end]) for start, end in side_slices))  # of one text, so that n-grams meet
    train = documents(*("".join(text[start:end]) for start, end in train_slices))
    wanted = expected(side, train)
    assert overlap(side, train) == wanted
    with pytest.MonkeyPatch.context() as patch:
        longest = max((len(word) for document in (*side, *train) for word in words(document.data)), default=1)
        patch.setattr(module, "PIECE_BYTES", max(size, longest + 1))  # words longer than a piece may be cut
        assert overlap(side, train) == wanted


@pytest.mark.parametrize("size", [4 * 2**20, 5000])
def test_shares_of_real_text_are_those_of_sets_of_tuples(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PIECE_BYTES", size)
    side, train = SOURCES[::3], [document for number, document in enumerate(SOURCES) if number % 3]
    wanted = expected(side, train)
    assert wanted["share"] not in (0.0, 1.0)
    assert overlap(side, train) == wanted


def test_shares_of_a_packed_corpus_are_reported_for_both_sides() -> None:
    corpus = load_corpus(data_settings(test_share=0.05))
    for side in ("valid", "test"):
        assert corpus.report["overlap"][side] == expected(getattr(corpus, side), corpus.train)


def test_case_and_punctuation_do_not_matter_and_letters_digits_and_accents_do() -> None:
    text = "The quick, brown fox -- jumps over_1 the (lazy) dog; and naïve 漢字 runs 12 times."
    same = text.upper().replace("Ï", "ï").replace(",", "").replace("-", ".\n")
    assert overlap(documents(text), documents(same))["share"] == 1.0
    for other in (text.replace("12", "13"), text.replace("naïve", "naive"), text.replace("over_1", "over 1")):
        assert overlap(documents(text), documents(other))["share"] < 1.0
    assert overlap(documents(text), documents(text.replace("ï", "Ï")))["share"] < 1.0, "only ASCII has case here"


def test_documents_of_fewer_words_than_an_n_gram_have_none() -> None:
    short = counted(WORDS - 1)
    assert overlap(documents(short), documents(short)) == {
        "words": WORDS, "share": 0.0, "documents_over_half": 0, "documents": 1,
    }  # fmt: skip
    whole = counted(WORDS)
    assert overlap(documents(short, whole), documents(whole)) == {
        "words": WORDS, "share": 1.0, "documents_over_half": 1, "documents": 2,
    }  # fmt: skip
    assert overlap([], documents(whole))["share"] == overlap(documents(whole), [])["share"] == 0.0


def test_n_grams_never_reach_over_two_documents() -> None:
    whole = counted(40)
    halves = [counted(20), counted(20, 20)]
    found = overlap(documents(whole), documents(*halves))
    assert found["share"] == 2 * (20 - WORDS + 1) / (40 - WORDS + 1)
    assert overlap(documents(*halves), documents(whole))["share"] == 1.0
    glued = documents(*(f"word{number}" for number in range(40)))
    assert overlap(documents(whole), glued)["share"] == 0.0, "not even over documents of one word"


def test_more_than_half_of_a_document_is_more_than_half_of_its_own_n_grams() -> None:
    train = documents(counted(100))
    half = counted(WORDS + 1) + " other"  # two n-grams of three
    less = counted(WORDS) + " and others"  # one of three
    found = overlap(documents(half, less), train)
    assert found["documents_over_half"] == 1
    assert found["share"] == 0.5


def test_an_n_gram_counts_once_in_a_document_that_repeats_it() -> None:
    repeated = "\n".join([counted(WORDS)] * 50)
    again = overlap(documents(repeated + " " + counted(60, 100)), documents(counted(WORDS)))
    assert again["share"] == 1 / len(grams((repeated + " " + counted(60, 100)).encode()))


@pytest.mark.parametrize("gap", [" ", ".\n\n\n", " " * 300])
def test_no_n_gram_is_lost_where_a_long_document_is_cut_however_long_its_words(
    gap: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PIECE_BYTES", 2000)
    long = gap.join(f"w{number}" + "x" * (number * 37 % 900) for number in range(400))
    assert len(list(pieces(long.encode()))) > 20
    assert overlap(documents(long), documents("unrelated", long)) == expected(documents(long), documents(long))
    found = np.unique(np.concatenate([grams_of(piece) for piece in pieces(long.encode())]))
    assert np.array_equal(found, np.unique(grams_of(long.encode()))), "and none is made up"


def test_a_text_that_is_one_word_is_cut_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PIECE_BYTES", 100)
    found = list(pieces(b"x" * 12_345))
    assert sum(map(len, found)) >= 12_345
    assert max(map(len, found)) <= (2 + WORDS) * 100


def test_of_very_many_n_grams_those_of_documents_all_over_the_side_are_looked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    side = documents(*(counted(30, 100 * number) for number in range(40)))
    monkeypatch.setattr(module, "MOST_GRAMS", 18 * 10)
    found = overlap(side, side[::2])
    assert found["documents"] == 10
    assert found == expected(side[::4], side[::2])


def test_different_n_grams_of_real_text_have_different_hashes() -> None:
    data = b"".join(document.data for document in SOURCES)
    assert len(np.unique(grams_of(data))) == len(grams(data))


def test_the_report_of_a_corpus_has_no_overlap_of_a_side_that_is_not_there() -> None:
    corpus = load_corpus(data_settings())
    assert isinstance(corpus, Corpus)
    assert set(corpus.report["overlap"]) == {"valid"}
