"""A picture of a bench: how far every arm is from its floor, in time and under the machine's roof."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from harness.report.drawing import INK, MARKERS, PALETTE, WIDE, Drawing, amount, label, style

Row = Mapping[str, Any]
Look = dict[str, Any]


def draw(document: Mapping[str, Any]) -> Drawing:
    """Of all rows but the baselines."""
    rows = [
        _plain(row, document)
        for part in ("arms", "peer", "compiled")
        for row in document[part]
        if row["arm"] != document["arms"][0]["arm"]
    ]
    known = [row for row in rows if row["achieved_flops"] is not None]
    with style():
        looks = {row["name"]: _look(number) for number, row in enumerate(rows)}
        figure = Figure(figsize=(WIDE, 1.6 + 0.24 * max(len(rows), 6)), layout="constrained")
        figure.get_layout_engine().set(w_pad=0.12)  # type: ignore[union-attr, call-arg]
        left, right = figure.subplots(1, 2, width_ratios=(1.15, 1.0))
        _distances(left, rows, looks)
        _roof(right, known, looks, document)
    return Drawing(
        name="bench",
        title=f"Time of a step beside the residual's: {document['preset']} on {document['hardware']}",
        caption=CAPTION,
        alt="Time of a training step over the residual's, with what its memory traffic alone would cost: "
        + ", ".join(f"{row['name']} {row['time_ratio']:.2f} ({_or_dash(row['floor_ratio'])})" for row in rows)
        + ".",
        figure=figure,
        rows=rows,
    )


CAPTION = (
    "Marks on the right are those of the names on the left. Left: measured time with its 95% interval, and the floor "
    "(bar), which is what the connection has to move to and from memory at the bandwidth of a copy. Right: "
    "floating-point operations of one connection over the bytes that it has to move, and how many a second were done "
    "in the time beyond the residual's; the line above a mark ends at the roof, a copy's bandwidth or a product of "
    "matrices."
)


def _look(number: int) -> Look:
    """Colour and mark of a row, the same in both halves; no two of 36 are alike."""
    turn = number // len(PALETTE)
    return {"color": PALETTE[number % len(PALETTE)], "marker": MARKERS[(number + turn) % len(MARKERS)], "ls": ""}


def _plain(row: Row, document: Mapping[str, Any]) -> dict[str, Any]:
    """What is drawn of a row."""
    low, high = row["time_ratio_ci"] or (None, None)
    twice = sum(other["arm"] == row["arm"] for other in document["arms"]) > 1
    marks = [row["kernels"]] if twice else []
    marks += ["compiled"] if row["compiled"] else []
    moved, flops, seconds = row["connection_bytes"], row["connection_flops"], row["connection_seconds"]
    return {
        "name": ", ".join([row["arm"], *marks]),
        "time_ratio": row["time_ratio"], "ci_low": low, "ci_high": high, "floor_ratio": row["floor_ratio"],
        "flops_per_byte": flops / moved if moved else None,
        "achieved_flops": flops / seconds if moved and seconds > 0 else None,
        "achieved_bandwidth": row["achieved_bandwidth"],
        "copy_bandwidth": document["copy_bandwidth"], "product_rate": document["product_rate"],
    }  # fmt: skip


def _distances(axes: Axes, rows: Sequence[Row], looks: Mapping[str, Look]) -> None:
    for place, row in enumerate(reversed(rows)):
        look, floor = looks[row["name"]], row["floor_ratio"]
        colour = look["color"]
        if floor is not None:
            axes.plot([floor, row["time_ratio"]], [place] * 2, color=colour, lw=1, alpha=0.5)
            axes.plot([floor], [place], ls="", marker="|", ms=11, mew=2, color=INK)
        if row["ci_low"] is not None:
            axes.plot([row["ci_low"], row["ci_high"]], [place] * 2, color=colour, lw=2.4, alpha=0.7)
        axes.plot([row["time_ratio"]], [place], ms=5.5, **look)
        axes.annotate(
            f"{row['time_ratio']:.2f}", (row["ci_high"] or row["time_ratio"], place), xytext=(6, 0),
            textcoords="offset points", va="center", fontsize=7,
        )  # fmt: skip
    axes.axvline(1.0, color=INK, lw=0.9)
    axes.set_yticks(range(len(rows)), [label(row["name"], most=34) for row in reversed(rows)])
    axes.set_ylim(-0.6, max(len(rows), 1) - 0.4)
    axes.grid(axis="y", visible=False)
    axes.margins(x=0.12)
    axes.set_xlabel("time of a step × residual; bar: its floor")


def _roof(axes: Axes, rows: Sequence[Row], looks: Mapping[str, Look], document: Mapping[str, Any]) -> None:
    bandwidth, product = document["copy_bandwidth"], document["product_rate"]
    ridge = product / bandwidth
    found = [row["flops_per_byte"] for row in rows]
    left, right = min([*found, ridge]) / 3, max([*found, ridge]) * 3
    axes.plot([left, ridge, right], [left * bandwidth, product, product], color=INK, lw=1.2)
    words: dict[str, Any] = {"textcoords": "offset points", "fontsize": 7}
    axes.annotate(f"copy, {bandwidth / 1e9:.3g} GB/s", (left, left * bandwidth), xytext=(14, -2), **words)
    axes.annotate(f"product, {product / 1e9:,.0f} GFLOP/s", (right, product), xytext=(0, 4), ha="right", **words)
    for row in rows:
        look, x, y = looks[row["name"]], row["flops_per_byte"], row["achieved_flops"]
        axes.plot([x, x], [y, min(x * bandwidth, product)], color=look["color"], lw=1, alpha=0.5)
        axes.plot([x], [y], ms=5.5, **look)
    axes.set(xscale="log", yscale="log", xlabel="FLOP / byte to be moved", ylabel="FLOP/s of the connection")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if axis is axes.xaxis else (1.0,)))
        axis.set_major_formatter(FuncFormatter(lambda value, _: amount(value)))
        axis.set_minor_formatter(NullFormatter())
    if not rows:
        axes.annotate(
            "no arm was slower than the residual", (0.5, 0.4), xycoords="axes fraction", ha="center", color=PALETTE[1]
        )


def _or_dash(value: float | None) -> str:
    return "no floor known" if value is None else f"floor {value:.2f}"
