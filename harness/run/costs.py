"""The measured costs of a suite's arms: `costs.json`, what it is the answer to, and its place in the record.

The file has one document for every machine and set of arms that was measured; none is ever replaced by another's. A
document is read without knowing how it was made: its ratios follow from the seconds that stand beside them.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from harness.errors import UsageError
from harness.run.celldir import read_json, write_json
from harness.run.environment import cpu_model, gpus
from harness.run.layout import Layout
from harness.suite.cells import Cell, digest
from harness.suite.schema import Suite
from harness.tracking import Tracker

FILE, FORMAT = "costs.json", 1
TRAIN_KEYS = ("batch_size", "micro_batch_size", "precision", "threads", "device", "kernels", "compile")
"""What of the training a step's costs depend on."""


@dataclass(frozen=True)
class Wanted:
    """An arm to be measured: `config` is that of one of its cells, `key` names all that its costs depend on."""

    config: dict[str, Any]
    key: str
    baseline: str


def wanted_arms(suite: Suite, cells: Iterable[Cell]) -> dict[str, Wanted]:
    """The arms of these cells whose baseline is among them; none where there is nothing to compare."""
    configs: dict[str, dict[str, Any]] = {}
    for cell in cells:
        configs.setdefault(cell.arm, cell.config)
    found = {
        arm: Wanted(config, arm_key(config), suite.baseline_of(arm))
        for arm, config in configs.items()
        if suite.baseline_of(arm) in configs
    }
    compared = {arm.baseline for name, arm in found.items() if arm.baseline != name}
    return {name: arm for name, arm in found.items() if arm.baseline in compared}


def arm_key(config: Mapping[str, Any]) -> str:
    """Of a cell's configuration, what decides the costs of a step: not its seed, learning rate or budget."""
    train = {key: config["train"][key] for key in TRAIN_KEYS}
    digests = config["digests"]
    data = [config["data"]["corpus"], digests.get("tokenizer", digests["data"])]  # a text's length costs nothing
    return digest([config["connection"], config["model"], train, data])


def fingerprint(wanted: Iterable[Wanted]) -> dict[str, Any]:
    """What makes a machine another one. Does not import torch."""
    on_gpu = any(arm.config["train"]["device"] != "cpu" for arm in wanted)
    return {"cpu": cpu_model(), "gpus": gpus() if on_gpu else [], "torch": metadata.version("torch")}


def document_key(machine: str, wanted: Mapping[str, Wanted]) -> str:
    arms = {name: [arm.key, arm.baseline] for name, arm in wanted.items()}
    return digest([FORMAT, machine, arms])


def documents(layout: Layout, suite: str) -> list[dict[str, Any]]:
    """All that was measured of a suite and is in this format, the oldest first. Raises UsageError for a file that
    `keep` cannot have written."""
    return [one for one in _kept(layout.suite_place(suite) / FILE) if one["format"] == FORMAT]


def _kept(path: Path) -> list[dict[str, Any]]:
    """All documents of the file, those of other formats too."""
    found = read_json(path)
    if found is None:
        return []
    measured = found.get("measured") if isinstance(found, dict) else None
    if not isinstance(measured, list) or not all(_whole(one) for one in measured):
        raise UsageError(f"{path}: holds something else than measured costs; move it aside and run again")
    return measured


def _whole(one: Any) -> bool:
    """Whether a document has what is read of it before its rows."""
    if not isinstance(one, dict) or "format" not in one or "key" not in one:
        return False
    return one["format"] != FORMAT or (
        {"machine_key", "when"} <= one.keys()
        and all(isinstance(one.get(part), dict) for part in ("arms", "skipped"))
        and all(_sound(row) for row in one["arms"].values())
    )


def _sound(row: Any) -> bool:
    """Whether a row has the numbers that are read of it."""
    if not isinstance(row, dict) or not {"key", "baseline"} <= row.keys():
        return False
    numbers = [row.get(key) for key in ("throughput_ratio", "saved_bytes_ratio", "positions_per_step", "saved_bytes")]
    seconds = [row.get(key) for key in ("seconds", "baseline_seconds")]
    if not all(isinstance(each, list) and each for each in seconds):
        return False
    numbers += [second for each in seconds if isinstance(each, list) for second in each]
    interval, peak = row.get("throughput_ci"), row.get("peak_bytes_ratio")
    numbers += [*(interval if isinstance(interval, list) else []), *([] if peak is None else [peak])]
    return all(isinstance(one, int | float) and one > 0 for one in numbers) and (
        interval is None or (isinstance(interval, list) and len(interval) == 2)
    )


def keep(layout: Layout, suite: str, document: dict[str, Any]) -> Path:
    """Add a document to the suite's; it takes the place of one with its key."""
    path = layout.suite(suite) / FILE
    others = [one for one in _kept(path) if one["key"] != document["key"]]
    write_json(path, {"format": FORMAT, "measured": [*others, document]})
    return path


def has_all(document: Mapping[str, Any], wanted: Mapping[str, Wanted]) -> bool:
    """Whether every arm was measured as it is now, or found impossible to measure."""
    return all(_same(document["arms"].get(name) or document["skipped"].get(name), arm) for name, arm in wanted.items())


def _same(row: Mapping[str, Any] | None, arm: Wanted) -> bool:
    return row is not None and (row["key"], row["baseline"]) == (arm.key, arm.baseline)


def read_costs(
    layout: Layout, tracker: Tracker, suite: Suite, cells: Sequence[Cell], baseline: str | None = None
) -> dict[str, Any] | None:
    """The document for these cells: of this machine, else of another; of several the one with most of their arms, then
    the newest. `arms` are those that are measured as they are now, each with its baseline. Where the results folder has
    none, the record is asked. With a `baseline` the rows of its table are rebased to it. None where nothing is known.
    Raises what the tracker raises."""
    wanted = wanted_arms(suite, cells)
    if not wanted:
        return None
    found = _best(documents(layout, suite.name), wanted) or _best(tracker.read_costs(suite.name), wanted)
    return found if found is None or baseline is None else {**found, "arms": rebased(found["arms"], baseline)}


def machine_name(document: Mapping[str, Any]) -> str:
    """Where it was measured, as cells are called by their hardware; empty where that was not recorded."""
    machine = document.get("machine") or {}
    return ", ".join(machine.get("gpus") or ()) or str(machine.get("cpu") or "")


def _best(found: Iterable[dict[str, Any]], wanted: Mapping[str, Wanted]) -> dict[str, Any] | None:
    fitting = []
    for one in found:
        arms = {name: row for name, row in one["arms"].items() if name in wanted and _same(row, wanted[name])}
        arms = {name: row for name, row in arms.items() if row["baseline"] in arms}
        if arms:
            fitting.append({**one, "arms": arms})
    if not fitting:
        return None
    machines = {one["machine_key"] for one in fitting}
    here = digest(fingerprint(wanted.values())) if len(machines) > 1 else None
    return max(fitting, key=lambda one: (one["machine_key"] == here, len(one["arms"]), one["when"]))


def made_document(
    found: Mapping[str, Any],
    wanted: Mapping[str, Wanted],
    stands_for: Mapping[str, str],
    machine: Mapping[str, Any],
    when: str,
) -> dict[str, Any]:
    """What is kept of `found` (`interleave.measure`). `stands_for` names, for every arm, the measured one with
    its settings. `machine` is this one's fingerprint."""
    arms, skipped = {}, {}
    for name, arm in wanted.items():
        own, head = stands_for[name], stands_for[arm.baseline]
        group = next((one for one in found["groups"] if {own, head} <= set(one["arms"])), None)
        about = {"key": arm.key, "baseline": arm.baseline}
        if group is None:
            why = found["skipped"].get(own) or found["skipped"].get(head) or "was not measured"
            skipped[name] = {**about, "why": why}
        else:
            arms[name] = {**about, "same_as": own if own != name else None, **_row(group, own, head)}
    machine_key = digest(machine)
    groups = [{"arms": one["arms"], "rounds": one["rounds"], "steps": one["steps"]} for one in found["groups"]]
    order = found["groups"][0]["arms"] if found["groups"] else []
    return {
        "format": FORMAT,
        "key": document_key(machine_key, wanted),
        "machine_key": machine_key,
        "machine": {**found["machine"], **machine},
        "when": when,
        "rounds": min((one["rounds"] for one in groups), default=0),
        "order": " ".join([*order, "|", *reversed(order), "| and so on"]),
        "groups": groups,
        "arms": arms,
        "skipped": skipped,
    }


def _row(group: Mapping[str, Any], own: str, head: str) -> dict[str, Any]:
    row, base = _measured(group, own), _measured(group, head)
    return {**row, "baseline_seconds": base["seconds"], **_ratios(row, base)}


def _measured(group: Mapping[str, Any], arm: str) -> dict[str, Any]:
    keys = (
        "parameters", "positions_per_step", "seconds", "saved_bytes", "peak_bytes", "first_step_seconds",
        "compile_seconds",
    )  # fmt: skip
    return {key: group[key][arm] for key in keys}


def _ratios(row: Mapping[str, Any], base: Mapping[str, Any]) -> dict[str, Any]:
    """Of two arms that were measured in the same rounds."""
    from harness.compare.bootstrap import median_ratio

    ratio, interval = median_ratio(base["seconds"], row["seconds"])
    more = row["positions_per_step"] / base["positions_per_step"]
    return {
        "throughput_ratio": ratio * more,
        "throughput_ci": None if interval is None else [end * more for end in interval],
        "saved_bytes_ratio": row["saved_bytes"] / base["saved_bytes"],
        "peak_bytes_ratio": None if row["peak_bytes"] is None else row["peak_bytes"] / base["peak_bytes"],
    }


def rebased(arms: Mapping[str, Any], baseline: str) -> dict[str, Any]:
    """The rows of `read_costs` with another arm in the place of the baseline of its own table: with ratios to it, and
    without what was not measured in the same rounds."""
    if baseline not in arms:
        return {}
    head = arms[baseline]
    made = {}
    for name, row in arms.items():
        if row["baseline"] != head["baseline"]:
            made[name] = row
        elif row["baseline_seconds"] == head["baseline_seconds"]:
            made[name] = {**row, "baseline": baseline, **_ratios(row, head)}
    return made


def metrics(document: Mapping[str, Any]) -> dict[str, float]:
    """What the record shows of a document; the file itself is beside them. MLflow takes no '+' in a name."""
    values: dict[str, float] = {}
    for name, row in document["arms"].items():
        low, high = row["throughput_ci"] or (None, None)
        numbers = {
            **{key: row[key] for key in SHOWN},
            "throughput_ratio_low": low,
            "throughput_ratio_high": high,
            "seconds_per_step": statistics.median(row["seconds"]),
        }
        arm = name.replace("+", ".")
        values.update({f"cost/{key}/{arm}": float(value) for key, value in numbers.items() if value is not None})
    return values


SHOWN = (
    "throughput_ratio", "saved_bytes", "saved_bytes_ratio", "peak_bytes", "peak_bytes_ratio", "parameters",
    "first_step_seconds", "compile_seconds",
)  # fmt: skip
