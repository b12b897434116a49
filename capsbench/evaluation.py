"""A model on a data set: its answers, and how often they are right."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from capsbench.answers import Answers
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
    def hits(self) -> npt.NDArray[np.bool_]:
        """``[N, k]`` whether each of an image's k digits is among its k highest scores; ties go to the lower class."""
        labels = self.labels.reshape(len(self.labels), -1)
        highest = np.argsort(-self.scores, axis=1, kind="stable")[:, : labels.shape[1]]
        return np.asarray((labels[:, :, None] == highest[:, None]).any(2))

    @property
    def correct(self) -> npt.NDArray[np.bool_]:
        """``[N]`` whether all digits of an image were found: of a pair, whether its two are the two highest scores.

        That is the authors' metric; half of a pair is wrong.
        """
        return np.asarray(self.hits.all(1))

    @property
    def base(self) -> npt.NDArray[np.int32]:
        """``[N]`` the digit that an image was made for, which its variants share; of a pair, the first."""
        return self.source.reshape(len(self.source), -1)[:, 0]

    def among(self, rows: npt.NDArray[np.bool_]) -> "Predictions":
        """The answers to some of the samples, ``[N]`` bool."""
        return Predictions(self.scores[rows], self.labels[rows], self.source[rows])


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


def reconstruct(
    model: torch.nn.Module, data: Samples, classes: npt.NDArray[np.int64], *, device: str = "cpu"
) -> npt.NDArray[np.float32] | None:
    """What a model draws of each image for given classes, in evaluation mode; None if it does not reconstruct.

    Args:
        model: The network; its mode is put back after.
        data: The samples.
        classes: ``[N, k]``, what to draw of each.
        device: ``"cpu"`` or ``"cuda"``.

    Returns:
        ``[N, k, H, W]`` float32, 0..1.

    Raises:
        ModelError: What the model returns or draws is not what a model must return.
    """
    was_training = model.training
    model.eval()
    drawn = []
    try:
        with torch.inference_mode():
            for start in range(0, len(data), EVALUATION_BATCH):
                rows = np.arange(start, min(start + EVALUATION_BATCH, len(data)))
                images = to_tensors(data.batch(rows), None, device).images
                output = checked_output(model(images), len(rows))
                if output.reconstruct is None:
                    return None
                columns = [output.reconstruct(column) for column in torch.from_numpy(classes[rows].T.copy()).to(device)]
                if any(column.shape != images.shape for column in columns):
                    raise ModelError(
                        f"The model drew images of shape {list(columns[0].shape)}; {list(images.shape)} is needed."
                    )
                drawn.append(torch.cat(columns, 1).float().cpu().numpy())
    finally:
        model.train(was_training)
    return np.concatenate(drawn)


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
        answers: Which samples it was right on, where those come in the order of a data set.
    """

    correct: int
    total: int
    interval: Interval
    answers: Answers | None = field(default=None, compare=False, repr=False)

    @property
    def share(self) -> float:
        """Right answers over samples, 0..1."""
        return self.correct / self.total

    def to_dict(self, *, answers: bool = True) -> dict[str, Any]:
        """As plain JSON types; with ``answers`` comes what `capsbench.comparison` pairs, where it is known."""
        counts = {"share": self.share, "correct": self.correct, "total": self.total, "interval": list(self.interval)}
        return counts | (self.answers.to_dict() if self.answers and answers else {})


def accuracy(predictions: Predictions) -> Accuracy:
    """How often all digits of an image are named right."""
    return _accuracy(predictions.correct, predictions.base)


def pair_accuracies(predictions: Predictions) -> dict[str, Accuracy]:
    """Of pairs: how often both digits are found (``exact pair``, the paper's), each (``per digit``), at least one."""
    hits = predictions.hits
    counts = {"exact pair": hits.all(1), "at least one": hits.any(1)}
    found = {name: _accuracy(np.asarray(correct), predictions.base) for name, correct in counts.items()}
    return {**found, "per digit": _accuracy(hits.ravel(), np.repeat(predictions.base, 2))}


def _accuracy(correct: npt.NDArray[np.bool_], base: npt.NDArray[np.int32]) -> Accuracy:
    interval = resampled_interval(digit_means(correct, base))
    return Accuracy(int(correct.sum()), len(correct), interval, Answers.in_order(correct, base))


def gap(clean: Predictions, transformed: Predictions) -> dict[str, Any]:
    """Clean minus transformed accuracy, with its interval over resampled base digits, which both sets share.

    Raises:
        ValueError: The two show different digits.
    """
    if not np.array_equal(np.unique(clean.base), np.unique(transformed.base)):
        raise ValueError("The gap needs the same digits clean and transformed.")
    share = float(clean.correct.mean() - transformed.correct.mean())
    paired = digit_means(clean.correct, clean.base) - digit_means(transformed.correct, transformed.base)
    return {"share": share, "interval": list(resampled_interval(paired))}
