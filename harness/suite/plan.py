"""What a suite will run and cost, before anything is paid. Needs no torch."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Collection, Mapping
from typing import Any

from harness.data.documents import Corpus, size_of
from harness.data.inputs import Inputs
from harness.data.load import Data
from harness.data.settings import TextSettings
from harness.data.synthetic import Symbols
from harness.models import cost
from harness.suite.cells import Cell, by_identity
from harness.suite.estimate import Machine, disk, makespan
from harness.suite.resize import Resized
from harness.suite.schema import Arm, Suite


def plan(
    suite: Suite,
    inputs: Inputs,
    data: Data,
    cells: list[Cell],
    states: Mapping[str, str],
    machine: Machine | None = None,
    jobs: int = 1,
    training: Collection[str] | None = None,
) -> dict[str, Any]:
    """The arms of `cells` with their price, the cells with their state (`states` by identity), and the totals of what
    is still to train: the cells whose identity is in `training`, by default all that are not done."""
    here = machine or Machine(name="this machine")
    chosen = {name: arm for name, arm in suite.arms.items() if any(cell.arm == name for cell in cells)}
    here.check(chosen)
    held_out = _held_out(data)
    arms = {name: _arm(name, arm, suite, inputs, cells, here, held_out) for name, arm in chosen.items()}
    if training is None:
        training = {identity for identity, state in states.items() if state != "done"}
    todo = [cell for cell in by_identity(cells).values() if cell.identity in training]
    seconds = [arms[cell.arm]["seconds_per_cell"] for cell in todo]
    at_once = max(min(jobs, len(todo)), 1)
    running = [suite.arms[cell.arm] for cell in todo]
    largest = sorted((arms[cell.arm]["memory_bytes"]["total"] for cell in todo), reverse=True)
    kept = sum(arms[cell.arm]["disk_bytes_per_cell"] for cell in todo)
    saving = max((arms[cell.arm]["disk_bytes_in_training"] for cell in todo), default=0)
    return {
        "suite": suite.name,
        "description": suite.description,
        "baseline": suite.baseline,
        "seeds": list(dict.fromkeys(cell.seed for cell in cells)),
        "data": _data(suite, data),
        "tasks": list(suite.evaluation.tasks),
        "machine": _machine(machine, jobs),
        "jobs": jobs,
        "arms": list(arms.values()),
        "cells": [
            {
                "cell": cell.name,
                "arm": cell.arm,
                "seed": cell.seed,
                "folder": cell.folder,
                "state": states[cell.identity],
            }
            for cell in cells
        ],
        "todo": sum(states[cell.identity] != "done" for cell in cells),
        "tokens_todo": sum(arms[cell.arm]["tokens_per_cell"] for cell in todo),
        "training_flops_todo": sum(arms[cell.arm]["training_flops_per_cell"] for cell in todo),
        "hours_todo": None if None in seconds else makespan(seconds, here.beside(at_once, running)) / 3600,
        "memory_bytes": sum(largest[: 1 if here.chip else at_once]),
        "disk_bytes_todo": kept + at_once * saving,
    }


def _held_out(data: Data) -> int | None:
    """Bytes or images there are to validate on; None where there are as many as one likes."""
    if isinstance(data, Corpus):
        return data.valid_bytes
    return None if isinstance(data, Symbols) else len(data.valid)


def _machine(machine: Machine | None, jobs: int) -> dict[str, Any] | None:
    if machine is None:
        return None
    memory = machine.chip.memory if machine.chip else None
    return {"name": machine.name, "about": machine.about(jobs), "devices": machine.count, "memory_bytes": memory}


def _data(suite: Suite, data: Data) -> dict[str, Any]:
    """What there is to learn from."""
    about: dict[str, Any] = {"corpus": data.name, "digest": data.digest}
    if isinstance(data, Corpus):
        assert isinstance(suite.data, TextSettings)
        sizes = {"train_bytes": data.train_bytes, "valid_bytes": data.valid_bytes, "test_bytes": size_of(data.test)}
        tokenizer = {"tokenizer": suite.data.tokenizer.type, "vocabulary": data.tokenizer.vocabulary}
        return {**about, **sizes, **tokenizer, "report": dict(data.report)}
    if isinstance(data, Symbols):
        keys = data.settings.model_dump(mode="json", exclude={"corpus"})
        return {**about, "keys": keys, "tokens": data.settings.tokens, "choices": data.settings.choices}
    sides = {"train_images": len(data.train), "valid_images": len(data.valid)}
    return {
        **about,
        **sides,
        "size": data.inputs.size,
        "channels": data.inputs.channels,
        "classes": data.inputs.classes,
    }


def _arm(
    name: str, arm: Arm, suite: Suite, inputs: Inputs, cells: list[Cell], machine: Machine, held_out: int | None
) -> dict[str, Any]:
    shape = arm.model, arm.connection, inputs
    base = suite.arms[suite.baseline_of(name)]
    count, examples = cost.parameters(*shape), arm.train.steps * arm.train.batch_size
    read, written = cost.traffic(arm.model, arm.connection)
    flops = cost.forward_flops_per_token(*shape)
    memory, (kept, training) = machine.memory(arm, inputs), disk(arm, inputs)
    return {
        "arm": name,
        "baseline": suite.baseline_of(name),
        "model": arm.model.type,
        "cells": sum(cell.arm == name for cell in cells),
        "parameters": count.total,
        "active_parameters": count.active,
        "embedding_parameters": count.embedding,
        "backbone_parameters": count.backbone,
        "connection_parameters": count.connection,
        "flops_per_token": flops,
        "flops_ratio": flops / cost.forward_flops_per_token(base.model, base.connection, inputs),
        "stream_elements_per_token": round(read + written),
        "tokens_per_cell": examples * arm.model.positions(inputs),
        "training_flops_per_cell": cost.training_flops(*shape) * examples,
        "memory_bytes": {**dataclasses.asdict(memory), "total": memory.total},
        "memory_per_device_bytes": machine.totals(arm, inputs),
        "seconds_per_cell": machine.seconds(name, arm, inputs, held_out),
        "disk_bytes_per_cell": kept,
        "disk_bytes_in_training": training,
        "resized": _resized(arm),
    }


def _resized(arm: Arm) -> dict[str, Any] | None:
    """What the arm was resized to, and how near it came to what it was to cost."""
    done = arm.resize
    if not isinstance(done, Resized):
        return None
    size = {key: getattr(model, key) for model in (arm.model,) for key in ("layers", "width")}
    about = done.model_dump(mode="json", exclude={"before"}, exclude_none=True)
    return {
        **about,
        **size,
        "ffn_width": arm.model.hidden,
        "before": {"layers": done.before.layers, "width": done.before.width, "ffn_width": done.before.hidden},
        "off": done.off,
        "text": f"{done.value_text(done.reached)}, {done.off:+.2%} off {done.goal_text()}",
    }


def plan_text(plan: dict[str, Any]) -> str:
    """The plan as a person reads it."""
    widest = _widest(plan)
    cells, arms, seeds = (len(plan[part]) for part in ("cells", "arms", "seeds"))
    grid = f" = {arms} arms × {seeds} seeds" if cells == arms * seeds else f" of {arms} arms and {seeds} seeds"
    lines = [
        f"{plan['suite']}: {cells} cells{grid}; "
        f"{plan['todo']} to run, {plan['tokens_todo']:.3g} tokens, {plan['training_flops_todo']:.3g} training FLOPs",
        _data_text(plan),
        "",
        f"{'arm':<{widest}}{'parameters':>15}{'connection':>12}{'FLOPs/token':>16}{'ratio':>8}{'stream el.':>12}"
        f"{'tokens/cell':>17}{'time/cell':>11}{'done':>8}",
    ]
    for arm in plan["arms"]:
        done = sum(cell["arm"] == arm["arm"] and cell["state"] == "done" for cell in plan["cells"])
        lines.append(
            f"{arm['arm']:<{widest}}{arm['parameters']:>15,}{arm['connection_parameters']:>12,}"
            f"{arm['flops_per_token']:>16,.0f}{arm['flops_ratio']:>8.3f}"
            f"{arm['stream_elements_per_token']:>12,}{arm['tokens_per_cell']:>17,}"
            f"{_time(arm['seconds_per_cell']):>11}{done:>5}/{arm['cells']}"
        )
    lines += _resized_text(plan)
    lines += ["", *_memory_text(plan)]
    active = [f"{arm['arm']} {arm['active_parameters']:,}" for arm in plan["arms"] if _sparse(arm)]
    lines += ["", f"parameters that a token meets: {', '.join(active)}"] if active else []
    hours, machine = plan["hours_todo"], plan["machine"]
    lines += [
        "",
        f"in all: {_time(None if hours is None else 3600 * hours)} for what is to run, {plan['jobs']} at a time"
        + (f", on {machine['about']}" if machine else " (--device here measures, --device h200 estimates)")
        + f"; memory {_size(plan['memory_bytes'])}, disk {_size(plan['disk_bytes_todo'])}",
        "FLOPs: forward, per token. stream el.: elements read and written per token and sub-layer to keep the stream",
        "(unfused); time follows this column more than FLOPs. Memory: tensors of one device at the peak of a step.",
        "Time: training and validation, without start-up and scoring.",
    ]
    return "\n".join(lines)


def _resized_text(plan: dict[str, Any]) -> list[str]:
    """A line for every arm whose size was solved for."""
    lines = []
    for arm in plan["arms"]:
        if done := arm["resized"]:
            was = done["before"]
            changes = [
                f"{key} {done[key]} (was {was[key]})"
                for key in ("layers", "width", "ffn_width")
                if done[key] != was[key]
            ]
            lines.append(f"{arm['arm']} is resized: {', '.join(changes) or 'as it was'}: {done['text']}")
    return lines


def _memory_text(plan: dict[str, Any]) -> list[str]:
    """A line for every arm, and which of them a named chip does not hold."""
    parts, machine = list(plan["arms"][0]["memory_bytes"]), plan["machine"]
    several = machine is not None and machine["devices"] > 1
    heads = [*parts, *(["DDP", "FSDP"] if several else []), "disk/cell"]
    widest = _widest(plan)
    lines = [f"{'memory of a step':<{widest}}" + "".join(f"{head:>13}" for head in heads)]
    for arm in plan["arms"]:
        sizes = [arm["memory_bytes"][part] for part in parts]
        sizes += arm["memory_per_device_bytes"].values() if several else []
        sizes.append(arm["disk_bytes_per_cell"])
        lines.append(f"{arm['arm']:<{widest}}" + "".join(f"{_size(size):>13}" for size in sizes))
    held = machine["memory_bytes"] if machine else None
    if held and (over := [arm["arm"] for arm in plan["arms"] if arm["memory_bytes"]["total"] > held]):
        lines.append(f"{machine['name']} has {_size(held)}: too little for {', '.join(over)}")
    return lines


def _widest(plan: dict[str, Any]) -> int:
    return max(20, *(len(arm["arm"]) + 1 for arm in plan["arms"]))


def _sparse(arm: dict[str, Any]) -> bool:
    return bool(arm["active_parameters"] != arm["parameters"])


def _data_text(plan: dict[str, Any]) -> str:
    data = plan["data"]
    digest = f"digest {data['digest'][:12]}"
    if "train_bytes" in data:
        test = f", {data['test_bytes'] / 1e6:.2f} MB for tests" if data["test_bytes"] else ""
        kind = data["tokenizer"] + ("" if data["tokenizer"] == "bytes" else f" ({data['vocabulary']:,})")
        scored = f"; scored on {', '.join(plan['tasks'])}" if plan["tasks"] else ""
        return (
            f"data: {data['corpus']}, {data['train_bytes'] / 1e6:.1f} MB to train on, {data['valid_bytes'] / 1e6:.2f} "
            f"MB held out{test}, {kind} tokens, {digest}{scored}" + _report_text(data["report"])
        )
    if "keys" in data:
        keys = ", ".join(f"{key} {_value_text(value)}" for key, value in data["keys"].items())
        return (
            f"data: {data['corpus']}, made from the seed with {keys}; {data['tokens']:,} tokens, a guess is right once "
            f"in {data['choices']:,}, {digest}"
        )
    return (
        f"data: {data['corpus']}, {data['train_images']:,} images to train on, {data['valid_images']:,} held out, "
        f"{data['size']} pixels a side, {data['classes']} classes, {digest}"
    )


def _value_text(value: Any) -> str:
    """As one would write it in a suite file."""
    return json.dumps(value) if isinstance(value, (bool, list)) else str(value)


def _report_text(report: dict[str, Any]) -> str:
    """What was found between the sides of the corpus."""
    if not report:
        return ""
    copies, lines = report["copies_removed"], []
    if any(copies.values()):
        gone = copies["on_one_side"] + copies["on_two_sides"]
        lines.append(f"{gone:,} copies of documents removed, {copies['on_two_sides']:,} of them on another side")
    for side, name in (("valid", "held-out"), ("test", "test")):
        if found := report["overlap"].get(side):
            lines.append(
                f"{found['share']:.1%} of the {name} text's {found['words']}-grams of words are in the training text, "
                f"more than half of them in {found['documents_over_half']:,} of {found['documents']:,} documents"
            )
    return "".join(f"\n      {line}" for line in lines)


def _time(seconds: float | None) -> str:
    """Three digits in the unit that suits."""
    if seconds is None:
        return "–"
    for limit, unit, size in ((120, "s", 1), (7200, "min", 60), (172_800, "h", 3600)):
        if seconds < limit:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds / 86400:,.4g} days"


def _size(size: float) -> str:
    return f"{size / 2**20:,.1f} MiB" if abs(size) < 2**30 else f"{size / 2**30:,.2f} GiB"
