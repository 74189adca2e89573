"""What is scored, without lm-eval."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from harness.data.settings import Kind
from harness.settings import Settings

TASKS_VERSION = 2
"""Part of a score's identity; raised when our tasks' data or any metric of ours changes."""

OURS = ("corpus_perplexity", "cloze", "minimal_pairs")
"""Tasks that are made from the corpus's own documents."""

FAST_DOCUMENTS, OUR_DOCUMENTS = 100, 1000
"""Documents of a task in the fast tier; of one of ours, which has as many as one draws, in the full tier."""


class EvaluationSettings(Settings):
    """Of text: tasks for lm-eval, ours and its own. Of images: accuracy, or the error of a denoiser by noise level and
    samples of it."""

    tasks: tuple[str, ...] = Field(default=OURS, strict=False)
    """For text only: ours, and tasks, groups and tags of lm-eval by name."""
    tier: Literal["fast", "full"] = "fast"
    """The first 100 documents of every task, or all of them."""
    limit: int | None = Field(default=None, ge=1)
    """Documents per task, at most; instead of the tier's."""
    num_fewshot: int | None = Field(default=None, ge=0)
    """Solved examples before every question; by default what the task itself says, which for most is none. As in
    lm-eval, tasks that say 0 themselves stay at it."""
    data: str | None = None
    """A folder with the documents of lm-eval's tasks, relative to the suite file, else to the working directory; by
    default HARNESS_EVAL_DATA. What is not there comes from the hub."""
    images: int = Field(default=1000, ge=1)
    """Held-out images for a denoiser, at most."""
    samples_per_class: int = Field(default=8, ge=1, le=64)
    sampling_steps: int = Field(default=50, ge=1)
    guidance: float = Field(default=1.5, ge=0.0)
    """Classifier-free guidance of samples; 1 is none."""

    def documents(self, ours: bool) -> int | None:
        """How many a task has at most; None is all of them."""
        if self.limit is not None:
            return self.limit
        return FAST_DOCUMENTS if self.tier == "fast" else OUR_DOCUMENTS if ours else None

    def identity(self, model: str) -> dict[str, Any]:
        """The keys that decide the scores of such a model, besides what the tasks are made of."""
        if model == "decoder":
            return {
                "tasks": list(self.tasks),
                "documents": [self.documents(ours) for ours in (True, False)],
                "num_fewshot": self.num_fewshot,
            }
        drawn = {"images", "samples_per_class", "sampling_steps", "guidance"}
        return self.model_dump(mode="json", include=set() if model == "vit" else drawn)

    def problem(self, kind: Kind) -> tuple[str, str] | None:
        """(key, what is wrong) when the values do not fit together or the data, else None."""
        if kind != "text" and self.tasks:
            return "tasks", f"tasks are for text, and the data are {kind}"
        return ("tasks", "a task is named twice") if len(set(self.tasks)) < len(self.tasks) else None
