"""Images as they lie in files: scikit-learn's digits, CIFAR-10 in both its forms, and a folder for every class."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import pickle
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.data.pack import SPLIT_VERSION
from harness.errors import UsageError, nearest

Pixels = NDArray[np.uint8]
"""(K, C, S, S)"""
Labels = NDArray[np.int64]
"""(K,)"""

CIFAR_CLASSES, CIFAR_SHAPE = 10, (3, 32, 32)
CIFAR_PIXELS = 3 * 32 * 32
SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
HEAD_BYTES = 64 * 1024


@dataclass(frozen=True, eq=False)
class ArrayImages:
    """Images in memory."""

    all_pixels: Pixels
    labels: Labels

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def shape(self) -> tuple[int, int]:
        """Channels, and pixels a side."""
        return self.all_pixels.shape[1], self.all_pixels.shape[2]

    @property
    def digest(self) -> str:
        """SHA-256 over shape, labels and pixels."""
        digest = hashlib.sha256(repr(self.all_pixels.shape).encode())
        digest.update(self.labels.astype("<i8").tobytes())
        digest.update(np.ascontiguousarray(self.all_pixels).data)
        return digest.hexdigest()

    def pixels(self, indices: Labels) -> Pixels:
        """(len(indices), C, S, S)"""
        return self.all_pixels[indices]


@dataclass(frozen=True, eq=False)
class FileImages:
    """Images in files below `root`, decoded when they are asked for. `files` are (path below root, bytes)."""

    root: Path
    files: tuple[tuple[str, int], ...]
    labels: Labels
    size: int

    def __len__(self) -> int:
        return len(self.files)

    @property
    def shape(self) -> tuple[int, int]:
        """Channels, and pixels a side."""
        return 3, self.size

    @property
    def digest(self) -> str:
        """SHA-256 over paths below the root and sizes in bytes. Contents stay unread: ImageNet has 150 GB, and every
        cell asks. A file that is replaced by another of its name and size is therefore not noticed."""
        digest = hashlib.sha256(f"{self.size}".encode())
        for name, size in self.files:
            digest.update(f"\0{name}\0{size}".encode(errors="surrogateescape"))
        return digest.hexdigest()

    def pixels(self, indices: Labels) -> Pixels:
        """(len(indices), 3, S, S), RGB: the largest square in the middle, brought to S x S by bicubic resampling, which
        is the shorter side brought to S and a central crop. Raises UsageError for a file that cannot be decoded."""
        pixels_KCSS = np.empty((len(indices), 3, self.size, self.size), dtype=np.uint8)
        for row, index in enumerate(indices):
            pixels_KCSS[row] = _decode(self.root / self.files[index][0], self.size)
        return pixels_KCSS


Side = ArrayImages | FileImages


class Sides(NamedTuple):
    """Images to train on and held-out ones, and the names of their classes, in the order of the labels."""

    train: Side
    valid: Side
    classes: tuple[str, ...]


def held_out(contents: Iterable[bytes], valid_share: float) -> NDArray[np.bool_]:
    """(K,) about `valid_share` of the contents, by a hash of each; equal ones are on one side. One at least is held
    out where there are two that differ."""
    digests = (hashlib.sha256(SPLIT_VERSION + content).digest() for content in contents)
    positions = np.array([int.from_bytes(digest[:8]) / 2**64 for digest in digests])
    chosen: NDArray[np.bool_] = positions < valid_share
    if not chosen.any() and len(np.unique(positions)) > 1:
        chosen = positions == positions.min()
    return chosen


def read_digits(valid_share: float) -> Sides:
    """The 1,797 digits that scikit-learn brings, (1, 8, 8); their 0..16 become 0..255, rounded (8 becomes 128).

    Read from its file, for importing scikit-learn takes longer than training on it. Raises UsageError without it.
    """
    package = importlib.util.find_spec("sklearn")
    if package is None or not package.submodule_search_locations:
        raise UsageError("data.corpus: the corpus 'digits' comes with scikit-learn, which is not installed")
    path = Path(package.submodule_search_locations[0], "datasets", "data", "digits.csv.gz")
    if not path.is_file():
        raise UsageError(f"data.corpus: the installed scikit-learn has no digits at {path}")
    rows = np.loadtxt(path, delimiter=",").astype(np.int64)
    pixels = ((rows[:, :64] * 255 + 8) // 16).astype(np.uint8).reshape(-1, 1, 8, 8)
    chosen = held_out((image.tobytes() for image in pixels), valid_share)
    train, valid = (ArrayImages(pixels[side], rows[side, 64]) for side in (~chosen, chosen))
    return Sides(train, valid, tuple(str(digit) for digit in range(10)))


def read_cifar10(folder: Path) -> Sides:
    """CIFAR-10 as published, (3, 32, 32): five batches to train on, the test batch held out; files of the binary form
    or of the Python form (Krizhevsky 2009). Raises UsageError for a file that is missing or wrong."""
    binary = (folder / "data_batch_1.bin").is_file()
    if not binary and not (folder / "data_batch_1").is_file():
        raise UsageError(f"data.files: neither data_batch_1.bin nor data_batch_1 of CIFAR-10 is in {folder}")
    read, suffix = (_binary_batch, ".bin") if binary else (_pickled_batch, "")
    batches = [read(folder / f"data_batch_{number}{suffix}") for number in range(1, 6)]
    pixels, labels = (np.concatenate(parts) for parts in zip(*batches, strict=True))
    valid = ArrayImages(*read(folder / f"test_batch{suffix}"))
    return Sides(ArrayImages(pixels, labels), valid, _cifar_classes(folder))


def read_image_folder(root: Path, size: int, valid_share: float) -> Sides:
    """Files in root/train/CLASS and root/val/CLASS (or root/valid/CLASS), at any depth below it, as ImageNet is laid
    out; without a held-out folder, files in root/train/CLASS or root/CLASS, of which a fixed hash holds some out.

    The hash is of a file's size and first 64 KiB, so that copies under two names are on one side. Classes are in the
    order of their folders' names. Raises UsageError for missing or empty folders and for a held-out class of its own.
    """
    if importlib.util.find_spec("PIL") is None:
        raise UsageError("data.corpus: the corpus 'image_folder' needs Pillow, which is not installed")
    # A folder 'train' that holds images themselves is a class: pictures of trains.
    two_sided = (root / "train").is_dir() and bool(_folders(root / "train"))
    beside = [root / name for name in ("val", "valid") if (root / name).is_dir() and _folders(root / name)]
    if beside and not two_sided:
        raise UsageError(f"data.files: {root} has a folder '{beside[0].name}' of classes but none 'train'")
    train_folder = root / "train" if two_sided else root
    classes = _folders(train_folder)
    if not classes:
        raise UsageError(f"data.files: no folders of classes in {train_folder}")
    train = _class_files(root, train_folder, classes, size)
    if beside:
        found = _folders(beside[0])
        for name in found:
            if name not in classes:
                raise UsageError(f"data.files: {beside[0] / name} is no class to train on{nearest(name, classes)}")
        # Labels count the training folders, also where not all of them have held-out images.
        valid = _class_files(root, beside[0], classes, size, only=found)
        return Sides(train, valid, tuple(classes))
    chosen = held_out((_head(root / name, length) for name, length in train.files), valid_share)
    sides = (np.flatnonzero(~chosen), np.flatnonzero(chosen))
    train, valid = (FileImages(root, tuple(train.files[i] for i in side), train.labels[side], size) for side in sides)
    return Sides(train, valid, tuple(classes))


def _folders(folder: Path) -> list[str]:
    try:
        return sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    except OSError as error:
        raise UsageError(f"data.files: cannot read {folder}: {error.strerror}") from error


def _class_files(
    root: Path, folder: Path, classes: Sequence[str], size: int, only: Sequence[str] | None = None
) -> FileImages:
    """All images of `folder`, class after class, in the order of their paths."""
    files: list[tuple[str, int]] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        if only is not None and name not in only:
            continue
        found = sorted(_image_names(root, folder / name))
        if not found:
            raise UsageError(f"data.files: no images ({', '.join(SUFFIXES)}) in {folder / name}")
        try:
            files += [(path, os.stat(f"{root}/{path}").st_size) for path in found]
        except OSError as error:
            raise UsageError(f"data.files: cannot read {error.filename}: {error.strerror}") from error
        labels += [label] * len(found)
    return FileImages(root, tuple(files), np.array(labels, dtype=np.int64), size)


def _image_names(root: Path, folder: Path) -> Iterable[str]:
    """Paths below `root`, as text: a million of `Path` would take eight seconds."""
    for below, _, names in os.walk(folder):
        prefix = Path(below).relative_to(root).as_posix()
        # Some systems put a hidden twin beside every file that they copy.
        yield from (f"{prefix}/{name}" for name in names if name.lower().endswith(SUFFIXES) and name[0] != ".")


def _head(path: Path, length: int) -> bytes:
    try:
        with path.open("rb") as file:
            return f"{length}\0".encode() + file.read(HEAD_BYTES)
    except OSError as error:
        raise UsageError(f"data.files: cannot read {path}: {error.strerror}") from error


def _decode(path: Path, size: int) -> Pixels:
    """(3, S, S)"""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            if image.mode.startswith("I;16"):  # Pillow would cut off what is brighter than 255
                rgb = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
            else:
                rgb = image.convert("RGB")
        square = min(rgb.size)
        left, top = ((length - square) / 2 for length in rgb.size)
        box = (left, top, left + square, top + square)
        resized = rgb.resize((size, size), Image.Resampling.BICUBIC, box=box)
    except UnidentifiedImageError as error:
        raise UsageError(f"data.files: {path} is no image that can be decoded") from error
    except Exception as error:  # a broken file can end a decoder in any way
        raise UsageError(f"data.files: {path} cannot be decoded: {error}") from error
    return np.asarray(resized).transpose(2, 0, 1)


def _binary_batch(path: Path) -> tuple[Pixels, Labels]:
    data = np.frombuffer(_read(path), dtype=np.uint8)
    if not len(data) or len(data) % (1 + CIFAR_PIXELS):
        raise UsageError(f"data.files: {path} has {len(data)} bytes; an image of CIFAR-10 takes {1 + CIFAR_PIXELS}")
    records = data.reshape(-1, 1 + CIFAR_PIXELS)
    return records[:, 1:].reshape(-1, *CIFAR_SHAPE), _cifar_labels(path, records[:, 0].tolist())


def _pickled_batch(path: Path) -> tuple[Pixels, Labels]:
    content = _unpickle(path)
    array, labels = (content.get(key) for key in (b"data", b"labels"))
    if not isinstance(array, _Array) or not isinstance(labels, list) or not labels:
        raise UsageError(f"data.files: {path} is no batch of CIFAR-10: it has no data and labels")
    if array.shape != (len(labels), CIFAR_PIXELS) or len(array.raw) != len(labels) * CIFAR_PIXELS:
        raise UsageError(f"data.files: {path} does not have {CIFAR_PIXELS} bytes for each of its {len(labels)} labels")
    pixels = np.frombuffer(array.raw, dtype=np.uint8).reshape(array.shape, order="F" if array.by_column else "C")
    return pixels.reshape(-1, *CIFAR_SHAPE), _cifar_labels(path, labels)


def _cifar_labels(path: Path, labels: Sequence[Any]) -> Labels:
    if not all(isinstance(label, int) and 0 <= label < CIFAR_CLASSES for label in labels):
        raise UsageError(f"data.files: {path} has a label outside 0..{CIFAR_CLASSES - 1}")
    return np.array(labels, dtype=np.int64)


def _cifar_classes(folder: Path) -> tuple[str, ...]:
    """By their names where the file of names is at hand, else by their numbers."""
    path = folder / "batches.meta.txt"
    if path.is_file():
        names = _read(path).decode(errors="replace").split()
    elif (path := folder / "batches.meta").is_file():
        found = _unpickle(path).get(b"label_names")
        found = found if isinstance(found, list) else []
        names = [name.decode(errors="replace") for name in found if isinstance(name, bytes)]
    else:
        return tuple(str(label) for label in range(CIFAR_CLASSES))
    if len(names) != CIFAR_CLASSES:
        raise UsageError(f"data.files: {path} names {len(names)} classes, not {CIFAR_CLASSES}")
    return tuple(names)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise UsageError(f"data.files: no such file: {path}") from error
    except OSError as error:
        raise UsageError(f"data.files: cannot read {path}: {error.strerror}") from error


class _Array:
    """Stands in a pickle where numpy's array stood: keeps what one is made of and runs nothing of numpy's."""

    shape: object = None
    by_column: object = False
    raw: bytes = b""

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, self.shape, _, self.by_column, raw = state
        self.raw = bytes(raw) if isinstance(raw, bytes) else b""


class _ElementType:
    """Stands where numpy's type of elements stood; the length of the bytes says whether it was one byte."""

    def __init__(self, *_: object):
        pass

    def __setstate__(self, state: object) -> None:
        pass


class _Unpickler(pickle.Unpickler):
    """Makes numbers, bytes, text, lists, dictionaries and `_Array`: a pickle can otherwise run anything."""

    KNOWN: dict[tuple[str, str], Callable[..., object]] = {  # noqa: RUF012 - never changed
        ("numpy.core.multiarray", "_reconstruct"): lambda *_: _Array(),
        ("numpy._core.multiarray", "_reconstruct"): lambda *_: _Array(),
        ("numpy", "ndarray"): _Array,
        ("numpy", "dtype"): _ElementType,
    }

    def find_class(self, module: str, name: str) -> Callable[..., object]:
        if (module, name) not in self.KNOWN:
            raise pickle.UnpicklingError(f"it asks for {f'{module}.{name}'!r}")
        return self.KNOWN[module, name]


def _unpickle(path: Path) -> dict[Any, Any]:
    try:
        with path.open("rb") as file:
            content = _Unpickler(file, encoding="bytes").load()
    except FileNotFoundError as error:
        raise UsageError(f"data.files: no such file: {path}") from error
    except Exception as error:  # a broken pickle can end in any exception
        raise UsageError(f"data.files: {path} is no file of CIFAR-10 that can be read safely: {error}") from error
    if not isinstance(content, dict):
        raise UsageError(f"data.files: {path} is no file of CIFAR-10: it holds no dictionary")
    return content
