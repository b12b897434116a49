"""A model on a data set: its answers, and how often they are right."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from capsbench.contracts import UInt8Array
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
        ValueError: The scores are not of the shape ``[B, classes]``, or not numbers.
    """
    was_training = model.training
    model.eval()
    scores, labels, source = [], [], []
    try:
        with torch.inference_mode():
            for start in range(0, len(data), EVALUATION_BATCH):
                batch = data.batch(np.arange(start, min(start + EVALUATION_BATCH, len(data))))
                output = model(to_tensors(batch, None, device).images).scores
                if output.ndim != 2 or len(output) != len(batch.images):
                    raise ValueError(
                        f"The model gave scores of shape {list(output.shape)} for {len(batch.images)} images; "
                        "[B, classes] is needed."
                    )
                scores.append(output.float().cpu().numpy())
                labels.append(batch.labels)
                assert batch.source is not None
                source.append(batch.source)
    finally:
        model.train(was_training)
    result = Predictions(np.concatenate(scores), np.concatenate(labels), np.concatenate(source))
    if not np.isfinite(result.scores).all():
        raise ValueError("The model gave scores that are not numbers.")
    return result


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
