"""Whether there is a network is found out in seconds, and without one it is said how to go on."""

from __future__ import annotations

import io
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from files_support import SUITE

from harness.data import hub

LOCAL_FILES = "without the hub, name local files: corpus: text, files: [...] (.txt, .jsonl, .parquet)"

pytestmark = pytest.mark.usefixtures("no_hub")


@pytest.mark.parametrize(
    ("value", "offline"), [("1", True), ("true", True), ("ON", True), ("0", False), ("", False), ("no", False)]
)
def test_the_variables_mean_what_the_libraries_take_them_for(
    value: str, offline: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "_silence", lambda place: None)
    for name in hub.OFFLINE:
        for other in hub.OFFLINE:
            monkeypatch.delenv(other, raising=False)
        monkeypatch.setenv(name, value)
        hub.offline.cache_clear()
        assert hub.offline() == (f"{name} is set" if offline else None)


@pytest.fixture
def server() -> Iterator[Callable[[bytes | None], str]]:
    """Starts a server that answers every request with some bytes (None: with nothing, for ever); its address."""
    sockets: list[socket.socket] = []

    def serve(answer: bytes | None) -> str:
        listener = socket.create_server(("127.0.0.1", 0))
        sockets.append(listener)

        def answers() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                sockets.append(connection)
                if answer is not None:
                    connection.recv(65536)
                    connection.sendall(answer)
                    connection.close()

        threading.Thread(target=answers, daemon=True).start()
        return f"http://127.0.0.1:{listener.getsockname()[1]}"

    yield serve
    for one in sockets:
        one.close()


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", None),
        (b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n", None),
        (b"garbage\r\n\r\n", "does not answer: garbage"),
        (b"", "does not answer: Remote end closed connection without response"),
        (None, "does not answer: timed out"),
    ],
)
def test_only_a_server_that_speaks_http_counts_as_a_network(
    answer: bytes | None, reason: str | None, server: Callable[[bytes | None], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in hub.OFFLINE:
        monkeypatch.delenv(name)
    place = server(answer)
    monkeypatch.setattr(hub, "TIMEOUT_SECONDS", 0.2)
    monkeypatch.setenv("HF_ENDPOINT", place)
    monkeypatch.setenv("no_proxy", "*")
    assert hub.offline() == (None if reason is None else f"{place} {reason}")
    assert [os.environ.get(name) for name in hub.OFFLINE] == ([None] * 2 if reason is None else ["1"] * 2)


def test_a_name_that_is_looked_up_for_ever_does_not_hold_anybody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in hub.OFFLINE:
        monkeypatch.delenv(name)
    for_ever = threading.Event()
    monkeypatch.setattr(hub, "TIMEOUT_SECONDS", 0.05)
    monkeypatch.setattr(hub.urllib.request, "urlopen", lambda *args, **keys: for_ever.wait() and io.BytesIO())
    assert hub.offline() == f"{os.environ.get('HF_ENDPOINT') or 'https://huggingface.co'} does not answer: timed out"
    for_ever.set()


def refusing() -> str:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"http://127.0.0.1:{listener.getsockname()[1]}"


@pytest.mark.parametrize(
    ("way", "streaming"), [("variable", "true"), ("refused", "true"), ("refused", "false"), ("no address", "false")]
)
def test_plan_without_a_network_exits_2_with_a_line_that_names_the_local_option(
    way: str, streaming: str, tmp_path: Path
) -> None:
    """In a process of its own, for the libraries look for a network when they are imported."""
    (tmp_path / "suite.yaml").write_text(SUITE % "{corpus: hf, dataset: some/thing, documents: 10}")
    environment = {**os.environ, "HF_HOME": str(tmp_path / "home"), "no_proxy": "*"}
    for name in hub.OFFLINE:
        del environment[name]
    environment.update(
        {
            "variable": {"HF_HUB_OFFLINE": "1"},
            "refused": {"HF_ENDPOINT": refusing()},
            "no address": {"HF_ENDPOINT": "nonsense"},
        }[way]
    )
    code = "import sys; from harness.cli import main; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", code, "plan", str(tmp_path / "suite.yaml"), f"data.streaming={streaming}"],
        env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith(
        f"harness: {tmp_path}/suite.yaml:6: data.dataset: 'some/thing', split 'train' cannot "
    )
    assert done.stderr.endswith(f"; {LOCAL_FILES}\n")
    assert not (tmp_path / "results").exists()
