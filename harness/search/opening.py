"""The arms' trials in a storage, opened: nothing is made unless all that is there already belongs to the study."""

from __future__ import annotations

import contextlib
import random
import secrets
from collections.abc import Iterator
from typing import TYPE_CHECKING

from harness.errors import HarnessError, first_line, shown
from harness.search.file import Study, StudyFile
from harness.search.parents import Parents
from harness.search.rules import KEYS, difference, rules_of
from harness.search.samplers import make_pruner, make_sampler
from harness.search.storage import masked
from harness.search.trials import ArmTrials

if TYPE_CHECKING:
    from optuna.storages import BaseStorage

RULES = "harness.rules"
"""Attribute of an Optuna study: what all its trials have in common."""
DRAWN = 8
"""Trials that are drawn before a search, to see that they can be."""
BORN = "harness.born"
"""Attribute of an Optuna study: that of a storage that was made anew is another."""


def open_arms(file: StudyFile, study: Study, storage: BaseStorage, where: str, parents: Parents) -> list[ArmTrials]:
    """Every arm's trials; `where` is what the storage is called. Raises UsageError where it holds something else under
    a name of ours, or the same study begun otherwise, before anything is written."""
    advice = "give this study another name" + (", or another --results" if parents.own_storage else "")
    for arm in study.space.arms:
        _check(file, study, storage, where, arm, advice)
    made = [_opened(study, storage, arm, parents) for arm in study.space.arms]
    for arm in study.space.arms:  # another parent may have been faster, and asked for something else
        _check(file, study, storage, where, arm, advice)
    return made


def _check(file: StudyFile, study: Study, storage: BaseStorage, where: str, arm: str, advice: str) -> None:
    import optuna

    name, total = _name(study, arm), study.settings.trials
    try:
        found = optuna.load_study(study_name=name, storage=storage)
    except KeyError:
        return
    kept = found.user_attrs.get(RULES)
    ours = [optuna.study.StudyDirection.MINIMIZE] * len(study.settings.objective)
    if kept is None and found.directions == ours and not found.get_trials(deepcopy=False):
        return  # begun by a parent that was killed before it could say so
    if not isinstance(kept, dict):
        raise file.error(("name",), f"{where} holds a study '{name}' that another program made; {advice}")
    if (different := difference(kept, rules_of(study, arm))) is not None:
        rule, text = different
        raise file.error((KEYS.get(rule, rule),), f"'{name}' was begun otherwise in {where}: {text}; {advice}")
    done = sum(trial.state.is_finished() for trial in ArmTrials(found, arm, study, None).standing())
    if done > total:
        message = f"'{name}' has {done} finished trials already in {where}, and an arm is to have {total}"
        raise file.error(("trials",), message)


def _opened(study: Study, storage: BaseStorage, arm: str, parents: Parents) -> ArmTrials:
    import optuna

    settings, name = study.settings, _name(study, arm)
    try:
        found = optuna.load_study(study_name=name, storage=storage)
    except KeyError:
        found = optuna.create_study(
            storage=storage,
            study_name=name,
            directions=[optuna.study.StudyDirection.MINIMIZE] * len(settings.objective),
            load_if_exists=True,
        )
    if RULES not in found.user_attrs:
        found.set_user_attr(RULES, rules_of(study, arm))
        found.set_user_attr(BORN, secrets.token_hex(4))
        found.set_metric_names(list(settings.objective))
    trials = ArmTrials(found, arm, study, parents)
    found.sampler = make_sampler(settings, trials.drawing, trials.own)
    found.pruner = make_pruner(trials.pruner)
    return trials


def _name(study: Study, arm: str) -> str:
    """Of the arm's Optuna study."""
    return f"{study.settings.name}/{arm}"


def try_out(file: StudyFile, study: Study) -> None:
    """Draw some trials of every arm in memory, told at random. Raises UsageError where sampler and space do not go
    together, before a storage remembers them."""
    import optuna

    chance = random.Random(0)  # noqa: S311  stands for losses
    for arm in study.space.arms:
        directions = [optuna.study.StudyDirection.MINIMIZE] * len(study.settings.objective)
        trials = ArmTrials(optuna.create_study(directions=directions), arm, study, Parents.none())
        trials.study.sampler = make_sampler(study.settings, trials.drawing, trials.own)
        try:
            for _ in range(min(trials.total, DRAWN)):
                if (claimed := trials.claim()) is not None:
                    trials.tell(claimed[0], [chance.random() for _ in directions], "complete", {})
        except Exception as error:  # whatever a sampler of Optuna's raises
            kind = study.settings.sampler["type"]
            message = f"{kind} draws no trials of '{arm}': {type(error).__name__}: {first_line(error)}"
            raise file.error(("sampler",), message) from error


@contextlib.contextmanager
def said_in_a_line(where: str) -> Iterator[None]:
    """A storage or a disk that fails while a search goes on is no defect of ours."""
    import optuna

    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno is None:
            raise
        place = shown(error.filename or where)
        raise HarnessError(f"{place}: {error.strerror or error}; the same command goes on from here") from error
    except optuna.exceptions.StorageInternalError as error:
        reason = masked(first_line(error.__cause__ or error))
        raise HarnessError(
            f"the storage {where} does not answer any more ({reason}); the same command goes on from here"
        ) from None
