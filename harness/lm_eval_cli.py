"""lm-eval's own command line, which then knows a model `harness`: one of our trained cells.

    harness-lm-eval --model harness --model_args cell=results/cells/<folder> --tasks piqa,arc_easy

lm-eval has no way of its own to find a model in another package, so this registers ours and hands over. With
HARNESS_EVAL_DATA the tasks that are named take their documents from there, and ask what `harness evaluate` asks.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from harness.errors import HarnessError, UsageError
from harness.evaluation.asked import Asked, resolve
from harness.evaluation.local import KEY, VARIABLE
from harness.evaluation.settings import OURS, EvaluationSettings
from harness.evaluation.stock import matching

MODEL = "harness"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run lm-eval with `arguments`; returns the exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        register()
        with tempfile.TemporaryDirectory(prefix="harness-tasks-") as folder:
            names = list(_tasks_of(words))
            if ours := [name for name in names if name in OURS]:
                raise UsageError(
                    f"--tasks: {', '.join(ours)}: of the harness, not of lm-eval; harness evaluate asks them"
                )
            own = any(word.split("=")[0] == "--include_path" for word in words) or not os.environ.get(VARIABLE)
            if not own and local_tasks(names, Path(folder), _shots_of(words)):
                words += ["--include_path", folder]
            _run(words)
    except HarnessError as error:
        print(f"harness-lm-eval: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def _run(words: list[str]) -> None:
    from lm_eval.__main__ import cli_evaluate

    before, sys.argv = sys.argv, ["lm_eval", *words]
    try:
        cli_evaluate()
    finally:
        sys.argv = before


def register() -> None:
    """Make `--model harness` known to lm-eval."""
    import torch
    from lm_eval.api.registry import model_registry, register_model

    from harness.evaluation.lm import HarnessLM
    from harness.run.finished import load_text_cell

    class HarnessCell(HarnessLM):
        """`cell` is the folder of a trained cell. Batches are made by tokens (`batch_tokens`), not by lm-eval's
        `batch_size`, whose default is one; neither changes a number."""

        def __init__(self, cell: str | None = None, device: str | None = None, batch_tokens: Any = None, **_: Any):
            if cell is None:
                raise UsageError("--model_args: cell=FOLDER is missing, the folder of a trained cell")
            if batch_tokens is not None and not str(batch_tokens).isdecimal():
                raise UsageError(f"--model_args: batch_tokens must be a whole number, got '{batch_tokens}'")
            if device and device.startswith("cuda") and not torch.cuda.is_available():
                device = "cpu"  # as lm-eval's own models: its default is cuda
            model, tokenizer, context = load_text_cell(Path(cell), torch.device(device) if device else None)
            super().__init__(model, tokenizer, context, int(batch_tokens) if batch_tokens else None)

    if MODEL not in model_registry:
        register_model(MODEL)(HarnessCell)


def _shots_of(words: Sequence[str]) -> int | None:
    """What --num_fewshot says."""
    for index, word in enumerate(words):
        option, equals, value = word.partition("=")
        if re.fullmatch(r"-f\d+", word):
            return int(word[2:])
        if option in ("--num_fewshot", "-f"):
            given = value if equals else "".join(words[index + 1 : index + 2])
            return int(given) if given.isdecimal() else None
    return None


def _tasks_of(words: Sequence[str]) -> Iterator[str]:
    """The names that follow --tasks, as lm-eval takes them apart; a pattern stands for all that match."""
    for index, word in enumerate(words):
        option, equals, value = word.partition("=")
        if option in ("--tasks", "-t"):
            rest = itertools.takewhile(lambda following: not following.startswith("-"), words[index + 1 :])
            for group in [value] if equals else rest:
                for name in filter(None, group.split(",")):
                    yield from matching(name) if set(name) & set("*?[") else [name]


def local_tasks(names: Sequence[str], folder: Path, shots: int | None = None) -> bool:
    """Write into `folder` a file for every task that has local documents: lm-eval's own, but for where its documents
    are. Whether there is any. Raises UsageError as `resolve` does, and where examples for few-shot are not there."""
    stock = tuple(dict.fromkeys(name for name in names if not name.endswith(".yaml")))
    written = [_write(asked, folder, shots) for asked in resolve(EvaluationSettings(tasks=stock))]
    return any(written)


def _write(asked: Asked, folder: Path, shots: int | None) -> bool:
    from harness.evaluation.build import SPLITS, check_examples, shots_of

    found = False
    for leaf, data in asked.sources():
        if data is None:
            continue
        check_examples(leaf, data, shots_of(leaf, shots))
        files = {split: [str(path) for path in paths] for split, paths in data.files_of(leaf).items()}
        endings = {path.endswith(".parquet") for paths in files.values() for path in paths}
        if len(endings) > 1:
            raise UsageError(f"{KEY}: {data.place}: lm-eval's own command line takes files of one kind only")
        config = {
            "include": str(leaf.path),
            "task": leaf.name,
            "dataset_path": "parquet" if endings == {True} else "json",
            "dataset_name": None,
            "dataset_kwargs": {"data_files": files},
        }
        config.update({key: None for key in SPLITS if leaf.config.get(key) not in files})
        # JSON is YAML.
        (folder / f"{leaf.name}.yaml").write_text(json.dumps(config), encoding="utf-8")
        found = True
    return found


if __name__ == "__main__":
    sys.exit(main())
