"""Which way a stack goes, and why: kernels that there are, and a compiler that is missing, fails, hangs or has no OpenMP."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from harness.connections import build
from harness.connections.kernels import compiler, native
from harness.connections.kernels.choose import Choice, choose
from harness.connections.kernels.form import Form
from harness.connections.settings import CONNECTIONS
from harness.errors import UsageError

CPU, DIM = torch.device("cpu"), 24
WHY = native.problem(Form(2, 1, DIM, "given"))
pytestmark = pytest.mark.skipif(WHY is not None, reason=f"no kernels here: {WHY}")


def chosen(kind: str, raw: dict[str, Any], kernels: Any = "auto", dtype: torch.dtype = torch.float32) -> Choice:
    return choose(build(CONNECTIONS[kind].model_validate(raw), DIM, 2), kernels, CPU, dtype)


def test_which_way_is_chosen_and_why() -> None:
    assert chosen("hyper", {"rate": 4}) == chosen("mhc", {"rate": 4}, "fused") == Choice("native")
    assert chosen("hyper", {"rate": 4}, "plain").path == "plain"
    assert "none" in chosen("residual", {}).why
    assert "none" in chosen("mhc_lite", {"rate": 3}).why
    assert "fp32" in chosen("hyper", {"rate": 4}, dtype=torch.bfloat16).why
    assert "16 rows" in chosen("hyper", {"rate": 17}).why
    with pytest.raises(UsageError, match=r"'fused' cannot be had: .* fp32"):
        chosen("hyper", {"rate": 4}, "fused", torch.bfloat16)


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Path]]:
    """Makes a shell script the compiler; nothing of it is remembered."""

    def make(body: str) -> Path:
        path = tmp_path / "my-cc"
        path.write_text(f"#!/bin/sh\n{body}\n")
        path.chmod(0o755)
        monkeypatch.setenv("CC", str(path))
        native._library.cache_clear()
        return path

    yield make
    native._library.cache_clear()


ANSWERS = '[ "$1" = --version ] && echo 1 && exit 0\n'


def test_without_a_compiler_it_is_plain_pytorch(script: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    script("exit 1")
    assert "no C compiler" in chosen("hyper", {"rate": 2}).why
    assert "ended with 1 and said nothing" in chosen("hyper", {"rate": 2}).why
    with pytest.raises(UsageError, match="no C compiler"):
        chosen("hyper", {"rate": 2}, "fused")
    for wrong in ("no-such-compiler", "gcc '"):
        monkeypatch.setenv("CC", wrong)
        native._library.cache_clear()
        assert "no C compiler" in chosen("hyper", {"rate": 2}).why


def test_a_compiler_that_fails_is_named_with_its_first_error(script: Callable[[str], Path]) -> None:
    path = script(ANSWERS + 'printf "note\\nrows.h:1: error: no \\377 such thing\\n" >&2\nexit 1')
    assert (
        chosen("hyper", {"rate": 2}).why == f"'{path}' cannot compile the kernel: rows.h:1: error: no \ufffd such thing"
    )


def test_a_compiler_that_hangs_is_given_up(script: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiler, "VERSION_SECONDS", 1)
    script("echo working >&2\nexec sleep 60")
    assert "took more than 1 s" in chosen("hyper", {"rate": 2}).why


def test_without_openmp_it_is_one_thread(script: Callable[[str], Path]) -> None:
    script('for word; do [ "$word" = -fopenmp ] && exit 1; done\nexec cc "$@"')
    assert chosen("hyper", {"rate": 2, "norm": False}) == Choice("native")


def test_a_library_that_is_cut_off_is_made_again(tmp_path: Path) -> None:
    made = tmp_path / "empty.so"
    made.write_bytes(b"no library")
    compiler._loaded(["cc", "-shared", "-fPIC", "-x", "c", "/dev/null"], made)
    assert made.stat().st_size > 1000


def test_a_library_that_others_could_have_written_is_not_loaded(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path))
    (tmp_path / "kernels").mkdir()
    (tmp_path / "kernels").chmod(0o777)
    native._library.cache_clear()
    assert "can be written by others" in chosen("hyper", {"rate": 2}).why
    native._library.cache_clear()


def test_endless_iterations_have_no_kernel() -> None:
    assert "too many" in chosen("mhc", {"rate": 16, "iterations": 20_000}).why


def test_types_without_kernels_go_the_plain_way_whatever_is_asked_for() -> None:
    """A suite that asks for kernels has a residual baseline."""
    assert chosen("residual", {}, "fused").path == chosen("mhc_lite", {"rate": 2}, "fused").path == "plain"
