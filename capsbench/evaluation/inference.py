"""A network on a data set: its answers, its reconstructions, and its reconstructions from poses that were moved."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from capsbench.contracts import CLASSES, IndexArray, Progress, UInt8Array, checked_output, silent
from capsbench.data.loading import to_tensors
from capsbench.data.samples import Samples, Subset, writers_of
from capsbench.errors import ModelError, NotNumbersError, first_line
from capsbench.evaluation.predictions import Predictions
from capsbench.system import memory
from capsbench.system.convolutions import fast_order
from capsbench.system.ranks import ranks

CPU_BATCH, GPU_BATCH = 100, 2000
"""Images at a time. On a CPU the features of 100 stay in its cache: resnet-gap, gcnn and efficient-capsnet are up to
1.5 times as fast as at 250, capsnet is a sixth slower. A GPU idles at so few."""

STEPS = tuple(step / 20 for step in range(-5, 6))
"""By how much a dimension of a pose is moved: -0.25..0.25 by 0.05 (Sabour et al. 2017, Figure 4)."""

DIMENSIONS = 16  # of a pose that are moved at most: all of the paper's

T = TypeVar("T")


def predict(model: nn.Module, data: Samples, *, device: str = "cpu", report: Progress = silent) -> Predictions:
    """The network's answers to all samples, in evaluation mode; its mode is put back after.

    Several processes (`capsbench.system.ranks`) each do a part, in the batches of one process, and all get the whole.

    Args:
        model: The network.
        data: The samples.
        device: ``"cpu"`` or ``"cuda"``.
        report: Gets the number of samples done, and the number of all; of this process's part.

    Raises:
        ModelError: The network returns no `Output`, its scores are not ``[B, classes]`` numbers, or one image
            alone needs more memory than there is.
    """

    def answer(rows: IndexArray) -> tuple[Tensor, UInt8Array, npt.NDArray[np.int32]]:
        batch = data.batch(rows)
        assert batch.source is not None
        output = checked_output(model(to_tensors(batch, None, device).images), len(rows))
        # A copy, for scores may be a view that would keep all of the network's output in memory.
        return output.scores.to(torch.float32, copy=True), batch.labels, batch.source

    together = ranks()
    part = together.part(-(-len(data) // _size(device)))
    rows = range(part.start * _size(device), min(part.stop * _size(device), len(data)))
    own = list(_by_batch(model, answer, rows, device, report))
    # One copy waits for the device, once and not at every batch.
    answered = [torch.cat([one[0] for one in own]).cpu().numpy()] if own else []
    every = together.gathered((answered, [one[1] for one in own], [one[2] for one in own]))
    scores, labels, source = (
        np.concatenate([one for part in column for one in part]) for column in zip(*every, strict=True)
    )
    if not np.isfinite(scores).all():
        raise NotNumbersError("The model gave scores that are not numbers.")
    return Predictions(scores, labels, source, writers_of(data))


def reconstruct(
    model: nn.Module, data: Samples, classes: IndexArray, *, device: str = "cpu"
) -> npt.NDArray[np.float32] | None:
    """A network's reconstructions of each image from given classes, in evaluation mode; None if it has none.

    Args:
        model: The network; its mode is put back after.
        data: The samples.
        classes: ``[N, k]``, from which classes each image is reconstructed.
        device: ``"cpu"`` or ``"cuda"``.

    Returns:
        ``[N, k, H, W]`` float32, 0..1.

    Raises:
        ModelError: The network returns no `Output`, its reconstructions are not ``[B, 1, H, W]`` numbers, or
            one image alone needs more memory than there is.
    """

    def compute(rows: IndexArray) -> npt.NDArray[np.float32] | None:
        images = to_tensors(data.batch(rows), None, device).images
        output = checked_output(model(images), len(rows))
        if output.reconstruct is None:
            return None
        columns = [output.reconstruct(column) for column in torch.from_numpy(classes[rows].T.copy()).to(device)]
        return _checked_images(columns, images.shape)

    parts = [part for part in _by_batch(model, compute, range(len(data)), device) if part is not None]
    return np.concatenate(parts) if parts else None


def reconstruct_bytes(
    model: nn.Module, data: Samples, samples: IndexArray, classes: IndexArray, device: str
) -> UInt8Array:
    """A network's reconstructions of samples ``[n]`` from the classes ``[n]``, as they are shown: ``[n, H, W]`` uint8.

    Raises:
        ModelError: The network does not reconstruct, or as `reconstruct`.
    """
    images = reconstruct(model, Subset(data, samples), classes[:, None], device=device)
    if images is None:
        raise ModelError(
            "This suite needs reconstructions, and this network has none: its forward must return "
            "capsbench.contracts.Output(scores=..., reconstruct=...)."
        )
    return _to_bytes(images[:, 0])


def move_poses(
    model: nn.Module, data: Samples, samples: IndexArray, classes: IndexArray, device: str
) -> UInt8Array | None:
    """What a network's ``decode`` makes of some samples ``[n]``, each time one dimension of a pose moved by a step.

    Args:
        model: The network; `capsbench.contracts.Model` says what ``decode`` is.
        data: Of single digits.
        samples: Which of them.
        classes: ``[n]``, whose pose is moved, and decoded.
        device: ``"cpu"`` or ``"cuda"``.

    Returns:
        ``[n, dimensions, steps, H, W]``, the first 16 dimensions at most; None if there is no ``decode``.

    Raises:
        ModelError: Poses or images are not what ``decode`` promises.
    """
    decode: Any = getattr(model, "decode", None)
    if not callable(decode):
        return None
    with _evaluating(model, device):
        images = to_tensors(data.batch(samples), None, device).images
        poses = checked_output(model(images), len(samples)).poses
        if poses is None or poses.dim() != 3 or poses.shape[1] != CLASSES:
            found = "none" if poses is None else str(list(poses.shape))
            raise ModelError(f"The model offers decode; its poses must be [B, {CLASSES}, D], got {found}.")
        steps = torch.tensor(STEPS, device=device, dtype=poses.dtype)
        dimensions = min(DIMENSIONS, poses.shape[2])
        offsets = torch.eye(poses.shape[2], device=device, dtype=poses.dtype)[:dimensions, None] * steps[:, None]
        decoded = []
        for pose, label in zip(poses, classes.tolist(), strict=True):
            moved = pose.repeat(dimensions * len(STEPS), 1, 1)  # [dimensions * steps, classes, D]
            moved[:, label] += offsets.flatten(0, 1)
            made = decode(moved, torch.full((len(moved),), label, device=device))
            pixels = _to_bytes(_checked_images([made], (len(moved), *images.shape[1:]))[:, 0])
            decoded.append(pixels.reshape(dimensions, len(STEPS), *pixels.shape[1:]))
        return np.stack(decoded)


def _checked_images(columns: Sequence[Tensor], shape: Sequence[int]) -> npt.NDArray[np.float32]:
    """Reconstructions ``[n, 1, H, W]``, k times, as ``[n, k, H, W]``.

    Raises:
        ModelError: One is not of this shape, or has pixels that are not numbers.
    """
    for images in columns:
        if list(images.shape) != list(shape):
            raise ModelError(f"The model reconstructed images of shape {list(images.shape)}; {list(shape)} is needed.")
    pixels: npt.NDArray[np.float32] = torch.cat(list(columns), 1).float().cpu().numpy()
    if not np.isfinite(pixels).all():
        raise ModelError("The model reconstructed pixels that are not numbers.")
    return pixels


def _to_bytes(images: npt.NDArray[np.float32]) -> UInt8Array:
    """Pixels 0..1 as 0..255; what lies beyond is black or white."""
    return (255 * images.clip(0, 1)).round().astype(np.uint8)


@contextmanager
def _evaluating(model: nn.Module, device: str) -> Iterator[None]:
    """Evaluation mode, without gradients, with convolutions in their fastest order; both are put back after.

    Not in inference mode: a tensor that a network makes there and keeps, such as a grid, could not be trained with.
    """
    was_training = model.training
    model.eval()
    try:
        with fast_order(model, precision="fp32", device=device), torch.no_grad():
            yield
    finally:
        model.train(was_training)


def _size(device: str) -> int:
    """Images at a time, while memory allows it."""
    return CPU_BATCH if device == "cpu" else GPU_BATCH


def _by_batch(
    model: nn.Module, compute: Callable[[IndexArray], T], every: range, device: str, report: Progress = silent
) -> list[T]:
    """Computes something of samples, some at a time, in evaluation mode; fewer at a time if memory runs out."""
    done: list[T] = []
    start, size = every.start, _size(device)
    with _evaluating(model, device):
        while start < every.stop:
            rows = np.arange(start, min(start + size, every.stop))
            try:
                done.append(compute(rows))
                start += len(rows)
                report(start - every.start, len(every))
                continue
            except RuntimeError as error:
                if not memory.is_out_of_memory(error):
                    raise
                reason = first_line(error)
            # The tensors of the failed batch are freed only after the except block.
            if len(rows) == 1:
                raise ModelError(f"Memory runs out at a single image. Try a smaller network. ({reason})")
            size = len(rows) // 2
            memory.release()
    return done
