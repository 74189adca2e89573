"""Which data, without numpy."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from harness.settings import Settings

IMAGES = ("digits", "cifar10", "image_folder")
"""Corpora that are images; the others are text."""


class DataSettings(Settings):
    """The corpus, and how it becomes tokens or batches of images."""

    corpus: Literal["stdlib", "text", "digits", "cifar10", "image_folder"] = "stdlib"
    """`stdlib`: sources of the running Python's standard library. `text`: UTF-8 files of one's own. `digits`:
    scikit-learn's handwritten digits. `cifar10`: CIFAR-10 from local files. `image_folder`: a folder with a folder of
    images for every class, as ImageNet is laid out."""
    files: tuple[str, ...] = Field(default=(), strict=False)
    """For `text`: files or globs; for `cifar10` and `image_folder`: one folder. Relative to the suite file, else to the
    working directory."""
    valid_files: tuple[str, ...] = Field(default=(), strict=False)
    """For `text`: held-out files of one's own; without them a fixed hash takes about `valid_share` of the documents."""
    valid_share: float = Field(default=0.05, gt=0.0, lt=1.0)
    """Share of documents or images that is held out, where the data bring no held-out side of their own."""
    tokenizer: Literal["bytes"] = "bytes"
    image_size: int | None = Field(default=None, ge=1)
    """For `image_folder`: pixels a side to which images are resized and cropped."""
    augment: Literal["none", "flip", "crop_flip"] = "none"
    """Of training images: mirrored with probability 1/2; shifted besides, by up to an eighth of the size."""

    @property
    def kind(self) -> Literal["text", "images"]:
        return "images" if self.corpus in IMAGES else "text"

    def problem(self) -> tuple[str, str] | None:
        """(key, what is wrong) when the keys do not fit together, else None."""
        if self.corpus == "text" and not self.files:
            return "files", "the corpus 'text' needs files"
        if self.corpus in ("cifar10", "image_folder") and len(self.files) != 1:
            return "files", f"the corpus '{self.corpus}' needs one folder"
        if self.corpus in ("stdlib", "digits") and self.files:
            return "files", f"files are for other corpora, not '{self.corpus}'"
        if self.corpus != "text" and self.valid_files:
            return "valid_files", f"valid_files are for the corpus 'text', not '{self.corpus}'"
        if self.corpus == "image_folder" and self.image_size is None:
            return "image_size", "the corpus 'image_folder' needs the size that images are brought to"
        if self.corpus != "image_folder" and self.image_size is not None:
            return "image_size", f"image_size is for the corpus 'image_folder', not '{self.corpus}'"
        if self.kind == "text" and self.augment != "none":
            return "augment", f"augment is for images, and '{self.corpus}' is text"
        return None
