"""The corpus `python`: the standard library and the packages beside the harness, code only, and none of our own."""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import pytest

import harness
from harness.data import sources
from harness.data.corpora import load_corpus
from harness.data.documents import SIDES, Corpus, Document
from harness.data.settings import data_settings
from harness.data.sources import documents_of, installed, is_code, package_files, stdlib_files

CODE = "def double(number: int) -> int:\n    return 2 * number\n"
Put = Callable[[str, str | bytes], Path]


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder in the place of the installed packages, and a small standard library."""
    place, stdlib = tmp_path / "env" / "site-packages", tmp_path / "stdlib"
    place.mkdir(parents=True)
    real = Path(sysconfig.get_paths()["stdlib"])
    for folder in ("json", "email", "logging"):
        shutil.copytree(real / folder, stdlib / folder)
    paths = {**sysconfig.get_paths(), "stdlib": str(stdlib), "purelib": str(place), "platlib": str(place)}
    monkeypatch.setattr(sysconfig, "get_paths", lambda *args: paths)
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    return place


@pytest.fixture
def put(site: Path) -> Put:
    def put(name: str, content: str | bytes = CODE) -> Path:
        path = site / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return put


def distribution(site: Path, name: str, version: str) -> None:
    folder = site / f"{name.replace('-', '_')}-{version}.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")


def everything(corpus: Corpus) -> dict[str, Document]:
    return {document.name: document for side in SIDES for document in getattr(corpus, side)}


def of_packages(corpus: Corpus) -> set[str]:
    return {name.removeprefix("site-packages/") for name in everything(corpus) if name.startswith("site-packages/")}


def python() -> Corpus:
    return load_corpus(data_settings(corpus="python"))


def numbered(number: int) -> str:
    return f"# {number}\n{CODE}"


def test_packages_stand_beside_the_standard_library(put: Put) -> None:
    for number in range(50):
        put(f"package/module{number}.py", numbered(number))
    found = everything(python())
    assert {"email/parser.py", "json/decoder.py"} < set(found)
    assert found["site-packages/package/module7.py"].data == numbered(7).encode()
    assert len(of_packages(python())) == 50


def test_nothing_of_the_harness_and_nothing_that_points_to_a_checkout_is_in_it(put: Put, site: Path) -> None:
    for name in (
        "harness/cli.py", "connection_harness/x.py", "__editable___connection_harness_0_1_0_finder.py",
        "__editable___other_1_0_finder.py", "__editable__.py/x.py",
    ):  # fmt: skip
        put(name, numbered(hash(name)))
    put("kept/harness.py")
    distribution(site, "connection-harness", "0.1.0")
    distribution(site, "kept", "1.2")
    corpus = python()
    assert of_packages(corpus) == {"kept/harness.py"}
    assert corpus.report["sources"] == [sources.python(), "kept 1.2"]


def test_tests_compiled_files_and_what_is_no_python_are_left_out(put: Put) -> None:
    for name in (
        "a/tests/x.py",
        "a/test/x.py",
        "a/__pycache__/x.py",
        "a/b.pyc",
        "a/b.so",
        "a/b.txt",
        "a/b.pyi",
        "a/b.py.bak",
    ):
        put(name, numbered(hash(name)))
    put("a/b.py")
    assert of_packages(python()) == {"a/b.py"}


def test_tables_of_data_are_left_out(put: Put) -> None:
    put("tables/numbers.py", "TABLE = [\n" + "    0x01, 0x02, 0x03, 0x04, 0x05,\n" * 400 + "]\n")
    put("tables/long.py", "TEXT = '" + "word " * 400 + "'\n")
    put("tables/wide.py", ("x = " + "'some words', " * 10 + "\n") * 50)
    put("tables/code.py")
    corpus = python()
    assert of_packages(corpus) == {"tables/code.py"}
    assert all(is_code(document.data) for document in everything(corpus).values())


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (CODE.encode(), True),
        (b"", False),
        (b"x" * 1000 + b"\n" + b"y = 1\n" * 30, True),
        (b"x" * 1001 + b"\n" + b"y = 1\n" * 30, False),
        (b"x" * 100 + b"\n", False),
        (b"x" * 99 + b"\n", True),
        (b"abc(1, 2, 3)\n", False),
        (b"abcd(1, 2, 3)\n", True),
        ("# 漢字\n".encode(), True),
        (CODE.replace("\n", "\r\n").encode(), True),
    ],
)
def test_code_has_lines_and_letters_as_starcoder_asks(data: bytes, code: bool) -> None:
    """Longest line 1000, mean line 100, a quarter letters (arXiv 2305.06161, section 3.1)."""
    assert is_code(data) == code


def test_files_that_cannot_be_read_as_utf_8_do_not_stop_it(put: Put, site: Path, tmp_path: Path) -> None:
    put("odd/latin.py", "# -*- coding: latin-1 -*-\n# caf\xe9\n".encode("latin-1"))
    put(os.fsdecode(b"odd/na\xefve.py"), numbered(1))
    put("odd/line\nend.py", numbered(2))
    put("odd/漢字.py", numbered(3))
    (site / "odd" / ".#lock.py").symlink_to("user@host.123")
    (site / "odd" / "loop.py").symlink_to("loop.py")
    (site / "odd" / "folder.py").mkdir()
    os.mkfifo(site / "odd" / "pipe.py")
    (tmp_path / "linked.py").write_text(numbered(4))
    (site / "odd" / "link.py").symlink_to(tmp_path / "linked.py")
    assert of_packages(python()) == {"odd/line\nend.py", "odd/漢字.py", "odd/link.py"}


def test_a_file_that_goes_while_it_is_read_is_left_out(put: Put) -> None:
    files = [("a.py", put("a.py")), ("b.py", put("b.py", numbered(1)))]
    files[0][1].unlink()
    assert [document.name for document in documents_of(files, code_only=True)] == ["b.py"]


def test_two_roots_that_are_one_folder_count_once(
    put: Put, site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put("a.py")
    (tmp_path / "lib64").symlink_to(site)
    paths = {**sysconfig.get_paths(), "platlib": str(tmp_path / "lib64")}
    monkeypatch.setattr(sysconfig, "get_paths", lambda *args: paths)
    assert package_files() == [("site-packages/a.py", site / "a.py")]
    paths["platlib"] = str(tmp_path / "nowhere")
    assert package_files() == [("site-packages/a.py", site / "a.py")]


def test_the_versions_of_what_it_was_made_from_are_recorded(put: Put, site: Path) -> None:
    distribution(site, "Some-Package", "1.0")
    distribution(site, "another", "2.1.post3")
    (site / "broken-1.dist-info").mkdir()
    assert python().report["sources"] == [sources.python(), "Some-Package 1.0", "another 2.1.post3"]
    assert sources.python() == f"CPython {sys.version.split()[0]}" or sys.implementation.name != "cpython"
    assert load_corpus(data_settings()).report["sources"] == [sources.python()]


def test_another_file_or_version_beside_the_harness_is_another_entry_of_the_cache(
    put: Put, site: Path, tmp_path: Path
) -> None:
    put("a.py")
    first = python().digest
    distribution(site, "a", "1.0")
    assert python().digest == first, "what is read did not change"
    assert python().report["sources"][1:] == ["a 1.0"], "and yet the record is the present one"
    put("b.py", numbered(1))
    assert python().digest != first
    (site / "b.py").rename(site / "c.py")
    renamed = python()
    assert of_packages(renamed) == {"a.py", "c.py"}
    assert len(list((tmp_path / "cache" / "corpora").glob("*/"))) == 4


def test_a_link_under_another_name_is_another_document(put: Put, site: Path, tmp_path: Path) -> None:
    """Packages may be links into a store that environments share."""
    (tmp_path / "store.py").write_text(CODE)
    (site / "a.py").symlink_to(tmp_path / "store.py")
    assert of_packages(python()) == {"a.py"}
    (site / "a.py").rename(site / "b.py")
    assert of_packages(python()) == {"b.py"}


def test_the_standard_library_is_what_it_always_was_with_packages_or_without(put: Put) -> None:
    before = load_corpus(data_settings()).digest
    put("a.py")
    assert load_corpus(data_settings()).digest == before
    assert not [name for name, _ in stdlib_files() if "site-packages" in name]


def test_what_is_installed_here_is_named_with_its_version() -> None:
    found = installed()
    assert f"numpy {metadata.version('numpy')}" in found
    assert not any(line.startswith(("connection-harness ", "connection_harness ")) for line in found)
    assert found == sorted(found)


@pytest.fixture(scope="module")
def real() -> Corpus:
    return python()


@pytest.mark.slow
def test_here_it_is_over_100_mb_of_code_of_other_people(real: Corpus) -> None:
    assert real.train_bytes > 100e6
    found = everything(real)
    packages = {name.split("/")[0] for name in of_packages(real)}
    assert {"numpy", "torch", "datasets"} <= packages
    assert {"argparse.py", "json/decoder.py"} < set(found)
    assert not {name for name in of_packages(real) if name.startswith(("harness/", "connection", "__editable__"))}
    ours = {path.read_bytes() for path in Path(harness.__file__).parent.rglob("*.py") if path.stat().st_size}
    assert not ours & {document.data for document in found.values()}
    place = str(Path(sys.prefix)).encode()
    assert not any(place in document.data for document in found.values()), "nothing that names this machine"


@pytest.mark.slow
def test_here_it_is_held_out_by_document_and_its_overlap_and_versions_are_reported(real: Corpus) -> None:
    assert 0.02 < real.valid_bytes / (real.train_bytes + real.valid_bytes) < 0.1
    contents = [tuple(document.data.split()) for document in everything(real).values()]
    assert len(set(contents)) == len(contents)
    assert real.report["copies_removed"]["on_two_sides"] > 0
    assert 0 < real.report["overlap"]["valid"]["share"] < 0.5
    assert f"numpy {metadata.version('numpy')}" in real.report["sources"]
    assert python().digest == real.digest


def test_a_folder_that_an_installation_left_without_metadata_is_no_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken-1.0.dist-info").mkdir()
    (tmp_path / "whole-2.0.dist-info").mkdir()
    (tmp_path / "whole-2.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: whole\nVersion: 2.0\n")
    monkeypatch.setattr(sources, "_roots", lambda: [tmp_path])
    assert sources.installed() == ["whole 2.0"]
