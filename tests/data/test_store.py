"""What is kept in the cache is made once and whole, whoever asks and whoever is killed in the middle."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.data import store
from harness.data.store import META, built
from harness.errors import UsageError

BUILDER = """
import os, sys, time
from pathlib import Path
from harness.data.store import built
log, go, seconds = Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3])

def build(folder):
    (folder / "half.bin").write_bytes(b"half")
    with log.open("a") as file:
        file.write(f"{os.getpid()}\\n")
    time.sleep(seconds)
    (folder / "data.bin").write_bytes(b"whole")
    return {"made_by": os.getpid()}

(go.parent / f"ready-{os.getpid()}").touch()
while not go.exists():
    time.sleep(0.002)
folder, meta = built("things", "key", build)
print((folder / "data.bin").read_text(), meta["made_by"], flush=True)
"""
"""Arguments: a file with a line for every build, a file that lets it start, seconds that a build takes."""

Start = Callable[[float], "subprocess.Popen[str]"]


pytestmark = pytest.mark.usefixtures("cache")


@pytest.fixture
def start(tmp_path: Path) -> Start:
    def start(seconds: float) -> subprocess.Popen[str]:
        arguments = [sys.executable, "-c", BUILDER, str(tmp_path / "log"), str(tmp_path / "go"), str(seconds)]
        return subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    return start


def builds(tmp_path: Path) -> list[str]:
    log = tmp_path / "log"
    return log.read_text().split() if log.exists() else []


def wait_for(condition: Callable[[], object]) -> None:
    for _ in range(6000):
        if condition():
            return
        time.sleep(0.005)
    raise AssertionError("nothing came")


def put(folder: Path) -> dict[str, Any]:
    (folder / "data.bin").write_bytes(b"whole")
    (folder / "other.bin").write_bytes(b"")
    return {"by": "this process"}


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_processes_that_ask_at_the_same_moment_get_one_build(tmp_path: Path, start: Start, cache: Path) -> None:
    processes = [start(0.3) for _ in range(6)]
    wait_for(lambda: len(list(tmp_path.glob("ready-*"))) == 6)
    (tmp_path / "go").touch()
    answers = {process.communicate()[0] for process in processes}
    (builder,) = builds(tmp_path)
    assert answers == {f"whole {builder}\n"}
    assert names(cache / "things") == {"key", "key.lock"}


def test_a_builder_killed_in_the_middle_leaves_nothing_that_is_used_and_the_next_cleans_up(
    tmp_path: Path, start: Start, cache: Path
) -> None:
    (tmp_path / "go").touch()
    process = start(600)
    wait_for(lambda: builds(tmp_path))
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert names(cache / "things") == {f"key.{process.pid}.tmp", "key.lock"}
    assert names(cache / "things" / f"key.{process.pid}.tmp") == {"half.bin"}
    folder, meta = built("things", "key", put)
    assert meta == {"by": "this process"}
    assert (folder / "data.bin").read_bytes() == b"whole"
    assert names(cache / "things") == {"key", "key.lock"}


def test_who_waits_says_so_and_builds_where_the_builder_is_killed(tmp_path: Path, start: Start) -> None:
    (tmp_path / "go").touch()
    first = start(600)
    wait_for(lambda: builds(tmp_path))
    second = start(0)
    assert second.stderr is not None
    assert second.stderr.readline() == "waiting for another process that makes things/key in the cache\n"
    first.kill()
    assert second.communicate()[0] == f"whole {second.pid}\n"
    assert builds(tmp_path) == [str(first.pid), str(second.pid)]
    first.communicate()


def never(folder: Path) -> dict[str, Any]:
    raise AssertionError("built again")


def torn_data(folder: Path) -> None:
    os.truncate(folder / "data.bin", 3)


def missing_file(folder: Path) -> None:
    (folder / "other.bin").unlink()


def other_data(folder: Path) -> None:
    (folder / "data.bin").write_bytes(b"stale")


def torn_meta(folder: Path) -> None:
    os.truncate(folder / META, 20)


def empty_meta(folder: Path) -> None:
    os.truncate(folder / META, 0)


def missing_meta(folder: Path) -> None:
    (folder / META).unlink()


def foreign_meta(folder: Path) -> None:
    (folder / META).write_text("[1, 2]")


def binary_meta(folder: Path) -> None:
    (folder / META).write_bytes(b"\xff\xfe\0")


@pytest.mark.parametrize(
    "tear", [torn_data, other_data, missing_file, torn_meta, empty_meta, missing_meta, foreign_meta, binary_meta]
)
def test_a_folder_that_is_not_whole_is_made_again(tear: Callable[[Path], None]) -> None:
    folder, _ = built("things", "key", put)
    assert built("things", "key", never)[0] == folder, "as long as it is whole it is not made again"
    tear(folder)
    folder, meta = built("things", "key", put)
    assert (folder / "data.bin").read_bytes() == b"whole"
    assert meta == {"by": "this process"}
    assert names(folder) == {"data.bin", "other.bin", META}


def test_meta_data_come_back_as_they_were_given() -> None:
    given = {"text": "naïve \ud800", "numbers": [1, 2.5, None], "nested": {"a": {}}}
    first = built("things", "key", lambda folder: given)
    assert first == built("things", "key", lambda folder: {}) == (first[0], given)


def test_other_keys_and_kinds_are_other_folders() -> None:
    def write(text: str) -> Callable[[Path], dict[str, Any]]:
        return lambda folder: {"text": text, "size": (folder / "data").write_text(text)}

    made = [built(kind, key, write(kind + key)) for kind in ("a", "b") for key in ("1", "2")]
    assert len({folder for folder, _ in made}) == 4
    assert [(folder / "data").read_text() for folder, _ in made] == ["a1", "a2", "b1", "b2"]


def test_a_cache_that_cannot_be_written_is_one_line_that_names_the_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "file" / "below"))
    with pytest.raises(
        UsageError, match=r"^the cache .*file/below cannot be written: .+; HARNESS_CACHE names "
    ) as caught:
        built("things", "key", put)
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_folder_without_permission_is_a_cache_that_cannot_be_written(cache: Path) -> None:
    cache.mkdir(mode=0o555)
    with pytest.raises(UsageError, match=r"cannot be written: Permission denied; HARNESS_CACHE"):
        built("things", "key", put)


def test_a_disk_that_is_full_is_a_cache_that_cannot_be_written(cache: Path) -> None:
    def fill(folder: Path) -> dict[str, Any]:
        (folder / "half.bin").write_bytes(b"half")
        raise OSError(28, "No space left on device")

    with pytest.raises(UsageError, match=r"cannot be written: No space left on device; HARNESS_CACHE names"):
        built("things", "key", fill)
    assert names(cache / "things") == {"key.lock"}


def test_a_source_that_cannot_be_read_is_not_blamed_on_the_cache(tmp_path: Path) -> None:
    source = tmp_path / "gone\n.txt"
    with pytest.raises(UsageError, match=r"^cannot read .*gone\\n\.txt: No such file or directory$"):
        built("things", "key", lambda folder: {"text": source.read_text()})


def test_what_is_there_is_used_where_nothing_can_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    made = built("things", "key", put)

    def refuse(path: Path) -> Any:
        raise PermissionError(30, "Read-only file system", str(path))

    monkeypatch.setattr(store, "_locked", refuse)
    assert built("things", "key", put) == made
    with pytest.raises(UsageError, match="Read-only file system"):
        built("things", "another", put)


@pytest.mark.parametrize("error", [ValueError("a bug"), KeyboardInterrupt(), UsageError("no such file"), SystemExit(3)])
def test_a_build_that_fails_leaves_nothing_and_the_next_one_starts_anew(error: BaseException, cache: Path) -> None:
    def fail(folder: Path) -> dict[str, Any]:
        (folder / "half.bin").write_bytes(b"half")
        raise error

    with pytest.raises(type(error)):
        built("things", "key", fail)
    assert names(cache / "things") == {"key.lock"}
    assert built("things", "key", put)[1] == {"by": "this process"}


def test_meta_data_that_cannot_be_written_leave_nothing(cache: Path) -> None:
    with pytest.raises(TypeError):
        built("things", "key", lambda folder: {"path": folder})
    assert names(cache / "things") == {"key.lock"}


def test_large_files_are_known_again_by_their_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "SMALL", 4)
    folder, _ = built("things", "key", put)
    kept = json.loads((folder / META).read_text())
    assert kept["meta"] == {"by": "this process"}
    assert kept["files"]["data.bin"] == "5"
    assert kept["files"]["other.bin"] == f"0 {hashlib.sha256().hexdigest()}"


def test_what_killed_builders_of_other_entries_left_is_removed_but_not_what_is_being_built(cache: Path) -> None:
    for key in ("gone", "busy"):
        (cache / "things" / f"{key}.1.tmp").mkdir(parents=True)
    with (cache / "things" / "busy.lock").open("ab") as busy:
        fcntl.flock(busy, fcntl.LOCK_EX)
        built("things", "key", put)
    assert names(cache / "things") == {"key", "key.lock", "gone.lock", "busy.lock", "busy.1.tmp"}
