"""Whether a task can be asked of its documents: fields that it wants, right answers that are choices."""

from __future__ import annotations

import contextlib
import gc
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from lm_eval.api.task import ConfigurableTask, Task

from harness.errors import HarnessError, UsageError, first_line, nearest
from harness.evaluation.samples import gold_of

if TYPE_CHECKING:
    from harness.evaluation.build import Questions

SEED = 1234
"""lm-eval's own default for choosing few-shot examples."""
FIELD = re.compile(r"[A-Za-z_]\w*")


@contextlib.contextmanager
def _collector_paused() -> Iterator[None]:
    """All that is built is kept, and Python's collector takes a fifth of the time to find that out again and again."""
    paused = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if paused:
            gc.enable()


@_collector_paused()
def check(questions: Questions) -> int:
    """Build every request that `evaluate` will; returns how many there are. Raises UsageError for the first document
    that does not have what the task asks of it, and for one whose right answer is none of the choices: lm-eval would
    count it as wrong."""
    count = 0
    for name, task in questions.tasks.items():
        try:
            task.build_all_requests(limit=questions.limit)
            count += len(task.instances)
            task.set_fewshot_seed(seed=SEED)  # or `evaluate` would draw other examples than these
        except Exception:  # whatever templates and functions of a task raise
            for index, doc in task.doc_iterator(limit=questions.limit):
                with named(name, _place(questions, name, index), doc):
                    context = task.fewshot_context(doc, num_fewshot=questions.num_fewshot[name])
                    task.construct_requests(doc, context, metadata=(name, index, 1))
            raise
        if task.OUTPUT_TYPE == "multiple_choice" and not _has_own_results(task):
            choices = Counter(instance.doc_id for instance in task.instances)
            for index, doc in {instance.doc_id: instance.doc for instance in task.instances}.items():
                if not gold_of(task, doc, choices[index]):
                    where = f"evaluation.tasks: '{name}' cannot be asked of {_place(questions, name, index)}"
                    raise UsageError(f"{where}: its right answer is none of the choices")
    return count


def _place(questions: Questions, name: str, index: int) -> str:
    """Where a document of a task stands: its row, unless the task drops some."""
    places = questions.places.get(name, [])
    return places[index] if len(places) == len(questions.tasks[name].eval_docs) else f"document {index}"


def _has_own_results(task: Task) -> bool:
    """Whether the task itself says what of an answer is right."""
    return type(task).process_results is not ConfigurableTask.process_results or callable(task.config.process_results)


def check_fields(task: Task) -> None:
    """A name alone is a field of the documents, and lm-eval takes it for a text where they do not have it."""
    if not isinstance(task, ConfigurableTask) or _has_own_results(task):
        return
    for key in ("doc_to_text", "doc_to_target", "doc_to_choice"):
        name = getattr(task.config, key)
        if isinstance(name, str) and FIELD.fullmatch(name) and name not in (*task.features, *_literal_choices(task)):
            raise KeyError(name)


def _literal_choices(task: Task) -> list[str]:
    choices = task.config.doc_to_choice
    return choices if isinstance(choices, list) else []


@contextlib.contextmanager
def named(name: str, place: str, row: Mapping[str, Any]) -> Iterator[None]:
    """What a task's templates and functions raise for documents of another form, as one line. `row` is the document,
    or one of them."""
    try:
        yield
    except HarnessError:
        raise
    except Exception as error:
        text = first_line(error)
        missing = re.search(r"'([^']+)' is undefined|has no attribute '([^']+)'", text)
        field = missing and (missing.group(1) or missing.group(2))
        if isinstance(error, KeyError):
            field, text = str(error.args[0]), f"KeyError: {text}"
        if field is not None and field not in row and field not in map(str, row.values()):
            text = f"no field '{field}'{nearest(field, row)}"
        raise UsageError(f"evaluation.tasks: '{name}' cannot be asked of {place}: {text}") from error
