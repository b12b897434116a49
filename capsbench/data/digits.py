"""The 28x28 source digits: full MNIST from its four IDX files, or the 5,000 of them that ship in the package.

Every split keeps the order of MNIST's files. ``train`` and ``validation`` share no digit and are together ``trainval``.

    split        full MNIST                       embedded
    train        training digits 0 to 49,999      the first 320 of each class, 3,200
    validation   training digits 50,000 on        the other 80 of each class, 800
    trainval     all 60,000 training digits       400 of each class of the training digits, 4,000
    test         all 10,000 test digits           100 of each class of the test digits, 1,000

A *source* is ``"embedded"``, a folder, or ``"auto"``: the first of `places` that has the full set, else the embedded
digits.
"""

import gzip
import hashlib
import io
import math
import os
import tempfile
import zlib
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from capsbench.contracts import CLASSES, Digits, UInt8Array
from capsbench.errors import DigitsError, UnknownNameError
from capsbench.spec import SPLITS

VARIABLE = "CAPSBENCH_DIGITS"
WAY_OUT = "Fetch full MNIST with `capsbench data fetch`, or name a folder that has it with --digits DIR."


@dataclass(frozen=True)
class IdxFile:
    """One of MNIST's four files.

    Attributes:
        md5: Of the raw bytes, header included, in hexadecimal.
        shape: Of the uint8 array that it holds.
    """

    md5: str
    shape: tuple[int, ...]

    @property
    def header_size(self) -> int:
        """Bytes before the array: a magic number and one number for each axis, of four bytes each."""
        return 4 + 4 * len(self.shape)

    @property
    def size(self) -> int:
        """Bytes of the whole raw file."""
        return self.header_size + math.prod(self.shape)


FILES = {
    "train-images-idx3-ubyte": IdxFile("6bbc9ace898e44ae57da46a324031adb", (60_000, 28, 28)),
    "train-labels-idx1-ubyte": IdxFile("a25bea736e30d166cdddb491f175f624", (60_000,)),
    "t10k-images-idx3-ubyte": IdxFile("2646ac647ad5339dbf082846283269ea", (10_000, 28, 28)),
    "t10k-labels-idx1-ubyte": IdxFile("27ae3e4e09519cfbb04c329615203637", (10_000,)),
}
"""The full set. In a folder ``.idx`` may stand for ``-idx``, and a file may be .gz, and lie in raw or MNIST/raw."""

KNOWN = {
    "f81dd639134dd9b50ea9750b269189156d1ca498ca7de9b495e9e36ea76904b8": ("mnist", "train"),
    "59c462c67835365a7da93b55fcc1ff0d2dfe9938697d3cca9b70d0d68ec05cc6": ("mnist", "validation"),
    "edc0d1098aa497be14ace79ddd5171e5a3dcf9c4d196c015389203eb3ba1f59b": ("mnist", "trainval"),
    "c3f9adf9c66efb572b1f9326c3a511b45910c7173b97be66ceceeeeaef6b802b": ("mnist", "test"),
    "3af17bdeb94fd45ee232cd1b24d17e0acda0ae7259af2d99ffe57df19473ced8": ("embedded", "train"),
    "da1928af32c2394fd099c4782fe5886a2f20aba151a3210cb4b835416a325d22": ("embedded", "validation"),
    "9bb29e014dfa15ce48fa9745d9ab1a175a2db3e81b08852af395d152b4b3058e": ("embedded", "trainval"),
    "c2607999153c1b75b505480f806c0645f9d7fba021a52ca3a5835bb478c728ae": ("embedded", "test"),
}
"""`Digits.sha256` of every set that there is, with its origin and split. Nothing else passes the checks on loading."""

EMBEDDED_FILE = Path(__file__).with_name("digits.npz")
EMBEDDED_SHA256 = "5fe48b9da68d149e0d5c76d55bea0083419ffcf37160c4d53e8fd94fda707a79"
"""Of the file that tools/cut_digits.py writes."""

FULL_TRAIN = 50_000
EMBEDDED_TRAIN_PER_CLASS = 320


@dataclass(frozen=True)
class Place:
    """A place where digits may be, and what is there.

    Attributes:
        name: What the place is called.
        path: The folder, or the file of the embedded digits; None for a variable that is not set.
        state: ``"complete"``, ``"absent"``, ``"incomplete"`` (some of the four files) or ``"damaged"``.
        detail: What is wrong where the state is ``"damaged"``, else empty.
    """

    name: str
    path: Path | None
    state: str
    detail: str = ""


def load_digits(split: str, source: str | Path = "auto", *, full: bool = False) -> Digits:
    """The digits of a split; the checksums of its files are compared each time.

    Args:
        split: One of `SPLITS`.
        source: ``"auto"``, ``"embedded"`` or a folder.
        full: Refuse the embedded digits.

    Returns:
        Read-only arrays: images ``[n, 28, 28]`` uint8, 0 black to 255 white, and labels ``[n]`` uint8.

    Raises:
        UnknownNameError: There is no such split.
        DigitsError: The digits are missing, unreadable, not MNIST's, or not the full set that was asked for.
    """
    if split not in SPLITS:
        raise UnknownNameError("split", split, SPLITS)
    folder = auto_source() if source == "auto" else None if source == "embedded" else Path(source)
    if folder is not None:
        return _from_folder(split, folder)
    if full:
        found = "only the embedded digits were asked for" if source == "embedded" else "no place has them"
        raise DigitsError(f"Full MNIST's {split} digits are needed, but {found}.\n{WAY_OUT}")
    return _from_package(split)


def digits_by_hash(sha256: str, split: str, source: str | Path = "auto") -> Digits:
    """The digits of a split whose `Digits.sha256` is the one asked for, as a spec names them.

    ``"auto"`` looks through every place, the embedded digits included; a place that fails is passed over, as the hash
    leaves no doubt about which digits are meant.

    Raises:
        DigitsError: The hash names no known digits, those of another split, or digits that the source does not have.
    """
    if sha256 not in KNOWN:
        raise DigitsError(
            f"No digits are known whose SHA-256 is {sha256}:\n"
            "neither full MNIST's nor those embedded in this version of capsbench."
        )
    origin, named = KNOWN[sha256]
    if named != split:
        raise DigitsError(f"The {split} digits were asked for, but SHA-256 {sha256} names {origin}'s {named} digits.")
    if origin == "embedded":
        if source not in ("auto", "embedded"):
            raise DigitsError(f"The embedded {split} digits are needed, not those of {source}: use --digits embedded.")
        return load_digits(split, "embedded")
    if source == "auto":
        for _, folder in places():
            with suppress(DigitsError):
                return _from_folder(split, folder)
    return load_digits(split, source, full=True)  # from a folder that was named, or the error that says what is wrong


def name_of(sha256: str) -> str | None:
    """The origin of the digits with this `Digits.sha256`: ``"embedded"``, ``"mnist"``, or None where it is unknown."""
    origin, _ = KNOWN.get(sha256, (None, None))
    return origin


def auto_source() -> Path | None:
    """The folder that ``"auto"`` stands for: the first of `places` with all four files; None for the embedded digits.

    The files are not read here: a damaged set is an error when it is loaded, never a reason to take other digits.

    Raises:
        DigitsError: $CAPSBENCH_DIGITS is set and does not lead to all four files.
    """
    for name, folder in places():
        try:
            _locate(folder)
        except DigitsError as error:
            if name == f"${VARIABLE}":
                raise DigitsError(f"${VARIABLE} is set: {error}") from None
        else:
            return folder
    return None


def places() -> list[tuple[str, Path]]:
    """The names and folders of the places where ``"auto"`` looks for the full set, first come first served.

    torchvision has no cache of its own, its callers choose. Its usual places are taken to be torch's cache
    ($TORCH_HOME, else ~/.cache/torch) and ``data`` in the working folder, as torchvision's examples have it.
    """
    named = os.environ.get(VARIABLE)
    torch_home = Path(os.environ.get("TORCH_HOME") or _user_caches() / "torch")
    return [
        *([(f"${VARIABLE}", Path(named))] if named else []),
        ("cache", cache_folder()),
        ("torch's cache", torch_home / "MNIST" / "raw"),
        ("torchvision's data", Path("data", "MNIST", "raw").absolute()),
    ]


def cache_folder() -> Path:
    """Where `capsbench data fetch` puts the full set: $XDG_CACHE_HOME, else ~/.cache, and there capsbench/mnist."""
    return _user_caches() / "capsbench" / "mnist"


def status() -> list[Place]:
    """Every place with what is there, in the order of ``"auto"``; each file is read and checked."""
    unset = [] if os.environ.get(VARIABLE) else [Place(f"${VARIABLE}", None, "absent")]
    return [*unset, *(_inspect(name, folder) for name, folder in places()), _inspect_embedded()]


def read_files(folder: Path) -> dict[str, bytes]:
    """The raw bytes of the four files of a folder, by their names in `FILES`.

    Raises:
        DigitsError: One is missing, unreadable or not MNIST's.
    """
    return {name: _read(name, path) for name, path in _locate(folder).items()}


def _from_folder(split: str, folder: Path) -> Digits:
    found = _locate(folder)
    part = "t10k" if split == "test" else "train"
    images = _read_array(f"{part}-images-idx3-ubyte", found)
    labels = _read_array(f"{part}-labels-idx1-ubyte", found)
    cuts = {"train": slice(None, FULL_TRAIN), "validation": slice(FULL_TRAIN, None)}
    cut = cuts.get(split, slice(None))
    return Digits(images[cut], labels[cut], split, "mnist")


def _from_package(split: str) -> Digits:
    stored = _read_embedded()
    part = "test" if split == "test" else "train"
    images, labels = stored[f"{part}_images"], stored[f"{part}_labels"]
    if split in ("train", "validation"):
        by_class = np.argsort(labels, kind="stable").reshape(CLASSES, -1)  # [10, 400], each class in file order
        train, validation = np.split(by_class, [EMBEDDED_TRAIN_PER_CLASS], axis=1)
        chosen = np.sort(train if split == "train" else validation, axis=None)
        images, labels = images[chosen], labels[chosen]
    images.setflags(write=False)
    labels.setflags(write=False)
    return Digits(images, labels, split, "embedded")


def _read_embedded() -> dict[str, UInt8Array]:
    try:
        content = EMBEDDED_FILE.read_bytes()
    except OSError as error:
        raise DigitsError(f"{EMBEDDED_FILE} cannot be read: {error.strerror}. Install capsbench anew.") from None
    found = hashlib.sha256(content).hexdigest()
    if found != EMBEDDED_SHA256:
        raise DigitsError(
            f"{EMBEDDED_FILE} is damaged: its SHA-256 should be {EMBEDDED_SHA256}, found {found}.\n"
            "Install capsbench anew."
        )
    with np.load(io.BytesIO(content), allow_pickle=False) as stored:
        return dict(stored)


def _search(folder: Path) -> dict[str, Path]:
    """Where each of the four files lies in a folder; those that are not there are left out."""
    found = {}
    try:
        for name in FILES:
            spellings = (name, name.replace("-idx", ".idx"))
            candidates = (
                folder / layout / f"{spelling}{ending}"
                for layout in (".", "raw", "MNIST/raw")
                for ending in ("", ".gz")
                for spelling in spellings
            )
            path = next((path for path in candidates if path.is_file()), None)
            if path is not None:
                found[name] = path
    except OSError as error:
        raise DigitsError(f"The folder {folder} cannot be read: {error.strerror}.\n{WAY_OUT}") from None
    return found


def _locate(folder: Path) -> dict[str, Path]:
    """Where all four files lie; a folder that lacks one is an error."""
    found = _search(folder)
    missing = [name for name in FILES if name not in found]
    if missing:
        what = f"the folder {folder} lacks {', '.join(missing)}" if folder.is_dir() else f"there is no folder {folder}"
        raise DigitsError(f"Full MNIST was looked for, but {what}.\n{WAY_OUT}")
    return found


def _read(name: str, path: Path) -> bytes:
    """The checked raw bytes of a file; of a larger one, inflated or not, only a byte too many is read."""
    expected = FILES[name]
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            content = file.read(expected.size + 1)
    except (OSError, EOFError, zlib.error) as error:  # the last two: a .gz that is cut or damaged
        cause = getattr(error, "strerror", None) or error
        raise DigitsError(f"{path} cannot be read: {cause}.\n{WAY_OUT}") from None
    if len(content) != expected.size:
        found = "more" if len(content) > expected.size else f"{len(content):,}"
        raise DigitsError(
            f"{path} is not MNIST's {name}: it should hold {expected.size:,} bytes, found {found}.\n{WAY_OUT}"
        )
    found = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if found != expected.md5:
        raise DigitsError(f"{path} is not MNIST's {name}: its MD5 should be {expected.md5}, found {found}.\n{WAY_OUT}")
    return content


def _read_array(name: str, found: dict[str, Path]) -> UInt8Array:
    file = FILES[name]
    content = _read(name, found[name])  # whose MD5 vouches for the header
    return np.frombuffer(content, np.uint8, offset=file.header_size).reshape(file.shape)


def _inspect(name: str, folder: Path) -> Place:
    try:
        found = _search(folder)
        if len(found) < len(FILES):
            return Place(name, folder, "incomplete" if found else "absent")
        read_files(folder)
    except DigitsError as error:
        return Place(name, folder, "damaged", str(error).partition("\n")[0])
    return Place(name, folder, "complete")


def _inspect_embedded() -> Place:
    try:
        _read_embedded()
    except DigitsError as error:
        return Place("embedded", EMBEDDED_FILE, "damaged", str(error).partition("\n")[0])
    return Place("embedded", EMBEDDED_FILE, "complete")


def _user_caches() -> Path:
    named = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if named.is_absolute():  # its specification has relative ones ignored
        return named
    try:
        return Path.home() / ".cache"
    except RuntimeError:  # an account without a home, as in some containers
        return Path(tempfile.gettempdir())
