"""Searches whose trials are in a real PostgreSQL server: many parents at once, one that is killed, and no way in."""

from __future__ import annotations

import importlib.util
import json
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
import pytest
import sqlalchemy
from search_support import write_study
from tiny_support import TINY

from harness.run.celldir import CellDir, is_held
from harness.search.parents import PARENT
from harness.search.storage import open_storage
from harness.search.trials import AGAIN_OF, CELLS, VOID

DRIVER = next((name for name in ("psycopg", "psycopg2") if importlib.util.find_spec(name)), None)
USER, PASSWORD = "searcher", "Correct horse@battery:staple"
QUOTED = "Correct%20horse%40battery%3Astaple"

SUITE = TINY.split("  dhc-n2")[0] + "model:" + TINY.split("model:")[1]
SMALL = {
    "steps: 12": "steps: 4", "context: 64": "context: 32", "validate_every: 6": "validate_every: 4",
    "validation_tokens: 256": "validation_tokens: 128", "{limit: 4}": "{tasks: []}",
}  # fmt: skip
STUDY = """\
name: shared
suite: tiny.yaml
trials: 6
space:
  train.lr: {type: float, low: 1e-4, high: 1e-2, log: true}
fresh: {top: 1, choose: [], report: [201, 202]}
"""


def tool(name: str) -> str | None:
    """A program of PostgreSQL's, on the path or where Debian keeps it."""
    kept = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda path: float(path.parts[-3]))
    return shutil.which(name) or (str(kept[-1]) if kept else None)


def unprivileged() -> dict[str, Any]:
    """Who runs the server, for subprocess: it refuses to be root's."""
    if os.geteuid() != 0:
        return {}
    for name in ("postgres", "nobody"):
        try:
            found = pwd.getpwnam(name)
        except KeyError:
            continue
        return {"user": found.pw_uid, "group": found.pw_gid, "extra_groups": []}
    pytest.skip("PostgreSQL refuses to run as root, and there is no user 'postgres' or 'nobody'")


@dataclass(frozen=True)
class Server:
    port: int

    def url(self, database: str, password: str = QUOTED) -> str:
        return f"postgresql+{DRIVER}://{USER}:{password}@127.0.0.1:{self.port}/{database}"

    def ask(self, database: str, text: str) -> list[Any]:
        engine = sqlalchemy.create_engine(self.url(database), isolation_level="AUTOCOMMIT")
        try:
            with engine.connect() as connection:
                answer = connection.execute(sqlalchemy.text(text))
                return list(answer) if answer.returns_rows else []
        finally:
            engine.dispose()


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """A PostgreSQL of our own on loopback, which takes passwords."""
    initdb, postgres = tool("initdb"), tool("postgres")
    if initdb is None or postgres is None:
        pytest.skip("there is no PostgreSQL server: apt-get install postgresql")
    if DRIVER is None:
        pytest.skip("there is no driver: pip install 'psycopg[binary]'")
    who, folder, found = unprivileged(), Path(tempfile.mkdtemp(prefix="pg-")), Server(free_port())
    try:
        (folder / "password").write_text(PASSWORD + "\n")
        for path in (folder, folder / "password"):
            os.chown(path, who.get("user", -1), who.get("group", -1))
        if subprocess.run(["test", "-w", str(folder)], **who).returncode:
            pytest.skip(f"{folder} is out of reach for the user who is to run PostgreSQL")
        data = str(folder / "data")
        make = [initdb, "-D", data, "-U", USER, "-A", "scram-sha-256", f"--pwfile={folder / 'password'}", "-N"]
        done = subprocess.run([*make, "--locale=C", "-E", "UTF8"], cwd=folder, capture_output=True, text=True, **who)
        assert done.returncode == 0, done.stderr
        serve = [postgres, "-D", data, "-p", str(found.port), "-k", "", "-F"]
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                [*serve, "-c", "listen_addresses=127.0.0.1"], cwd=folder, stdout=log, stderr=log, **who
            )
        try:
            wait_for(lambda: "ready to accept connections" in (folder / "log").read_text(), process)
            yield found
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(timeout=60)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[Any]) -> None:
    deadline = time.monotonic() + 90
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture
def database(server: Server) -> str:
    """The name of an empty one."""
    name = f"trials_{secrets.token_hex(4)}"
    server.ask("postgres", f"CREATE DATABASE {name}")
    return name


@pytest.fixture
def study(tiny_suite: Callable[..., Path], tmp_path: Path) -> Path:
    """Of one arm whose cells take a fraction of a second."""
    tiny_suite(SUITE, **SMALL)
    return write_study(tmp_path, STUDY)


@pytest.fixture
def results(tmp_path: Path, empty_store: Path) -> Path:
    return make_results(tmp_path / "results", empty_store)


def make_results(folder: Path, empty_store: Path) -> Path:
    """With a record in which MLflow has made its tables."""
    folder.mkdir()
    shutil.copy(empty_store, folder / "mlflow.db")
    return folder


def start(study: Path, results: Path, url: str, *options: str) -> subprocess.Popen[str]:
    """`harness search` in a process group of its own."""
    words = [str(study), *options, "--results", str(results), "--storage", url]
    return subprocess.Popen(
        [sys.executable, "-m", "harness", "search", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def ended(parent: subprocess.Popen[str]) -> str:
    """All that a parent said that ended well, without its password."""
    said, errors = parent.communicate(timeout=300)
    assert parent.returncode == 0, errors
    assert not any(part in said + errors for part in ("Correct", "battery", "Traceback"))
    return said


def trials_of(url: str) -> list[optuna.trial.FrozenTrial]:
    return optuna.load_study(study_name="shared/residual", storage=url).get_trials()


def counting(url: str) -> list[optuna.trial.FrozenTrial]:
    """Those that count; the others were given up, and none is left over."""
    complete = [trial for trial in trials_of(url) if trial.state.name == "COMPLETE"]
    rest = [trial for trial in trials_of(url) if trial.state.name != "COMPLETE"]
    assert {trial.state.name for trial in rest} <= {"FAIL"}
    assert all(VOID in trial.user_attrs for trial in rest)
    return complete


def attempts(results: Path) -> list[int]:
    return [CellDir(path).status()["attempts"] for path in results.glob("cells/*")]


def test_three_parents_on_one_folder_complete_thirty_trials_and_repeat_none(
    server: Server, database: str, study: Path, results: Path
) -> None:
    parents = [start(study, results, server.url(database), "--trials", "30") for _ in range(3)]
    for said in [ended(parent) for parent in parents]:
        assert "30/30" in said
    trials = counting(server.url(database))
    assert len(trials) == 30
    assert len({trial.params["train.lr"] for trial in trials}) == 30
    assert len({trial.user_attrs[PARENT] for trial in trials}) == 3, "all of them worked"
    assert attempts(results) == [1] * (30 + 2 + 2)
    assert list((results / "search" / "shared" / "parents").iterdir()) == []
    files = {path: path.read_bytes() for path in results.rglob("*") if path.is_file()}
    assert [path for path, data in files.items() if QUOTED.encode() in data or PASSWORD.encode() in data] == []


def test_parents_with_folders_of_their_own_share_the_trials_of_one_storage(
    server: Server, database: str, study: Path, tmp_path: Path, empty_store: Path
) -> None:
    folders = [make_results(tmp_path / name, empty_store) for name in ("one", "two")]
    for parent in [start(study, folder, server.url(database)) for folder in folders]:
        assert "6/6" in ended(parent)
    trials = counting(server.url(database))
    assert len(trials) == len({trial.params["train.lr"] for trial in trials}) == 6
    trained = [{path.name for path in folder.glob("cells/*-s1-*")} for folder in folders]
    assert all(trained), "both of them worked"
    assert sorted([*trained[0], *trained[1]]) == sorted(trial.user_attrs[CELLS][0] for trial in trials)
    documents = [(folder / "search" / "shared" / "best.yaml").read_text() for folder in folders]
    assert documents[0] == documents[1]


def test_a_parent_that_is_killed_beside_another_leaves_no_trial_running(
    server: Server, database: str, study: Path, results: Path
) -> None:
    url = server.url(database)
    rare = ("set.train.validate_every=120", "set.train.checkpoint_every=120")
    long = ("set.train.steps=120", "set.train.log_every=1", *rare, "pruner=NopPruner")
    victim, other = (start(study, results, url, *long) for _ in range(2))
    parents = results / "search" / "shared" / "parents"
    wait_for(lambda: sum(is_held(path) for path in parents.glob("*")) == 2, other)
    wait_for(lambda: in_the_middle(server, database, results, victim) is not None, victim)
    left = in_the_middle(server, database, results, victim)
    os.killpg(victim.pid, signal.SIGKILL)
    victim.communicate(timeout=60)
    assert "6/6" in ended(other)
    trials = counting(url)
    assert len(trials) == len({trial.params["train.lr"] for trial in trials}) == 6
    assert [trial.number for trial in trials_of(url) if trial.user_attrs.get(VOID) == "its parent died"] == [left]
    assert [trial.user_attrs[AGAIN_OF] for trial in trials if AGAIN_OF in trial.user_attrs] == [left]
    assert sorted(attempts(results)) == [1] * (5 + 2 + 2) + [2]


def in_the_middle(server: Server, database: str, results: Path, parent: subprocess.Popen[str]) -> int | None:
    """The number of the parent's trial, while its cell is in the first half of its training."""
    if not server.ask(database, "SELECT 1 FROM pg_tables WHERE tablename = 'alembic_version'"):
        return None
    ours = f"{socket.gethostname()}-{parent.pid}-%"
    text = (
        "SELECT number, cells.value_json FROM trials JOIN trial_user_attributes AS parents USING (trial_id) "
        "JOIN trial_user_attributes AS cells USING (trial_id) WHERE state = 'RUNNING' "
        f"AND parents.key = '{PARENT}' AND parents.value_json LIKE '\"{ours}' AND cells.key = '{CELLS}'"
    )
    for number, cells in server.ask(database, text):
        last = CellDir(results / "cells" / json.loads(cells)[0]).journal.last("train")
        if last is not None and last["step"] < 60:
            return int(number)
    return None


def test_an_empty_database_is_opened_by_many_at_the_same_moment(server: Server, database: str, tmp_path: Path) -> None:
    barrier, opened = threading.Barrier(4), []

    def begin() -> None:
        barrier.wait()
        opened.append(open_storage(server.url(database), tmp_path))

    threads = [threading.Thread(target=begin) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert len(opened) == 4


def refused(study: Path, results: Path, url: str) -> str:
    """The one line that is said."""
    began = time.monotonic()
    parent = start(study, results, url)
    said, errors = parent.communicate(timeout=60)
    assert time.monotonic() - began < 20
    assert parent.returncode == 2
    assert said == ""
    assert len(errors.splitlines()) == 1
    assert "Traceback" not in errors
    return errors


@pytest.mark.parametrize("password", ["hunter2", "hunter%402", ""], ids=["wrong", "quoted", "none"])
def test_a_wrong_password_is_one_line_that_does_not_name_it(
    server: Server, database: str, study: Path, results: Path, password: str
) -> None:
    said = refused(study, results, server.url(database, password))
    assert f"--storage: postgresql+{DRIVER}://{USER}:" in said
    assert f"@127.0.0.1:{server.port}/{database} cannot be opened" in said
    assert "password" in said
    assert "hunter" not in said
    assert not (results / "cells").exists() or list((results / "cells").iterdir()) == []


@pytest.mark.skipif(DRIVER is None, reason="there is no driver: pip install 'psycopg[binary]'")
def test_a_server_that_is_not_there_is_one_line_without_the_password(study: Path, results: Path) -> None:
    said = refused(study, results, Server(free_port()).url("trials"))
    assert "cannot be opened" in said
    assert "refused" in said
    assert not any(part in said for part in ("Correct", "horse", "battery", "staple"))


def test_a_database_that_is_not_there_is_one_line(server: Server, study: Path, results: Path) -> None:
    said = refused(study, results, server.url("nowhere"))
    assert 'database "nowhere" does not exist' in said
    assert "battery" not in said
