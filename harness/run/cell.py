"""One cell, start to end, in a process of its own: train, keep the weights, score, say how it ended."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import sys
import threading
import time
import traceback
from dataclasses import asdict
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

from harness.data.documents import Corpus
from harness.data.inputs import TextInputs
from harness.data.load import Data, digests_of, inputs_of, load_data
from harness.data.settings import data_settings
from harness.data.subwords import SubwordTokenizer
from harness.errors import FAILED, INTERRUPTED, OK, DivergedError, HarnessError
from harness.evaluation.settings import OURS, EvaluationSettings
from harness.run.celldir import DATA, DIAGNOSTICS, EXPERTS, HELD_OUT, TOKENIZER, CellDir, failure_tail, write_json
from harness.run.environment import environment, torch_environment
from harness.tracking import SCORES
from harness.training.settings import CHECKPOINT, TrainSettings

TELL_SECONDS = 1.0
"""How often scoring says how far it is."""

BUSY = 75
"""Exit code of a worker that found its cell held by another process (EX_TEMPFAIL)."""


def work(config: dict[str, Any], evaluation: str, path: str, relative_to: str | None) -> None:
    """Entry point of a worker process: exits with 0, 1 (failed), 75 (busy) or 130 (stopped, state saved)."""
    stop = threading.Event()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the runner decides, and asks with SIGTERM
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    _stop_with_parent(stop)
    cell = CellDir(Path(path))
    with cell.lease() as ours:
        if not ours:
            sys.exit(BUSY)
        with cell.log.open("a", buffering=1) as log:
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
        sys.stdout, sys.stderr = os.fdopen(1, "w", buffering=1), os.fdopen(2, "w", buffering=1)
        code = run_cell(config, evaluation, cell, Path(relative_to) if relative_to else None, stop)
        sys.stdout.flush()
    sys.exit(code)


def _stop_with_parent(stop: threading.Event) -> None:
    """Save and end when the runner dies without a word (kill -9)."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        wait([parent.sentinel])
        stop.set()

    threading.Thread(target=watch, daemon=True).start()


def run_cell(
    config: dict[str, Any], evaluation: str, cell: CellDir, relative_to: Path | None, stop: threading.Event
) -> int:
    """Bring the cell to its end, whatever is missing; returns the exit code. Failures are recorded, not raised."""
    if cell.result() is not None and cell.scores(evaluation) is not None:
        return OK  # another runner was faster
    train = cell.result() is None
    attempts = cell.status()["attempts"] + int(train)
    cell.update_status(
        state="running", attempts=attempts, started=time.time(), ended=None, failure=None, pid=os.getpid()
    )
    from harness.training.fit import StoppedError

    try:
        # Tasks of lm-eval need the model and its tokenizer only: a cell can be asked when its corpus is gone.
        data = load_cell_data(config, relative_to) if train or needs_data(config) else None
        if train:
            assert data is not None
            _train(config, data, cell, stop)
        if stop.is_set():
            raise StoppedError(-1)
        if cell.scores(evaluation) is None:
            _score(config, evaluation, data, cell, stop)
    except StoppedError:
        cell.update_status(state="stopped", ended=time.time())
        return INTERRUPTED
    except Exception as error:
        print(traceback.format_exc(), file=sys.stderr, flush=True)
        failure = {**describe(error, cell), "evaluation": evaluation}
        cell.update_status(state="failed", ended=time.time(), failure=failure)
        return FAILED
    cell.update_status(state="done", ended=time.time())
    return OK


def needs_data(config: dict[str, Any]) -> bool:
    """Whether what a cell is asked is made from its data."""
    return "tokenizer" not in config["digests"] or bool(set(config["evaluation"]["tasks"]) & set(OURS))


def describe(error: BaseException, cell: CellDir) -> dict[str, Any]:
    """The failure's class (diverged, memory, configuration, error), message, step and the end of the log."""
    import torch

    if isinstance(error, DivergedError):
        kind = "diverged"
    elif isinstance(error, (MemoryError, torch.cuda.OutOfMemoryError)) or "DefaultCPUAllocator" in str(error):
        kind = "memory"
    elif isinstance(error, HarnessError):
        kind = "configuration"
    else:
        kind = "error"
    message = f"{error}" if isinstance(error, HarnessError) else f"{type(error).__name__}: {error}"
    return {
        "class": kind,
        "message": message.strip().split("\n")[0][:500],
        "step": getattr(error, "step", None),
        "tail": failure_tail(cell.log),
    }


def load_cell_data(config: dict[str, Any], relative_to: Path | None) -> Data:
    """The data of a cell. Raises HarnessError where they are no longer those of its configuration."""
    data = load_data(data_settings(**config["data"]), relative_to)
    if digests_of(data) != config["digests"]:
        raise HarnessError("the data changed between planning and running; run again")
    return data


def _train(config: dict[str, Any], data: Data, cell: CellDir, stop: threading.Event) -> None:
    import torch

    from harness.run.finished import recipe_of
    from harness.training.fit import fit
    from harness.training.recipe import path_of

    write_json(cell.path / "config.json", config)
    recipe = recipe_of(config, inputs_of(data))
    torch.set_num_threads(recipe.train.threads)
    made_with = {**environment(), **torch_environment(), "kernels": asdict(path_of(recipe))}
    write_json(cell.path / "environment.json", made_with)
    report = dict(data.report) if isinstance(data, Corpus) else {}
    write_json(cell.path / DATA, {"digests": config["digests"], **report})
    if isinstance(data, Corpus) and isinstance(data.tokenizer, SubwordTokenizer):
        (cell.path / TOKENIZER).write_text(data.tokenizer.text, encoding="utf-8")
    fitted = fit(recipe, data, cell.journal, cell.path, stop.is_set)
    if recipe.train.compile:  # whether it could be had is known by now
        write_json(cell.path / "environment.json", {**made_with, "compiled": "cost/compile_seconds" in fitted.metrics})
    summary = {name: value for name, value in fitted.metrics.items() if name.startswith("cost/")}
    summary.update({f"data/{side}_overlap": found["share"] for side, found in report.get("overlap", {}).items()})
    cell.journal.write("summary", recipe.train.steps, summary)  # the rest is in the curve's last lines
    cell.journal.sync()
    if fitted.expert_loads is not None:
        write_json(cell.path / EXPERTS, {"layers": fitted.expert_loads})
    steps = [{"step": line["step"], **line["depth"]} for line in cell.journal.lines() if "depth" in line]
    write_json(cell.path / DIAGNOSTICS, {"format": 1, "steps": steps, "end": fitted.diagnostics}, compact=True)
    if fitted.held_out is not None:
        write_json(cell.path / HELD_OUT, {"format": 1, **fitted.held_out}, compact=True)
    temporary = cell.weights.with_suffix(".tmp")
    torch.save(fitted.model.state_dict(), temporary)
    temporary.replace(cell.weights)
    write_json(cell.path / "result.json", {"metrics": fitted.metrics, "digests": fitted.digests})
    (cell.path / CHECKPOINT).unlink(missing_ok=True)


def _score(config: dict[str, Any], evaluation: str, data: Data | None, cell: CellDir, stop: threading.Event) -> None:
    """`data` are there where what is asked is made from them."""
    import torch

    from harness.evaluation.score import score
    from harness.run.finished import load_model, load_tokenizer
    from harness.training.fit import StoppedError

    train = TrainSettings.model_validate(config["train"])
    torch.set_num_threads(train.threads)
    tokenizer = load_tokenizer(config, cell) if "tokenizer" in config["digests"] else None
    inputs = inputs_of(data) if data is not None else None
    if tokenizer is not None:
        inputs = TextInputs(tokenizer.vocabulary, tokenizer.boundary)
    assert inputs is not None
    model = load_model(config, inputs, cell)
    settings = EvaluationSettings.model_validate(config["evaluation"])
    told = 0.0

    def answered(done: int, total: int) -> None:
        nonlocal told
        if stop.is_set():
            raise StoppedError(-1)
        if time.monotonic() - told >= TELL_SECONDS:
            told = time.monotonic()
            write_json(cell.scoring, {"done": done, "total": total})

    began = time.perf_counter()
    kept = cell.samples(evaluation)
    temporary = kept.with_name(f"{kept.name}.part")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    scores = score(
        model, data, settings, tokenizer=tokenizer, keep=temporary, picture=cell.picture(evaluation), answered=answered
    )
    metrics = {**scores.metrics, "cost/score_seconds": time.perf_counter() - began}
    shutil.rmtree(kept, ignore_errors=True)
    if any(temporary.iterdir()):
        temporary.replace(kept)
    else:
        temporary.rmdir()
    cell.journal.write(SCORES, train.steps, metrics, evaluation=evaluation)
    cell.journal.sync()
    cell.journal.close()
    document = {"metrics": metrics, "stamps": scores.stamps, "settings": config["evaluation"], "time": time.time()}
    write_json(cell.path / f"scores-{evaluation}.json", document)
    cell.scoring.unlink(missing_ok=True)
