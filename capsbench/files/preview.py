"""A picture of the first samples of a file."""

from io import BytesIO
from pathlib import Path

import numpy as np

from capsbench.contracts import IndexArray, UInt8Array
from capsbench.errors import DataError, StorageError, UsageError
from capsbench.files.datafile import DataFile
from capsbench.spec import told_digits
from capsbench.system.disk import kind_of, same_file, write_atomically

LABEL, TITLE, GAP = 0.25, 0.5, 0.03  # inches: above each sample, above all, on either side of one

ORANGE, BLUE = (230, 159, 0), (86, 180, 233)  # from Okabe and Ito; colour-blind readers can distinguish them


def preview(file: DataFile, out: Path, *, rows: int = 4, columns: int = 12) -> int:
    """Draws a file's first samples with their labels, pairs with their two digits in two colours.

    Args:
        file: The file.
        out: The PNG to write, not the file itself; its folder is made.
        rows: Rows of samples.
        columns: Samples a row; images that are k times as wide as high are in k times the rows.

    Returns:
        How many samples were drawn.

    Raises:
        UsageError: The PNG is the file itself, or its name does not end in .png.
        StorageError: The PNG cannot be written.
    """
    if same_file(out, file.path):
        raise UsageError(f"The picture would overwrite {file.path} itself. Name a PNG with --out.")
    if kind_of(out) == "folder":
        raise StorageError(f"{out} cannot be written: it is a folder. Name a PNG with --out.")
    if out.suffix.lower() != ".png":
        raise UsageError(f"The name of a picture must end in .png, got {out}.")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    number = min(rows * columns, len(file))
    height, width = file.images.shape[1:]
    inches = max(1, width // height)  # the width of a sample
    columns = max(1, columns // inches)
    rows = -(-number // columns)
    pixels, drawn = _coloured(file, np.arange(number))
    across, down = columns * inches, rows * (inches * height / width + LABEL) + TITLE
    figure = Figure(figsize=(across, down), dpi=100)
    axes = figure.add_axes((0, 0, 1, 1))  # one, for 48 take seconds; its coordinates are inches
    axes.set_axis_off()
    source = f" of {told_digits(file.spec.digits_name)}" if file.spec.digits_name else ""
    title = f"{file.spec.generator}{source}, {file.spec.split}, seed {file.spec.seed}: samples 0 to {number - 1}{drawn}"
    axes.text(across / 2, TITLE / 2, title, fontsize="large", ha="center", va="center", parse_math=False)
    for index in range(number):
        left = index % columns * inches
        top = TITLE + LABEL + index // columns * (inches * height / width + LABEL)
        label = np.atleast_1d(file.labels[index])
        extent = (left + GAP, left + inches - GAP, top + (inches - 2 * GAP) * height / width, top)
        axes.imshow(pixels[index], interpolation="nearest", extent=extent, aspect="auto")
        axes.text(left + inches / 2, top - GAP, " + ".join(map(str, label)), fontsize=9, ha="center", va="bottom")
    axes.set(xlim=(0, across), ylim=(down, 0))
    picture = BytesIO()
    FigureCanvasAgg(figure).print_png(picture)  # type: ignore[no-untyped-call]
    write_atomically(out, picture.getvalue())
    return number


def _coloured(file: DataFile, indices: IndexArray) -> tuple[UInt8Array, str]:
    """``[n, H, W, 3]`` uint8, and the words about the colours for the title.

    A pixel has the brightness of the image, and the hues of its digits mixed by their shares.
    """
    images = file.images[indices]
    grey = np.repeat(images[..., None], 3, 3)
    if file.labels.ndim == 1:
        return grey, ""
    try:
        layers = file.layers(indices).astype(np.float64)  # [n, 2, H, W]
    except DataError:
        return grey, " (in grey: its digits were not found)"
    ink = layers.sum(1, keepdims=True)
    shares = np.divide(layers, ink, out=np.zeros_like(layers), where=ink > 0)
    hues = np.einsum("nkhw,kc->nhwc", shares, np.array([ORANGE, BLUE], np.float64))
    hues[(ink == 0)[:, 0]] = 255
    coloured: UInt8Array = (images[..., None] * hues / 255).astype(np.uint8)
    return coloured, " (first digit orange, second blue)"
