"""Types that the packages pass to one another, and the interfaces of a generator, a model and a suite.

The words: a *digit* is a 28x28 source image; a *sample* one generated image with its labels and parameters; a *spec*
everything that determines a data set; a *pair* image shows two digits. ``n`` is a number of samples, ``k`` the number
of digits in an image (1 or 2; where it is 1 the axis is left out).
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Protocol, TypeVar, cast

import numpy as np
import numpy.typing as npt

from capsbench.errors import ModelError

if TYPE_CHECKING:
    import torch

CLASSES = 10
INK_OVERLAP = "overlap of ink (%)"  # the one of `Sampler.measures` by which the suite `overlap` sorts pairs

UInt8Array = npt.NDArray[np.uint8]
IndexArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]

Say = Callable[[str], None]
"""Called with a line about the progress of the work."""

Progress = Callable[[int, int], None]
"""Called with how much is done, and how much there is to do in all."""

ProgressBar = Callable[[str], AbstractContextManager[Progress]]
"""Opens a progress bar under a description; it is shown while its context lasts."""


def silent(*_: object) -> None:
    """Says nothing and shows no progress."""


def no_bar(description: str) -> AbstractContextManager[Progress]:
    """Shows nothing."""
    return nullcontext(silent)


@dataclass(frozen=True)
class Digits:
    """The source digits of one split.

    Attributes:
        images: ``[n, 28, 28]`` uint8, 0 black to 255 white; of suites that show other images ``[n, C, H, W]``.
        labels: ``[n]`` uint8, 0..9.
        split: One of `capsbench.spec.SPLITS`.
        origin: ``"embedded"`` or ``"mnist"`` (the full set); of other images their own name.
        writers: ``[n]`` int32, who wrote each digit, a number for each writer from 0 on; None where it is not known.
    """

    images: UInt8Array
    labels: UInt8Array
    split: str
    origin: str
    writers: npt.NDArray[np.int32] | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def class_means(self) -> FloatArray:
        """``[10, 28, 28]`` 0..1: the mean image of each class."""
        return np.stack([self.images[self.labels == label].mean(0) for label in range(CLASSES)]) / 255

    @property
    def sha256(self) -> str:
        """SHA-256 over the bytes of the images, then of the labels: what a spec names its digits by."""
        digest = hashlib.sha256(np.ascontiguousarray(self.images).data)
        digest.update(np.ascontiguousarray(self.labels).data)
        return digest.hexdigest()


Array = TypeVar("Array")


@dataclass(frozen=True, kw_only=True)
class Batch(Generic[Array]):
    """Some samples, as NumPy arrays from a generator or a file, or as torch tensors on the way into a model.

    Attributes:
        images: ``[n, H, W]`` uint8, of colours ``[n, C, H, W]``; as a tensor ``[n, C, H, W]`` float32 in 0..1, C 1 of
            grey images.
        labels: ``[n]`` or ``[n, 2]`` uint8; as a tensor int64.
        source: ``[n]`` or ``[n, 2]`` int32, the index of each digit in its split.
        shift: ``[n, 2]`` or ``[n, 2, 2]`` int8 (dy, dx), for generators that shift.
        transform: ``[n, 6]`` float32 (rotation in degrees, shear, scale_y, scale_x, dy, dx), for those that warp.
        scraps: ``[n]`` uint8, how many pieces of other digits are strewn over the image, for generators that do.
        layers: ``[n, k, H, W]``, each digit alone, of the images' dtype and range; only if requested.
    """

    images: Array
    labels: Array
    source: Array | None = None
    shift: Array | None = None
    transform: Array | None = None
    scraps: Array | None = None
    layers: Array | None = None


ArrayBatch = Batch[npt.NDArray[Any]]
TensorBatch = Batch["torch.Tensor"]


class Sampler(Protocol):
    """A generator bound to digits and a seed: sample ``i`` depends on ``i`` alone.

    Where samples are warped, it may offer ``transforms(indices [n]) -> [n, 6]`` float32: what `batch` gives as
    ``transform``, without drawing the images.
    """

    def batch(self, indices: IndexArray) -> ArrayBatch:
        """Samples ``indices`` ``[n]`` int64 without layers."""

    def layers(self, indices: IndexArray) -> UInt8Array:
        """``[n, k, H, W]`` uint8: each digit of samples ``indices`` alone."""

    def measures(self, batch: ArrayBatch) -> Mapping[str, FloatArray]:
        """Facts about each sample of a batch, ``[n]`` each, under a name with its unit."""


class Generator(Protocol):
    """A data set: a frozen dataclass whose fields are its parameters.

    ``number`` tells its random streams apart from those of others (see `capsbench.randomness.stream_number`); what
    ships takes 1 to 255. ``presets`` maps a name to fields that differ from the defaults and, under ``"variants"``,
    how many samples are drawn for each digit. One that counts ``scraps`` says so with ``extras = ("scraps",)``.
    A parameter that came after the first specs stands in ``unwritten`` with the value at which a spec leaves it out, so
    that older specs and their digests stay what they are.
    """

    version: ClassVar[int]
    number: ClassVar[int]
    presets: ClassVar[Mapping[str, Mapping[str, Any]]]

    @property
    def image_shape(self) -> tuple[int, int]:
        """Height and width in pixels."""

    @property
    def pairs(self) -> bool:
        """Whether an image shows two digits."""

    @property
    def motion(self) -> str:
        """``"shift"`` or ``"transform"``: which of the two its samples carry."""

    def sampler(self, digits: Digits, seed: int) -> Sampler:
        """Binds the parameters to source digits and a seed."""


@dataclass(frozen=True)
class Output:
    """The answer of a model to a batch.

    Attributes:
        scores: ``[B, classes]``; the larger, the likelier. Their range does not matter.
        poses: Anything else that the model's loss needs, such as capsules ``[B, classes, 16]``.
        reconstruct: ``classes [B] int64 -> [B, C, H, W]`` in 0..1, for models that can; C is 1 of grey images.
    """

    scores: "torch.Tensor"
    poses: "torch.Tensor | None" = None
    reconstruct: "Callable[[torch.Tensor], torch.Tensor] | None" = None


def as_output(answer: Any) -> Any:
    """What a model's forward returned; a tensor alone is taken for its scores."""
    import torch

    return Output(scores=answer) if isinstance(answer, torch.Tensor) else answer


def checked_output(output: Any, images: int, classes: int = CLASSES) -> Output:
    """The output of a model, if it is valid; a tensor alone is taken for its scores.

    Raises:
        ModelError: It is neither an `Output` nor a tensor, or its scores are not ``[B, classes]``.
    """
    import torch

    output = as_output(output)
    if not isinstance(output, Output):
        raise ModelError(
            f"The model's forward returned a {type(output).__name__}; it must return scores [B, {classes}], "
            "or capsbench.contracts.Output(scores=...)."
        )
    if not isinstance(output.scores, torch.Tensor):
        raise ModelError(f"The model's scores must be a tensor [B, {classes}], got a {type(output.scores).__name__}.")
    if tuple(output.scores.shape) != (images, classes):
        raise ModelError(
            f"The model gave scores of shape {list(output.scores.shape)} for {images} images; "
            f"[{images}, {classes}] is needed."
        )
    return output


class Routing(Protocol):
    """A capsule layer as a function, with B images, I input capsules of D dimensions, J output capsules of O."""

    def __call__(self, u: "torch.Tensor", weight: "torch.Tensor", iterations: int, /) -> "torch.Tensor":
        """Input capsules ``[B, I, D]``, matrices ``[I, J, O, D]`` and a number from 1 on to ``[B, J, O]``."""


class Model(Protocol):
    """A network that the bench can train and test: a `torch.nn.Module`, whose forward may return the scores alone.

    Without a loss of its own it gets a `capsbench.scoring.ScoreLoss`. A tuple ``remarks`` holds sentences that every
    table says of it.

    It is built with those of ``image_size``, ``classes``, ``pairs`` and ``channels_in`` that its constructor takes.
    ``needs_layers`` says that `loss` reads ``batch.layers``; without it, `loss` does not. A network of capsules may
    offer its `Routing` as an attribute ``routing``; `capsbench.check` then checks it, and compares the network's
    loss with the margin loss. A network that reconstructs from poses may offer ``decode(poses [B, classes, D],
    classes [B] int64) -> [B, 1, H, W]`` in 0..1; the suite ``reconstruction`` then moves its poses and shows how
    the image changes.

    ``channels_last = True`` says that the order of memory makes no difference to its code. Then its convolutions keep
    channels last where a device computes those faster, and so does what they give: ``reshape`` works there, ``view``
    may not.
    """

    def __call__(self, images: "torch.Tensor") -> "Output | torch.Tensor":
        """``[B, channels_in, H, W]`` float in 0..1 to scores ``[B, 10]``; digits have one channel."""

    def loss(self, output: Output, batch: TensorBatch) -> "torch.Tensor":
        """A scalar: the mean over the batch."""


def needs_layers(model: "torch.nn.Module") -> bool:
    """Whether a network's loss reads ``batch.layers``."""
    return bool(getattr(model, "needs_layers", False))


def loss_of(model: "torch.nn.Module", output: Output, batch: TensorBatch) -> "torch.Tensor":
    """The loss that a model states; see `Model.loss`. The type of a module does not have it.

    Raises:
        ModelError: It is not a scalar.
    """
    try:
        loss: Any = cast(Model, model).loss(output, batch)
    except Exception as error:
        hint = ""
        if isinstance(error, TypeError) and error.__traceback__ and not error.__traceback__.tb_next:  # of our call
            hint = ", a method loss(self, output, batch)"
        elif "NoneType" in str(error) and batch.layers is None:
            hint = "; it gets batch.layers where the model says needs_layers = True"
        error.add_note(f"in the model's loss{hint}")
        raise
    shape: Any = getattr(loss, "shape", None)  # the type alone would import torch
    if shape is None or tuple(shape) != ():
        found = f"a {type(loss).__name__}" if shape is None else f"shape {list(shape)}"
        raise ModelError(f"The model's loss must be a scalar tensor, the mean over the batch, got {found}.")
    return cast("torch.Tensor", loss)


class Suite(Protocol):
    """An experiment: what a cell of it does, and how its results are reported.

    ``version`` changes whenever outcomes may. ``models`` are run by default; ``image_size`` is what they are built for,
    where the suite's work does not say otherwise. ``presets`` has at least ``smoke`` and ``small``, each a
    `capsbench.bench.cells.Preset`. A suite may have more:

    - ``needs_digits = False``: it shows no digits.
    - ``load(split, source, *, full=False)``, static: the images, as `Digits`, of a suite that shows others than digits.
      Then ``full`` names the presets that need the full set, and ``sizes`` has the number of images in each split.
    - ``pairs = True``: its images show two digits. ``channels_in``: how many channels they have, by default 1.
    - ``needs_reconstruction = True``: its networks must draw.
    - ``charts(results)``: a list of `capsbench.report.figures.Figure`, charts and pictures.
    - ``work(settings)``, static: the work of a cell, a list of `capsbench.bench.cells.Work`, by which ``capsbench run``
      estimates its time.
    - ``tests(bench)`` and ``judge(bench, tests, subject)``: its networks can be measured without training here. The
      first gives a mapping of names to functions that open what is tested on, the second the metrics of a
      `capsbench.evaluation.subjects.Subject`; both get a `capsbench.bench.data.CellData`.
    """

    version: ClassVar[int]
    models: ClassVar[Sequence[str]]
    image_size: ClassVar[int | tuple[int, int]]
    presets: ClassVar[Mapping[str, Any]]

    def run(self, bench: Any) -> dict[str, Any]:
        """Measures the cell of a `capsbench.bench.bench.Bench`; the metrics, of plain JSON types."""

    def table(self, results: Sequence[Any]) -> Any:
        """A `capsbench.report.tables.Table` of results of this suite, of one preset."""
