"""One cell, start to end, in a process of its own: train, keep the weights, score, say how it ended."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from harness.connections.settings import AnyConnection
from harness.data.load import Data, digests_of, inputs_of, load_data
from harness.data.settings import DataSettings, data_settings
from harness.errors import FAILED, INTERRUPTED, OK, DivergedError, HarnessError
from harness.evaluation.settings import EvaluationSettings
from harness.models.settings import AnyModel
from harness.run.celldir import EXPERTS, CellDir, failure_tail, write_json
from harness.run.environment import environment, torch_environment
from harness.training.settings import CHECKPOINT, TrainSettings

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
    status = cell.status()
    cell.update_status(
        state="running", attempts=status["attempts"] + 1, started=time.time(), ended=None, failure=None, pid=os.getpid()
    )
    from harness.training.fit import StoppedError

    try:
        data = _data(config, relative_to)
        if cell.result() is None:
            _train(config, data, cell, stop)
        if stop.is_set():
            raise StoppedError(-1)
        if cell.scores(evaluation) is None:
            _score(config, evaluation, data, cell)
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


def _data(config: dict[str, Any], relative_to: Path | None) -> Data:
    data = load_data(_data_settings(config), relative_to)
    if digests_of(data) != config["digests"]:
        raise HarnessError("the data changed between planning and running; run again")
    return data


def _data_settings(config: dict[str, Any]) -> DataSettings:
    return data_settings(**config["data"])


def _recipe(config: dict[str, Any], data: Data) -> Any:
    from harness.training.recipe import Recipe

    return Recipe(
        connection=TypeAdapter(AnyConnection).validate_python(config["connection"]),
        model=TypeAdapter(AnyModel).validate_python(config["model"]),
        train=TrainSettings.model_validate(config["train"]),
        inputs=inputs_of(data),
        data=_data_settings(config),
        streams=config["streams"],
    )


def _train(config: dict[str, Any], data: Data, cell: CellDir, stop: threading.Event) -> None:
    import torch

    from harness.training.fit import fit

    write_json(cell.path / "config.json", config)
    recipe = _recipe(config, data)
    torch.set_num_threads(recipe.train.threads)
    write_json(cell.path / "environment.json", {**environment(), **torch_environment()})
    fitted = fit(recipe, data, cell.journal, cell.path, stop.is_set)
    costs = {name: value for name, value in fitted.metrics.items() if name.startswith("cost/")}
    cell.journal.write("summary", recipe.train.steps, costs)  # the rest is in the curve's last lines
    cell.journal.sync()
    if fitted.expert_loads is not None:
        write_json(cell.path / EXPERTS, {"layers": fitted.expert_loads})
    temporary = cell.weights.with_suffix(".tmp")
    torch.save(fitted.model.state_dict(), temporary)
    temporary.replace(cell.weights)
    write_json(cell.path / "result.json", {"metrics": fitted.metrics, "digests": fitted.digests})
    (cell.path / CHECKPOINT).unlink(missing_ok=True)


def _score(config: dict[str, Any], evaluation: str, data: Data, cell: CellDir) -> None:
    import torch

    from harness.evaluation.score import score
    from harness.training.recipe import build_model, device_of

    recipe = _recipe(config, data)
    torch.set_num_threads(recipe.train.threads)
    model = build_model(recipe)
    model.load_state_dict(torch.load(cell.weights, map_location="cpu", weights_only=True))
    model = model.to(device_of(recipe.train))
    settings = EvaluationSettings.model_validate(config["evaluation"])
    began = time.perf_counter()
    metrics = score(model.eval(), data, settings, cell.samples(evaluation))
    metrics["cost/score_seconds"] = time.perf_counter() - began
    cell.journal.write("scores", recipe.train.steps, metrics, evaluation=evaluation)
    cell.journal.sync()
    cell.journal.close()
    write_json(cell.path / f"scores-{evaluation}.json", {"metrics": metrics, "settings": config["evaluation"]})
