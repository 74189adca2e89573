"""How far every cell of a suite is, from its directory alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from harness.run.layout import Layout
from harness.suite.cells import Cell


def cell_states(layout: Layout, cells: Sequence[Cell]) -> list[dict[str, Any]]:
    """One dictionary a cell: state, step of steps, last loss, attempts, seconds of the last attempt, failure."""
    states = []
    for cell in cells:
        directory = layout.cell(cell)
        seen = directory.look()
        status, result = seen.status, seen.result
        steps, last = cell.config["train"]["steps"], directory.journal.last("train")
        ended, started = status.get("ended"), status.get("started")
        states.append(
            {
                "cell": cell.name,
                "arm": cell.arm,
                "seed": cell.seed,
                "state": seen.state(cell.evaluation),
                "step": steps if result else last["step"] if last else 0,
                "steps": steps,
                "train_loss": last["values"]["train/loss"] if last else None,
                "validation_loss": result["metrics"]["validation/loss"] if result else None,
                "attempts": status["attempts"],
                "seconds": ended - started if ended and started else None,
                "failure": status.get("failure"),
                "folder": str(directory.path),
            }
        )
    return states


def status_text(suite: str, states: Sequence[dict[str, Any]]) -> str:
    counts = Counter(state["state"] for state in states)
    lines = [f"{suite}: " + ", ".join(f"{count} {state}" for state, count in counts.most_common())]
    width = max(len(state["cell"]) for state in states)
    for state in states:
        loss = f"loss {state['validation_loss']:.4f}" if state["validation_loss"] is not None else ""
        if not loss and state["train_loss"] is not None:
            loss = f"training loss {state['train_loss']:.4f}"
        tries = f"attempt {state['attempts']}" if state["attempts"] > 1 else ""
        line = f"{state['cell']:<{width}}  {state['state']:<8}{state['step']:>7}/{state['steps']}  {loss}  {tries}"
        lines.append(line.rstrip())
        if state["failure"] and state["state"] == "failed":
            lines.append(f"    {state['failure']['class']}: {state['failure']['message']}")
            lines.append(f"    log: {state['folder']}/stdout.log")
    return "\n".join(lines)
