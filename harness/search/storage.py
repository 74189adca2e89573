"""Where the trials are kept: Optuna's journal file in the results folder, or any store that has an address."""

from __future__ import annotations

import contextlib
import fcntl
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from harness.errors import UsageError, first_line, shown

if TYPE_CHECKING:
    from optuna.storages import BaseStorage

JOURNAL = "optuna-journal.log"
RECORD = b'{"op_code":'
"""How every line of Optuna's journals begins."""
OPENINGS, PAUSE_SECONDS = 8, 0.25
"""Of a database: whoever opens an empty one while others do the same finds their tables half there."""


def open_storage(url: str | None, folder: Path) -> BaseStorage:
    """The storage at an address as Optuna takes it (sqlite:///FILE, postgresql+psycopg://..., the path of a journal
    file), or the journal file in `folder`. Raises UsageError, without a password, where it cannot be opened; what is
    another program's stays as it was."""
    if url is None:
        return _journal(folder / JOURNAL)
    if not url.strip():
        raise UsageError("--storage: names no storage")
    if url.rstrip("/") == "sqlite:" or url.endswith(":memory:"):
        raise UsageError(f"--storage: {url} is kept nowhere; sqlite:///FILE")
    if "://" not in url:
        return _journal(Path(url))
    try:
        return _database(url)
    except ImportError as error:
        driver = "; pip install 'psycopg[binary]'" if url.startswith("postgres") else ""
        raise UsageError(
            f"--storage: {shown(masked(url))} needs a package that is not installed: {error}{driver}"
        ) from None
    except Exception as error:  # whatever SQLAlchemy, its driver or Optuna's schema check raise
        reason = masked(first_line(error), url)
        raise UsageError(f"--storage: {shown(masked(url))} cannot be opened: {reason}") from None


def masked(text: str, url: str | None = None) -> str:
    """Without the passwords of addresses in it, and without that of `url`. An address alone may have one with spaces
    or @ in it."""
    for secret in sorted(_secrets(url or ""), key=len, reverse=True):
        text = text.replace(secret, "***")
    password = r".+" if re.match(r"[\w+.-]+://", text) else r"[^@\s]+"
    text = re.sub(rf"(://[^:/@\s]*:){password}@", r"\1***@", text, flags=re.DOTALL)
    return re.sub(r"([?&]\w*password=)[^&\s]+", r"\1***", text)


def _secrets(url: str) -> set[str]:
    """Passwords in an address, whole, decoded, and the parts of one with @ in it, which is taken apart there."""
    found = [*re.findall(r"://[^:/@]*:(.+)@", url, flags=re.DOTALL), *re.findall(r"[?&]\w*password=([^&]+)", url)]
    return {part for secret in found for part in (secret, unquote(secret), *secret.split("@")) if part}


def _database(url: str) -> BaseStorage:
    import optuna
    import sqlalchemy

    engine = sqlalchemy.create_engine(url)
    try:
        tables = sqlalchemy.inspect(engine).get_table_names()
    finally:
        engine.dispose()
    # Optuna would put its own beside them, and find only then that the schema's version is not its own.
    if "alembic_version" in tables and "version_info" not in tables:
        raise ValueError("it holds the tables of another program, such as MLflow; name a database of its own")
    for left in reversed(range(OPENINGS)):
        try:
            # A connection that was closed while cells were trained is noticed before it is used.
            opened = optuna.storages.RDBStorage(url, engine_kwargs={"pool_pre_ping": True})
            with opened.engine.begin() as connection:  # one that can only be read fails here, not in a study
                connection.execute(sqlalchemy.text("UPDATE trials SET number = number WHERE 1 = 0"))
            return optuna.storages.get_storage(opened)
        except sqlalchemy.exc.SQLAlchemyError as error:
            made_meanwhile = isinstance(error, sqlalchemy.exc.IntegrityError) or "already exists" in str(error)
            if not left or not made_meanwhile:
                raise
            time.sleep(PAUSE_SECONDS)
    raise AssertionError


def _journal(path: Path) -> BaseStorage:
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and not path.is_file() and not path.is_dir():
            raise UsageError(f"--storage: {shown(path)} is no file")
        lock: Any = FileLock(path)  # the class that Optuna's are derived from is not public
        if path.exists() and _torn(path):
            lock.acquire()  # its writer may be at it still
            try:
                _cut_torn_line(path)
            finally:
                lock.release()
        return JournalStorage(JournalFileBackend(str(path), lock_obj=lock))
    except UsageError:
        raise
    except OSError as error:
        raise UsageError(f"--storage: {shown(path)} cannot be opened: {error.strerror or error}") from error
    except Exception as error:  # lines that are none of Optuna's
        raise UsageError(
            f"--storage: {shown(path)} is no journal of Optuna's: {type(error).__name__}: {first_line(error)}"
        ) from error


def _torn(path: Path) -> bool:
    """Whether the journal ends within a line. Raises ValueError where the file is none, and OSError where it cannot be
    written to."""
    with path.open("r+b") as file:
        *whole, rest = file.read().split(b"\n")
    for number, line in enumerate(whole, 1):
        if not line.startswith(RECORD):
            raise ValueError(f"line {number} is no record")
    if not whole and not RECORD.startswith(rest[: len(RECORD)]):
        raise ValueError("it does not begin with a record")
    return bool(rest)


def _cut_torn_line(path: Path) -> None:
    """What a writer that was killed left of a line: with the next line behind it, nothing could be read any more."""
    data = path.read_bytes()
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
