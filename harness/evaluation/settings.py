"""What is scored, without lm-eval."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from harness.data.settings import Kind
from harness.settings import Settings

TASKS_VERSION = 1
"""Part of a score's identity; raised when the tasks' data or metrics change."""

TaskName = Literal["corpus_perplexity", "cloze", "minimal_pairs"]


class EvaluationSettings(Settings):
    """Of text: tasks for lm-eval, built from the corpus's held-out documents. Of images: accuracy, or the error of a
    denoiser by noise level and samples of it."""

    tasks: tuple[TaskName, ...] = Field(default=("corpus_perplexity", "cloze", "minimal_pairs"), strict=False)
    """For text only."""
    limit: int = Field(default=100, ge=1)
    """Documents per task, at most."""
    images: int = Field(default=1000, ge=1)
    """Held-out images for a denoiser, at most."""
    samples_per_class: int = Field(default=8, ge=1, le=64)
    sampling_steps: int = Field(default=50, ge=1)
    guidance: float = Field(default=1.5, ge=0.0)
    """Classifier-free guidance of samples; 1 is none."""

    def identity(self, model: str) -> dict[str, Any]:
        """The keys that decide the scores of such a model."""
        keys = {"decoder": {"tasks", "limit"}, "vit": set()}
        drawn = {"images", "samples_per_class", "sampling_steps", "guidance"}
        return self.model_dump(mode="json", include=keys.get(model, drawn))

    def problem(self, kind: Kind) -> tuple[str, str] | None:
        """(key, what is wrong) when the values do not fit together or the data, else None."""
        if kind != "text" and self.tasks:
            return "tasks", f"tasks are for text, and the data are {kind}"
        return ("tasks", "a task is named twice") if len(set(self.tasks)) < len(self.tasks) else None
