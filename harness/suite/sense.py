"""Rules between the keys of a suite, after the types are right: every one as the place of a key and what is wrong."""

from __future__ import annotations

import re
from collections.abc import Iterator

from harness.compare.rules import RUNGS
from harness.data.inputs import ImageInputs, Inputs
from harness.data.settings import SymbolsSettings
from harness.errors import nearest
from harness.models.cost import DEVICES, find_device
from harness.models.settings import MODELS, DecoderSettings, DiTSettings, ViTSettings
from harness.suite.schema import Arm, Suite
from harness.suite.yaml_lines import KeyPath

Problem = tuple[KeyPath, str]


def problems(suite: Suite) -> Iterator[Problem]:
    """What does not fit together, before the data are known."""
    if len(set(suite.seeds)) != len(suite.seeds):
        yield ("seeds",), "a seed is given twice"
    if any(seed < 0 for seed in suite.seeds):
        yield ("seeds",), "seeds are not negative"
    if not re.search(r"[A-Za-z0-9]", suite.name):
        yield ("name",), "a name needs a letter or a digit"
    if not suite.name.isprintable():
        yield ("name",), "a name is one line of printable characters"
    if problem := suite.data.problem():
        yield ("data", problem[0]), problem[1]
    if problem := suite.evaluation.problem(suite.data.KIND):
        yield ("evaluation", problem[0]), problem[1]
    for name, arm in suite.arms.items():
        yield from _arm(suite, name, arm)
        yield from _resize(suite, name, arm)
    yield from _reported(suite)
    for index, name in enumerate(suite.ladder):
        if name not in suite.arms:
            yield ("ladder", index), f"no arm is called '{name}'{nearest(name, suite.arms)}"
        elif name in suite.ladder[:index]:
            yield ("ladder", index), f"'{name}' stands there twice"
        elif suite.arms[name].connection != suite.arms[suite.ladder[0]].connection:
            first = f"'{suite.ladder[0]}' another than '{name}'"
            yield ("ladder", index), f"a ladder is one connection under several budgets, and {first} has"
    if 0 < len(suite.ladder) < RUNGS:
        yield ("ladder",), f"a curve is fitted to {RUNGS} budgets at least, and here are {len(suite.ladder)}"
    fixed = suite.streams
    dropout = all(arm.model.dropout > 0 for arm in suite.arms.values())
    varies = fixed.backbone is None or fixed.data is None or (dropout and fixed.dropout is None)
    if len(suite.seeds) > 1 and not varies:
        yield ("streams",), "nothing is left for the seeds to vary: every seed would be the same run"


def problems_with(suite: Suite, inputs: Inputs) -> Iterator[Problem]:
    """What does not fit the data."""
    for name, arm in suite.arms.items():
        if problem := arm.model.problem_with(inputs):
            yield ("arms", name, "model", problem[0]), problem[1]
        if isinstance(arm.model, ViTSettings) and isinstance(inputs, ImageInputs) and inputs.classes < 2:
            yield ("data", "corpus"), "a classifier needs two classes, and these images have one"


def _arm(suite: Suite, name: str, arm: Arm) -> Iterator[Problem]:
    misfit = arm.model.problem_of(arm.connection)
    for section, problem in (
        ("connection", arm.connection.problem(arm.model.width, arm.model.sublayers)),
        ("connection", ("type", misfit) if misfit else None),
        ("model", arm.model.problem()),
        ("train", arm.train.problem()),
    ):
        if problem:
            yield ("arms", name, section, problem[0]), problem[1]
    if suite.data.KIND not in arm.model.DATA:
        kinds = [kind for kind, model in MODELS.items() if suite.data.KIND in model.DATA]
        about = f"a '{arm.model.type}' learns from {' or '.join(arm.model.DATA)}, and the corpus '{suite.data.corpus}'"
        yield ("arms", name, "model", "type"), f"{about} is {suite.data.KIND}; for it: {', '.join(kinds)}"
    if isinstance(suite.data, SymbolsSettings) and isinstance(arm.model, DecoderSettings):
        short = suite.data.problem_in(arm.model.context)
        if short:
            yield ("data", short[0]), f"{short[1]} (arm '{name}')"
    steps = suite.evaluation.sampling_steps
    if isinstance(arm.model, DiTSettings) and steps > arm.model.timesteps:
        message = f"{steps} steps are more than the {arm.model.timesteps} noise levels of '{name}'"
        yield ("evaluation", "sampling_steps"), message
    head = suite.baseline_of(name)
    key = ("arms", name, "baseline")
    if head not in suite.arms:
        yield key, f"no arm is called '{head}'{nearest(head, suite.arms)}"
    elif (other := suite.baseline_of(head)) != head:
        yield key, f"'{head}' is itself compared with '{other}'; a baseline is its own baseline"
    elif suite.arms[head].model.UNIT != arm.model.UNIT:
        units = f"{arm.model.UNIT}, and the baseline's '{head}' {suite.arms[head].model.UNIT}"
        yield key, f"losses are {units}: they do not compare; give the arm a baseline of its own kind"


def _resize(suite: Suite, name: str, arm: Arm) -> Iterator[Problem]:
    if (resize := arm.resize) is None:
        return
    key = ("arms", name, "resize")
    if resize.arm not in suite.arms:
        others = [other for other in suite.arms if other != name]
        yield (*key, "arm"), f"no arm is called '{resize.arm}'{nearest(resize.arm, others)}"
    elif resize.arm == name:
        yield (*key, "arm"), "an arm already costs what it costs itself; name another"
    elif suite.arms[resize.arm].resize is not None:
        yield (*key, "arm"), f"'{resize.arm}' is itself resized; name an arm that has its size from the file"
    else:
        yield from _twin(suite, name, arm)
    if resize.ratio is not None and resize.match != "time":
        yield (*key, "ratio"), f"is of times, and this matches {resize.match}"
    if resize.device is not None:
        if resize.match == "params":
            yield (*key, "device"), "parameters are the same everywhere"
        elif resize.ratio is not None:
            yield (*key, "device"), "with a ratio nothing is reckoned for a chip"
        elif find_device(resize.device) is None:
            chips = [device.name for device in DEVICES]
            yield (*key, "device"), f"no chip '{resize.device}' in the table{nearest(resize.device, chips)}"


def _twin(suite: Suite, name: str, arm: Arm) -> Iterator[Problem]:
    """One arm of the baseline's kind for what another costs, or nobody knows which of them that one is held against."""
    twin = suite.twin_of(name)
    first = next((other for other in suite.arms if twin is not None and suite.twin_of(other) == twin), name)
    if first != name and arm.resize is not None:
        yield (
            ("arms", name, "resize", "arm"),
            f"'{first}' has been resized to the {arm.resize.match} of '{arm.resize.arm}' already",
        )


def _reported(suite: Suite) -> Iterator[Problem]:
    titles = [reported.title for reported in suite.reported]
    for index, reported in enumerate(suite.reported):
        if titles.count(reported.title) > 1:
            yield ("reported", index, "title"), f"two columns are called '{reported.title}'"
        heads = [suite.baseline_of(arm) for arm in reported.values if arm in suite.arms]
        for name in (*reported.values, *heads):
            key = ("reported", index, "values", name)
            if name not in suite.arms:
                yield key, f"no arm is called '{name}'{nearest(name, suite.arms)}"
            elif name not in reported.values:
                yield key[:3], f"the baseline '{name}' has no value to compare with"
