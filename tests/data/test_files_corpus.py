"""A corpus of files of one's own: read once, taken anew where a file changes, and what is wrong is said by `plan`."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from files_support import SUITE, TEXTS, contents, write_rows

from harness.cli import main
from harness.data.documents import Corpus

Load = Callable[..., Corpus]
Plan = Callable[..., str]

pytestmark = pytest.mark.usefixtures("cache")


@pytest.fixture
def planned(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Plan:
    """Plans a suite on a file, which has to fail; what stands on standard error."""

    def plan(name: str, *overrides: str) -> str:
        suite = tmp_path / "suite.yaml"
        suite.write_text(SUITE % f"\n  corpus: text\n  files: [{json.dumps(name)}]")
        assert main(["plan", str(suite), *overrides]) == 2
        assert not (tmp_path / "results").exists()
        captured = capsys.readouterr()
        assert captured.out == ""
        return captured.err

    return plan


@pytest.mark.parametrize(
    ("name", "content", "overrides", "message"),
    [
        ("a.jsonl", b'{"text": "a"}\n{"text": \n', [], r"suite.yaml:8: data.files: {}/a.jsonl:2: not JSON: "),
        ("a.jsonl", b'{"body": "a"}\n', ["data.field=bdy"], r"suite.yaml:8: data.files: {}/a.jsonl:1: no field 'bdy'; did you mean 'body'?"),
        ("a.jsonl", b'{"text": 1}\n', [], r"suite.yaml:8: data.files: {}/a.jsonl:1: the field 'text' holds no text but 1"),
        ("a.txt", b"caf\xe9", [], r"suite.yaml:8: data.files: {}/a.txt is not UTF-8 (byte 3)"),
        ("a.txt", b"", [], r"suite.yaml:8: data.files: {}/a.txt is empty"),
        ("a.txt", b"text", ["data.valid_files=[b.txt]"], r"data.valid_files: no such file: b.txt"),
        ("a.txt", b"text", [], r"suite.yaml:7: data.corpus: the corpus 'text' has no held-out text"),
        ("a.txt", b"text", ["data.test_files=[a.txt]"], r"with test files of one's own the held-out side is named too"),
        ("a.jsonl.gz", gzip.compress(b'{"text": "a"}\n')[:-9], [], r"suite.yaml:8: data.files: cannot read {}/a.jsonl.gz after line "),
        ("a.parquet", b"PAR1", [], r"suite.yaml:8: data.files: cannot read {}/a.parquet after row 0: "),
    ],
    ids=range(10),
)  # fmt: skip
def test_plan_says_it_in_one_line_with_exit_2_and_leaves_nothing(
    name: str, content: bytes, overrides: list[str], message: str, tmp_path: Path, planned: Plan, cache: Path
) -> None:
    (tmp_path / name).write_bytes(content)
    said = planned(name, *overrides)
    assert said.count("\n") == 1
    assert said.startswith("harness: ")
    assert message.format(tmp_path) in said
    assert not list(cache.glob("*/*.tmp"))


def test_a_test_side_that_was_asked_for_and_has_no_text_is_refused(tmp_path: Path, planned: Plan) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "a"}\n{"text": "b"}\n')
    (tmp_path / "blank.jsonl").write_text('{"text": " "}\n')
    sides = ["data.valid_files=[a.jsonl]", "data.test_files=[blank.jsonl]"]
    (tmp_path / "c.txt").write_text("more text")
    assert "data.corpus: the corpus 'text' has no test text" in planned("c.txt", *sides)


def test_plan_with_a_cache_that_cannot_be_written_is_one_line(
    tmp_path: Path, planned: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_rows(tmp_path / "a.jsonl")
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "a.jsonl" / "cache"))
    said = planned("a.jsonl")
    assert said.count("\n") == 1
    assert "cannot be written: " in said
    assert said.endswith("; HARNESS_CACHE names another folder\n")


def test_a_change_of_a_file_is_seen_even_where_its_size_and_its_time_stay(tmp_path: Path, load: Load) -> None:
    write_rows(tmp_path / "a.jsonl", TEXTS)
    before, stat = load("a.jsonl").digest, (tmp_path / "a.jsonl").stat()
    write_rows(tmp_path / "a.jsonl", [text.replace("ends", "Ends") for text in TEXTS])
    os.utime(tmp_path / "a.jsonl", ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert (tmp_path / "a.jsonl").stat().st_size == stat.st_size
    assert load("a.jsonl").digest != before


def test_a_corpus_is_read_once_and_then_from_the_cache(
    tmp_path: Path, load: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_rows(tmp_path / "a.jsonl")
    first = load("a.jsonl")
    monkeypatch.setattr("harness.data.corpora.read_documents", None)
    again = load("a.jsonl", tokenizer="bytes")
    assert (again.digest, contents(again), again.report) == (first.digest, contents(first), first.report)


def test_what_decides_the_documents_is_part_of_the_key_and_the_tokenizer_is_not(
    tmp_path: Path, load: Load, cache: Path
) -> None:
    write_rows(tmp_path / "a.jsonl")
    write_rows(tmp_path / "b.jsonl", TEXTS[:3])
    load("a.jsonl")
    load("a.jsonl", tokenizer={"type": "bpe", "vocabulary": 300})
    load("*a.jsonl")
    assert len(list(cache.glob("corpora/*/"))) == 1
    load("a.jsonl", valid_share=0.1)
    load("a.jsonl", test_share=0.1)
    load("a.jsonl", "b.jsonl")
    load("a.jsonl", valid_files=("b.jsonl",))
    assert len(list(cache.glob("corpora/*/"))) == 5
    (tmp_path / "c.jsonl").write_text("".join(f'{{"a": "one {n}", "b": "two {n}"}}\n' for n in range(30)))
    assert load("c.jsonl", field="a").digest != load("c.jsonl", field="b").digest


def test_two_processes_with_different_settings_at_once_get_what_each_asked_for(tmp_path: Path, load: Load) -> None:
    write_rows(tmp_path / "a.jsonl", TEXTS * 50 + [f"{number}" for number in range(3000)])
    code = (
        "import sys\nfrom pathlib import Path\nfrom harness.data.corpora import load_corpus\n"
        "from harness.data.settings import data_settings\nfrom harness.data.shards import shard\n"
        "corpus = load_corpus(data_settings(corpus='text', files=('a.jsonl',), valid_share=float(sys.argv[2]),"
        " tokenizer={'type': 'bpe', 'vocabulary': 300}), Path(sys.argv[1]))\n"
        "print(corpus.digest, corpus.tokenizer.digest, len(shard(corpus, 'valid').tokens))\n"
    )
    asked = ["0.05", "0.3", "0.05", "0.3"]
    processes = [
        subprocess.Popen([sys.executable, "-c", code, str(tmp_path), share], stdout=subprocess.PIPE, text=True)
        for share in asked
    ]
    said = [process.communicate()[0].split() for process in processes]
    assert said[0] == said[2] != said[1] == said[3]
    assert all(len(words) == 3 for words in said)
    assert said[0][0] == load("a.jsonl", valid_share=0.05).digest
