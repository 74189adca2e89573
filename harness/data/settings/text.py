"""Settings of text: which documents, on which sides, and their tokenizer."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field

from harness.data.settings.base import DataSettings, Kind
from harness.data.settings.tokenizers import AnyTokenizer, BytesSettings


class TextSettings(DataSettings):
    """What all text shares: documents are split by a fixed hash unless they come with sides of their own."""

    KIND: ClassVar[Kind] = "text"

    valid_share: float = Field(default=0.05, gt=0.0, lt=1.0)
    """Share of the documents that is held out: validation during training."""
    test_share: float = Field(default=0.0, ge=0.0, lt=1.0)
    """Share of the documents that nothing sees before scoring: our own tasks are made from them, or else from the
    held-out ones."""
    tokenizer: AnyTokenizer = BytesSettings()

    @property
    def own_sides(self) -> bool:
        """Whether held-out documents are named rather than drawn."""
        return False

    @property
    def test_side(self) -> bool:
        """Whether there is to be a test side."""
        return self.test_share > 0

    def problem(self) -> tuple[str, str] | None:
        if self.valid_share + self.test_share >= 1:
            return "test_share", "held-out and test shares leave nothing to train on"
        if problem := self.tokenizer.problem():
            return f"tokenizer.{problem[0]}", problem[1]
        return super().problem()


class StdlibSettings(TextSettings):
    """Sources of the running Python's standard library, without its tests."""

    corpus: Literal["stdlib"] = "stdlib"


class PythonSettings(TextSettings):
    """Sources of the standard library and of the packages installed beside the harness: over 100 MB of real code."""

    corpus: Literal["python"] = "python"


class TextFilesSettings(TextSettings):
    """Files of one's own: .jsonl (also gzipped), .parquet and .json (a list) hold a document a row, all others are one
    UTF-8 document each. Fewer than 20 documents are split by blocks of lines."""

    corpus: Literal["text"] = "text"
    files: tuple[str, ...] = Field(default=(), strict=False)
    """Files or globs, relative to the suite file, else to the working directory."""
    valid_files: tuple[str, ...] = Field(default=(), strict=False)
    """Held-out files of one's own; without them `valid_share` of the documents."""
    test_files: tuple[str, ...] = Field(default=(), strict=False)
    """Test files of one's own; without them `test_share` of the documents."""
    field: str = "text"
    """Of files of rows, the field that holds the text."""

    @property
    def own_sides(self) -> bool:
        return bool(self.valid_files)

    @property
    def test_side(self) -> bool:
        return bool(self.test_files) or super().test_side

    def problem(self) -> tuple[str, str] | None:
        if not self.files:
            return "files", "the corpus 'text' needs files"
        if self.test_files and not self.valid_files:
            return "test_files", "with test files of one's own the held-out side is named too: valid_files"
        if self.own_sides and self.test_share:
            return "test_share", "with valid_files the test side is named too: test_files"
        return super().problem()


class HubSettings(TextSettings):
    """A Hugging Face dataset by name (or a local folder in its form), taken once and then read from the cache."""

    corpus: Literal["hf"] = "hf"
    dataset: str = Field(min_length=1)
    """Name on the hub, such as HuggingFaceFW/fineweb-edu, or a folder."""
    config: str | None = None
    split: str = "train"
    valid_split: str | None = None
    """Without it `valid_share` of the documents are held out."""
    test_split: str | None = None
    field: str = "text"
    revision: str | None = None
    """Commit or tag on the hub; by default the newest, whose commit is recorded."""
    streaming: bool = True
    """Read over the network as it is needed, instead of downloading the whole dataset first."""
    documents: int | None = Field(default=None, ge=1)
    """Training documents to take, from the start of the split."""

    @property
    def own_sides(self) -> bool:
        return self.valid_split is not None

    @property
    def test_side(self) -> bool:
        return self.test_split is not None or super().test_side

    def problem(self) -> tuple[str, str] | None:
        if self.streaming and self.documents is None:
            return "documents", "a streamed dataset may have no end: say how many documents to take"
        if self.test_split is not None and not self.own_sides:
            return "test_split", "with a test split of its own the held-out one is named too: valid_split"
        if self.own_sides and self.test_share:
            return "test_share", "with valid_split the test side is named too: test_split"
        return super().problem()

    def source(self) -> dict[str, Any]:
        """What decides which documents are taken."""
        return self.model_dump(mode="json", exclude={"tokenizer", "streaming"})
