"""A model on a data set: its answers, and how often they are right."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from capsbench.contracts import CLASSES, Output, UInt8Array
from capsbench.errors import ModelError
from capsbench.loading import Samples, to_tensors
from capsbench.statistics import Interval, digit_means, resampled_interval

EVALUATION_BATCH = 250  # past this nothing that was tried gets faster, and memory stays small


@dataclass(frozen=True)
class Predictions:
    """A model's answers to all samples of a data set.

    Attributes:
        scores: ``[N, classes]`` float32.
        labels: ``[N]`` or ``[N, 2]`` uint8.
        source: ``[N]`` or ``[N, 2]`` int32, the digits that each sample shows.
    """

    scores: npt.NDArray[np.float32]
    labels: UInt8Array
    source: npt.NDArray[np.int32]

    @property
    def correct(self) -> npt.NDArray[np.bool_]:
        """``[N]`` whether the highest score is the label's; a tie goes to the lower class."""
        return np.asarray(self.scores.argmax(1) == self.labels)


def predict(model: torch.nn.Module, data: Samples, *, device: str = "cpu") -> Predictions:
    """The model's answers to all samples, in evaluation mode; its mode is put back after.

    Raises:
        ModelError: What the model returns is no `Output`, or its scores are not ``[B, classes]`` numbers.
    """
    was_training = model.training
    model.eval()
    scores, labels, source = [], [], []
    try:
        with torch.inference_mode():
            for start in range(0, len(data), EVALUATION_BATCH):
                batch = data.batch(np.arange(start, min(start + EVALUATION_BATCH, len(data))))
                output = checked_output(model(to_tensors(batch, None, device).images), len(batch.images))
                scores.append(output.scores.float().cpu().numpy())
                labels.append(batch.labels)
                assert batch.source is not None
                source.append(batch.source)
    finally:
        model.train(was_training)
    result = Predictions(np.concatenate(scores), np.concatenate(labels), np.concatenate(source))
    if not np.isfinite(result.scores).all():
        raise ModelError("The model gave scores that are not numbers.")
    return result


def checked_output(output: Any, images: int) -> Output:
    """What a model returned, if it is what a model must return.

    Raises:
        ModelError: It is no `Output`, or its scores are not ``[B, 10]``.
    """
    if not isinstance(output, Output):
        raise ModelError(
            f"The model's forward returned a {type(output).__name__}; "
            "it must return capsbench.contracts.Output(scores=...)."
        )
    if tuple(output.scores.shape) != (images, CLASSES):
        raise ModelError(
            f"The model gave scores of shape {list(output.scores.shape)} for {images} images; "
            f"[{images}, {CLASSES}] is needed."
        )
    return output


@dataclass(frozen=True)
class Accuracy:
    """How often a model was right.

    Attributes:
        correct: Number of right answers.
        total: Number of samples.
        interval: 95 % interval of the share, over resampled base digits.
    """

    correct: int
    total: int
    interval: Interval

    @property
    def share(self) -> float:
        """Right answers over samples, 0..1."""
        return self.correct / self.total

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON types."""
        return {"share": self.share, "correct": self.correct, "total": self.total, "interval": list(self.interval)}


def accuracy(predictions: Predictions) -> Accuracy:
    """How often single digits are named right."""
    correct = predictions.correct
    return Accuracy(int(correct.sum()), len(correct), resampled_interval(digit_means(correct, predictions.source)))


def gap(clean: Predictions, transformed: Predictions) -> dict[str, Any]:
    """Clean minus transformed accuracy, with its interval over resampled base digits, which both sets share.

    Raises:
        ValueError: The two show different digits.
    """
    if not np.array_equal(np.unique(clean.source), np.unique(transformed.source)):
        raise ValueError("The gap needs the same digits clean and transformed.")
    share = float(clean.correct.mean() - transformed.correct.mean())
    paired = digit_means(clean.correct, clean.source) - digit_means(transformed.correct, transformed.source)
    return {"share": share, "interval": list(resampled_interval(paired))}
