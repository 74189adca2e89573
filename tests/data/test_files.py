"""Files of one's own: every kind is read as it stands, and what is wrong with one is a line that names it."""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from files_support import TEXTS, contents, write_rows

from harness.data import files
from harness.data.documents import SIDES, Corpus
from harness.data.files import found_files, read_documents, rows_of
from harness.errors import UsageError

Load = Callable[..., Corpus]


pytestmark = pytest.mark.usefixtures("cache")


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.json", "a.parquet", "A.JSONL"])
def test_files_of_rows_hold_a_document_a_row(name: str, tmp_path: Path, load: Load) -> None:
    write_rows(tmp_path / "a.jsonl" if name == "A.JSONL" else tmp_path / name)
    if name == "A.JSONL":
        (tmp_path / "a.jsonl").rename(tmp_path / name)
    assert contents(load(name)) == sorted(TEXTS)


def test_the_same_documents_are_the_same_corpus_whatever_kind_of_file_holds_them(tmp_path: Path, load: Load) -> None:
    names = ["a.jsonl", "a.jsonl.gz", "a.json", "a.parquet"]
    for name in names:
        write_rows(tmp_path / name, field="body")
    (tmp_path / "texts").mkdir()
    for number, text in enumerate(TEXTS):
        (tmp_path / "texts" / f"{number}.txt").write_bytes(text.encode())
    digests = {load(name, field="body").digest for name in names}
    assert digests | {load("texts/*.txt").digest} == digests
    assert len(digests) == 1


def test_other_endings_are_text_of_one_document_each(tmp_path: Path, load: Load) -> None:
    for number, name in enumerate(("a.txt", "b", "c.md", "d.py", "e.json5")):
        (tmp_path / name).write_bytes(TEXTS[number].encode())
    found = load("[abcde]*", valid_files=("a.txt",))
    assert contents(found) == sorted(TEXTS[:5])
    assert found.valid[0].data.decode() == TEXTS[0]


def test_given_sides_of_different_kinds_keep_their_documents(tmp_path: Path, load: Load) -> None:
    write_rows(tmp_path / "train.parquet", TEXTS[:20])
    write_rows(tmp_path / "valid.jsonl", TEXTS[18:25])
    (tmp_path / "test.txt").write_bytes(TEXTS[26].encode())
    found = load("train.parquet", valid_files=("valid.jsonl",), test_files=("test.txt",))
    assert {side: len(getattr(found, side)) for side in SIDES} == {"train": 18, "valid": 7, "test": 1}
    assert found.report["copies_removed"] == {"on_one_side": 0, "on_two_sides": 2}
    assert [document.data.decode() for document in found.judged] == [TEXTS[26]]


def test_blank_lines_a_byte_order_mark_and_windows_line_ends_are_no_part_of_rows(tmp_path: Path, load: Load) -> None:
    write_rows(tmp_path / "plain.jsonl")
    lines = (tmp_path / "plain.jsonl").read_bytes()
    (tmp_path / "odd.jsonl").write_bytes(b"\xef\xbb\xbf" + lines.replace(b"\n", b"\r\n\r\n \n"))
    assert load("odd.jsonl").digest == load("plain.jsonl").digest


@pytest.mark.parametrize(
    "array",
    [
        pa.array(TEXTS, pa.large_string()),
        pa.array(TEXTS).dictionary_encode(),
        pa.chunked_array([TEXTS[:7], TEXTS[7:]]),
    ],
    ids=["large", "dictionary", "chunked"],
)
def test_parquet_text_of_every_storage_is_read(array: Any, tmp_path: Path, load: Load) -> None:
    pq.write_table(pa.table({"text": array}), tmp_path / "a.parquet", row_group_size=11)
    assert contents(load("a.parquet")) == sorted(TEXTS)


def test_only_the_column_that_is_wanted_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Others may be large, or of types that Python has no objects for."""
    times = pa.array([1] * 30, pa.timestamp("ns"))
    pq.write_table(pa.table({"a.b": TEXTS, "time": times, "c": [{"b": 1}] * 30}), tmp_path / "a.parquet")
    monkeypatch.setattr(files, "ROWS_AT_ONCE", 4)
    rows = rows_of(tmp_path / "a.parquet", "data.files", only="a.b")
    assert rows is not None
    assert list(rows) == [(number, {"a.b": text}) for number, text in enumerate(TEXTS, start=1)]


def test_globs_name_files_in_order_and_nothing_else(tmp_path: Path) -> None:
    for name in ("b.txt", "a.txt", "deep/c.txt", "deep/er/d.txt", "folder.txt/e.md", ".hidden.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    os.mkfifo(tmp_path / "pipe.txt")
    (tmp_path / "broken.txt").symlink_to("nowhere")
    (tmp_path / "link.txt").symlink_to("a.txt")
    (tmp_path / "deep" / "up").symlink_to("..")
    names = {
        pattern: [str(path.relative_to(tmp_path)) for path in found_files([pattern], "data.files", tmp_path)]
        for pattern in ("*.txt", "**/*.txt", "deep/?.txt", "[ab].txt")
    }
    assert names == {
        "*.txt": ["a.txt", "b.txt"],
        "**/*.txt": ["a.txt", "b.txt", "deep/c.txt", "deep/er/d.txt"],
        "deep/?.txt": ["deep/c.txt"],
        "[ab].txt": ["a.txt", "b.txt"],
    }


def test_the_suites_own_folder_may_look_like_a_glob(tmp_path: Path) -> None:
    folder = tmp_path / "runs[1]*"
    folder.mkdir()
    (folder / "a.txt").write_text("text")
    assert found_files(["*.txt"], "data.files", folder) == [folder / "a.txt"]


def test_the_same_file_by_two_patterns_counts_once(tmp_path: Path, load: Load) -> None:
    write_rows(tmp_path / "a.jsonl")
    assert contents(load("a.jsonl", "*.jsonl", str(tmp_path / "a.jsonl"))) == sorted(TEXTS)


def torn_gzip(path: Path) -> None:
    write_rows(path, TEXTS * 20)
    os.truncate(path, path.stat().st_size - 20)


def garbled_gzip(path: Path) -> None:
    write_rows(path)
    data = path.read_bytes()
    path.write_bytes(data[:30] + b"\xff" * 20 + data[50:])


def torn_parquet(path: Path) -> None:
    write_rows(path)
    os.truncate(path, path.stat().st_size // 2)


def text_parquet(path: Path) -> None:
    array = pa.array([b"fine", b"caf\xe9"] * 9, pa.binary()).view(pa.string())
    pq.write_table(pa.table({"text": array}), path)


BAD: list[tuple[str, bytes | Callable[[Path], None], str]] = [
    ("a.jsonl", b'{"text": "a"}\n\n{"text": "b"\n', r"a\.jsonl:3: not JSON: .+"),
    ("a.jsonl", b'{"text": "a"}\n[1]\n', r"a\.jsonl:2: a row must be a JSON object, not \[1\]"),
    ("a.jsonl", b'{"text": "a"}\n{"text": "caf\xe9"}\n', r"a\.jsonl:2: not UTF-8 \(byte 13 of the line\)"),
    ("a.jsonl", b'{"text": "a"}\n' + b"[" * 100_000 + b"\n", r"a\.jsonl:2: not JSON: .+"),
    ("a.jsonl", b'{"text": "a"}\n{"txt": "b"}\n', r"a\.jsonl:2: no field 'text'; did you mean 'txt'\?; data\.field names it"),
    ("a.jsonl", b'{"id": 1, "body": ""}', r"a\.jsonl:1: no field 'text'; known: id, body; data\.field names it"),
    ("a.jsonl", b'{"te\\nxt": ""}', r"a\.jsonl:1: no field 'text'; did you mean 'te\\nxt'\?; data\.field names it"),
    ("a.jsonl", b'{"text": null}', r"a\.jsonl:1: the field 'text' holds no text but null"),
    ("a.jsonl", b'{"text": "a"}\n{"text": ["b\\n"]}', r"a\.jsonl:2: the field 'text' holds no text but \[\"b\\n\"\]"),
    ("a.jsonl", b'{"text": "a \\ud83d b"}', r"a\.jsonl:1: the field 'text' holds half a character"),
    ("a.jsonl", b"\n \n", r"a\.jsonl is empty"),
    ("a.jsonl", '{"text": "a"}\n{"text": "b"}'.encode("utf-16"), r"a\.jsonl:1: not .+"),
    ("a.jsonl.gz", torn_gzip, r"cannot read .*a\.jsonl\.gz after line \d+: Compressed file ended before .+"),
    ("a.jsonl.gz", garbled_gzip, r"cannot read .*a\.jsonl\.gz after line 0: .+"),
    ("a.jsonl.gz", b'{"text": "a"}\n', r"cannot read .*a\.jsonl\.gz after line 0: Not a gzipped file .+"),
    ("a.jsonl.gz", gzip.compress(b'{"text": "a"}\n{'), r"a\.jsonl\.gz:2: not JSON: .+"),
    ("a.json", b'[{"text": "a"},\n {"text": }]', r"a\.json:2: not JSON: .+"),
    ("a.json", b'{"text": "a"}', r"a\.json: a \.json file must be a list of objects; one object a line is \.jsonl"),
    ("a.json", b'[{"text": "a"}, {"text": 3}]', r"a\.json:2: the field 'text' holds no text but 3"),
    ("a.json", b"[]", r"a\.json is empty"),
    ("a.json", b"[" * 100_000, r"a\.json: not JSON: .+"),
    ("a.parquet", torn_parquet, r"cannot read .*a\.parquet after row 0: .+"),
    ("a.parquet", b"", r"cannot read .*a\.parquet after row 0: .+"),
    ("a.parquet", text_parquet, r"cannot read .*a\.parquet after row 0: .*utf-8.*"),
    ("a.parquet", lambda path: write_rows(path, field="txt"), r"a\.parquet:1: no field 'text'; did you mean 'txt'\?.*"),
    ("a.parquet", lambda path: write_rows(path, [[1]] * 3), r"a\.parquet:1: the field 'text' holds no text but \[1\]"),
    ("a.parquet", lambda path: write_rows(path, ["a", None]), r"a\.parquet:2: the field 'text' holds no text but null"),
    ("a.parquet", lambda path: pq.write_table(pa.table({"text": [b"a"]}), path), r"a\.parquet:1: the field 'text' holds no text but .+"),
    ("a.parquet", lambda path: write_rows(path, []), r"a\.parquet is empty"),
    ("a.txt", b"caf\xe9 au lait\n", r"a\.txt is not UTF-8 \(byte 3\)"),
    ("a.txt", b"", r"a\.txt is empty"),
    ("a.txt", b" \n\t\r\n", r"a\.txt is empty"),
    ("a\nb.txt", b"", r"a\\nb\.txt is empty"),
    (os.fsdecode(b"a\xe9.txt"), b"", r"a\\udce9\.txt is empty"),
    (os.fsdecode(b"a\xe9\n.jsonl"), b"{\n", r"a\\udce9\\n\.jsonl:1: not JSON: .+"),
    ("no.txt", lambda path: None, r"no such file: no\.txt"),
    ("folder.txt", lambda path: path.mkdir(), r"folder\.txt is a folder; name its files: folder\.txt/\*"),
    ("a.tx", lambda path: path.with_name("a.txt").touch(), r"no such file: a\.tx; did you mean 'a\.txt'\?"),
    ("*.text", lambda path: None, r"no such file: \*\.text"),
    ("a\0b", lambda path: None, r"no such file: a\\x00b"),
    ("x" * 300, lambda path: None, r"no such file: x+"),
    ("a\nb", lambda path: None, r"no such file: a\\nb"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "content", "message"), BAD, ids=range(len(BAD)))
def test_what_is_wrong_is_one_line_that_names_file_and_line(
    name: str, content: bytes | Callable[[Path], None], message: str, tmp_path: Path, load: Load, cache: Path
) -> None:
    if isinstance(content, bytes):
        (tmp_path / name).write_bytes(content)
    else:
        content(tmp_path / name)
    pattern = name if name.isprintable() or "\n" not in name or "." not in name else "a*"
    with pytest.raises(UsageError, match=rf"^data\.files: (.*/)?{message}$") as caught:
        load(pattern)
    assert "\n" not in str(caught.value)
    assert not list(cache.glob("corpora/*/")), "nothing half-made is kept"


@pytest.mark.parametrize("place", [0, 1, 4095, 4096, 10_000])
def test_the_first_byte_that_is_not_utf_8_is_named_wherever_it_stands(
    place: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "漢字🙂é".encode()
    data = (text * 2000)[: 12 * (place // 12)] + b"." * (place % 12)
    monkeypatch.setattr(files, "AT_ONCE", 1025)
    (tmp_path / "fine.txt").write_bytes(data + text)
    assert next(read_documents(tmp_path / "fine.txt", "text", "data.files")).data == data + text
    for bad in (b"\xff", b"\xc3", b"\xe6\xbc", b"\xf0\x9f\x99 "):
        (tmp_path / "bad.txt").write_bytes(data + bad)
        with pytest.raises(UsageError, match=rf"bad\.txt is not UTF-8 \(byte {place}\)$"):
            next(read_documents(tmp_path / "bad.txt", "text", "data.files"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
@pytest.mark.parametrize("name", ["a.txt", "a.jsonl", "a.json", "a.parquet"])
def test_a_file_without_permission_is_named(name: str, tmp_path: Path, load: Load) -> None:
    (tmp_path / name).write_text("[]")
    (tmp_path / name).chmod(0)
    with pytest.raises(UsageError, match=rf"^data\.files: cannot read .*{name}.*: .*Permission denied"):
        load(name)


def test_a_file_that_goes_while_it_is_read_is_named(
    tmp_path: Path, load: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.txt").write_text("text")

    def gone(path: Path) -> bytes:
        raise FileNotFoundError(2, "No such file or directory", str(path))

    monkeypatch.setattr(Path, "read_bytes", gone)
    with pytest.raises(UsageError, match=r"^data\.files: cannot read .*a\.txt: No such file or directory$"):
        load("a.txt")
