"""The batch of step s is a function of (seed, s), each image once an epoch; and the digits, held out by content."""

from __future__ import annotations

import importlib.util
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from images_support import everything, one_line
from numpy.testing import assert_array_equal

from harness.data.images import ImageSet, ImageSource, load_images, scaled
from harness.data.settings import data_settings
from harness.errors import UsageError


class Numbered:
    """Image k has its number in every first pixel and no two equal pixels in a row or column."""

    def __init__(self, count: int = 23, size: int = 16):
        self.labels = np.arange(count, dtype=np.int64) % 7
        ramp = 100 + np.arange(size)[:, None] + 3 * np.arange(size)[None, :]
        self.all = np.repeat(np.broadcast_to(ramp, (1, 2, size, size)), count, axis=0).astype(np.uint8)
        self.all[:, 1] += 50
        self.all[:, :, 0, 0] = np.arange(count)[:, None]

    def __len__(self) -> int:
        return len(self.labels)

    def pixels(self, indices: np.ndarray) -> np.ndarray:
        return self.all[indices]


def source(seed: int = 5, batch_size: int = 4, augment: str = "none", images: Numbered | None = None) -> ImageSource:
    return ImageSource(images or Numbered(), batch_size=batch_size, seed=seed, augment=augment)


def drawn(made: ImageSource, steps: int) -> list[int]:
    """The numbers of the images of the first steps, without augmentation."""
    return [round((float(value) + 1) * 127.5) for step in range(steps) for value in made.batch(step)[0][:, 0, 0, 0]]


# --- the batch of step s


@pytest.mark.parametrize("augment", ["none", "flip", "crop_flip"])
def test_a_batch_depends_on_seed_and_step_alone_in_any_order_and_from_a_fresh_object(augment: str) -> None:
    made = source(augment=augment)
    first = [made.batch(step) for step in range(15)]
    order = list(range(15))
    random.Random(0).shuffle(order)
    for step in order:
        for again in (made.batch(step), source(augment=augment).batch(step)):
            assert_array_equal(again[0], first[step][0])
            assert_array_equal(again[1], first[step][1])
    assert first[0][0].shape == (4, 2, 16, 16)
    assert (first[0][0].dtype, first[0][1].dtype) == (np.float32, np.int64)


def test_every_image_comes_once_in_an_epoch_in_an_order_of_its_own_and_batches_go_over_its_end() -> None:
    numbers = drawn(source(), 23)
    epochs = [numbers[i : i + 23] for i in range(0, 92, 23)]
    assert all(sorted(epoch) == list(range(23)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 4
    assert drawn(source(seed=6), 5) != drawn(source(seed=5), 5)
    assert drawn(source(batch_size=50), 1) == numbers[:50], "a batch may be larger than an epoch"


def test_the_first_batch_of_a_seed_never_changes() -> None:
    assert drawn(source(seed=1), 1) == np.random.default_rng([1, 0]).permutation(23)[:4].tolist() == [1, 12, 21, 16]


def test_bytes_are_scaled_onto_minus_one_to_one() -> None:
    values = scaled(np.arange(256, dtype=np.uint8))
    assert values.dtype == np.float32
    assert (values[0], values[255]) == (-1.0, 1.0)
    assert np.abs(values - (np.arange(256) / 127.5 - 1)).max() < 1e-6


def test_labels_and_order_are_those_of_the_images_whatever_the_augmentation() -> None:
    plain = source(batch_size=23)
    for augment in ("flip", "crop_flip"):
        for step in range(3):
            assert_array_equal(source(batch_size=23, augment=augment).batch(step)[1], plain.batch(step)[1])
    numbers, labels = drawn(plain, 1), plain.batch(0)[1]
    assert_array_equal(labels, np.array(numbers) % 7)


def test_flipping_mirrors_about_half_of_the_images_left_to_right_and_changes_nothing_else() -> None:
    mirrored = []
    for step in range(20):
        plain, flipped = (source(batch_size=23, augment=augment).batch(step)[0] for augment in ("none", "flip"))
        for before, after in zip(plain, flipped, strict=True):
            same, other = np.array_equal(after, before), np.array_equal(after, before[:, :, ::-1])
            assert same != other
            mirrored.append(other)
    assert 0.42 < np.mean(mirrored) < 0.58  # 460 draws: four standard deviations are 0.093
    assert any(mirrored[:23])
    assert not all(mirrored[:23]), "each image by itself, not the batch"


def test_cropping_shifts_by_up_to_an_eighth_over_black_in_every_direction() -> None:
    shifts = []
    for step in range(20):
        plain, cropped = (source(batch_size=23, augment=augment).batch(step)[0] for augment in ("flip", "crop_flip"))
        for before, after in zip(plain, cropped, strict=True):
            found = []
            for down in range(-2, 3):
                for right in range(-2, 3):
                    expected = np.full_like(before, -1.0)  # black, which is 0 of 255
                    for row in range(16):
                        for column in range(16):
                            if 0 <= row + down < 16 and 0 <= column + right < 16:
                                expected[:, row, column] = before[:, row + down, column + right]
                    if np.array_equal(after, expected):
                        found.append((down, right))
            assert len(found) == 1
            shifts += found
    assert len(set(shifts)) == 25
    assert max(Counter(shifts).values()) < 40, "460 over 25 places"


def test_the_augmentation_of_an_image_is_another_one_in_another_step() -> None:
    images = Numbered(count=1)
    batches = {source(batch_size=1, augment="crop_flip", images=images).batch(step)[0].tobytes() for step in range(40)}
    assert len(batches) > 20


# --- digits


def digits(**more: object) -> ImageSet:
    return load_images(data_settings(corpus="digits", **more))


def test_the_digits_are_those_of_scikit_learn() -> None:
    from sklearn.datasets import load_digits

    theirs = load_digits()
    expected = {}
    for image, label in zip(theirs.images, theirs.target, strict=True):
        expected[np.floor(image * 255 / 16 + 0.5).astype(np.uint8).tobytes()] = int(label)
    train, train_labels, valid, valid_labels = everything(digits())
    ours = [*zip(train, train_labels, strict=True), *zip(valid, valid_labels, strict=True)]
    assert {image.tobytes(): int(label) for image, label in ours} == expected
    assert len(ours) == len(expected) == 1797
    assert train.shape[1:] == (1, 8, 8)
    assert (train.dtype, train_labels.dtype, int(train.max())) == (np.uint8, np.int64, 255)


def test_the_digits_are_split_by_content_stably_and_without_overlap() -> None:
    small, large = digits(valid_share=0.05), digits(valid_share=0.2)
    assert small.digest == digits(valid_share=0.05).digest != large.digest
    sides = [{image.tobytes() for image in everything(small)[i]} for i in (0, 2)]
    assert not sides[0] & sides[1]
    assert 0.03 < len(small.valid) / 1797 < 0.07
    assert 0.17 < len(large.valid) / 1797 < 0.23
    assert sides[1] < {image.tobytes() for image in everything(large)[2]}, "a larger share adds images"
    assert (len(small.train), len(small.valid)) == (1710, 87), "never changes"


def test_digits_are_neither_mirrored_nor_shifted_unless_asked_for() -> None:
    made = digits()
    settings = data_settings(corpus="digits")
    batch, labels = ImageSource(made.train, batch_size=50, seed=0, augment=settings.augment).batch(0)
    kept = {scaled(image).tobytes(): int(label) for image, label in zip(*everything(made)[:2], strict=True)}
    assert [kept[image.tobytes()] for image in batch] == labels.tolist()


def test_what_the_digits_are_is_said_in_a_line() -> None:
    made = digits()
    assert (made.inputs.size, made.inputs.channels, made.inputs.classes) == (8, 1, 10)
    assert made.classes == tuple("0123456789")
    assert len(made.digest) == 64


def test_reading_the_digits_imports_neither_scikit_learn_nor_torch() -> None:
    code = (
        "import sys; from harness.data.images import load_images; from harness.data.settings import data_settings;"
        "load_images(data_settings(corpus='digits'));"
        "print([name for name in ('sklearn', 'scipy', 'torch', 'PIL', 'pandas') if name in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


@pytest.mark.parametrize(("corpus", "package"), [("digits", "scikit-learn"), ("image_folder", "Pillow")])
def test_a_package_that_is_missing_is_named(
    corpus: str, package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    more = {"files": (str(tmp_path),), "image_size": 8} if corpus == "image_folder" else {}
    with pytest.raises(UsageError) as caught:
        load_images(data_settings(corpus=corpus, **more))
    one_line(caught, "data.corpus: ", f"'{corpus}'", package, "not installed")
