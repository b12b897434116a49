"""The reader of a MATLAB file of affNIST: a separate process, because scipy's reader crashes on damaged files.

The child gets the open file and another one to write to. It limits itself, reads, checks, and writes the samples as
plain bytes: all transforms, then all ids, then all images, then all labels. On stdout it writes one JSON object with
their number, or with what is wrong.
"""

import json
import resource
import sys
import warnings
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

VARIABLE = "affNISTdata"
PIXELS = 1600  # of 40x40, row by row
FACTORS = 6
CLASSES = 10
HEADER_BYTES = 128

ARCHIVES = {
    "a zip archive": b"PK",
    "a gzip file": b"\x1f\x8b",
    "a bzip2 file": b"BZh",
    "an xz file": b"\xfd7zXZ\x00",
    "a 7z archive": b"7z\xbc\xaf\x27\x1c",
}
"""What a download may be packed in, by its first bytes: affNIST's own are zip archives."""

SAMPLE_BYTES = PIXELS + 1 + 4 + 8 * FACTORS
"""Of an image, a label, an id in int32 and a transform in float64, as the child writes them."""

NO_ID = -1
"""Each sample's id in a file without ``original_id``."""

LARGEST_ID = 2**31 - 1


def main() -> None:
    """Runs the child.

    Its arguments are two handles, of the MATLAB file and of the file to write to, and its limits: bytes of memory and
    seconds of processor time. Nothing heavy is imported before the limits are set.
    """
    source, target, memory, seconds = map(int, sys.argv[1:])
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_AS, memory)
    _limit(resource.RLIMIT_CPU, seconds, grace=1)
    sys.stdout.write(answer(source, target))
    sys.stdout.flush()


def answer(source: int, target: int) -> str:
    """Reads one handle and writes to the other; returns the answer as JSON."""
    try:
        said = _converted(source, target)
    except MemoryError:
        said = {"wrong": "it needs more memory than an import may take"}
    except RefusedError as refusal:
        said = {"wrong": str(refusal)}
    except Exception as error:  # scipy's reader raises any error on damaged bytes
        said = {"wrong": f"it is damaged ({type(error).__name__}: {error})"}
    return json.dumps(said)


class RefusedError(Exception):
    """The file is readable, but its contents are not those of affNIST."""


def samples(
    variables: dict[str, Any],
) -> "tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8], npt.NDArray[np.float64], npt.NDArray[np.int32]]":
    """The contents of a file, checked.

    Args:
        variables: The variables that scipy read, by name.

    Returns:
        Images ``[N, 1600]``, labels ``[N]``, transforms ``[N, 6]`` and ids ``[N]``, in the order of the file. An id is
        at least 0, or `NO_ID` in a file without ids.

    Raises:
        RefusedError: Something is missing, or not of the type, shape or range of affNIST.
    """
    import numpy as np

    data = variables.get(VARIABLE)
    if data is None:
        raise RefusedError(f"it has no variable {VARIABLE}")
    if not isinstance(data, np.ndarray) or data.shape != (1, 1) or data.dtype.names is None:
        raise RefusedError(f"its {VARIABLE} is not a struct of 1x1")
    fields = {name: data[name][0, 0] for name in data.dtype.names}
    images = _field(fields, "image", PIXELS)
    count = images.shape[1]
    if images.dtype != np.uint8:
        raise RefusedError(f"its image must be uint8, got {images.dtype}")
    labels = _field(fields, "label_int", 1, count)[0]
    if not np.isin(labels, np.arange(CLASSES)).all():
        raise RefusedError("its label_int has other values than 0 to 9")
    if "label_one_of_n" in fields:
        ones = _field(fields, "label_one_of_n", CLASSES, count)
        if not np.array_equal(ones, np.arange(CLASSES)[:, None] == labels):
            raise RefusedError("its label_one_of_n contradicts its label_int")
    transform = _field(fields, "human_readable_transform", FACTORS, count).astype(np.float64)
    if not (np.abs(transform) <= np.finfo(np.float32).max).all():  # false for NaN, too
        raise RefusedError("its human_readable_transform has values that are not finite in float32")
    return (
        np.ascontiguousarray(images.T),
        labels.astype(np.uint8),
        np.ascontiguousarray(transform.T),
        _ids(fields, count),
    )


def _ids(fields: dict[str, Any], count: int) -> "npt.NDArray[np.int32]":
    """Which digit each sample shows, as the file says it."""
    import numpy as np

    if "original_id" not in fields:
        return np.full(count, NO_ID, np.int32)
    ids = _field(fields, "original_id", 1, count)[0]
    if not ((ids >= 0) & (ids <= LARGEST_ID) & (ids == np.floor(ids))).all():  # false for NaN, too
        raise RefusedError("its original_id has values that are not whole numbers from 0")
    whole: npt.NDArray[np.int32] = ids.astype(np.int32)
    return whole


def _field(fields: dict[str, Any], name: str, rows: int, count: int | None = None) -> "npt.NDArray[Any]":
    """A field of the struct, if it is an array of real numbers of this shape."""
    import numpy as np

    array = fields.get(name)
    if array is None:
        raise RefusedError(f"its {VARIABLE} has no field {name}")
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "uif":
        raise RefusedError(f"its {name} is not an array of real numbers")
    if array.ndim != 2 or array.shape[0] != rows or array.shape[1] < 1 or count not in (None, array.shape[1]):
        shape = "x".join(map(str, array.shape))
        raise RefusedError(f"its {name} must be {rows}x{count or 'N'}, got {shape}")
    return array


def _converted(source: int, target: int) -> dict[str, Any]:
    from scipy.io import loadmat

    warnings.simplefilter("ignore")  # only the parent reads the output
    with open(source, "rb") as file:  # a handle, not a path
        images, labels, transform, ids = samples(loadmat(file, variable_names=[VARIABLE]))
    try:
        with open(target, "wb") as out:
            for array in (transform, ids, images, labels):
                out.write(array.data)
    except OSError as error:
        return {"errno": error.errno}
    return {"samples": len(labels)}


def _limit(limit: int, most: int, grace: int = 0) -> None:
    """Sets a limit that cannot be raised again, unless the present one is lower.

    Args:
        limit: Which one, as in `resource`.
        most: The limit, in the units of `resource`.
        grace: Of seconds: how long after SIGXCPU, which says that time is up, the process is killed.
    """
    with suppress(ValueError, OSError):  # some systems refuse to limit memory
        _, hard = resource.getrlimit(limit)
        highest = most + grace if hard == resource.RLIM_INFINITY else min(most + grace, hard)
        resource.setrlimit(limit, (min(most, highest), highest))


def header_fault(start: bytes) -> str | None:
    """The fault in the beginning of a file; None if it may be of MATLAB 5.

    Args:
        start: Its first `HEADER_BYTES`, the header of MATLAB: text, version and byte order.
    """
    if start[124:128] in (b"\x00\x02IM", b"\x02\x00MI") or start.startswith(b"\x89HDF"):
        return "it is of MATLAB 7.3, which is HDF5; in MATLAB, save it with -v7"
    if start[124:128] not in (b"\x00\x01IM", b"\x01\x00MI"):
        packed = next((name for name, magic in ARCHIVES.items() if start.startswith(magic)), None)
        if packed:
            return f"it is {packed}; unpack it and import the .mat files in it"
        if start.lstrip()[:1] == b"<":
            return "it is a web page or XML; download the file itself"
        return "it is not of MATLAB 5" if start else "it is empty"
    return None
