"""A search, start to end: trials, the best of them again on fresh seeds, tables, page, suite file, record."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from harness.errors import FAILED, OK, HarnessError
from harness.run.celldir import read_json, write_json
from harness.run.environment import source_digest
from harness.run.executors import Executor, LocalExecutor
from harness.run.layout import Layout
from harness.run.loop import Loop
from harness.run.progress import Progress, make_progress
from harness.run.recording import Recorder
from harness.run.runner import RunOptions, check_devices
from harness.search.best import best_suite, write_best
from harness.search.document import document
from harness.search.facts import TrialFacts, all_facts
from harness.search.file import Study, StudyFile
from harness.search.fresh import OWN, Fresh, chosen, name_of
from harness.search.importance import importances
from harness.search.opening import BORN, open_arms, said_in_a_line, try_out
from harness.search.parents import Parents
from harness.search.record import StudyRecord, study_key
from harness.search.result import ArmFound, Candidate, SearchResult
from harness.search.samplers import quiet
from harness.search.settings import RangeSettings
from harness.search.source import HALT_AFTER, SearchSource
from harness.search.storage import JOURNAL, masked, open_storage
from harness.search.table import markdown
from harness.search.trials import ArmTrials
from harness.suite.cells import Cell, cells, digest

RESULT, TABLE, BEST, PAGE = "result.json", "table.md", "best.yaml", "report.html"
POLL_SECONDS = 0.1
"""How often running trials are looked at: what a bad one trains until then is lost."""
Recorded = tuple[Cell, str | None] | TrialFacts


@dataclass(frozen=True, kw_only=True)
class SearchOptions:
    jobs: int = 1
    storage: str | None = None
    """Of Optuna; None is the journal file in the results folder."""
    retry_failed: bool = False


@dataclass(frozen=True)
class Answer:
    code: int
    text: str
    document: dict[str, Any]


def search(
    file: StudyFile,
    study: Study,
    layout: Layout,
    options: SearchOptions,
    command: str,
    executor: Callable[[], Executor] | None = None,
) -> Answer:
    """Bring the study to its end. `command` asks the same again; `executor` takes the place of this machine's
    processes. Raises UsageError before anything is trained, KeyboardInterrupt when asked to end, with all saved."""
    quiet()
    layout.prepare()
    folder = folder_of(layout, study.settings.name)
    where = masked(options.storage) if options.storage else str(folder / JOURNAL)
    own = {arm: study.suite.arms[arm] for arm in study.space.arms}
    check_devices(cells(study.space.trial_suite(own, study.settings.seeds), study.data, study.relative_to))
    if "peak_memory" in study.settings.objective:
        import torch

        if not torch.cuda.is_available():
            raise file.error(("objective",), "peak_memory is measured on GPUs, and torch sees none here; saved_bytes")
    if not (folder / RESULT).exists():
        try_out(file, study)
    storage = open_storage(options.storage, folder)
    parents = Parents(folder, own_storage=options.storage is None)
    with ExitStack() as stack:
        stack.enter_context(said_in_a_line(where))
        stack.enter_context(parents.alive())
        arms = open_arms(file, study, storage, where, parents)
        progress = make_progress(len(arms) * study.settings.trials, options.jobs)
        stack.callback(progress.close)
        key = study_key(study, where, str(arms[0].study.user_attrs.get(BORN)))
        record = StudyRecord(study, layout, layout.tracker(), key, progress.say)
        for arm in arms:
            arm.reap()
            if options.retry_failed:
                arm.forgive()
        parents.forget_dead()
        if not all(arm.done for arm in arms):
            made = executor() if executor else LocalExecutor(layout, options.jobs, str(study.relative_to))
            _work_off(study, arms, layout, made, progress, record)
        progress.close()
        return _answer(study, arms, layout, folder, options, record, command, where)


def _work_off(
    study: Study,
    arms: Sequence[ArmTrials],
    layout: Layout,
    executor: Executor,
    progress: Progress,
    record: StudyRecord,
) -> None:
    """Bring all trials to their end. Raises KeyboardInterrupt when asked to stop, HarnessError where one after another
    fails; what was begun is then given up, to be tried again."""
    recorder = Recorder[Recorded](record.tracker, record.write, progress.say)
    source = SearchSource(study, arms, layout, progress.finished, recorder.submit)

    def record_cell(cell: Cell) -> None:
        recorder.submit((cell, source.trial_of(cell)))

    loop = Loop(layout, source, executor, progress, record_cell, POLL_SECONDS)
    try:
        with loop.interruptible():
            loop.run()
    finally:
        try:
            source.give_up()
        finally:
            recorder.close()
    for arm in arms:
        arm.reap()
    if loop.interrupted:
        raise KeyboardInterrupt
    if source.halt:
        raise HarnessError(
            f"{HALT_AFTER} trials failed one after another, the last: {source.failure}; nothing more is begun. "
            "--retry-failed tries them again"
        )


def folder_of(layout: Layout, name: str) -> Path:
    """Where the study's files lie."""
    return layout.root / "search" / layout.suite_place(name).name


def _answer(
    study: Study,
    arms: Sequence[ArmTrials],
    layout: Layout,
    folder: Path,
    options: SearchOptions,
    record: StudyRecord,
    command: str,
    where: str,
) -> Answer:
    """From the trials to what is said of them. What was said the last time stands where nothing has changed."""
    trials = {arm.arm: all_facts(arm) for arm in arms}
    choice = RunOptions(jobs=options.jobs, retry_failed=options.retry_failed)
    fresh = Fresh(study, layout, choice, record.experiment)
    candidates = fresh.candidates(trials)
    suite = best_suite(study, candidates)
    quoted = fresh.quote(suite) if suite is not None else {}
    found = [_found(study, arm, trials[arm.arm], candidates[arm.arm], quoted) for arm in arms]
    failed = [trial for one in found for trial in one.trials if trial.ended == "failed"]
    code = FAILED if failed or fresh.code != OK or suite is None else OK
    result = SearchResult(
        name=study.settings.name,
        description=study.settings.description,
        objectives=study.settings.objective,
        unit=study.suite.arms[study.space.arms[0]].model.unit(study.suite.data.KIND),
        baselines={arm: study.suite.baseline_of(arm) for arm in study.space.arms},
        margin=study.suite.margin if study.settings.objective[0] == "loss" else 0.0,
        seeds=study.settings.seeds,
        choose=study.settings.fresh.choose if not study.settings.several and study.settings.fresh.top > 1 else (),
        report=study.settings.fresh.report,
        sampler=_named(study.settings.sampler),
        pruner=_named(arms[0].pruner),
        arms=found,
        smoke=study.smoke,
    )
    said_by = source_digest(("compare", "report", "search"))  # another version of these says it otherwise
    key = digest([said_by, command, str(layout.root), record.tracker.uri, document(result)])
    saved = read_json(folder / RESULT)
    files = [folder / name for name in (PAGE, TABLE, BEST)]
    if isinstance(saved, dict) and saved.get("key") == key and all(Path(file).exists() for file in saved["files"]):
        if not saved["recorded"] and record.finish(_weighed(result, arms), artifacts(saved["files"]), code == OK):
            write_json(folder / RESULT, {**saved, "recorded": True})
        return Answer(code, str(saved["text"]), saved["document"])
    result = _weighed(result, arms)
    text = markdown(result)
    from harness.search.page import write_page

    (folder / TABLE).write_text(text + "\n", encoding="utf-8")
    figures = write_page(result, folder / PAGE, command)
    if suite is not None:
        write_best(study, suite, candidates, folder / BEST)
    text += f"\n\npage: {folder / PAGE}"
    if suite is not None:
        usual = Layout.choose(None, smoke=False).root
        elsewhere = f" --results {shlex.quote(str(layout.root))}" if layout.root != usual else ""
        text += f"\nthe best settings as a suite, trained already: harness run {folder / BEST}{elsewhere}"
    text += f"\ntrials: optuna-dashboard {where}"
    written = [str(path) for path in dict.fromkeys((*files, *figures)) if path.exists()]
    recorded = record.finish(result, artifacts(written), code == OK)
    said = document(result, [str(file) for file in files if file.exists()])
    write_json(folder / RESULT, {"key": key, "files": written, "text": text, "document": said, "recorded": recorded})
    return Answer(code, text, said)


def _weighed(result: SearchResult, arms: Sequence[ArmTrials]) -> SearchResult:
    """With the importances, which take as long as all the rest."""
    found = [replace(one, importances=importances(arm)) for one, arm in zip(result.arms, arms, strict=True)]
    return replace(result, arms=found)


def artifacts(files: Sequence[str]) -> list[Path]:
    """What of the written files is an artifact: pictures once, as PNG."""
    return [Path(file) for file in files if not file.endswith((".svg", ".csv"))]


def _found(
    study: Study,
    arm: ArmTrials,
    trials: Sequence[TrialFacts],
    candidates: Sequence[Candidate],
    quoted: Mapping[str, Mapping[str, Mapping[int, float]]],
) -> ArmFound:
    several = study.settings.several
    best = None if several else chosen(candidates)
    names = [name_of(one.trial) if several else arm.arm if one is best else "" for one in candidates]
    looked_at = [replace(one, report=quoted.get(name, {})) for one, name in zip(candidates, names, strict=True)]
    steps = [arm.steps_of(trial.params) for trial in trials]
    return ArmFound(
        arm=arm.arm,
        trials=trials,
        budget=arm.total,
        full_steps=sum(steps) * len(study.settings.seeds),
        own=arm.own,
        ranges={
            name: (one.low, one.high, one.log)
            for name, one in study.space.parameters(arm.arm).items()
            if isinstance(one, RangeSettings)
        },
        own_report=quoted.get(f"{arm.arm}{OWN}", {}),
        candidates=looked_at,
        chosen=looked_at[candidates.index(best)] if best else None,
    )


def _named(settings: Mapping[str, Any]) -> str:
    rest = ", ".join(f"{key}={value}" for key, value in settings.items() if key != "type")
    return f"{settings['type']}({rest})" if rest else str(settings["type"])
