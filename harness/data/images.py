"""Images in, batches out: sides, held-out images apart, and the batch of step s."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from harness.data.image_files import Sides, read_cifar10, read_digits, read_image_folder
from harness.data.inputs import ImageInputs
from harness.data.places import folders
from harness.data.settings.images import (
    Cifar10Settings,
    DigitsSettings,
    ImageFilesSettings,
    ImageFolderSettings,
    ImageSettings,
)
from harness.errors import UsageError


class Images(Protocol):
    """Images of one side, with their classes."""

    @property
    def labels(self) -> NDArray[np.int64]:
        """(K,)"""

    def __len__(self) -> int: ...

    def pixels(self, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
        """(len(indices), C, S, S). Raises UsageError for a file that cannot be decoded."""


@dataclass(frozen=True)
class ImageSet:
    """Images to train on and held-out ones; `classes` are names, in the order of the labels. `digest` is SHA-256."""

    name: str
    train: Images
    valid: Images
    inputs: ImageInputs
    digest: str
    classes: tuple[str, ...]


def load_images(settings: ImageSettings, relative_to: Path | None = None) -> ImageSet:
    """The images that `settings` names; a folder is looked for below `relative_to`, then below the working directory.
    Raises UsageError for keys that do not fit, for data that are missing or wrong, and for an empty side."""
    wrong = settings.problem()
    if wrong is not None:
        raise UsageError(f"data.{wrong[0]}: {wrong[1]}")
    sides = _read(settings, relative_to)
    digest = hashlib.sha256(settings.corpus.encode())
    for name, side in (("training", sides.train), ("held-out", sides.valid)):
        if not len(side):
            raise UsageError(f"data.corpus: the corpus '{settings.corpus}' has no {name} images")
        digest.update(f"\0{name}\0{side.digest}".encode())
    channels, size = sides.train.shape
    inputs = ImageInputs(size, channels, len(sides.classes))
    return ImageSet(settings.corpus, sides.train, sides.valid, inputs, digest.hexdigest(), sides.classes)


def scaled(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Bytes 0..255 as -1..1, of the same shape."""
    return pixels.astype(np.float32) / np.float32(127.5) - np.float32(1)


class ImageSource:
    """Training images, each once per epoch, in an order of its own for every epoch; batches go over the ends of epochs.

    The order of epoch e comes from a generator seeded with (seed, e), the augmentation of step s from another seeded
    with (seed, s, 1). Nothing depends on what was drawn before, so resuming is exact.
    """

    def __init__(self, images: Images, *, batch_size: int, seed: int, augment: str):
        self.images, self.batch_size, self.seed, self.augment = images, batch_size, seed, augment
        self._epoch: tuple[int, NDArray[np.int64]] | None = None

    def batch(self, step: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """(B, C, S, S) in -1..1 and (B,) classes for `step` = 0, 1, ..."""
        first = step * self.batch_size
        indices = np.array([self._index(*divmod(first + row, len(self.images))) for row in range(self.batch_size)])
        pixels_BCSS = self.images.pixels(indices)
        if self.augment != "none":
            generator = np.random.default_rng([self.seed, step, 1])
            pixels_BCSS = _flipped(pixels_BCSS, generator)
            if self.augment == "crop_flip":
                pixels_BCSS = _shifted(pixels_BCSS, generator)
        return scaled(pixels_BCSS), self.images.labels[indices]

    def _index(self, epoch: int, position: int) -> int:
        if self._epoch is None or self._epoch[0] != epoch:
            self._epoch = (epoch, np.random.default_rng([self.seed, epoch]).permutation(len(self.images)))
        return int(self._epoch[1][position])


def _flipped(pixels_BCSS: NDArray[np.uint8], generator: np.random.Generator) -> NDArray[np.uint8]:
    """Each mirrored left to right with probability 1/2."""
    mirrored_B = generator.random(len(pixels_BCSS)) < 0.5
    return np.where(mirrored_B[:, None, None, None], pixels_BCSS[..., ::-1], pixels_BCSS)


def _shifted(pixels_BCSS: NDArray[np.uint8], generator: np.random.Generator) -> NDArray[np.uint8]:
    """Each cut at a random place out of itself with S // 8 black pixels around it, as is usual for CIFAR-10
    (1512.03385, 4.2: four pixels around 32)."""
    B, _, S, _ = pixels_BCSS.shape
    around = S // 8
    padded = np.pad(pixels_BCSS, ((0, 0), (0, 0), (around, around), (around, around)))
    tops, lefts = generator.integers(2 * around + 1, size=(2, B))
    cuts = np.lib.stride_tricks.sliding_window_view(padded, (S, S), axis=(2, 3))
    return cuts[np.arange(B), :, tops, lefts]


def _read(settings: ImageSettings, relative_to: Path | None) -> Sides:
    if isinstance(settings, DigitsSettings):
        return read_digits(settings.valid_share)
    assert isinstance(settings, ImageFilesSettings)
    folder = _folder(settings.files[0], relative_to)
    if isinstance(settings, Cifar10Settings):
        return read_cifar10(folder)
    assert isinstance(settings, ImageFolderSettings)
    assert settings.image_size is not None  # its `problem`
    return read_image_folder(folder, settings.image_size, settings.valid_share)


def _folder(name: str, relative_to: Path | None) -> Path:
    for place in folders(relative_to):
        if (place / name).is_dir():
            return place / name
    raise UsageError(f"data.files: no such folder: {name}")
