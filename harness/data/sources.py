"""Python sources: of the standard library, and of the packages installed beside the harness."""

from __future__ import annotations

import os
import platform
import string
import sysconfig
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from harness.data.documents import Document

# Tests, generated tables that name the machine, and what pip or the distribution installed.
LEFT_OUT = {"test", "tests", "idle_test", "site-packages", "dist-packages", "__pycache__", "lib-dynload"}
OURS = ("harness", "connection_harness", "connection-harness")

# Files that are data rather than code, by the rules of StarCoder (arXiv 2305.06161, section 3.1).
LONGEST_LINE, LONGEST_MEAN_LINE, FEWEST_LETTERS = 1000, 100, 0.25
LETTERS = string.ascii_letters.encode() + bytes(range(128, 256))

Source = tuple[str, Path]
"""Name, which is the path below the root, and file."""


def stdlib_files() -> list[Source]:
    """Sources of the running Python's standard library, by name."""
    return _below(Path(sysconfig.get_paths()["stdlib"]), "")


def package_files() -> list[Source]:
    """Sources of all packages installed beside the harness, but its own, by name."""
    found = [source for root in _roots() for source in _below(root, "site-packages/")]
    return sorted(source for source in dict(found).items() if not _ours(source[0].split("/")[1]))


def python() -> str:
    """Name and version of the running Python."""
    return f"{platform.python_implementation()} {platform.python_version()}"


def installed() -> list[str]:
    """Names and versions of the packages installed beside the harness."""
    found = metadata.distributions(path=[str(root) for root in _roots()])
    names = {named for one in found if (named := _named(one)) is not None}
    return sorted(f"{name} {version}" for name, version in names if not _ours(name.lower()))


def _named(one: metadata.Distribution) -> tuple[str, str] | None:
    """Name and version; None of a folder without metadata, as an installation that is under way or was broken off
    leaves it (which a later importlib_metadata raises for)."""
    try:
        about = one.metadata
    except FileNotFoundError:
        return None
    return (about["Name"], about["Version"]) if about and about["Name"] else None


def _roots() -> list[Path]:
    paths = sysconfig.get_paths()
    roots = dict.fromkeys(Path(paths[kind]).resolve() for kind in ("purelib", "platlib"))
    return [root for root in roots if root.is_dir()]


def _ours(name: str) -> bool:
    """Whether a package is the harness, or what points to a checkout of a package: it names the machine."""
    return name in OURS or name.startswith("__editable__")


def _below(root: Path, prefix: str) -> list[Source]:
    sources = []
    for folder, folders, files in os.walk(root):
        folders[:] = [name for name in folders if name not in LEFT_OUT and not name.startswith("config-")]
        below = Path(folder).relative_to(root).as_posix()
        start = prefix if below == "." else f"{prefix}{below}/"
        sources += [
            (start + name, Path(folder, name))
            for name in files
            if name.endswith(".py") and not name.startswith("_sysconfigdata")
        ]
    return sorted(source for source in sources if _readable(*source))


def _readable(name: str, path: Path) -> bool:
    """Neither a link to nowhere (editors leave them) nor under a name that is no UTF-8."""
    return not any("\ud800" <= letter <= "\udfff" for letter in name) and os.path.isfile(path)


def documents_of(sources: list[Source], code_only: bool) -> Iterator[Document]:
    """The sources as documents; a few that declare another encoding are left out, and with `code_only` those that are
    tables of data."""
    for name, path in sources:
        try:
            data = path.read_bytes()
            data.decode()
        except (OSError, UnicodeDecodeError):
            continue
        if not code_only or is_code(data):
            yield Document(name, data)


def is_code(data: bytes) -> bool:
    """Whether a source has lines of the length, and letters in the share, that code has. Lengths are in bytes."""
    lines = data.splitlines()
    if not lines or max(map(len, lines)) > LONGEST_LINE or len(data) > LONGEST_MEAN_LINE * len(lines):
        return False
    return len(data) - len(data.translate(None, LETTERS)) >= FEWEST_LETTERS * len(data)
