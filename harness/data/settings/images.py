"""Settings of images."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from harness.data.settings.base import DataSettings, Kind


class ImageSettings(DataSettings):
    """What all images share."""

    KIND: ClassVar[Kind] = "images"
    IDENTITY: ClassVar[frozenset[str]] = frozenset({"augment"})

    augment: Literal["none", "flip", "crop_flip"] = "none"
    """Of training images: mirrored with probability 1/2; shifted besides, by up to an eighth of the size."""


class DigitsSettings(ImageSettings):
    """scikit-learn's handwritten digits."""

    corpus: Literal["digits"] = "digits"
    valid_share: float = Field(default=0.05, gt=0.0, lt=1.0)
    """Share of the images that is held out."""


class ImageFilesSettings(ImageSettings):
    """Images in one folder."""

    files: tuple[str, ...] = Field(default=(), strict=False)
    """The folder, relative to the suite file, else to the working directory."""

    def problem(self) -> tuple[str, str] | None:
        if len(self.files) != 1:
            return "files", f"the corpus '{self.corpus}' needs one folder"
        return super().problem()


class Cifar10Settings(ImageFilesSettings):
    """CIFAR-10 from local files; its test batch is held out."""

    corpus: Literal["cifar10"] = "cifar10"


class ImageFolderSettings(ImageFilesSettings):
    """A folder with a folder of images for every class, as ImageNet is laid out."""

    corpus: Literal["image_folder"] = "image_folder"
    image_size: int | None = Field(default=None, ge=1)
    """Pixels a side to which images are resized and cropped."""
    valid_share: float = Field(default=0.05, gt=0.0, lt=1.0)
    """Share of the images that is held out, where the folder has no held-out side of its own."""

    def problem(self) -> tuple[str, str] | None:
        if self.image_size is None:
            return "image_size", "the corpus 'image_folder' needs the size that images are brought to"
        return super().problem()
