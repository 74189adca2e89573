"""A trained cell, ready to be asked: its model and tokenizer, from its directory alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter

from harness.connections.settings import AnyConnection
from harness.data.inputs import Inputs, TextInputs
from harness.data.settings import FileSettings, TextSettings, data_settings
from harness.data.subwords import SubwordTokenizer
from harness.data.tokenizers import ByteTokenizer, Tokenizer
from harness.errors import HarnessError, UsageError
from harness.models.network import Network
from harness.models.settings import AnyModel
from harness.run.celldir import TOKENIZER, CellDir
from harness.training.recipe import Recipe, build_model, device_of
from harness.training.settings import TrainSettings


def recipe_of(config: dict[str, Any], inputs: Inputs) -> Recipe:
    """The recipe that a cell's configuration stands for."""
    return Recipe(
        connection=TypeAdapter(AnyConnection).validate_python(config["connection"]),
        model=TypeAdapter(AnyModel).validate_python(config["model"]),
        train=TrainSettings.model_validate(config["train"]),
        inputs=inputs,
        data=data_settings(**config["data"]),
        streams=config["streams"],
    )


def load_model(config: dict[str, Any], inputs: Inputs, cell: CellDir, device: torch.device | None = None) -> Network:
    """The trained model of a cell in evaluation mode, on `device` or where the cell was to be trained."""
    recipe = recipe_of(config, inputs)
    model = build_model(recipe)
    model.load_state_dict(torch.load(cell.weights, map_location="cpu", weights_only=True))
    return model.to(device or device_of(recipe.train)).eval()


def load_tokenizer(config: dict[str, Any], cell: CellDir) -> Tokenizer:
    """The tokenizer that a cell was trained with, as it was kept. Raises HarnessError for one that is another now."""
    settings = data_settings(**config["data"])
    assert isinstance(settings, TextSettings)
    tokenizer: Tokenizer
    if settings.tokenizer.type == "bytes":
        tokenizer = ByteTokenizer()
    else:
        boundary = settings.tokenizer.boundary if isinstance(settings.tokenizer, FileSettings) else None
        tokenizer = SubwordTokenizer((cell.path / TOKENIZER).read_text(encoding="utf-8"), boundary)
    if tokenizer.digest != config["digests"]["tokenizer"]:
        raise HarnessError(f"{cell.path / TOKENIZER} is not the tokenizer that the cell was trained with")
    return tokenizer


def open_cell(path: Path) -> tuple[dict[str, Any], CellDir]:
    """(configuration, directory) of a trained cell of text. Raises UsageError for a folder that is none."""
    cell = CellDir(path)
    config = cell.trained_config()
    if not isinstance(data_settings(**config["data"]), TextSettings):
        raise UsageError(f"{path} was not trained on text: lm-eval has no questions for it")
    return config, cell


def load_text_cell(path: Path, device: torch.device | None = None) -> tuple[Network, Tokenizer, int]:
    """(model, tokenizer, context) of a trained cell of text. Raises UsageError for a folder that is none."""
    config, cell = open_cell(path)
    tokenizer = load_tokenizer(config, cell)
    model = load_model(config, TextInputs(tokenizer.vocabulary, tokenizer.boundary), cell, device)
    return model, tokenizer, int(config["model"]["context"])
