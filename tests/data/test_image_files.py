"""Images are read exactly from every form of file, and nothing that a data file asks for is run."""

from __future__ import annotations

import pickle
import random
import struct
from pathlib import Path

import numpy as np
import pytest
from images_support import everything, one_line
from numpy.testing import assert_array_equal
from PIL import Image

from harness.data.images import ImageSet, ImageSource, load_images
from harness.data.settings import Cifar10Settings, ImageFolderSettings, data_settings
from harness.errors import UsageError

NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


# --- CIFAR-10


def records(count: int, seed: int) -> tuple[np.ndarray, list[int]]:
    generator = np.random.default_rng(seed)
    pixels = generator.integers(0, 256, (count, 3072), dtype=np.uint8)
    return pixels, generator.integers(0, 10, count).tolist()


def python_2_pickle(pixels: np.ndarray, labels: list[int]) -> bytes:
    """The bytes that Python 2 and numpy 1 wrote: strings of bytes, protocol 2."""

    def text(value: bytes) -> bytes:
        return b"U" + bytes([len(value)]) + value

    def number(value: int) -> bytes:
        return b"J" + struct.pack("<i", value)

    array = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\n" + number(0) + b"\x85" + text(b"b") + b"\x87R"
    kind = b"cnumpy\ndtype\n" + text(b"u1") + number(0) + number(1) + b"\x87R"
    kind += b"(" + number(3) + text(b"|") + b"NNN" + number(-1) + number(-1) + number(0) + b"tb"
    raw = b"T" + struct.pack("<i", pixels.size) + pixels.tobytes()
    array += b"(" + number(1) + number(len(pixels)) + number(3072) + b"\x86" + kind + b"\x89" + raw + b"tb"
    listed = b"](" + b"".join(number(label) for label in labels) + b"e"
    return b"\x80\x02}(" + text(b"data") + array + text(b"labels") + listed + b"u."


def write_cifar(folder: Path, form: str) -> Path:
    folder.mkdir()
    for number, name in enumerate(
        ["data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5", "test_batch"]
    ):
        pixels, labels = records(3 + number, number)
        if form == "binary":
            rows = np.concatenate([np.array(labels, dtype=np.uint8)[:, None], pixels], axis=1)
            (folder / f"{name}.bin").write_bytes(rows.tobytes())
        elif form == "python 2":
            (folder / name).write_bytes(python_2_pickle(pixels, labels))
        else:
            content = {b"data": np.asfortranarray(pixels) if number == 1 else pixels, b"labels": labels}
            (folder / name).write_bytes(pickle.dumps(content, protocol=4))
    return folder


def cifar(folder: Path, relative_to: Path | None = None) -> ImageSet:
    return load_images(data_settings(corpus="cifar10", files=(str(folder),)), relative_to)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # numpy.core has another name now
def test_numpy_itself_reads_what_the_tests_write_for_python_2() -> None:
    pixels, labels = records(3, 0)
    content = pickle.loads(python_2_pickle(pixels, labels), encoding="bytes")
    assert_array_equal(content[b"data"], pixels)
    assert content[b"labels"] == labels


def test_all_forms_of_cifar10_give_the_same_images_and_the_same_digest(tmp_path: Path) -> None:
    made = [cifar(write_cifar(tmp_path / form, form)) for form in ("binary", "python 2", "python 3")]
    expected = [records(3 + number, number) for number in range(6)]
    for images in made:
        train, train_labels, valid, valid_labels = everything(images)
        assert_array_equal(train, np.concatenate([pixels for pixels, _ in expected[:5]]).reshape(-1, 3, 32, 32))
        assert train_labels.tolist() == [label for _, labels in expected[:5] for label in labels]
        assert_array_equal(valid, expected[5][0].reshape(-1, 3, 32, 32))
        assert valid_labels.tolist() == expected[5][1]
        assert images.classes == tuple("0123456789")
    assert len({images.digest for images in made}) == 1


def test_the_first_third_of_a_record_is_red_row_after_row(tmp_path: Path) -> None:
    folder = write_cifar(tmp_path / "c", "binary")
    record = np.arange(3072) % 251
    (folder / "test_batch.bin").write_bytes(bytes([4]) + record.astype(np.uint8).tobytes())
    valid = cifar(folder).valid
    image = valid.pixels(np.array([0]))[0]
    assert valid.labels.tolist() == [4]
    for channel, row, column in [(0, 0, 5), (0, 7, 31), (1, 2, 3), (2, 31, 0)]:
        assert image[channel, row, column] == (channel * 1024 + row * 32 + column) % 251


def test_class_names_are_read_where_they_are_at_hand(tmp_path: Path) -> None:
    binary, pickled = write_cifar(tmp_path / "b", "binary"), write_cifar(tmp_path / "p", "python 2")
    (binary / "batches.meta.txt").write_text("\n".join(NAMES) + "\n\n")
    (pickled / "batches.meta").write_bytes(
        pickle.dumps({b"label_names": [name.encode() for name in NAMES]}, protocol=4)
    )
    assert cifar(binary).classes == cifar(pickled).classes == NAMES
    (binary / "batches.meta.txt").write_text("cat\ndog\n")
    with pytest.raises(UsageError, match=r"batches\.meta\.txt names 2 classes, not 10"):
        cifar(binary)


class Evil:
    def __init__(self, marker: Path):
        self.marker = marker

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return open, (str(self.marker), "w")


@pytest.mark.parametrize("name", ["data_batch_3", "test_batch", "batches.meta"])
def test_a_pickle_that_asks_for_anything_else_is_refused_and_runs_nothing(name: str, tmp_path: Path) -> None:
    folder, marker = write_cifar(tmp_path / "c", "python 2"), tmp_path / "marker"
    content = pickle.dumps({b"data": Evil(marker), b"labels": [1], b"label_names": []}, protocol=4)
    pickle.loads(content)[b"data"].close()
    assert marker.exists(), "otherwise this checks nothing"
    marker.unlink()
    (folder / name).write_bytes(content)
    with pytest.raises(UsageError) as caught:
        cifar(folder)
    one_line(caught, str(folder / name), "io.open")
    assert not marker.exists()


def test_an_array_of_objects_and_other_functions_of_numpy_are_refused(tmp_path: Path) -> None:
    folder = write_cifar(tmp_path / "c", "python 2")
    for content in (
        b"\x80\x02cnumpy\nload\nU\x01xq\x85R.",
        pickle.dumps({b"data": np.array([[1, "a"]], dtype=object), b"labels": [1]}, protocol=4),
        pickle.dumps({b"data": np.zeros((1, 3072)), b"labels": [1]}, protocol=4),
        pickle.dumps({b"data": np.zeros((1, 3072), np.uint8), b"labels": [1, 2]}, protocol=4),
        pickle.dumps({b"data": np.zeros((1, 3072), np.uint8), b"labels": [10]}, protocol=4),
        pickle.dumps({b"data": [1], b"labels": [1]}, protocol=4),
        pickle.dumps([1], protocol=4), b"", b"\x80\x02}(", b"no pickle",
    ):  # fmt: skip
        (folder / "data_batch_2").write_bytes(content)
        with pytest.raises(UsageError) as caught:
            cifar(folder)
        one_line(caught, "data.files: ", str(folder / "data_batch_2"))


def test_a_wrong_or_missing_binary_batch_is_named(tmp_path: Path) -> None:
    folder = write_cifar(tmp_path / "c", "binary")
    path = folder / "data_batch_4.bin"
    for content, message in [
        (bytes(3072), "3072 bytes"), (b"", "0 bytes"), (bytes(2 * 3073 + 1), "6147 bytes"),
        (bytes([10]) + bytes(3072), "a label outside 0..9"), (None, "no such file"),
    ]:  # fmt: skip
        path.unlink() if content is None else path.write_bytes(content)
        with pytest.raises(UsageError) as caught:
            cifar(folder)
        one_line(caught, "data.files: ", str(path), message)
    (folder / "data_batch_1.bin").unlink()
    with pytest.raises(
        UsageError, match=r"^data\.files: neither data_batch_1\.bin nor data_batch_1 of CIFAR-10 is in "
    ):
        cifar(folder)


def test_a_folder_is_looked_for_beside_the_suite_then_where_one_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    write_cifar(tmp_path / "here" / "c", "binary")
    monkeypatch.chdir(tmp_path / "here")
    elsewhere = cifar(Path("c"), tmp_path).digest
    write_cifar(tmp_path / "c", "python 2")
    (tmp_path / "c" / "test_batch").write_bytes(python_2_pickle(*records(2, 99)))
    assert cifar(Path("c"), tmp_path).digest != elsewhere
    with pytest.raises(UsageError, match=r"^data\.files: no such folder: missing$"):
        cifar(Path("missing"), tmp_path)


# --- a folder for every class


def write_image(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def noise(seed: int, height: int = 6, width: int = 6) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def folder(root: Path, size: int = 6, **more: object) -> ImageSet:
    return load_images(data_settings(corpus="image_folder", files=(str(root),), image_size=size, **more))


def test_images_come_in_the_order_of_their_paths_however_the_disk_lists_them(tmp_path: Path) -> None:
    order = list(range(30))
    random.Random(0).shuffle(order)
    for number in order:
        write_image(tmp_path / "train" / "x" / f"{number:02d}.png", noise(number))
    write_image(tmp_path / "val" / "x" / "a.png", noise(0))
    assert_array_equal(everything(folder(tmp_path))[0], np.stack([noise(i) for i in range(30)]).transpose(0, 3, 1, 2))


@pytest.mark.parametrize("held_out", ["val", "valid"])
def test_a_folder_of_two_sides_is_read_class_by_class_in_the_order_of_names(tmp_path: Path, held_out: str) -> None:
    for number, name in enumerate(
        ["train/owl/b.png", "train/owl/a.png", "train/cat/deep/x.PNG", f"{held_out}/owl/v.bmp"]
    ):
        write_image(tmp_path / name, noise(number))
    (tmp_path / "train" / "owl" / "notes.txt").write_text("no image")
    (tmp_path / "train" / "owl" / "._a.png").write_text("a hidden twin")
    (tmp_path / "train" / ".hidden").mkdir()
    made = folder(tmp_path)
    train, train_labels, valid, valid_labels = everything(made)
    assert made.classes == ("cat", "owl")
    assert train_labels.tolist() == [0, 1, 1]
    assert valid_labels.tolist() == [1], "a label counts the training folders"
    assert_array_equal(train, np.stack([noise(2), noise(1), noise(0)]).transpose(0, 3, 1, 2))
    assert_array_equal(valid, noise(3)[None].transpose(0, 3, 1, 2))
    assert (made.inputs.size, made.inputs.channels, made.inputs.classes) == (6, 3, 2)


def test_images_are_resized_by_their_shorter_side_and_cropped_in_the_middle(tmp_path: Path) -> None:
    wide, tall = noise(0, 20, 40), noise(1, 48, 20)
    for name, pixels in (("a", wide), ("b", tall)):
        write_image(tmp_path / "train" / "x" / f"{name}.png", pixels)
        write_image(tmp_path / "val" / "x" / f"{name}.png", pixels)
    found = everything(folder(tmp_path, size=10))[0]
    resized = [np.asarray(Image.fromarray(wide).resize((20, 10), Image.Resampling.BICUBIC))[:, 5:15]]
    resized.append(np.asarray(Image.fromarray(tall).resize((10, 24), Image.Resampling.BICUBIC))[7:17])
    assert_array_equal(found, np.stack(resized).transpose(0, 3, 1, 2))


def test_every_kind_of_image_becomes_rgb(tmp_path: Path) -> None:
    grey = noise(0)[..., 0]
    write_image(tmp_path / "x" / "grey.png", grey)
    write_image(tmp_path / "x" / "sixteen.png", grey.astype(np.uint16) * 256 + 7)
    Image.fromarray(noise(1)).convert("P").save(tmp_path / "x" / "palette.png")
    Image.fromarray(noise(1)).convert("RGBA").save(tmp_path / "x" / "alpha.png")
    Image.fromarray(noise(1)).save(tmp_path / "x" / "lossy.jpeg")
    Image.fromarray(noise(1)).save(tmp_path / "x" / "lossless.webp", lossless=True)
    made = folder(tmp_path, valid_share=0.3)
    found = {
        name: side.pixels(np.array([i]))[0]
        for side in (made.train, made.valid)
        for i, (name, _) in enumerate(side.files)
    }
    assert len(found) == 6
    for name in ("x/grey.png", "x/sixteen.png"):
        assert_array_equal(found[name], np.stack([grey] * 3))
    for name in ("x/alpha.png", "x/lossless.webp"):
        assert_array_equal(found[name], noise(1).transpose(2, 0, 1))


def test_a_folder_of_one_side_is_split_by_content_whatever_the_files_are_called(tmp_path: Path) -> None:
    for number in range(60):
        write_image(tmp_path / "one" / "ab"[number % 2] / f"{number:02d}.png", noise(number))
        write_image(tmp_path / "two" / "train" / "ab"[number % 2] / f"{59 - number:02d}.png", noise(number))
        write_image(tmp_path / "one" / "b" / f"copy-{number:02d}.png", noise(number))
    one, two = folder(tmp_path / "one", valid_share=0.25), folder(tmp_path / "two", valid_share=0.25)
    sides = [[{image.tobytes() for image in everything(made)[i]} for i in (0, 2)] for made in (one, two)]
    assert sides[0] == sides[1]
    assert not sides[0][0] & sides[0][1], "copies are on one side"
    assert len(one.train) + len(one.valid) == 120
    assert 6 <= len(sides[0][1]) <= 24
    assert folder(tmp_path / "one", valid_share=1e-9).valid.labels.size > 0


def test_a_class_called_train_is_a_class(tmp_path: Path) -> None:
    for number in range(10):
        write_image(tmp_path / ("train" if number % 2 else "plane") / f"{number}.png", noise(number))
    assert folder(tmp_path, valid_share=0.3).classes == ("plane", "train")


def test_the_digest_is_of_paths_sizes_and_pixels_a_side_but_not_of_where_the_folder_lies(tmp_path: Path) -> None:
    def write(root: Path, seed: int = 0, name: str = "a") -> Path:
        write_image(root / "train" / "x" / f"{name}.bmp", noise(seed))
        write_image(root / "val" / "x" / "b.bmp", noise(1))
        return root

    first = folder(write(tmp_path / "1")).digest
    assert folder(write(tmp_path / "2")).digest == first
    assert folder(write(tmp_path / "3", seed=5)).digest == first, "contents are not read"
    assert len({first, folder(tmp_path / "1", size=5).digest, folder(write(tmp_path / "4", name="c")).digest}) == 3
    write_image(tmp_path / "2" / "train" / "x" / "a.bmp", noise(0, 6, 7))
    assert folder(tmp_path / "2").digest != first


def test_nothing_is_decoded_before_its_batch_and_then_a_broken_file_is_named(tmp_path: Path) -> None:
    write_image(tmp_path / "train" / "x" / "a.png", noise(0, 60, 60))
    write_image(tmp_path / "val" / "x" / "a.png", noise(0, 60, 60))
    whole = (tmp_path / "train" / "x" / "a.png").read_bytes()
    for content in (b"text", b"", whole[: len(whole) // 2], None):
        path = tmp_path / "train" / "x" / "b.png"
        path.write_bytes(content or b"")
        made = ImageSource(folder(tmp_path).train, batch_size=2, seed=0, augment="none")
        if content is None:
            path.unlink()
        with pytest.raises(UsageError) as caught:
            made.batch(0)
        one_line(caught, f"data.files: {path} ", "decoded")


@pytest.mark.parametrize(
    ("files", "folders", "message"),
    [
        ([], [], "no folders of classes in ROOT"),
        (["a.png"], [], "no folders of classes in ROOT"),
        ([], ["train/x", "val/x"], "no images (.jpg, .jpeg, .png, .bmp, .webp) in ROOT/train/x"),
        (["train/x/a.png"], ["train/y"], "no images (.jpg, .jpeg, .png, .bmp, .webp) in ROOT/train/y"),
        (["train/x/a.png"], ["val/x"], "no images (.jpg, .jpeg, .png, .bmp, .webp) in ROOT/val/x"),
        (["train/cat/a.png", "val/cats/a.png"], [], "ROOT/val/cats is no class to train on; did you mean 'cat'?"),
        (["val/cat/a.png"], [], "ROOT has a folder 'val' of classes but none 'train'"),
        (["x/a.png"], [], "the corpus 'image_folder' has no held-out images"),
    ],
)
def test_a_folder_that_does_not_fit_is_explained_in_a_line(
    files: list[str], folders: list[str], message: str, tmp_path: Path
) -> None:
    for name in files:
        write_image(tmp_path / name, noise(0))
    for name in folders:
        (tmp_path / name).mkdir(parents=True, exist_ok=True)
    with pytest.raises(UsageError) as caught:
        folder(tmp_path)
    one_line(caught, message.replace("ROOT", str(tmp_path)))


def test_keys_that_do_not_fit_are_refused() -> None:
    with pytest.raises(UsageError, match=r"^data\.image_size: the corpus 'image_folder' needs the size"):
        load_images(ImageFolderSettings(files=("x",)))
    with pytest.raises(UsageError, match=r"^data\.files: the corpus 'cifar10' needs one folder"):
        load_images(Cifar10Settings())
