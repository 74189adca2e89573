"""Packed corpora: every document comes back, no text is on two sides, and nothing depends on the order of arrival."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from harness.data import pack
from harness.data.documents import SIDES, TEXT, Corpus, Document, opened, side_digests, size_of
from harness.data.files import named_by_content
from harness.data.pack import BLOCK_BYTES, WHOLE_DOCUMENTS_FROM, Packer, blocks, position, same_words

ANY_TEXT = st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=40)
WORDS = st.text(alphabet="ab \t\n\r", max_size=12)
quick = settings(deadline=None, database=None, max_examples=60)


def packed(
    documents: Iterable[Document | tuple[Document, str | None]],
    folder: Path,
    valid_share: float = 0.2,
    test_share: float = 0.0,
    in_blocks: bool = False,
) -> Corpus:
    packer = Packer(folder, in_blocks)
    for document in documents:
        packer.add(*(document if isinstance(document, tuple) else (document,)))
    return opened(folder, packer.finish("made", valid_share, test_share))


def everything(corpus: Corpus) -> dict[str, bytes]:
    return {document.name: document.data for side in SIDES for document in getattr(corpus, side)}


def texts(count: int, start: int = 0) -> list[Document]:
    return [named_by_content(f"text {number}\n".encode()) for number in range(start, start + count)]


@quick
@given(st.dictionaries(ANY_TEXT, ANY_TEXT.map(str.encode), max_size=30), st.randoms(use_true_random=False))
def test_random_documents_come_back_in_the_order_of_their_names(found: dict[str, bytes], order: random.Random) -> None:
    documents = [Document(name, data) for name, data in found.items()]
    order.shuffle(documents)
    with TemporaryDirectory() as folder:
        corpus = packed(documents, Path(folder))
        back = everything(corpus)
        for side in (corpus.train, corpus.valid):
            assert [document.name for document in side] == sorted(document.name for document in side)
            assert side[:] == tuple(side[number] for number in range(len(side)))
            assert size_of(side) == sum(len(document.data) for document in side)
        assert len(corpus.train) + len(corpus.valid) == len(back)
    assert all(found[name] == data for name, data in back.items())
    kept = {tuple(data.split()) for data in back.values()}
    assert kept == {tuple(data.split()) for data in found.values()} - {()}
    assert len(kept) == len(back)


@quick
@given(st.lists(WORDS, max_size=12))
@example(["a", " a", "a\r\n", "aa", "a a", "", " \n"])
def test_copies_that_differ_only_in_white_space_are_one_document(contents: list[str]) -> None:
    documents = [Document(str(number), content.encode()) for number, content in enumerate(contents)]
    with TemporaryDirectory() as folder:
        corpus = packed(documents, Path(folder))
        kept = everything(corpus)
        gone = corpus.report["copies_removed"]
    different = {tuple(content.split()): None for content in contents if content.split()}
    assert sorted(tuple(data.decode().split()) for data in kept.values()) == sorted(different)
    assert sum(gone.values()) == sum(bool(content.split()) for content in contents) - len(kept)


@quick
@given(st.lists(WORDS, max_size=6), st.integers(1, 5))
def test_the_hash_of_the_words_does_not_depend_on_how_a_text_is_cut_for_it(parts: list[str], size: int) -> None:
    data = "".join(parts).encode()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pack, "PIECE_BYTES", size)
        cut = same_words(data)
    words = b" ".join(data.split())
    assert cut == same_words(data) == (hashlib.sha256(words).digest()[:16] if words else b"")


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2), (1, 2, 0)])
def test_a_copy_on_two_given_sides_stays_on_the_side_furthest_from_training(
    tmp_path: Path, order: tuple[int, ...]
) -> None:
    everywhere, held_out = b"on all\nthree sides", b"on two sides"
    given_sides: list[tuple[Document, str | None]] = [
        (named_by_content(everywhere), "train"),
        (named_by_content(everywhere.replace(b"\n", b" ")), "valid"),
        (named_by_content(everywhere + b"\n"), "test"),
    ]
    documents = [given_sides[number] for number in order]
    documents += [(named_by_content(held_out), "valid"), (named_by_content(held_out), "train")]
    documents += [(document, "train") for document in texts(3)]
    documents.append((texts(1)[0], "train"))
    corpus = packed(documents, tmp_path)
    assert [document.data for document in corpus.test] == [everywhere + b"\n"]
    assert [document.data for document in corpus.valid] == [held_out]
    assert {document.data for document in corpus.train} == {document.data for document in texts(3)}
    assert corpus.report["copies_removed"] == {"on_one_side": 1, "on_two_sides": 3}
    assert corpus.report["documents"] == {"train": 3, "valid": 1, "test": 1}


def test_copies_whose_names_would_draw_two_sides_are_counted_and_one_stays(tmp_path: Path) -> None:
    held_out = next(name for name in map(str, range(1000)) if position(name) < 0.2)
    trained = next(name for name in map(str, range(1000)) if position(name) >= 0.2)
    documents = [Document(held_out, b"same"), Document(trained, b"same "), *texts(30)]
    corpus = packed(documents, tmp_path)
    assert corpus.report["copies_removed"] == {"on_one_side": 0, "on_two_sides": 1}
    assert [name for name in everything(corpus) if name in (held_out, trained)] == [min(held_out, trained)]


@quick
@given(st.lists(ANY_TEXT, min_size=1, max_size=30), st.booleans(), st.randoms(use_true_random=False))
def test_the_order_of_arrival_does_not_matter(contents: list[str], in_blocks: bool, order: random.Random) -> None:
    documents = [named_by_content(content.encode()) for content in contents]
    found: list[tuple[str, Any]] = []
    for _ in range(2):
        with TemporaryDirectory() as folder:
            corpus = packed(documents, Path(folder), 0.3, 0.2, in_blocks)
            found.append((corpus.digest, corpus.report))
        order.shuffle(documents)
    assert found[0] == found[1]


def test_the_side_of_a_document_is_a_function_of_its_name_alone(tmp_path: Path) -> None:
    documents = texts(200)
    (tmp_path / "all").mkdir()
    corpus = packed(documents, tmp_path / "all", 0.2, 0.1)
    side_of = {document.name: side for side in SIDES for document in getattr(corpus, side)}
    for name, side in side_of.items():
        place = int.from_bytes(hashlib.sha256(b"connection-harness split 1\0" + name.encode()).digest()[:8]) / 2**64
        assert side == ("valid" if place < 0.2 else "test" if place < 0.3 else "train")
    (tmp_path / "some").mkdir()
    some = packed(documents[50:], tmp_path / "some", 0.2, 0.1)
    for side in SIDES:
        assert {document.name for document in getattr(some, side)} == {
            document.name for document in documents[50:] if side_of[document.name] == side
        }


@pytest.mark.parametrize("test_share", [0.0, 0.1, 0.3])
def test_the_shares_are_about_those_that_were_asked_for(tmp_path: Path, test_share: float) -> None:
    corpus = packed(texts(3000), tmp_path, 0.2, test_share)
    assert len(corpus.valid) / 3000 == pytest.approx(0.2, abs=0.03)
    assert len(corpus.test) / 3000 == pytest.approx(test_share, abs=0.03)
    assert bool(len(corpus.test)) == bool(test_share)
    assert corpus.judged == (corpus.test if test_share else corpus.valid)


def test_a_test_share_takes_from_training_and_leaves_the_held_out_side_as_it_was(tmp_path: Path) -> None:
    for name in ("without", "with"):
        (tmp_path / name).mkdir()
    without, with_test = packed(texts(300), tmp_path / "without"), packed(texts(300), tmp_path / "with", 0.2, 0.1)
    assert with_test.side_digest("valid") == without.side_digest("valid")
    assert {d.name for d in with_test.train} < {d.name for d in without.train}


@pytest.mark.parametrize(("count", "sides"), [(0, (0, 0, 0)), (1, (1, 0, 0)), (2, (1, 1, 0)), (3, (1, 1, 1))])
def test_of_few_documents_the_held_out_side_gets_one_and_then_the_test_side(
    tmp_path: Path, count: int, sides: tuple[int, ...]
) -> None:
    corpus = packed(texts(count), tmp_path, 1e-12, 1e-12)
    assert tuple(len(getattr(corpus, side)) for side in SIDES) == sides


def lines(number: int, count: int = 2000) -> Document:
    return named_by_content("".join(f"{number}: line {line}, naïve 漢字\n" for line in range(count)).encode())


def test_a_few_documents_are_cut_into_blocks_and_many_are_not(tmp_path: Path) -> None:
    for count in (WHOLE_DOCUMENTS_FROM - 1, WHOLE_DOCUMENTS_FROM):
        (tmp_path / str(count)).mkdir()
        documents = [lines(number) for number in range(count)]
        corpus = packed(documents, tmp_path / str(count), in_blocks=True)
        found = everything(corpus)
        if count == WHOLE_DOCUMENTS_FROM:
            assert found == {document.name: document.data for document in documents}
            continue
        assert corpus.valid
        for document in documents:
            parts = [block.name for block in blocks(document)]
            assert b"".join(found[name] for name in parts) == document.data
            assert all(BLOCK_BYTES < len(found[name]) < BLOCK_BYTES + 100 for name in parts[:-1])
            assert all(found[name].endswith(b"\n") for name in parts)
    assert {path.name for path in (tmp_path / "19").iterdir()} == {TEXT, "train.npy", "valid.npy", "test.npy"}


def test_what_counts_as_few_are_different_documents_with_words(tmp_path: Path) -> None:
    book = lines(0)
    padded = [named_by_content(book.data + b"\n" * number) for number in range(1, 30)]
    blank = [named_by_content(b" " * number) for number in range(30)]
    corpus = packed([book, *padded, *blank], tmp_path, in_blocks=True)
    assert corpus.train
    assert corpus.valid
    assert sum(map(size_of, (corpus.train, corpus.valid))) in range(len(book.data), len(book.data) + 30)
    assert corpus.report["copies_removed"] == {"on_one_side": 29, "on_two_sides": 0}


def test_documents_with_sides_of_their_own_stay_whole(tmp_path: Path) -> None:
    corpus = packed([(lines(0), "train"), (lines(1), "valid")], tmp_path, in_blocks=True)
    assert everything(corpus) == {lines(0).name: lines(0).data, lines(1).name: lines(1).data}


@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r", "", " "])
def test_blocks_join_to_their_document_and_are_utf_8_whatever_ends_its_lines(ends: str) -> None:
    data = ends.join(f"{number} naïve 漢字 🙂" for number in range(20_000)).encode()
    cut = list(blocks(Document("book", data)))
    assert b"".join(block.data for block in cut) == data
    assert [block.name for block in cut] == sorted(block.name for block in cut)
    more = list(blocks(Document("longer", data + b"one more line\n")))
    assert [block.name for block in more[:-1]] == [block.name for block in cut[:-1]]
    for block in cut[:-1]:
        assert block.data.decode()
        assert BLOCK_BYTES - 4 < len(block.data) <= 2 * BLOCK_BYTES


def test_an_empty_test_side_does_not_change_the_digest() -> None:
    train, valid = texts(3), texts(2, start=3)
    sides = {"train": train, "valid": valid}
    assert side_digests("x", sides)["corpus"] == side_digests("x", {**sides, "test": []})["corpus"]
    assert Corpus("x", train, valid).digest == Corpus("x", train, valid, ()).digest
    assert Corpus("x", train, valid).digest != Corpus("x", train, valid[:1], valid[1:]).digest


def test_the_digests_of_the_memory_mapped_corpus_are_those_of_the_same_documents_in_memory(tmp_path: Path) -> None:
    corpus = packed(texts(100), tmp_path, 0.2, 0.2)
    again = Corpus("made", *(tuple(getattr(corpus, side)) for side in SIDES))
    assert again.digest == corpus.digest
    for side in SIDES:
        assert again.side_digest(side) == corpus.side_digest(side)
    assert len({corpus.side_digest(side) for side in SIDES}) == 3


def test_a_packed_corpus_is_memory_mapped_and_not_read_into_memory(tmp_path: Path) -> None:
    corpus = packed([*texts(30), named_by_content(b"x" * 10**6)], tmp_path)
    for side in (corpus.train, corpus.valid):
        for array in (side._text, side._spans):  # type: ignore[attr-defined]
            assert isinstance(array.base, np.memmap)
            assert not array.flags.writeable


def test_names_and_texts_with_nul_line_ends_and_any_script_come_back(tmp_path: Path) -> None:
    odd = [Document("a\nb", b"\0\0\0"), Document("漢/字 🙂", "\u3000 \ufeff".encode()), Document("", b"\r\n\x1c")]
    assert everything(packed(odd, tmp_path)) == {document.name: document.data for document in odd}
