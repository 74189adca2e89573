"""How an arm starts, asked of the models themselves, in a process of its own: whoever gates never imports torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.connections.settings import ResidualSettings
from harness.errors import HarnessError, first_line
from harness.gate.golden import Start
from harness.run.executors import answer_of
from harness.suite.cells import Cell


def measured_starts(cells: Mapping[str, Cell], relative_to: Path) -> dict[str, Start]:
    """By arm, from one cell of each."""
    configs = {arm: cell.config for arm, cell in cells.items()}
    try:
        found: dict[str, tuple[float | None, str]] = answer_of(_work, (configs, str(relative_to)))
    except HarnessError as error:
        found = {arm: (float("inf"), str(error)) for arm in cells}
    return {arm: Start(*one) for arm, one in found.items()}


def _work(answer: Any, configs: Mapping[str, dict[str, Any]], relative_to: str) -> None:
    answer.send({arm: _start(config, Path(relative_to)) for arm, config in configs.items()})


def _start(config: dict[str, Any], relative_to: Path) -> tuple[float | None, str]:
    """(relative distance, "") or (None, why there is none to measure)."""
    from dataclasses import replace

    import torch

    from harness.data.load import inputs_of
    from harness.run.cell import load_cell_data
    from harness.run.finished import recipe_of
    from harness.training.objective import make_objective
    from harness.training.recipe import Recipe, build_model

    torch.set_num_threads(1)
    data = load_cell_data(config, relative_to)
    recipe = recipe_of(config, inputs_of(data))
    claim = recipe.connection.start()
    if claim.kind != "pre-norm":
        return None, f"it starts as another network ({claim.kind})"

    def state(one: Recipe) -> torch.Tensor:
        """Before the final norm, in float64: what rounding does is not what is asked."""
        kept: list[torch.Tensor] = []
        model = build_model(one).double().eval()
        model.connections.register_forward_hook(lambda _module, _inputs, out: kept.append(out))
        given = [tensor.double() if tensor.is_floating_point() else tensor for tensor in examples]
        with torch.no_grad():
            model(*given)
        return kept[-1]

    examples = make_objective(recipe, data).examples(torch.device("cpu"))
    try:
        mine = state(recipe)
        expected = claim.factor * state(replace(recipe, connection=ResidualSettings()))
    except Exception as error:  # of a connection from anywhere: it does not start at all
        return float("inf"), f"{type(error).__name__}: {first_line(error)}"
    return float((mine - expected).norm() / expected.norm()), ""
