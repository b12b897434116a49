"""Whether two reconstructions take an image of overlapping digits apart: which pixel belongs to whom.

The letters, for the two digits k of an image: ``R_k`` the reconstruction, ``M_k`` the ink of layer k (0.5 of white and
above), ``E`` the ink of the image. Reconstructions blur, so that nothing here depends on how dark they are: plain
overlap of ``R_k >= 0.5`` with ``M_k`` would rate the image itself above them.
"""

from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt

from capsbench.contracts import FloatArray, UInt8Array

INK = 128  # of 255: 0.5 of white
BATCH = 1000  # images at a time, for the memory

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


def segmentation(
    drawn: FloatArray | npt.NDArray[np.float32], layers: UInt8Array, images: UInt8Array, found: Mask | None = None
) -> Segmentation:
    """Scores reconstructions of pairs.

    Args:
        drawn: ``[N, 2, H, W]``, 0..1, of the digit in layer 0 and of that in layer 1.
        layers: ``[N, 2, H, W]``, each digit alone.
        images: ``[N, H, W]``.
        found: ``[N, 2]``, whether each digit was found; one that was not scores 0. None where labels were given.

    Raises:
        ValueError: Shapes do not fit.
    """
    if drawn.shape != layers.shape or drawn.shape[1:2] != (2,) or images.shape != drawn.shape[:1] + drawn.shape[2:]:
        raise ValueError(f"got drawn {drawn.shape}, layers {layers.shape} and images {images.shape}")
    found = np.ones(drawn.shape[:2], bool) if found is None else found
    counts = np.zeros(5)  # owned, single, shared and right, shared as drawn, shared in truth
    ratios, decibels = [], []
    for start in range(0, len(images), BATCH):
        part = slice(start, start + BATCH)
        seen = found[part, :, None, None]
        R = np.where(seen, drawn[part], 0)
        M, E = layers[part] >= INK, images[part, None] >= INK
        S = E & seen & (0.5 * R.max(1, keepdims=True) <= R)
        single = M & ~M[:, ::-1]
        larger = np.sign(R - R[:, ::-1])
        counts += [
            (single * (larger + 1) / 2 * seen).sum(),
            single.sum(),
            (S.all(1) & M.all(1)).sum(),
            S.all(1).sum(),
            M.all(1).sum(),
        ]
        ratios.append((S & M).sum((2, 3)) / np.maximum((S | M).sum((2, 3)), 1))
        decibels.append(_psnr(R, layers[part] / 255, images[part, None] / 255))
    owned, singles, right, drawn_shared, truly_shared = counts
    return Segmentation(
        owner=float(owned / max(singles, 1)),
        relative_iou=float(np.concatenate(ratios).mean()),
        shared_f1=float(2 * right / max(drawn_shared + truly_shared, 1)),
        split_psnr=float(np.concatenate(decibels).mean()),
    )


def _psnr(drawn: FloatArray, layers: FloatArray, images: FloatArray) -> FloatArray:
    """``[n, 2]`` dB of ``C R_k / (R_a + R_b)`` against layers; where nothing is drawn, the image is halved."""
    total = drawn.sum(1, keepdims=True)
    shares = np.where(total > 0, drawn / np.where(total > 0, total, 1), 0.5)
    error = np.square(images * shares - layers).mean((2, 3))
    decibels: FloatArray = -10 * np.log10(np.maximum(error, 1e-10))  # a perfect split is at 100 dB
    return decibels
