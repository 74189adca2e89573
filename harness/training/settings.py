"""The training budget and recipe, without torch."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field

from harness.data.settings import Kind
from harness.settings import Settings

CHECKPOINT = "checkpoint.ckpt"
"""File in a run's folder from which it is resumed."""


class TrainSettings(Settings):
    """AdamW with linear warm-up and cosine decay. A token budget is steps · batch_size · tokens of an example."""

    steps: int = Field(ge=1)
    batch_size: int = Field(ge=1)
    """Examples (sequences, images) per step."""
    micro_batch_size: int | None = Field(default=None, ge=1)
    """Examples at a time, their gradients summed into one step; by default all. Loss and gradient are those of the
    whole batch, but for rounding, dropout, and the load-balancing loss of experts, which looks at what is together."""
    lr: float = Field(gt=0.0)
    """Peak learning rate."""
    warmup_steps: int = Field(default=0, ge=0)
    min_lr_ratio: float = Field(default=0.1, ge=0.0, le=1.0)
    """The learning rate of the last step as a share of the peak."""
    weight_decay: float = Field(default=0.1, ge=0.0)
    beta1: float = Field(default=0.9, ge=0.0, lt=1.0)
    beta2: float = Field(default=0.95, ge=0.0, lt=1.0)
    eps: float = Field(default=1e-8, gt=0.0)
    clip: float = Field(default=1.0, ge=0.0)
    """Largest gradient norm; 0 does not clip."""
    precision: Literal["fp32", "bf16"] = "fp32"
    validate_every: int = Field(default=100, ge=1)
    """Steps between validations; the last step is always validated."""
    validation_tokens: int = Field(default=16_384, ge=1)
    """Held-out tokens: windows of the context spread evenly over the held-out text; of symbols the first sequences."""
    log_every: int = Field(default=10, ge=1)
    checkpoint_every: int = Field(default=100, ge=1)
    threads: int = Field(default=1, ge=1)
    """CPU threads of a cell. Other counts sum in another order, so bit-equality holds for one count."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    kernels: Literal["auto", "plain", "fused"] = "auto"
    """How connections are computed: `auto` takes fused kernels where there are any, `plain` is PyTorch alone, `fused`
    is kernels or an error. The path that was taken is recorded with the cell."""
    compile: bool = False
    """The losses of a training step by torch.compile; where it cannot be had, eager PyTorch and a line in the log."""

    validation_images: int = Field(default=1000, ge=1)
    """Held-out images that the curve is judged on, spread evenly over the held-out side."""

    NOT_IDENTITY: ClassVar[frozenset[str]] = frozenset(
        {"log_every", "checkpoint_every", "threads", "device", "kernels", "compile"}
    )
    """Keys that a cell's identity leaves out: logging, saving, and where it runs."""

    def identity(self, kind: Kind) -> dict[str, Any]:
        """The keys that decide the numbers of a run on such data, in one canonical form."""
        unused = {"validation_tokens" if kind == "images" else "validation_images"}
        split = {"micro_batch_size": self.micro_batch_size if self.micro_batches > 1 else None}
        return {**self.model_dump(mode="json", exclude={*self.NOT_IDENTITY, *unused}), **split}

    @property
    def micro_batches(self) -> int:
        """How many of them a step has."""
        return -(-self.batch_size // (self.micro_batch_size or self.batch_size))

    @property
    def piece_sizes(self) -> tuple[int, ...]:
        """How many examples they have: the first, and the last where that has fewer."""
        size = self.micro_batch_size or self.batch_size
        rest = self.batch_size % size
        return (size, rest) if rest else (size,)

    def validates(self, step: int) -> bool:
        """Whether a validation follows the step, counted from 1."""
        return step % self.validate_every == 0 or step == self.steps

    def problem(self) -> tuple[str, str] | None:
        """(key, what is wrong) when the numbers do not fit together, else None."""
        if self.warmup_steps >= self.steps:
            return "warmup_steps", f"{self.warmup_steps} warm-up steps leave none of the {self.steps} steps"
        if self.micro_batch_size is not None and self.micro_batch_size > self.batch_size:
            return "micro_batch_size", f"{self.micro_batch_size} examples are more than the batch of {self.batch_size}"
        return None
