"""lm-eval's task objects with their own prompts and metrics, from the documents that were found for them."""

from __future__ import annotations

import contextlib
import functools
import inspect
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from lm_eval import utils
from lm_eval.api.group import Group
from lm_eval.api.metrics import weighted_perplexity
from lm_eval.api.task import ConfigurableTask, Task
from lm_eval.config.group import GroupConfig
from lm_eval.tasks._yaml_loader import load_yaml

from harness.data import hub
from harness.data.documents import Corpus
from harness.data.files import Row
from harness.errors import UsageError, first_line, shown
from harness.evaluation import ours
from harness.evaluation.asked import Asked
from harness.evaluation.checks import SEED, check_fields, named
from harness.evaluation.local import KEY, VARIABLE, LocalData, looked_for, scored_split
from harness.evaluation.settings import EvaluationSettings
from harness.evaluation.stock import Leaf, find

SPLITS = ("training_split", "validation_split", "test_split", "fewshot_split")


@dataclass(frozen=True)
class Questions:
    """One entry of `evaluation.tasks`, ready for lm-eval's `evaluate`.

    `label` is what its scores are called: the name, with `:5shot` where a suite asks for other examples than the task
    does, and with `:100` where only its first 100 documents are asked, so that unlike results have unlike names.
    """

    name: str
    label: str
    tasks: dict[str, Task]
    groups: dict[str, Group]
    limit: int | None
    num_fewshot: dict[str, int]
    places: dict[str, list[str]] = field(default_factory=dict)
    """Of tasks with local documents, where the rows of the scored split stand: `file:line`."""

    @property
    def documents(self) -> int:
        """How many are asked, in all tasks."""
        return sum(_asked(len(task.eval_docs), self.limit) for task in self.tasks.values())


class _Given:
    """Puts documents that are at hand in the place of lm-eval's download, and prepares them once: lm-eval itself does
    it anew every time that it counts or goes through them."""

    given: ClassVar[Any]

    def download(self, *arguments: Any, **options: Any) -> None:
        if self.given is None:
            super().download(*arguments, **options)  # type: ignore[misc]
        else:
            self.dataset = self.given

    @functools.cached_property
    def eval_docs(self) -> Any:
        return super().eval_docs  # type: ignore[misc]


def build(asked: Asked, settings: EvaluationSettings, corpus: Corpus | None, folder: Path | None) -> Questions:
    """The task objects of one entry. `corpus` is what our own tasks are made from, `folder` where local documents were
    looked for. Raises UsageError for documents that cannot be had, do not have the fields that the task asks of them,
    or lack the examples for few-shot."""
    limit = settings.documents(ours=asked.stock is None)
    if asked.stock is None:
        assert corpus is not None
        assert limit is not None
        rows = ours.task_rows(asked.name, corpus, limit)
        dataset = _dataset({"test": rows}, asked.name)
        task = _made(asked.name, ours.task_config(asked.name), dataset, "the held-out text")
        _set_fewshot(task, 0)
        label = f"{asked.name}:{limit}" if len(rows) == limit else asked.name
        return Questions(asked.name, label, {asked.name: task}, {}, None, {asked.name: 0})
    # Once more, now with the functions that the files name.
    stock = find(asked.name, load_yaml)
    local = {leaf.name: data for leaf, data in asked.sources()}
    tasks, shots, places, unusual = {}, {}, {}, False
    for leaf in stock.leaves:
        count = shots_of(leaf, settings.num_fewshot)
        tasks[leaf.name], places[leaf.name] = _task(leaf, local[leaf.name], count, folder)
        shots[leaf.name], unusual = count, unusual or count != shots_of(leaf, None)
    groups = {group.name: Group.from_config(_group_config(group.name, group.config)) for group in stock.groups}
    for group in stock.groups:
        for member in group.members:
            groups[group.name].add(groups[member] if member in groups else tasks[member])
    cut = limit is not None and any(len(task.eval_docs) > limit for task in tasks.values())
    label = asked.name + (f":{settings.num_fewshot}shot" if unusual else "") + (f":{limit}" if cut else "")
    return Questions(asked.name, label, tasks, groups, limit, shots, places)


def check_examples(leaf: Leaf, local: LocalData, shots: int) -> None:
    """Raises UsageError where local documents lack the split that the examples come from: lm-eval would take another,
    even the one that is scored."""
    source, there = _fewshot_split(leaf.config), local.files_of(leaf)
    if shots and source is not None and source not in there:
        raise UsageError(
            f"evaluation.num_fewshot: the examples of '{leaf.name}' are from its split '{source}', and "
            f"{shown(local.place)} has {', '.join(sorted(there))}"
        )


def shots_of(leaf: Leaf, wanted: int | None) -> int:
    """Solved examples before a question of the task where a suite wants so many. As in lm-eval, a task that says 0
    means it."""
    own = leaf.config.get("num_fewshot")
    return int(own or 0) if wanted is None or own == 0 else wanted


def _task(leaf: Leaf, local: LocalData | None, shots: int, folder: Path | None) -> tuple[Task, list[str]]:
    """The task, and where its rows stand."""
    config = {**leaf.config, "metadata": leaf.config.get("metadata") or {}}
    scored, source, places = scored_split(config), _fewshot_split(config), list[str]()
    if local is None:
        dataset = _from_hub(leaf, folder)
        place, available = f"'{leaf.config.get('dataset_path')}' on the hub", set(dataset or ())
    else:
        check_examples(leaf, local, shots)
        place, available = shown(local.place), set(local.files_of(leaf))
        if scored is not None:
            available = {scored, str(source)} if shots and source is not None else {scored}
        found = {split: local.rows(split) for split in sorted(available)}
        places = [row_place for row_place, _ in found.get(str(scored), [])]
        dataset = _dataset({split: [row for _, row in rows] for split, rows in found.items()}, leaf.name)
    if "class" not in config:
        config.update({key: None for key in SPLITS if config.get(key) not in available})
        if not shots:
            few = {key: value for key, value in (config.get("fewshot_config") or {}).items() if key == "sampler"}
            # No examples are drawn, so none have to be prepared.
            config.update(training_split=None, fewshot_split=None, fewshot_config={**few, "samples": []})
    task = _made(leaf.name, config, dataset, place, places)
    _set_fewshot(task, shots)
    return task, places


def _fewshot_split(config: dict[str, Any]) -> str | None:
    """Where lm-eval takes examples from; None where the task brings them along."""
    few = config.get("fewshot_config") or {}
    if few.get("split") or config.get("fewshot_split"):
        return few.get("split") or config.get("fewshot_split")
    return None if few.get("samples") is not None else config.get("training_split") or scored_split(config)


def _from_hub(leaf: Leaf, folder: Path | None) -> Any:
    """The dataset, or None for a task that loads it by itself."""
    path = leaf.config.get("dataset_path")
    named = f"name a folder with local documents instead: {KEY}, --data or {VARIABLE}"
    instead = f"{looked_for(folder, leaf)} is not there either" if folder else named
    if path is None:
        if reason := hub.offline():
            raise UsageError(f"evaluation.tasks: the documents of '{leaf.name}' cannot be loaded: {reason}; {instead}")
        return None
    options = {**(leaf.config.get("dataset_kwargs") or {})}
    options.pop("trust_remote_code", None)  # datasets 4 knows it no more, and it would run somebody's code
    about = f"evaluation.tasks: the documents of '{leaf.name}' ({path})"
    return hub.load(path, about, instead, name=leaf.config.get("dataset_name"), **options)


def _dataset(splits: dict[str, Sequence[Row]], name: str) -> Any:
    import datasets

    made = {}
    for split, rows in splits.items():
        keys = dict.fromkeys(key for row in rows for key in row)
        try:
            made[split] = datasets.Dataset.from_list([{key: row.get(key) for key in keys} for row in rows])
        except Exception as error:  # of arrow: a field that is text here and a number there
            raise UsageError(
                f"{KEY}: the rows of '{name}' ({split}) do not fit together: {first_line(error)}"
            ) from error
    return datasets.DatasetDict(made)


def _made(name: str, config: dict[str, Any], dataset: Any, place: str, places: Sequence[str] = ()) -> Task:
    process = config.get("process_docs")
    base = config.pop("class", ConfigurableTask)
    kind = type(base.__name__, (_Given, base), {"given": dataset})
    takes_config = "config" in inspect.signature(base.__init__).parameters
    first = {} if dataset is None else next(iter(dataset.values()))[0]
    with named(name, place, first):
        try:
            task = kind(config=config) if takes_config else kind()
        except Exception:
            if callable(process):
                for index, row_place in enumerate(places):
                    row = dataset[scored_split(config)].select([index])
                    with named(name, row_place, row[0]):
                        process(row)
            raise
        if not len(task.eval_docs):
            raise UsageError(f"evaluation.tasks: {place} leaves no document for the task '{name}'")
        check_fields(task)
    task.config.task = name
    aggregations = task.aggregation()
    for metric, function in aggregations.items():
        if function is weighted_perplexity:
            aggregations[metric] = _perplexity
    return task


def _perplexity(items: Sequence[Any]) -> float:
    """A perplexity per word is exp(nats per word), and a text without blanks is one long word."""
    try:
        return float(weighted_perplexity(items))
    except OverflowError:
        return math.inf


def _set_fewshot(task: Task, shots: int) -> None:
    task.set_config(key="num_fewshot", value=shots)
    task.set_fewshot_seed(seed=SEED)


def _group_config(name: str, config: dict[str, Any]) -> GroupConfig:
    known = inspect.signature(GroupConfig).parameters
    return GroupConfig(**{**{key: value for key, value in config.items() if key in known}, "group": name, "task": []})


def _asked(documents: int, limit: int | None) -> int:
    return documents if limit is None else min(documents, limit)


@contextlib.contextmanager
def templates_compiled_once() -> Iterator[None]:
    """lm-eval compiles a template anew for every document and every use, thirty times what rendering it takes."""
    utils.env.from_string = functools.lru_cache(maxsize=4096)(utils.env.from_string)
    try:
        yield
    finally:
        del utils.env.from_string
