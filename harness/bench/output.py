"""A bench as people read it: an aligned table on the terminal, the same in Markdown, and files in a folder."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.bench.arms import PEERS
from harness.compare.markdown import grid
from harness.errors import UsageError, shown
from harness.run.celldir import write_whole

HEAD = ("arm", "time × [95%]", "floor ×", "CPU time ×", "tokens/s", "saved ×", "peak ×", "GB/s", "kernels")
LEGEND = """\
time ×: of a training step, to the residual's of the same round; median over rounds with its 95% interval.
floor ×: time × if a fused form had nothing to pay but what it must move to and from memory, at the copy's bandwidth.
CPU time ×: the same of all threads' processor time, on a CPU. saved ×: bytes kept for the backward pass.
peak ×: peak memory of a step, without the libraries'. GB/s: at which the bytes of the floor were moved in the time
beyond the residual's. Definitions: docs/bench.md"""


def text(document: dict[str, Any]) -> str:
    """The tables, the machine and what the columns mean."""
    parts = [_machine(document), _table([*document["arms"], *document["peer"]])]
    if document["compiled"]:
        gain = document["arms"][0]["step_seconds"] / document["compiled"][0]["step_seconds"]
        parts.append(
            f"compiled (torch.compile of the model), beside a compiled residual, which is {gain:.2f} times as fast as "
            f"the one above was:"
        )
        parts.append(_table(document["compiled"]))
        parts.append("seconds of compiling: " + _compile_seconds(document["compiled"]))
    parts += _notes(document)
    return "\n\n".join([*parts, LEGEND])


def _table(rows: Sequence[dict[str, Any]]) -> str:
    return "\n".join(grid([HEAD, *(_line(row) for row in rows)], set(range(1, len(HEAD) - 1))))


def _line(row: dict[str, Any]) -> list[str]:
    return [
        row["arm"],
        _interval(row["time_ratio"], row["time_ratio_ci"]),
        _ratio(row["floor_ratio"]),
        _ratio(row["cpu_time_ratio"]),
        f"{row['tokens_per_second']:,.0f}",
        _ratio(row["saved_bytes_ratio"]),
        _ratio(row["peak_memory_ratio"]),
        "–" if row["achieved_bandwidth"] is None else f"{row['achieved_bandwidth'] / 1e9:.3g}",
        row["kernels"] or "–",
    ]


def _interval(ratio: float, interval: Sequence[float] | None) -> str:
    if interval is None or interval[0] == interval[1] == ratio:
        return _ratio(ratio)
    return f"{ratio:.3f} [{interval[0]:.3f}, {interval[1]:.3f}]"


def _ratio(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _machine(document: dict[str, Any]) -> str:
    shape, threads = document["shape"], document["threads"]
    size = f"d={shape['width']}, {shape['layers']} layers, {shape['batch']} × {shape['context']} tokens"
    place = document["hardware"]
    if document["device"] == "cpu":
        place += f", {threads} thread{'s' if threads > 1 else ''}"
    steps = " and ".join(str(count) for count in document["steps"])
    return (
        f"{document['preset']}: {size}, {shape['precision']}, on {place}, torch {document['machine']['torch']}\n"
        f"copy {document['copy_bandwidth'] / 1e9:.3g} GB/s, product {document['product_rate'] / 1e9:,.0f} GFLOP/s; "
        f"{document['rounds']} rounds, everybody once in each in an order drawn anew, {steps} step(s) a visit"
    )


def _compile_seconds(rows: Sequence[dict[str, Any]]) -> str:
    return ", ".join(
        f"{row['arm']}{' ' + row['kernels'] if row['kernels'] else ''} {row['compile_seconds']:.0f}" for row in rows
    )


def _notes(document: dict[str, Any]) -> list[str]:
    notes = [f"{name} could not be measured: {why}" for name, why in document["failed"].items()]
    if any(row["arm"].startswith("hyper-connections/frac") for row in document["peer"]):
        from harness.conform.peers import PEERS as ADAPTERS

        adapter, _ = PEERS["hyper-connections/frac-m4"]
        notes.append(f"hyper-connections/frac-m4 is not the paper's FC: {ADAPTERS[adapter].note}")
    return notes


def write(document: dict[str, Any], folder: Path, command: str) -> list[Path]:
    """bench.json, bench.md and, where matplotlib is installed, the picture as SVG, PNG and CSV, each replaced whole.
    Raises UsageError where they cannot be written."""
    page = f"# harness bench: {document['preset']}\n\n    {command}\n\n{text(document)}\n\n![](bench.png)\n"
    contents = {"bench.json": json.dumps(document, indent=2) + "\n", "bench.md": page}
    try:
        for name, content in contents.items():
            write_whole(folder / name, content.encode())
        return [*(folder / name for name in contents), *_write_picture(document, folder)]
    except OSError as error:
        raise unwritable(folder, error) from error


def _write_picture(document: dict[str, Any], folder: Path) -> list[Path]:
    try:  # figures are worth more than a picture, and a borrowed machine may have torch and little else
        from harness.bench.picture import draw
        from harness.report.write import write_drawing
    except ImportError as error:
        print(f"harness bench: no picture is drawn: {error}", file=sys.stderr, flush=True)
        return []
    return write_drawing(draw(document), folder, "bench")[1]


def make_folder(folder: Path) -> None:
    """Raises UsageError where files cannot be written into it, before anything is measured."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".probe.tmp"
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        raise unwritable(folder, error) from error


def unwritable(folder: Path, error: OSError) -> UsageError:
    return UsageError(f"--output: cannot write into {shown(folder)}: {error.strerror or error}")
