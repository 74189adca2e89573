"""`--smoke`: any suite shrunk by fixed rules until it runs in a minute or two, to see that all of it works.

Numbers of a smoke run say nothing about the arms; its results are kept apart.
"""

from __future__ import annotations

from harness.data.settings import DataSettings, SymbolsSettings
from harness.models.settings import DecoderSettings
from harness.suite.schema import Arm, Suite
from harness.training.settings import TrainSettings

RULES = (
    "at most 2 seeds, 4 layers, 128 tokens of context (or the smallest multiple of it that holds a synthetic "
    "diagnostic), 8 sequences, 20 steps (2 of warm-up; arms with a shorter budget in proportion, from 2), 8 experts, "
    "a padded vocabulary of 512, 2,048 validation tokens or 120 images, 8 documents per task, 16 images and 4 sampling "
    "steps for a denoiser; a width above 128 becomes 128, or the smallest multiple of it that heads and rates of all "
    "arms allow; more layers stay where a connection needs them"
)


def smoke(suite: Suite) -> Suite:
    """The suite under `RULES`."""
    return suite.model_copy(
        update={
            "seeds": suite.seeds[:2],
            "arms": {
                name: _arm(
                    arm,
                    _layers(arm.model.layers, suite),
                    _width(arm.model.width, suite),
                    _steps(arm.train.steps, suite),
                    suite.data,
                )
                for name, arm in suite.arms.items()
            },
            "evaluation": suite.evaluation.model_copy(
                update={
                    "limit": min(suite.evaluation.limit or 8, 8),
                    "images": min(suite.evaluation.images, 16),
                    "samples_per_class": min(suite.evaluation.samples_per_class, 2),
                    "sampling_steps": min(suite.evaluation.sampling_steps, 4),
                }
            ),
        }
    )


def _arm(arm: Arm, layers: int, width: int, steps: int, data: DataSettings) -> Arm:
    train = arm.train.model_copy(
        update={
            "steps": steps,
            "warmup_steps": min(arm.train.warmup_steps, 2, steps - 1),
            "batch_size": min(arm.train.batch_size, 8),
            "micro_batch_size": None if arm.train.batch_size > 8 else arm.train.micro_batch_size,
            "validate_every": min(arm.train.validate_every, 10),
            "validation_tokens": min(arm.train.validation_tokens, 2048),
            "validation_images": min(arm.train.validation_images, 120),
            "log_every": min(arm.train.log_every, 5),
            "checkpoint_every": min(arm.train.checkpoint_every, 10),
        }
    )
    model = {**arm.model.model_dump(), "layers": layers, "width": width}
    if arm.model.width > 128:
        model["ffn_width"] = None
    if isinstance(arm.model, DecoderSettings):
        model["context"] = _context(arm.model.context, data)
        if arm.model.experts is not None:
            model["experts"] = min(arm.model.experts, 8)
            model["experts_per_token"] = min(arm.model.experts_per_token, 8)
        if arm.model.vocabulary is not None:
            model["vocabulary"] = min(arm.model.vocabulary, 512)
    return arm.model_copy(
        update={"train": TrainSettings(**train.model_dump()), "model": type(arm.model).model_validate(model)}
    )


def _context(context: int, data: DataSettings) -> int:
    for smaller in range(128, context, 128):
        if not isinstance(data, SymbolsSettings) or data.problem_in(smaller) is None:
            return smaller
    return context


def _steps(steps: int, suite: Suite) -> int:
    """Of the longest 20; arms that differ in nothing else stay different."""
    longest = max(arm.train.steps for arm in suite.arms.values())
    return steps if longest <= 20 else min(steps, max(2, round(20 * steps / longest)))


def _layers(layers: int, suite: Suite) -> int:
    """The same for all arms of one depth, so that they still share a backbone."""
    arms = [arm for arm in suite.arms.values() if arm.model.layers == layers]
    for fewer in range(min(layers, 4), layers):
        model = [arm.model.model_copy(update={"layers": fewer}) for arm in arms]
        if all(a.connection.problem(m.width, m.sublayers) is None for a, m in zip(arms, model, strict=True)):
            return fewer
    return layers


def _width(width: int, suite: Suite) -> int:
    """The same for all arms of one width, so that they still share a backbone."""
    arms = [arm for arm in suite.arms.values() if arm.model.width == width]
    for smaller in range(128, width, 128):
        if all(
            arm.model.model_copy(update={"width": smaller}).problem() is None
            and arm.connection.problem(smaller, arm.model.sublayers) is None
            for arm in arms
        ):
            return smaller
    return width
