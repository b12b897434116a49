"""How digits are put on a canvas: whole-pixel placement, and ONE affine convention with fixed-point resampling.

Convention:
    Pixel centres lie at integer coordinates, x to the right, y downwards, both in pixels. A source point p = (x, y)
    goes to ``p' = R K S (p - 13.5) + c + (dx, dy)``, c the middle of the canvas (19.5 of 40 pixels), with ``S =
    diag(scale_x, scale_y)``, ``K = [[1, shear], [0, 1]]`` (x moves by shear times y) and ``R = [[cos t, sin t],
    [-sin t, cos t]]`` (t > 0 turns counter-clockwise on the screen). Bilinear, zero outside, interpolated past the
    frame's edge (scipy.ndimage calls it ``grid-constant``).

Every float operation here is one of ``+ - * /`` and ``floor`` on float64, which IEEE 754 rounds alike on every machine,
and every operation on pixels is on integers: the bytes do not depend on a library's version or a processor.
"""

import math

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import as_strided

from capsbench.contracts import FloatArray, IndexArray, UInt8Array

DIGIT = 28
"""Height and width of a source digit."""

LARGEST_CANVAS = 128
"""Height and width of the largest canvas that a generator offers to draw digits on."""

LARGEST_TABLE = 64
"""Height and width of the largest canvas of a `ShiftTable`, whose memory it bounds.

At the largest shift, where half of the frame stays on the canvas, a canvas of 64 takes 14 kB a digit, 0.9 GB for the
60,000 of `trainval`; one of 128 would take 2.7 GB in every worker.
"""

WARP_CANVAS = 40
"""Height and width of affNIST's canvas."""

SOURCE_CENTRE = (DIGIT - 1) / 2

Squares = npt.NDArray[np.void]
"""``[k, side]``: the square that begins at pixel k of some rows of pixels; each of its rows is one item."""

Coefficients = npt.NDArray[np.int32]
"""``[n, 6]``: the inverse map in Q16, ``X = a x' + b y' + c``, ``Y = d x' + e y' + f`` in source pixels."""

CHUNK = 128  # samples at a time: the work arrays of a chunk, half a megabyte, stay in the second-level cache
WARP_CHUNK = 96  # the same for warping, which keeps six words a pixel

FLATTEST = 1 / 64
"""An inverse map of a smaller determinant may take any part of a canvas into the ink; scales end at 4: at 1/16."""


class ShiftTable:
    """Digits ready to be placed anywhere on a square canvas.

    Each digit is stored with the canvas's row stride and zeros around it, so that a placement is one offset into it
    and a whole batch of placed canvases is one fancy index through a strided view.

    Args:
        images: ``[m, 28, 28]`` uint8.
        size: Height and width of the canvas.
        shift: The largest shift either way; where it exceeds the canvas's margin, what leaves the canvas is cut.
    """

    def __init__(self, images: UInt8Array, *, size: int, shift: int) -> None:
        self._size = size
        self._cut = max(0, shift - (size - DIGIT) // 2)  # rows and columns of the inner canvas that are cut off
        self._width = size + 2 * self._cut
        margin = (self._width - DIGIT) // 2
        start = margin * self._width + margin  # where the digit's corner lies in a canvas, unshifted
        rows = np.zeros((len(images), DIGIT, self._width), np.uint8)
        rows[:, :, :DIGIT] = images
        digit = rows.reshape(len(images), -1)[:, : (DIGIT - 1) * self._width + DIGIT]
        # A canvas begins `start + shift` before its digit at most, and ends a canvas after that.
        self._lead = start + shift * (self._width + 1)
        length = self._lead + max(digit.shape[1], self._width**2 - start + shift * (self._width + 1))
        stored = np.zeros((len(images), length), np.uint8)
        stored[:, self._lead : self._lead + digit.shape[1]] = digit
        self._length = length
        self._unshifted = self._lead - start
        # Every canvas that begins anywhere in the table; one that runs from a digit into the next is never used.
        canvases = max(0, stored.size - self._width**2 + 1)
        self._windows = as_strided(stored, (canvases, self._width**2), (1, 1), writeable=False)

    def place(self, digits: IndexArray, dy: IndexArray, dx: IndexArray) -> UInt8Array:
        """``[..., size, size]`` uint8: each digit ``[...]`` with its frame's corner at (margin + dy, margin + dx)."""
        return self.canvases(self.offsets(digits, dy, dx))

    def offsets(self, digits: IndexArray, dy: IndexArray, dx: IndexArray) -> IndexArray:
        """``[...]``: where in the table each canvas begins."""
        offsets: IndexArray = digits * self._length + (self._unshifted - dy * self._width - dx)
        return offsets

    def canvases(self, offsets: IndexArray) -> UInt8Array:
        """``[..., size, size]`` uint8: the canvases that begin there."""
        flat = self._windows[np.ascontiguousarray(offsets)]  # the result lies in memory as its index does
        canvas: UInt8Array = flat.reshape(*offsets.shape, self._width, self._width)
        if self._cut:
            canvas = np.ascontiguousarray(canvas[..., self._cut : -self._cut, self._cut : -self._cut])
        return canvas


class Frames:
    """Digits that are drawn on a black canvas of any size: slower than a `ShiftTable`, with no room around a digit.

    Args:
        images: ``[m, 28, 28]`` uint8.
        size: Height and width of the canvas.
        shift: The largest shift either way; where it exceeds the canvas's margin, what leaves the canvas is cut.
    """

    def __init__(self, images: UInt8Array, *, size: int, shift: int) -> None:
        self._cut = max(0, shift - (size - DIGIT) // 2)
        self._width = size + 2 * self._cut
        self._frames = squares(np.ascontiguousarray(images).reshape(-1), DIGIT, DIGIT)

    def place(self, digits: IndexArray, dy: IndexArray, dx: IndexArray) -> UInt8Array:
        """``[n, size, size]`` uint8: each digit ``[n]`` with its frame's corner at (margin + dy, margin + dx)."""
        canvas = np.zeros((len(digits), self._width, self._width), np.uint8)
        margin = (self._width - DIGIT) // 2
        begin = (np.arange(len(digits)) * self._width + margin + dy) * self._width + margin + dx
        squares(canvas.reshape(-1), self._width, DIGIT)[begin] = self._frames[digits * DIGIT**2]
        inner = slice(self._cut, self._width - self._cut)
        return np.ascontiguousarray(canvas[:, inner, inner])


def squares(pixels: UInt8Array, stride: int, side: int) -> Squares:
    """Every square of some rows of pixels, to be read and written.

    One that would run from a row into the next, or from an image into the next, is there as well and is never used.

    Args:
        pixels: ``[k]`` uint8, contiguous: rows of ``stride`` pixels, of one image after the other.
        stride: The width of the images.
        side: The width and height of the squares.
    """
    number = max(0, pixels.size - (side - 1) * stride - side + 1)
    return np.ndarray((number, side), f"V{side}", buffer=pixels, strides=(1, stride))


def saturating_add(first: UInt8Array, second: UInt8Array, out: UInt8Array | None = None) -> UInt8Array:
    """The sum of two uint8 arrays clipped at 255; the authors' code before 2018-01-29 let it wrap around.

    Args:
        first: Any shape.
        second: The same shape.
        out: Where the sum goes, apart from both terms; a new array where it is not given.
    """
    total = np.invert(first, out=out)  # what is left up to 255
    np.minimum(total, second, out=total)
    np.add(total, first, out=total)
    return total


def sine_cosine(degrees: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Sine and cosine of angles in -360..360 degrees, within 1e-15, by a fixed polynomial."""
    quarter = np.floor(degrees / 90.0 + 0.5)
    x = (degrees - 90.0 * quarter) * (math.pi / 180.0)  # -pi/4..pi/4
    square = x * x
    sine, cosine = np.zeros_like(x), np.zeros_like(x)
    for power in range(8, -1, -1):  # Taylor's series; the first term left out is below 2**-60
        sine = sine * square + (-1.0) ** power / math.factorial(2 * power + 1)
        cosine = cosine * square + (-1.0) ** power / math.factorial(2 * power)
    sine = sine * x
    turn = quarter.astype(np.int64) & 3
    swap = (turn & 1).astype(bool)
    sine, cosine = np.where(swap, cosine, sine), np.where(swap, -sine, cosine)
    flip = np.where(turn >= 2, -1.0, 1.0)
    return sine * flip, cosine * flip


def ink_boxes(images: UInt8Array) -> IndexArray:
    """``[m, 4]``: top, left, height and width of the smallest box around the ink of each image ``[m, H, W]``.

    Ink is every pixel > 0. The box of a blank image is the whole of it.
    """
    ink: npt.NDArray[np.bool_] = np.greater(images, 0)
    sides = []
    for axis in (2, 1):  # which rows have ink, and which columns
        inked: npt.NDArray[np.bool_] = np.logical_or.reduce(ink, axis)
        first = inked.argmax(1)
        sides.append((first, inked.shape[1] - inked[:, ::-1].argmax(1) - first))
    (top, height), (left, width) = sides
    return np.stack([top, left, height, width], 1)


class InkPoints:
    """For each digit the first and the last inked pixel of each row: enough to bound its ink under any affine map.

    Args:
        images: ``[m, 28, 28]`` uint8; ink is every pixel > 0.
        size: Height and width of the canvas.
    """

    def __init__(self, images: UInt8Array, size: int = WARP_CANVAS) -> None:
        self._size = size
        ink: npt.NDArray[np.bool_] = np.greater(images, 0)
        first, last = ink.argmax(2), DIGIT - 1 - ink[:, :, ::-1].argmax(2)  # [m, 28]
        inked = np.logical_or.reduce(ink, 2)
        row = np.broadcast_to(np.arange(DIGIT), inked.shape)
        some = inked.argmax(1)[:, None]  # an inked row, to stand in for those without ink
        pick = np.where(inked, row, some)
        x = np.concatenate([np.take_along_axis(first, pick, 1), np.take_along_axis(last, pick, 1)], 1)
        y = np.concatenate([pick, pick], 1)
        blank = ~np.logical_or.reduce(inked, 1)
        self._x = np.where(blank[:, None], SOURCE_CENTRE, x) - SOURCE_CENTRE  # [m, 56]
        self._y = np.where(blank[:, None], SOURCE_CENTRE, y) - SOURCE_CENTRE

    def interval(self, digits: IndexArray, x_weight: FloatArray, y_weight: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Between which translations no ink leaves the canvas along one axis, the bilinear skirt included.

        Args:
            digits: ``[n]`` which digits.
            x_weight: ``[n]``, the row of ``R K S`` that makes this axis: its weight of x.
            y_weight: ``[n]``, its weight of y.

        Returns:
            ``[n]`` lowest and highest translation in pixels; the lowest exceeds the highest where the ink cannot fit.
        """
        along = x_weight[:, None] * self._x[digits] + y_weight[:, None] * self._y[digits]
        skirt = np.abs(x_weight) + np.abs(y_weight)
        centre = (self._size - 1) / 2
        least = along.min(1) - skirt + centre
        greatest = along.max(1) + skirt + centre
        return -1.0 - least, self._size - greatest


def affine_matrix(transform: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """The four entries ``[n]`` of ``R K S``, row by row.

    Args:
        transform: ``[n, 6]`` (rotation in degrees, shear, scale_y, scale_x, dy, dx); the last two do not matter here.
    """
    sine, cosine = sine_cosine(transform[:, 0])
    shear, scale_y, scale_x = transform[:, 1], transform[:, 2], transform[:, 3]
    return (
        cosine * scale_x,
        (cosine * shear + sine) * scale_y,
        -sine * scale_x,
        (cosine - sine * shear) * scale_y,
    )


def inverse_coefficients(transform: FloatArray, size: int = WARP_CANVAS) -> Coefficients:
    """Where in the source each canvas pixel comes from, in Q16.

    Args:
        transform: ``[n, 6]`` (rotation in degrees, shear, scale_y, scale_x, dy, dx).
        size: Height and width of the canvas.
    """
    sine, cosine = sine_cosine(transform[:, 0])
    shear, scale_y, scale_x, dy, dx = transform[:, 1:].T
    # S^-1 K^-1 R^-1, row by row
    a, b = (cosine + shear * -sine) / scale_x, (-sine + shear * -cosine) / scale_x
    d, e = sine / scale_y, cosine / scale_y
    x, y = (size - 1) / 2 + dx, (size - 1) / 2 + dy
    c, f = SOURCE_CENTRE - (a * x + b * y), SOURCE_CENTRE - (d * x + e * y)
    # Weights keep 8 of the 16 bits: half of the last kept bit makes their truncation a rounding.
    half = 0.5 / 256
    exact = np.stack([a, b, c + half, d, e, f + half], 1)
    return np.floor(exact * 65536.0 + 0.5).astype(np.int32)


class WarpTable:
    """Digits ready to be warped.

    Each digit is a table of its 2x2 neighbourhoods, four pixels in a word of 32 bits: a bilinear pixel is one look-up.
    Only the part of a canvas that the box around a digit's ink is mapped into is drawn; the rest is black.

    Args:
        images: ``[m, 28, 28]`` uint8; ink is every pixel > 0.
        size: Height and width of the canvas.
    """

    _SIDE = 32  # 28 source pixels and two of zeros on each side
    _LEAST, _MOST = -2 * 65536, 29 * 65536 + 65535  # where the zeros end, in Q16

    def __init__(self, images: UInt8Array, size: int = WARP_CANVAS) -> None:
        self._size = size
        # Pixel by pixel of the neighbourhood into the bytes of the words: of 60,000 digits they are 250 MB, all in all.
        corners = np.zeros((len(images), self._SIDE, self._SIDE, 4), np.uint8)
        for corner, (y, x) in enumerate(((0, 0), (0, 1), (1, 0), (1, 1))):
            corners[:, 2 - y : 2 - y + DIGIT, 2 - x : 2 - x + DIGIT, corner] = images
        self._words = corners.view("<u4").reshape(-1).astype(np.uint32, copy=False)
        top, left, height, width = ink_boxes(images).T
        self._centre = left + (width - 1) / 2, top + (height - 1) / 2  # x, y
        self._reach = (width + 1) / 2, (height + 1) / 2  # the bilinear skirt is a pixel wide

    def warp(self, digits: IndexArray, coefficients: Coefficients) -> UInt8Array:
        """``[n, size, size]`` uint8: each digit under its inverse map; at most 1.5 grey levels from exact bilinear."""
        size = self._size
        out = np.zeros((len(digits), size, size), np.uint8)
        (left, width), (top, height) = self._windows(digits, coefficients)
        alike = np.argsort(-(-height // 4) * (size + 1) + width)  # a chunk has one size for all its windows
        for start in range(0, len(digits), WARP_CHUNK):
            some = alike[start : start + WARP_CHUNK]
            high, wide = int(height[some].max()), int(width[some].max())
            x, y = np.minimum(left[some], size - wide), np.minimum(top[some], size - high)
            shape = out.size - (high - 1) * size - wide + 1, high, wide
            windows = as_strided(out, shape, (1, size, 1))  # every window that begins anywhere in the canvases
            windows[some * size**2 + y * size + x] = self._warp(
                digits[some], _moved(coefficients[some], x, y), high, wide
            )
        return out

    def _windows(
        self, digits: IndexArray, coefficients: Coefficients
    ) -> tuple[tuple[IndexArray, IndexArray], tuple[IndexArray, IndexArray]]:
        """The first column ``[n]`` and the width ``[n]`` of what may be inked, and the first row and the height."""
        a, b, c, d, e, f = coefficients.T / 65536
        determinant = a * e - b * d
        flat = np.abs(determinant) < FLATTEST
        divisor = np.where(flat, 1, determinant)
        x, y = self._centre[0][digits] - c, self._centre[1][digits] - f
        right, down = self._reach[0][digits], self._reach[1][digits]
        centres = (e * x - b * y) / divisor, (a * y - d * x) / divisor
        reaches = np.abs(e) * right + np.abs(b) * down, np.abs(d) * right + np.abs(a) * down

        def edges(centre: FloatArray, reach: FloatArray) -> tuple[IndexArray, IndexArray]:
            reach = np.where(flat, np.inf, reach / np.abs(divisor) + 0.01)  # more than rounding can take away
            first = np.clip(np.floor(centre - reach), 0, self._size - 1).astype(np.int64)
            past = np.clip(np.ceil(centre + reach) + 1, 1, self._size).astype(np.int64)
            return first, np.maximum(past - first, 1)

        return edges(centres[0], reaches[0]), edges(centres[1], reaches[1])

    def _warp(self, digits: IndexArray, coefficients: Coefficients, height: int, width: int) -> npt.NDArray[np.uint32]:
        """``[n, height, width]``: the upper left part of the canvas."""
        x = np.arange(width, dtype=np.int32)[None, None, :]
        y = np.arange(height, dtype=np.int32)[None, :, None]
        a, b, c, d, e, f = coefficients.T[:, :, None, None]
        source_x, source_y = a * x + (b * y + c), d * x + (e * y + f)  # [n, height, width]
        for source in (source_x, source_y):
            np.clip(source, self._LEAST, self._MOST, out=source)
        # The table of a digit is 32 x 32 words, and source pixel (0, 0) stands at its (2, 2).
        place = source_y >> 16
        place *= self._SIDE
        place += source_x >> 16
        place += (digits[:, None, None] * self._SIDE**2 + 2 * self._SIDE + 2).astype(np.int32)
        left = np.take(self._words, place)
        weight_x, weight_y = source_x.view(np.uint32), source_y.view(np.uint32)
        for weight in (weight_x, weight_y):
            weight >>= 8
            weight &= 255
        # Two lanes of 16 bits: the upper pixel row of the neighbourhood in the low one, the lower row in the high one.
        right: npt.NDArray[np.uint32] = np.right_shift(left, 8)
        left &= 0x00FF00FF
        right &= 0x00FF00FF
        rows = _between(left, right, weight_x)
        lower: npt.NDArray[np.uint32] = np.right_shift(rows, 16)
        rows &= 0xFFFF
        pixels = _between(rows, lower, weight_y)
        pixels += 32768
        pixels >>= 16
        return pixels


def _moved(coefficients: Coefficients, x: IndexArray, y: IndexArray) -> Coefficients:
    """The maps of canvases that begin at column x ``[n]`` and row y ``[n]``."""
    a, b, c, d, e, f = coefficients.astype(np.int64).T
    return np.stack([a, b, c + a * x + b * y, d, e, f + d * x + e * y], 1).astype(np.int32)


def _between(
    first: npt.NDArray[np.uint32], second: npt.NDArray[np.uint32], weight: npt.NDArray[np.uint32]
) -> npt.NDArray[np.uint32]:
    """``256 first + (second - first) weight`` in each lane, written over the first; the second is spent."""
    second -= first
    second *= weight
    first <<= 8
    first += second
    return first
