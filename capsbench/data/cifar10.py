"""CIFAR-10: 32x32 images of colours, from the Python or the binary batches, found in a folder and checked.

    split        CIFAR-10                            the made set
    train        batches 1 to 4, 40,000              400
    validation   batch 5, 10,000                     100
    trainval     all five, 50,000                    500
    test         the test batch, 10,000              100

A *source* is ``"auto"``, a folder, or ``"embedded"``: the set of `capsbench.data.cifar10_made`, which shows no objects.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from capsbench.contracts import CLASSES, Digits, UInt8Array
from capsbench.data.cifar10_made import COLOURS, SIDE, made_images
from capsbench.data.places import Place, cache_folder
from capsbench.data.plain_pickle import read_plain
from capsbench.errors import DataFileError, DigitsError
from capsbench.parameters import check_choice
from capsbench.paths import user_path
from capsbench.spec import SPLITS
from capsbench.system.disk import is_regular

ORIGIN, LIKE = "cifar10", "cifar10-like"
"""The origin of CIFAR-10's images, and of others in its layout, from a folder of the user's."""

WAY_OUT = "Fetch CIFAR-10 with `capsbench data fetch cifar10`, or name a folder that has it with --digits DIR."

PIXELS = COLOURS * SIDE * SIDE
LARGEST = 2**26  # bytes of a file; CIFAR-10's have 31 MB

MD5S = {
    "data_batch_1": "c99cafc152244af753f735de768cd75f",
    "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
    "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
    "data_batch_4": "634d18415352ddfa80567beed471001a",
    "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
    "test_batch": "40351d587109b95175f43aff81a1287e",
}
"""The Python batches, by the MD5s that torchvision has of them."""

TRAINING, TEST = tuple(MD5S)[:5], tuple(MD5S)[5:]
BATCHES = {"train": TRAINING[:4], "validation": TRAINING[4:], "trainval": TRAINING, "test": TEST}

PYTHON, BINARY = "cifar-10-batches-py", "cifar-10-batches-bin"
"""The folders that CIFAR-10's archives unpack to."""


def load_images(split: str, source: str | Path = "auto", *, full: bool = False) -> Digits:
    """The images of a split. All six files are read and compared with CIFAR-10's MD5s each time.

    Args:
        split: One of `SPLITS`.
        source: ``"auto"``, ``"embedded"`` or a folder.
        full: Whether to refuse the made set; then ``"auto"`` is the first of `places` that has CIFAR-10, else it is the
            made set.

    Returns:
        Read-only arrays: images ``[n, 3, 32, 32]`` uint8, red, green, blue, and labels ``[n]`` uint8, 0..9. The origin
        is `ORIGIN`, `LIKE` or `MADE`.

    Raises:
        UnknownNameError: There is no such split.
        DigitsError: The images are missing, or are the made set though ``full`` is set.
        DataFileError: A file is damaged or hostile.
    """
    check_choice("split", split, SPLITS)
    if source == "embedded" and full:
        raise DigitsError(f"CIFAR-10 is needed, but --digits embedded was given.\n{WAY_OUT}")
    if source == "embedded" or (source == "auto" and not full):
        return made_images(split)
    found = _auto() if source == "auto" else locate(user_path(source, "digits"))
    origin, batches = _read(found, BATCHES[split])
    images, labels = (np.concatenate(column) for column in zip(*batches, strict=True))
    for array in (images, labels):
        array.setflags(write=False)
    return Digits(images, labels, split, origin)


def places() -> list[Path]:
    """The folders that ``"auto"`` searches: the user's cache, and ``data``, where torchvision's examples put it."""
    return [cache_folder().parent / "cifar10", Path("data").absolute()]


def status() -> Place:
    """The first of `places` that has CIFAR-10, with its state; the cache, without, where none has it."""
    for folder in places():
        try:
            found = locate(folder)
        except DigitsError:
            continue
        try:
            _read(found, ())
        except DataFileError as error:
            return Place(ORIGIN, folder, "damaged", str(error).partition("\n")[0])
        return Place(ORIGIN, folder, "complete")
    folder = places()[0]
    return Place(ORIGIN, folder, "incomplete" if any(is_regular(folder / name) for name in MD5S) else "absent")


@dataclass(frozen=True)
class Batches:
    """The six files of a folder.

    Attributes:
        paths: By the names of the Python batches.
        binary: Whether they are the binary version: 3,073 bytes an image, the label first.
    """

    paths: dict[str, Path]
    binary: bool


def locate(folder: Path) -> Batches:
    """The six files of a folder, or of the folder below it that CIFAR-10's archive unpacks to.

    Raises:
        DigitsError: There is no such folder, or it lacks some of them.
    """
    missing: list[str] = []
    for place, binary in ((folder, False), (folder / PYTHON, False), (folder, True), (folder / BINARY, True)):
        paths = {name: place / (f"{name}.bin" if binary else name) for name in MD5S}
        lacking = [path.name for path in paths.values() if not is_regular(path)]
        if not lacking:
            return Batches(paths, binary)
        if len(lacking) < len(MD5S):
            missing = missing or lacking
    if not folder.is_dir():
        raise DigitsError(f"There is no folder {folder} with CIFAR-10.\n{WAY_OUT}")
    lacks = ", ".join(missing or [*MD5S])
    raise DigitsError(f"The folder {folder} lacks {lacks} of CIFAR-10 (or the same with .bin).\n{WAY_OUT}")


def _auto() -> Batches:
    for folder in places():
        try:
            return locate(folder)
        except DigitsError:
            continue
    raise DigitsError(f"CIFAR-10 is needed, but it was not found.\n{WAY_OUT}")


def _read(found: Batches, names: tuple[str, ...]) -> tuple[str, list[tuple[UInt8Array, UInt8Array]]]:
    """The origin of a folder's images, and images and labels of the named batches.

    Raises:
        DataFileError: A file cannot be read, is damaged, or is not CIFAR-10's though others are.
    """
    own, batches = [], []
    for name, path in found.paths.items():
        content = _content(path)
        if not found.binary and hashlib.md5(content, usedforsecurity=False).hexdigest() == MD5S[name]:
            own.append(name)
        if name in names:
            batches.append((_from_binary if found.binary else _from_python)(content, path))
    if own and len(own) < len(MD5S):
        other = next(name for name in MD5S if name not in own)
        raise DataFileError(
            f"{found.paths[other]} is not CIFAR-10's {other}, though {own[0]} beside it is: its MD5 should be "
            f"{MD5S[other]}. It is damaged, or another version's.\n{WAY_OUT}"
        )
    return ORIGIN if own else LIKE, batches


def read_batches(folder: Path) -> dict[str, bytes]:
    """The Python batches of CIFAR-10 in a folder, by name, each with its MD5.

    Raises:
        DigitsError: One is missing.
        DataFileError: One is damaged.
    """
    found = locate(folder)
    contents = {name: _content(path) for name, path in found.paths.items()}
    for name, content in contents.items():
        md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
        if md5 != MD5S[name]:
            raise DataFileError(f"{found.paths[name]} is not CIFAR-10's: its MD5 should be {MD5S[name]}, found {md5}.")
    return contents


def _content(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST + 1)
    except OSError as error:
        raise DataFileError(f"{path} cannot be read: {error.strerror}.\n{WAY_OUT}") from None
    if len(content) > LARGEST:
        raise DataFileError(f"{path} has more than {LARGEST:,} bytes, which no batch of CIFAR-10 has.\n{WAY_OUT}")
    return content


def _from_binary(content: bytes, path: Path) -> tuple[UInt8Array, UInt8Array]:
    if not content or len(content) % (1 + PIXELS):
        raise DataFileError(
            f"{path} should have {1 + PIXELS:,} bytes for each image, found {len(content):,} in all.\n{WAY_OUT}"
        )
    rows = np.frombuffer(content, np.uint8).reshape(-1, 1 + PIXELS)
    return _checked(rows[:, 1:], rows[:, 0], path)


def _from_python(content: bytes, path: Path) -> tuple[UInt8Array, UInt8Array]:
    found = read_plain(content, str(path))
    found = found if isinstance(found, dict) else {}
    data, labels = (found.get(key.encode(), found.get(key)) for key in ("data", "labels"))
    if not isinstance(data, np.ndarray) or data.ndim != 2 or data.shape[1] != PIXELS:
        raise DataFileError(f"{path} has no array 'data' of {PIXELS:,} bytes for each image.\n{WAY_OUT}")
    whole = isinstance(labels, list) and all(type(label) is int and 0 <= label < CLASSES for label in labels)
    if not whole:
        raise DataFileError(f"{path} has no list 'labels' of whole numbers of 0..{CLASSES - 1}.\n{WAY_OUT}")
    return _checked(data, np.array(labels, np.uint8), path)


def _checked(pixels: UInt8Array, labels: UInt8Array, path: Path) -> tuple[UInt8Array, UInt8Array]:
    """Images ``[n, 3, 32, 32]`` and their labels."""
    if not len(pixels) or len(pixels) != len(labels):
        raise DataFileError(f"{path} has {len(pixels):,} images and {len(labels):,} labels.\n{WAY_OUT}")
    if labels.max() >= CLASSES:
        raise DataFileError(f"{path} has the label {labels.max()}; CIFAR-10's are 0..{CLASSES - 1}.\n{WAY_OUT}")
    return pixels.reshape(-1, COLOURS, SIDE, SIDE), labels
