"""Hugging Face datasets: taken once, with their commit, and from then on without a network; without one, a clear line."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from harness.data import hub
from harness.data.corpora import load_corpus
from harness.data.documents import SIDES, Corpus
from harness.data.settings import data_settings
from harness.errors import UsageError

LOCAL_FILES = "without the hub, name local files: corpus: text, files: [...] (.txt, .jsonl, .parquet)"
SPLITS = {
    "train": [f"document {number}\nwith words of its own {number}\n" for number in range(60)],
    "validation": [f"held out {number}\n" for number in range(5)],
    "test": [f"kept back {number}\n" for number in range(4)],
}
Load = Callable[..., Corpus]

pytestmark = pytest.mark.usefixtures("no_hub")


@pytest.fixture(params=["jsonl", "parquet"])
def dataset(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A folder in the form of a dataset."""
    write(tmp_path / "thing", request.param)
    return "thing"


def write(folder: Path, kind: str = "jsonl", field: str = "text") -> None:
    folder.mkdir()
    for split, texts in SPLITS.items():
        if kind == "jsonl":
            rows = "".join(json.dumps({"id": number, field: text}) + "\n" for number, text in enumerate(texts))
            (folder / f"{split}.jsonl").write_text(rows)
        else:
            pq.write_table(pa.table({"id": list(range(len(texts))), field: texts}), folder / f"{split}.parquet")


@pytest.fixture
def load(tmp_path: Path) -> Load:
    def load(dataset: str, **keys: Any) -> Corpus:
        return load_corpus(data_settings(corpus="hf", dataset=dataset, **{"documents": 1000, **keys}), tmp_path)

    return load


def contents(corpus: Corpus, *sides: str) -> list[str]:
    return sorted(document.data.decode() for side in sides for document in getattr(corpus, side))


@pytest.mark.parametrize("streaming", [True, False])
def test_a_folder_in_the_form_of_a_dataset_is_read_through_the_library(
    dataset: str, streaming: bool, load: Load
) -> None:
    drawn = load(dataset, streaming=streaming, valid_share=0.2)
    assert contents(drawn, *SIDES) == sorted(SPLITS["train"])
    assert 0 < len(drawn.valid) < 30
    own = load(dataset, streaming=streaming, valid_split="validation", test_split="test")
    for side, split in (("train", "train"), ("valid", "validation"), ("test", "test")):
        assert contents(own, side) == sorted(SPLITS[split])


def test_streamed_or_not_and_from_either_kind_of_file_it_is_the_same_corpus(tmp_path: Path, load: Load) -> None:
    write(tmp_path / "a", "jsonl")
    write(tmp_path / "b", "parquet")
    digests = {load(name, valid_split="validation").digest for name in "ab"}
    for name in "ab":
        os.utime(tmp_path / name / "train.parquet" if name == "b" else tmp_path / name / "train.jsonl")  # read anew
        digests.add(load(name, valid_split="validation", streaming=False).digest)
    assert len(digests) == 1


def test_as_many_training_documents_are_taken_as_asked_from_the_start_of_the_split(dataset: str, load: Load) -> None:
    found = load(dataset, documents=25, valid_split="validation")
    assert contents(found, "train") == sorted(SPLITS["train"][:25])
    assert contents(found, "valid") == sorted(SPLITS["validation"]), "held-out ones are all taken"


def test_a_dataset_that_is_not_streamed_may_be_taken_whole_or_by_slices(dataset: str, load: Load) -> None:
    whole = load(dataset, streaming=False, documents=None, valid_split="validation")
    assert len(whole.train) == 60
    sliced = load(dataset, streaming=False, documents=None, split="train[:50%]", valid_split="train[50%:]")
    assert contents(sliced, "train") == sorted(SPLITS["train"][:30])
    assert contents(sliced, "valid") == sorted(SPLITS["train"][30:])


@pytest.mark.parametrize("streaming", [True, False])
@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"field": "txt"}, r"data\.dataset: 'thing', split 'train': no field 'txt'; did you mean 'text'\?; data\.field names it"),
        ({"field": "id"}, r"data\.dataset: 'thing', split 'train', row 1: the field 'id' holds no text"),
        ({"split": "tain"}, r"data\.dataset: 'thing', split 'tain' cannot be loaded: .*tain.*'train', 'validation', 'test'.*"),
        ({"valid_split": "valid"}, r"data\.valid_split: 'thing', split 'valid' cannot be loaded: .*'validation'.*"),
        ({"valid_split": "validation", "test_split": "tset"}, r"data\.test_split: 'thing', split 'tset' cannot be loaded: .*'test'.*"),
        ({"config": "english"}, r"data\.dataset: 'thing', split 'train' cannot be loaded: .*english.*"),
    ],
)  # fmt: skip
def test_a_wrong_field_split_or_configuration_is_one_line_and_leaves_nothing(
    keys: dict[str, Any], message: str, streaming: bool, tmp_path: Path, load: Load
) -> None:
    write(tmp_path / "thing")
    with pytest.raises(UsageError, match=rf"^{message}$") as caught:
        load("thing", streaming=streaming, **keys)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.glob("cache/corpora/*/"))


def test_a_wrong_split_is_found_before_the_first_document_is_read(
    tmp_path: Path, load: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "thing")
    monkeypatch.setattr(hub, "named_by_content", lambda data: pytest.fail("read"))
    with pytest.raises(UsageError, match=r"^data\.valid_split: "):
        load("thing", valid_split="valid")


def test_a_split_without_text_is_refused(tmp_path: Path, load: Load) -> None:
    write(tmp_path / "thing", "parquet")
    pq.write_table(pa.table({"id": [1], "text": [" "]}), tmp_path / "thing" / "test.parquet")
    with pytest.raises(UsageError, match=r"^data\.corpus: the corpus 'hf' has no test text$"):
        load("thing", valid_split="validation", test_split="test")


@pytest.mark.parametrize("streaming", [True, False])
def test_a_torn_shard_in_the_middle_is_one_line_and_leaves_nothing(
    streaming: bool, tmp_path: Path, load: Load, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "thing"
    folder.mkdir()
    for number in range(3):
        texts = SPLITS["train"][20 * number : 20 * number + 20]
        pq.write_table(pa.table({"text": texts}), folder / f"train-0000{number}-of-00003.parquet", row_group_size=10)
    torn = folder / "train-00001-of-00003.parquet"
    data = torn.read_bytes()
    torn.write_bytes(data[:40] + b"\0" * 60 + data[100:])
    with pytest.raises(
        UsageError, match=r"^data\.dataset: 'thing', split 'train'.* (after row 20|cannot be loaded): "
    ) as caught:
        load("thing", streaming=streaming)
    assert "\n" not in str(caught.value)
    assert "generating the dataset" not in str(caught.value), "that is no reason"
    assert capfd.readouterr().err == ""
    assert not list(tmp_path.glob("cache/corpora/*/"))
    torn.write_bytes(data)
    assert len(contents(load("thing", streaming=streaming), *SIDES)) == 60


class Broken:
    """Rows of a network that goes."""

    def __iter__(self) -> Iterator[dict[str, str]]:
        yield from ({"text": text} for text in SPLITS["train"][:7])
        raise ConnectionResetError(104, "Connection reset by peer\nand more")


def test_a_network_that_goes_in_the_middle_of_a_stream_is_one_line_and_leaves_nothing(
    tmp_path: Path, load: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "load", lambda *args, **keys: Broken())
    with pytest.raises(
        UsageError, match=r"^data\.dataset: 'some/thing', split 'train': cannot be read after row 7: .*reset by peer$"
    ):
        load("some/thing")
    assert {path.suffix for path in (tmp_path / "cache" / "corpora").iterdir()} == {".lock"}
    assert len(contents(load("some/thing", documents=7), *SIDES)) == 7, "what nobody asked for is not read"


class FakeApi:
    """A hub whose dataset changes between any two questions."""

    asked: list[tuple[str, str | None]]

    def dataset_info(self, name: str, revision: str | None, timeout: float) -> Any:
        self.asked.append((name, revision))
        if name == "no/thing":
            raise ValueError("404 Client Error\nrepository not found")
        return type("Info", (), {"sha": f"commit{len(self.asked)}"})()


@pytest.fixture
def online(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """A hub that answers; what was loaded from it."""
    import huggingface_hub

    write(tmp_path / "stands for the hub")
    loaded: list[dict[str, Any]] = []
    real = hub.load

    def from_folder(path: str, about: str, instead: str, **arguments: Any) -> Any:
        loaded.append({"path": path, **arguments})
        return real(str(tmp_path / "stands for the hub"), about, instead, **{**arguments, "revision": None})

    FakeApi.asked = []
    monkeypatch.setattr(huggingface_hub, "HfApi", FakeApi)
    monkeypatch.setattr(hub, "offline", lambda: None)
    monkeypatch.setattr(hub, "load", from_folder)
    return loaded


def test_all_splits_are_of_one_commit_which_is_recorded(load: Load, online: list[dict[str, Any]]) -> None:
    found = load("some/thing", valid_split="validation", test_split="test")
    assert found.report["sources"] == {"dataset": "some/thing", "commit": "commit1"}
    assert FakeApi.asked == [("some/thing", None)]
    assert [(one["path"], one["split"], one["revision"], one["streaming"]) for one in online] == [
        ("some/thing", split, "commit1", True) for split in ("train", "validation", "test")
    ]


def test_a_revision_is_asked_for_and_its_commit_recorded(load: Load, online: list[dict[str, Any]]) -> None:
    found = load("some/thing", revision="v1.0")
    assert FakeApi.asked == [("some/thing", "v1.0")]
    assert found.report["sources"]["commit"] == "commit1"
    assert load("some/thing", revision="v2.0").report["sources"]["commit"] == "commit2"


def test_a_dataset_that_is_not_there_is_one_line_with_the_local_option(
    load: Load, online: list[dict[str, Any]]
) -> None:
    with pytest.raises(UsageError) as caught:
        load("no/thing")
    assert str(caught.value) == f"data.dataset: 'no/thing' cannot be loaded: 404 Client Error; {LOCAL_FILES}"


def test_once_taken_a_dataset_is_read_from_the_cache_without_a_network(
    load: Load, online: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = load("some/thing")
    asked = len(FakeApi.asked), len(online)
    for name in ("offline", "load", "_commit"):
        monkeypatch.setattr(hub, name, lambda *args, **keys: pytest.fail("asked the hub"))
    again = load("some/thing", tokenizer="bytes", streaming=True)
    assert again.digest == first.digest
    assert contents(again, *SIDES) == contents(first, *SIDES) == sorted(SPLITS["train"])
    assert again.report["sources"]["commit"] == "commit1"
    assert (len(FakeApi.asked), len(online)) == asked


def test_what_decides_the_documents_is_taken_anew(load: Load, online: list[dict[str, Any]]) -> None:
    digests = [
        load("some/thing", **keys).digest
        for keys in ({}, {"documents": 30}, {"split": "validation"}, {"valid_share": 0.5})
    ]
    assert len(set(digests)) == 4
    assert len(online) == 4


def test_where_the_library_is_there_already_it_is_told_that_there_is_no_network(
    monkeypatch: pytest.MonkeyPatch, load: Load
) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    with pytest.raises(UsageError, match="HF_HUB_OFFLINE is set; without the hub, name local files"):
        load("some/thing")
    assert datasets.config.HF_HUB_OFFLINE


@pytest.mark.parametrize("streaming", [True, False])
def test_a_local_dataset_is_read_without_a_word(
    streaming: bool, dataset: str, load: Load, capfd: pytest.CaptureFixture[str]
) -> None:
    load(dataset, streaming=streaming, valid_split="validation", test_split="test")
    captured = capfd.readouterr()
    assert captured.out + captured.err == ""
