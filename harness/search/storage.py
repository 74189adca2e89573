"""Where the trials are kept: Optuna's journal file in the results folder, or any store that has an address."""

from __future__ import annotations

import contextlib
import fcntl
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import UsageError, first_line, shown

if TYPE_CHECKING:
    from optuna.storages import BaseStorage

JOURNAL = "optuna-journal.log"


def open_storage(url: str | None, folder: Path) -> BaseStorage:
    """The storage at an address as Optuna takes it (sqlite:///FILE, postgresql+psycopg://..., the path of a journal
    file), or the journal file in `folder`. Raises UsageError, without a password, where it cannot be opened."""
    import optuna

    if url is None:
        return _journal(folder / JOURNAL)
    if not url.strip():
        raise UsageError("--storage: names no storage")
    if "://" not in url:
        return _journal(Path(url))
    try:
        # A connection that was closed while cells were trained is noticed before it is used.
        return optuna.storages.get_storage(optuna.storages.RDBStorage(url, engine_kwargs={"pool_pre_ping": True}))
    except ImportError as error:
        driver = "; pip install 'psycopg[binary]'" if url.startswith("postgres") else ""
        raise UsageError(f"--storage: {masked(url)} needs a package that is not installed: {error}{driver}") from None
    except Exception as error:  # whatever SQLAlchemy, its driver or Optuna's schema check raise
        reason = masked(first_line(error), url)
        raise UsageError(f"--storage: {masked(url)} cannot be opened: {reason}") from None


def masked(text: str, url: str | None = None) -> str:
    """Without the password of an address in it, and without that of `url`."""
    for secret in re.findall(r"://[^:/@]*:([^@]+)@", url or ""):
        text = text.replace(secret, "***")
    return re.sub(r"(://[^:/@\s]*:)[^@\s]+@", r"\1***@", text)


def _journal(path: Path) -> BaseStorage:
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock: Any = FileLock(path)  # the class that Optuna's are derived from is not public
        if path.exists():
            lock.acquire()
            try:
                _cut_torn_line(path)
            finally:
                lock.release()
        return JournalStorage(JournalFileBackend(str(path), lock_obj=lock))
    except OSError as error:
        raise UsageError(f"--storage: {shown(path)} cannot be opened: {error.strerror or error}") from error
    except Exception as error:  # lines that are none of Optuna's
        raise UsageError(
            f"--storage: {shown(path)} is no journal of Optuna's: {type(error).__name__}: {first_line(error)}"
        ) from error


def _cut_torn_line(path: Path) -> None:
    """What a writer that was killed left of a line: with the next line behind it, nothing could be read any more."""
    data = path.read_bytes()
    if data and not data.endswith(b"\n"):
        if not data.startswith(b"{"):
            raise ValueError("it does not begin with a record")
        with path.open("r+b") as file:
            file.truncate(data.rfind(b"\n") + 1)


class FileLock:
    """Of a journal file, for Optuna's backend. Optuna's own lock is a file that stays behind when its writer is killed,
    and holds everybody up for half a minute; this one dies with its process."""

    def __init__(self, path: Path):
        self._path = path.with_name(f"{path.name}.flock")
        self._file: Any = None

    def acquire(self) -> bool:
        file = self._path.open("ab")
        fcntl.flock(file, fcntl.LOCK_EX)
        self._file = file
        return True

    def release(self) -> None:
        with contextlib.suppress(AttributeError):
            self._file.close()
        self._file = None
