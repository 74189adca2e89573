"""Corpora split the same way for ever, with no file and no content on two sides, and say what is wrong in a line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from harness.data.corpora import load_corpus
from harness.data.documents import Corpus, Document
from harness.data.pack import BLOCK_BYTES, WHOLE_DOCUMENTS_FROM
from harness.data.settings import DataSettings, data_settings
from harness.errors import UsageError

Write = Callable[..., None]


@pytest.fixture(scope="module")
def stdlib() -> Corpus:
    return load_corpus(data_settings())


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes `count` files of a few lines each into texts/, or `name` with a content of its own."""

    def write(count: int = 0, **files: str) -> None:
        (tmp_path / "texts").mkdir(exist_ok=True)
        for number in range(count):
            (tmp_path / "texts" / f"{number:03d}.txt").write_text(f"file {number}\nwith two lines\n", encoding="utf-8")
        for name, content in files.items():
            (tmp_path / "texts" / f"{name}.txt").write_bytes(content.encode())

    return write


def text(*files: str, **more: object) -> DataSettings:
    return data_settings(corpus="text", files=files, **more)


def long_text(lines: int = 12_000) -> str:
    return "".join(f"line {number}: naïve words in 漢字 that make it longer\n" for number in range(lines))


def assert_sides_apart(corpus: Corpus) -> None:
    assert corpus.train
    assert corpus.valid
    assert not {d.name for d in corpus.train} & {d.name for d in corpus.valid}
    contents = [document.data for document in (*corpus.train, *corpus.valid)]
    assert len(set(contents)) == len(contents)


def test_the_standard_library_is_split_by_file_with_about_a_twentieth_held_out(stdlib: Corpus) -> None:
    assert_sides_apart(stdlib)
    assert 0.02 < stdlib.valid_bytes / (stdlib.train_bytes + stdlib.valid_bytes) < 0.1
    names = [document.name for document in (*stdlib.train, *stdlib.valid)]
    assert len(set(names)) == len(names) > 400
    assert {"argparse.py", "json/decoder.py", "asyncio/base_events.py"} <= set(names)


def test_the_standard_library_leaves_out_tests_installed_packages_and_files_of_the_machine(stdlib: Corpus) -> None:
    for document in (*stdlib.train, *stdlib.valid):
        folders = document.name.split("/")[:-1]
        assert not {"test", "tests", "idle_test", "site-packages", "dist-packages", "__pycache__"} & set(folders)
        assert not any(folder.startswith("config-") for folder in folders)
        assert not document.name.startswith(("_sysconfigdata", "/"))
        assert document.data.decode().strip()


def test_reading_again_gives_the_same_documents_in_the_same_order_and_the_same_digest(stdlib: Corpus) -> None:
    again = load_corpus(data_settings())
    assert again.digest == stdlib.digest
    for side in (stdlib.train, stdlib.valid):
        assert [document.name for document in side] == sorted(document.name for document in side)


def test_the_side_of_a_document_follows_from_its_name_alone_and_never_changes(stdlib: Corpus) -> None:
    held_out = {document.name for document in stdlib.valid}
    assert {"os.py", "bdb.py", "pstats.py", "statistics.py", "stringprep.py", "urllib/parse.py"} <= held_out
    assert not {"abc.py", "contextlib.py", "argparse.py"} & held_out
    wider = {document.name for document in load_corpus(data_settings(valid_share=0.2)).valid}
    assert held_out < wider, "a larger share adds documents, it does not draw anew"


def test_the_digest_changes_with_content_name_side_and_corpus() -> None:
    a, b, c = Document("a", b"1"), Document("b", b"2"), Document("c", b"3")
    digests = {
        Corpus(*parts).digest
        for parts in [
            ("x", (a, b), (c,)), ("x", (a,), (b, c)), ("y", (a, b), (c,)), ("x", (a, Document("b", b"4")), (c,)),
            ("x", (a, Document("d", b"2")), (c,)), ("x", (b, a), (c,)),
        ]
    }  # fmt: skip
    assert len(digests) == 6
    assert Corpus("x", (a, b), (c,)).digest in digests


def test_a_single_file_is_split_by_blocks_of_lines_that_join_to_the_file_again(tmp_path: Path, write: Write) -> None:
    content = long_text()
    write(book=content)
    corpus = load_corpus(text("texts/book.txt"), tmp_path)
    assert_sides_apart(corpus)
    blocks = sorted((*corpus.train, *corpus.valid), key=lambda document: document.name)
    assert b"".join(block.data for block in blocks) == content.encode()
    for block in blocks[:-1]:
        assert block.data.endswith(b"\n")
        assert BLOCK_BYTES < len(block.data) <= BLOCK_BYTES + 100
    assert [block.name for block in corpus.train] == sorted(block.name for block in corpus.train)


def test_many_files_are_split_by_whole_files(tmp_path: Path, write: Write) -> None:
    write(WHOLE_DOCUMENTS_FROM, long=long_text(2000))
    corpus = load_corpus(text("texts/*.txt", valid_share=0.3), tmp_path)
    assert_sides_apart(corpus)
    files = {path.read_bytes() for path in (tmp_path / "texts").iterdir()}
    assert {document.data for document in (*corpus.train, *corpus.valid)} == files


def test_a_content_that_is_there_twice_counts_once(tmp_path: Path, write: Write) -> None:
    write(40, copy="file 3\nwith two lines\n")
    corpus = load_corpus(text("texts/*.txt", "texts/000.txt"), tmp_path)
    assert_sides_apart(corpus)
    assert len(corpus.train) + len(corpus.valid) == 40


def test_there_is_a_held_out_document_even_when_the_hash_holds_none_out(tmp_path: Path, write: Write) -> None:
    write(25)
    corpus = load_corpus(text("texts/*.txt", valid_share=1e-9), tmp_path)
    assert (len(corpus.train), len(corpus.valid)) == (24, 1)


def test_held_out_files_of_ones_own_are_held_out_whole_and_taken_from_training(tmp_path: Path, write: Write) -> None:
    write(3, mine="held out\n", twin="held out\n")
    corpus = load_corpus(text("texts/*.txt", valid_files=("texts/mine.txt",)), tmp_path)
    assert_sides_apart(corpus)
    assert [document.data for document in corpus.valid] == [b"held out\n"]
    assert len(corpus.train) == 3


def test_globs_reach_below_and_the_suites_folder_comes_before_the_working_directory(
    tmp_path: Path, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(2)
    (tmp_path / "texts" / "deep").mkdir()
    (tmp_path / "texts" / "deep" / "x.txt").write_text("below\n")
    (tmp_path / "elsewhere" / "texts").mkdir(parents=True)
    (tmp_path / "elsewhere" / "texts" / "000.txt").write_text("another\n")
    monkeypatch.chdir(tmp_path / "elsewhere")
    found = load_corpus(text("texts/**/*.txt", valid_share=0.5), tmp_path)
    assert b"below\n" in {document.data for document in (*found.train, *found.valid)}
    held_out = load_corpus(text("texts/001.txt", valid_files=("texts/000.txt",)), tmp_path).valid
    assert held_out[0].data.startswith(b"file 0")
    (tmp_path / "texts" / "000.txt").unlink()
    held_out = load_corpus(text("texts/001.txt", valid_files=("texts/000.txt",)), tmp_path).valid
    assert held_out[0].data == b"another\n", "what is not beside the suite is looked for where one stands"
    assert load_corpus(text(str(tmp_path / "texts" / "*.txt"), valid_files=("texts/000.txt",)), tmp_path).train


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "is empty"), (b" \n\t\n", "is empty"), (b"caf\xe9\n", r"is not UTF-8 \(byte 3\)"), (None, "no such file")],
)
def test_a_missing_empty_or_foreign_file_is_named_in_one_line(
    tmp_path: Path, write: Write, content: bytes | None, message: str
) -> None:
    write(3)
    if content is not None:
        (tmp_path / "texts" / "bad.txt").write_bytes(content)
    with pytest.raises(UsageError, match=message) as caught:
        load_corpus(text("texts/000.txt", "texts/bad.txt"), tmp_path)
    assert "bad.txt" in str(caught.value)
    assert str(caught.value).startswith("data.files: ")
    assert "\n" not in str(caught.value)


def test_a_corpus_without_a_held_out_or_a_training_side_is_refused(tmp_path: Path, write: Write) -> None:
    write(1)
    with pytest.raises(UsageError, match="the corpus 'text' has no held-out text"):
        load_corpus(text("texts/000.txt"), tmp_path)
    with pytest.raises(UsageError, match="the corpus 'text' has no training text"):
        load_corpus(text("texts/000.txt", valid_files=("texts/*.txt",)), tmp_path)


def test_the_same_text_under_another_path_is_the_same_corpus(tmp_path: Path, write: Write) -> None:
    write(book=long_text())
    before = load_corpus(text("texts/book.txt"), tmp_path).digest
    (tmp_path / "texts" / "book.txt").rename(tmp_path / "renamed.txt")
    assert load_corpus(text("renamed.txt"), tmp_path).digest == before


def test_the_same_texts_under_other_paths_are_the_same_corpus(tmp_path: Path, write: Write) -> None:
    write(a=long_text(), b=long_text().upper())
    before = load_corpus(text("texts/*.txt"), tmp_path)
    (tmp_path / "texts" / "a.txt").rename(tmp_path / "texts" / "z.txt")
    assert load_corpus(text("texts/*.txt"), tmp_path).digest == before.digest


def test_a_file_whose_name_looks_like_a_glob_is_found(tmp_path: Path, write: Write) -> None:
    write(**{"notes[1]": long_text()})
    assert load_corpus(text("texts/notes[1].txt"), tmp_path).train


def test_a_bad_held_out_file_is_reported_under_its_own_key(tmp_path: Path, write: Write) -> None:
    write(3, bad=" ")
    with pytest.raises(UsageError, match=r"^data\.valid_files: "):
        load_corpus(text("texts/000.txt", valid_files=("texts/bad.txt",)), tmp_path)


def test_copies_of_one_file_and_a_text_without_line_ends_still_have_two_sides(tmp_path: Path) -> None:
    words = "".join(f"word{i} \u00e9\u4e2d " for i in range(40_000))
    for number in range(25):
        (tmp_path / f"{number}.txt").write_text(words.replace(" ", "\n"))
    corpus = load_corpus(data_settings(corpus="text", files=("*.txt",)), tmp_path)
    assert corpus.train
    assert corpus.valid
    (tmp_path / "line").write_text(words)
    corpus = load_corpus(data_settings(corpus="text", files=("line",)), tmp_path)
    documents = sorted((*corpus.train, *corpus.valid), key=lambda document: document.name)
    assert corpus.valid
    assert b"".join(document.data for document in documents).decode() == words
