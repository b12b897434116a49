"""A model on a data set: its answers, and how often they are right."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch

from capsbench.contracts import CLASSES, IndexArray, Output, UInt8Array
from capsbench.data.loading import Samples, to_tensors
from capsbench.errors import ModelError, NotNumbersError
from capsbench.results.answers import Answers
from capsbench.statistics import Interval, digit_means, resampled_interval, share_interval, unpaired_interval

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
        ModelError: What the model returns is no `Output`, its scores are not ``[B, classes]`` numbers, or one image
            alone needs more memory than there is.
    """

    def answer(rows: IndexArray) -> Predictions:
        batch = data.batch(rows)
        assert batch.source is not None
        output = checked_output(model(to_tensors(batch, None, device).images), len(rows))
        return Predictions(output.scores.float().cpu().numpy(), batch.labels, batch.source)

    parts = _by_batch(model, answer, len(data))
    scores, labels, source = (
        np.concatenate([getattr(part, name) for part in parts]) for name in ("scores", "labels", "source")
    )
    if not np.isfinite(scores).all():
        raise NotNumbersError("The model gave scores that are not numbers.")
    return Predictions(scores, labels, source)


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
        ModelError: What the model returns or draws is not what a model must return, or one image alone needs more
            memory than there is.
    """

    def draw(rows: IndexArray) -> npt.NDArray[np.float32] | None:
        images = to_tensors(data.batch(rows), None, device).images
        output = checked_output(model(images), len(rows))
        if output.reconstruct is None:
            return None
        columns = [output.reconstruct(column) for column in torch.from_numpy(classes[rows].T.copy()).to(device)]
        if any(column.shape != images.shape for column in columns):
            raise ModelError(
                f"The model drew images of shape {list(columns[0].shape)}; {list(images.shape)} is needed."
            )
        return torch.cat(columns, 1).float().cpu().numpy()

    drawn = [part for part in _by_batch(model, draw, len(data)) if part is not None]
    return np.concatenate(drawn) if drawn else None


T = TypeVar("T")


def _by_batch(model: torch.nn.Module, compute: Callable[[IndexArray], T], count: int) -> list[T]:
    """What is computed of all samples, some at a time, in evaluation mode; fewer at a time where memory runs out."""
    was_training = model.training
    model.eval()
    done: list[T] = []
    start, size = 0, EVALUATION_BATCH
    try:
        with torch.inference_mode():
            while start < count:
                rows = np.arange(start, min(start + size, count))
                try:
                    done.append(compute(rows))
                    start += len(rows)
                    continue
                except RuntimeError as error:
                    if not is_out_of_memory(error):
                        raise
                    reason = str(error).splitlines()[0]
                # Only here is what failed let go of: an exception that is being handled holds on to its tensors.
                if len(rows) == 1:
                    raise ModelError(f"Memory runs out at a single image. Try a smaller network. ({reason})")
                size = len(rows) // 2
                release_memory()
    finally:
        model.train(was_training)
    return done


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether memory ran out: a GPU's allocator has an exception of its own, the rest is told apart by its words."""
    words = ("can't allocate memory", "CUDA error: out of memory", "CUBLAS_STATUS_ALLOC_FAILED")
    return isinstance(error, torch.OutOfMemoryError) or any(word in str(error) for word in words)


def release_memory() -> None:
    """Gives what torch keeps of a GPU's memory for later back to whoever asks next."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


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
        """As plain JSON types; with ``answers`` comes what `capsbench.report.comparison` pairs, where it is known."""
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
    interval = share_interval(correct, base)
    return Accuracy(int(correct.sum()), len(correct), interval, Answers.in_order(correct, base))


def gap(clean: Predictions, transformed: Predictions) -> dict[str, Any]:
    """Clean minus transformed accuracy, with its interval over resampled base digits, which both sets share.

    Where the transformed set shows a part of the digits only, nothing is paired.
    """
    if not np.array_equal(np.unique(clean.base), np.unique(transformed.base)):
        return unpaired_gap(clean, transformed)
    share = float(clean.correct.mean() - transformed.correct.mean())
    paired = digit_means(clean.correct, clean.base) - digit_means(transformed.correct, transformed.base)
    return {"share": share, "interval": list(resampled_interval(paired))}


def unpaired_gap(clean: Predictions, transformed: Predictions) -> dict[str, Any]:
    """Clean minus transformed accuracy of sets that show other digits, with Newcombe's interval."""
    ours, theirs = accuracy(clean), accuracy(transformed)
    interval = unpaired_interval((theirs.share, theirs.interval), (ours.share, ours.interval))
    return {"share": ours.share - theirs.share, "interval": list(interval)}
