"""Whether two reconstructions take an image of overlapping digits apart: which pixel belongs to which digit.

The letters, for the two digits k of an image: ``R_k`` the reconstruction, ``M_k`` the ink of layer k (0.5 of white and
above), ``E`` the ink of the image. Reconstructions blur, so no measure here depends on how dark they are: plain
overlap of ``R_k >= 0.5`` with ``M_k`` would rate the image itself above them.
"""

from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt

from capsbench.contracts import FloatArray, UInt8Array

INK = 128  # of 255: 0.5 of white
FEW = 32  # pairs at a time, whose arrays stay in a processor's cache: twice as fast as all at once

Reconstructions = FloatArray | npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Segmentation:
    """How well images were taken apart, each from 0 to 1 but for the last.

    Attributes:
        owner: Over pixels of one digit's ink only, how often the larger ``R_k`` is its owner's; a tie counts half.
        relative_iou: With ``S_k = E where R_k >= 0.5 max(R_a, R_b)``, the mean of ``|S_k and M_k| / |S_k or M_k|``.
        shared_f1: F1 of ``S_a and S_b`` against ``M_a and M_b``, over all pixels.
        split_psnr: In dB, of the image shared out, ``C R_k / (R_a + R_b)``, against layer k; the mean over digits.
    """

    owner: float
    relative_iou: float
    shared_f1: float
    split_psnr: float

    def to_dict(self) -> dict[str, float]:
        """As plain JSON types."""
        return asdict(self)


class SegmentationTally:
    """Scores reconstructions of pairs part by part, and keeps only sums."""

    def __init__(self) -> None:
        self._pixels = np.zeros(5)  # owned, single, shared and right, shared as reconstructed, shared in truth
        self._ratios = 0.0
        self._decibels = 0.0
        self._digits = 0

    def add(
        self, reconstructions: Reconstructions, layers: UInt8Array, images: UInt8Array, found: Mask | None = None
    ) -> None:
        """Adds some pairs.

        Args:
            reconstructions: ``[n, 2, H, W]``, 0..1, of the digit in layer 0 and of that in layer 1; in place of a digit
                that was missed, what was found instead, which competes for the pixels like any other.
            layers: ``[n, 2, H, W]``, each digit alone.
            images: ``[n, H, W]``.
            found: ``[n, 2]``, whether each digit was found; one that was not scores 0. None where labels were given.

        Raises:
            ValueError: Shapes do not fit.
        """
        R = reconstructions
        if R.shape != layers.shape or R.shape[1:2] != (2,) or images.shape != R.shape[:1] + R.shape[2:]:
            raise ValueError(f"got reconstructions {R.shape}, layers {layers.shape} and images {images.shape}")
        seen = np.ones(R.shape[:2], bool) if found is None else found
        ratios, decibels = np.empty(R.shape[:2]), np.empty(R.shape[:2])
        for start in range(0, len(R), FEW):
            few = slice(start, start + FEW)
            ratios[few] = self._add_ink(R[few], layers[few], images[few], seen[few, :, None, None])
            decibels[few] = _psnr(R[few], layers[few] / 255, images[few, None] / 255, seen[few, :, None, None])
        self._ratios += float(ratios.sum())
        self._decibels += float(decibels.sum())
        self._digits += ratios.size

    def _add_ink(
        self, reconstructions: Reconstructions, layers: UInt8Array, images: UInt8Array, seen: Mask
    ) -> FloatArray:
        """Counts pixels; the intersection over union ``[n, 2]`` of each digit."""
        R = reconstructions
        M, E = layers >= INK, images[:, None] >= INK
        S = E & seen & (0.5 * R.max(1, keepdims=True) <= R)
        single = M & ~M[:, ::-1]
        larger = np.sign(R - R[:, ::-1])
        self._pixels += [
            (single * (larger + 1) / 2 * seen).sum(),
            single.sum(),
            (S.all(1) & M.all(1)).sum(),
            S.all(1).sum(),
            M.all(1).sum(),
        ]
        ratios: FloatArray = (S & M).sum((2, 3)) / np.maximum((S | M).sum((2, 3)), 1)
        return ratios

    def score(self) -> Segmentation:
        """The score of all pairs that were added.

        Raises:
            ValueError: Nothing was added.
        """
        if not self._digits:
            raise ValueError("no pair was added")
        owned, singles, right, shared, truly_shared = self._pixels
        return Segmentation(
            owner=float(owned / max(singles, 1)),
            relative_iou=self._ratios / self._digits,
            shared_f1=float(2 * right / max(shared + truly_shared, 1)),
            split_psnr=self._decibels / self._digits,
        )


def segmentation(
    reconstructions: Reconstructions, layers: UInt8Array, images: UInt8Array, found: Mask | None = None
) -> Segmentation:
    """Scores reconstructions of pairs at once; see `SegmentationTally.add`."""
    tally = SegmentationTally()
    tally.add(reconstructions, layers, images, found)
    return tally.score()


def _psnr(reconstructions: Reconstructions, layers: FloatArray, images: FloatArray, seen: Mask) -> FloatArray:
    """``[n, 2]`` dB of ``C R_k / (R_a + R_b)`` against layers; where both are black, the image is halved.

    A class that was predicted instead of a missed digit takes its share of the image, none of which is the digit's.
    """
    total = reconstructions.sum(1, keepdims=True)
    shares = np.where(total > 0, reconstructions / np.where(total > 0, total, 1), 0.5)
    error = np.square(images * shares * seen - layers).mean((2, 3))
    decibels: FloatArray = -10 * np.log10(np.maximum(error, 1e-10))  # a perfect split is at 100 dB
    return decibels
