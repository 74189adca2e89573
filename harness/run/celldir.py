"""A cell's directory: its working state on disk, written so that a kill at any moment leaves it whole.

config.json        what the identity was made of, resolved
environment.json   versions and machine of the last attempt
status.json        state, attempts, times, the failure if there was one
journal.jsonl      one line per logged step, append-only
checkpoint.ckpt    until the training is finished; then weights.pt stays
result.json        last numbers and digests of the training
scores-<key>.json  scores under one evaluation key
samples-<key>/     every question with its answer, a file for every task that was asked
scoring.json       how many requests are answered, while scoring goes on
tokenizer.json     of a tokenizer that is not bytes: what the scores need besides the weights
data.json          digests of the data, and what was found between the sides of the corpus
stdout.log         what the worker printed
samples-<key>.png  what a denoiser draws
experts.json       shares of the experts, layer by layer, on the held-out text at the end
diagnostics.json   of the connections: by depth at every validation, and matrices and patterns at the end
held_out.json      losses of every held-out window, sequence or image at the end
lease              locked by the process that works on the cell
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO, Literal

from harness.errors import UsageError
from harness.tracking import covers

State = Literal["todo", "running", "stopped", "failed", "done"]

EXPERTS, DATA, TOKENIZER = "experts.json", "data.json", "tokenizer.json"
DIAGNOSTICS, HELD_OUT = "diagnostics.json", "held_out.json"
RESUMED = ("train", "validation", "diagnostics")
"""Kinds of journal lines that training writes on its way, step by step."""


def write_json(path: Path, value: Any, *, compact: bool = False) -> None:
    """Atomic as `write_whole`. `compact` is for many numbers."""
    write_whole(path, (json.dumps(value, indent=None if compact else 2, sort_keys=True) + "\n").encode())


def write_whole(path: Path, data: bytes) -> None:
    """Atomic: the file has its old content or the new one, never a part."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def held(path: Path) -> Iterator[bool]:
    """Hold a file while inside: True when it is ours, False when another process has it. It ends with its process,
    however that ends."""
    with path.open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True


def is_held(path: Path) -> bool:
    """Whether a process holds the file now."""
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except BlockingIOError:
        return True
    return False


def read_json(path: Path) -> Any:
    """The file's content, or None where there is no file."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: cannot be read: {error}; move it aside and run again") from error


class CellJournal:
    """Append-only lines {kind, step, time (ms), values}. A torn last line, from a kill, does not count.

    The steps of one kind rise. A resumed run goes back to its checkpoint with `rewind` and writes the same lines again,
    so a mirror that has seen a kind up to some step never needs to look at those lines twice.
    """

    def __init__(self, path: Path):
        self.path = path
        self._file: BinaryIO | None = None

    def lines(self) -> list[dict[str, Any]]:
        return list(read_lines(self.path))

    def last(self, kind: str) -> dict[str, Any] | None:
        """The latest line of a kind near the end, without reading a long journal whole."""
        try:
            with self.path.open("rb") as file:
                file.seek(max(0, self.path.stat().st_size - 65536))
                tail = file.read().split(b"\n")[:-1]
        except (FileNotFoundError, NotADirectoryError):
            return None
        for text in reversed(tail):
            if f'"kind":"{kind}"'.encode() in text and text.startswith(b"{"):
                line: dict[str, Any] = json.loads(text)
                return line
        return None

    def rewind(self, step: int) -> None:
        """Keep what was written up to `step` of the training, drop the rest, and open for writing."""
        kept = [line for line in read_lines(self.path) if line["kind"] in RESUMED and line["step"] <= step]
        self._replace(kept)

    def _replace(self, kept: list[dict[str, Any]]) -> None:
        self.close()
        temporary = self.path.with_suffix(".tmp")
        temporary.write_bytes(b"".join(_encode(line) for line in kept))
        temporary.replace(self.path)
        self._file = self.path.open("ab")

    def open(self) -> None:
        """For writing at the end; a torn line is cut off."""
        self._replace(self.lines())

    def write(self, kind: str, step: int, values: dict[str, float], **extra: Any) -> None:
        if self._file is None:
            self.open()
        assert self._file is not None
        line = {
            "kind": kind,
            "step": step,
            "time": int(time.time() * 1000),
            "values": values,
            **extra,
        }
        self._file.write(_encode(line))
        self._file.flush()

    def sync(self) -> None:
        if self._file is not None:
            self._file.flush()
            os.fsync(self._file.fileno())

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


def _encode(line: dict[str, Any]) -> bytes:
    return json.dumps(line, separators=(",", ":")).encode() + b"\n"


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """Whole lines of a journal that may be written to at this moment."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return
    for line in data.split(b"\n")[:-1]:
        try:
            yield json.loads(line)
        except ValueError:
            return  # only what a kill tore; nothing whole can follow it


class CellDir:
    """The directory of one cell."""

    def __init__(self, path: Path):
        self.path = path
        self.journal = CellJournal(path / "journal.jsonl")

    @property
    def log(self) -> Path:
        return self.path / "stdout.log"

    @property
    def weights(self) -> Path:
        return self.path / "weights.pt"

    @property
    def scoring(self) -> Path:
        return self.path / "scoring.json"

    def scoring_progress(self) -> dict[str, int] | None:
        """{done, total} requests, while the trained cell is asked."""
        if not (self.path / "result.json").exists():
            return None
        progress: dict[str, int] | None = read_json(self.scoring)
        return progress

    def result(self) -> dict[str, Any] | None:
        result: dict[str, Any] | None = read_json(self.path / "result.json")
        return result

    def trained_config(self) -> dict[str, Any]:
        """The configuration of a trained cell. Raises UsageError for a folder that is none."""
        config: dict[str, Any] | None = read_json(self.path / "config.json")
        if config is None or self.result() is None or not self.weights.exists():
            raise UsageError(f"{self.path} is no folder of a trained cell")
        return config

    def scores(self, evaluation: str) -> dict[str, Any] | None:
        """Metrics, stamps and time under an evaluation key, or under one that covers it; None where there are none."""
        found = [one for key, one in self.all_scores().items() if covers(key, evaluation)]
        return max(found, key=lambda one: float(one["time"]), default=None)

    def all_scores(self) -> dict[str, dict[str, Any]]:
        """By evaluation key, all that the cell was ever asked."""
        return {
            path.name[len("scores-") : -len(".json")]: read_json(path)
            for path in sorted(self.path.glob("scores-*.json"))
        }

    def status(self) -> dict[str, Any]:
        return read_json(self.path / "status.json") or {"state": "todo", "attempts": 0}

    def update_status(self, **changes: Any) -> None:
        write_json(self.path / "status.json", {**self.status(), **changes})

    def samples(self, evaluation: str) -> Path:
        """Folder with the samples of text under an evaluation key."""
        return self.path / f"samples-{evaluation}"

    def picture(self, evaluation: str) -> Path:
        """Where a denoiser's samples lie; others draw none."""
        return self.path / f"samples-{evaluation}.png"

    def look(self) -> Look:
        """What the directory says from now on, each of its files read at most once."""
        return Look(self)

    def state(self, evaluation: str) -> State:
        """`done` when trained and scored under `evaluation`; `running` only while somebody holds the lease."""
        return self.look().state(evaluation)

    def busy(self) -> bool:
        """Whether a process works on the cell now. A lease dies with its process, however that ends."""
        return is_held(self.path / "lease")

    def lease(self) -> AbstractContextManager[bool]:
        """Hold the cell: True when it is ours, False when another process has it."""
        return held(self.path / "lease")


class Look:
    """A cell's directory as it was when each of its files was first needed."""

    def __init__(self, directory: CellDir):
        self.directory = directory

    @cached_property
    def status(self) -> dict[str, Any]:
        return self.directory.status()

    @cached_property
    def result(self) -> dict[str, Any] | None:
        return self.directory.result()

    @cached_property
    def scores(self) -> dict[str, dict[str, Any]]:
        """By evaluation key, all that the cell was ever asked."""
        return self.directory.all_scores()

    def state(self, evaluation: str) -> State:
        """As `CellDir.state`."""
        status = self.status  # first: who ends a cell writes it last
        if self.result is not None and any(covers(key, evaluation) for key in self.scores):
            return "done"
        if self.directory.busy():
            return "running"
        # A failure of scoring concerns the evaluation that failed; the training stands.
        if status["state"] == "failed" and (
            self.result is None or (status.get("failure") or {}).get("evaluation") in (None, evaluation)
        ):
            return "failed"
        started = status["state"] != "todo" or self.result is not None
        return "stopped" if started else "todo"


def failure_tail(log: Path, lines: int = 20) -> str:
    """The end of a worker's log, for the record of its failure."""
    try:
        text = log.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    return "\n".join(text.rstrip().split("\n")[-lines:])[-4000:]
