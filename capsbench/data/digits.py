"""The 28x28 source digits: full MNIST from its files, the 5,000 of them that ship in the package, or others like them.

Every split keeps the order of MNIST's files. ``train`` and ``validation`` share no digit and are together ``trainval``.

    split        full MNIST                       embedded
    train        training digits 0 to 49,999      the first 320 of each class, 3,200
    validation   training digits 50,000 on        the other 80 of each class, 800
    trainval     all 60,000 training digits       400 of each class of the training digits, 4,000
    test         all 10,000 test digits           100 of each class of the test digits, 1,000

A *source* is ``"embedded"``, a folder, or ``"auto"``: the first of `places` that has the full set, else the embedded
digits. Digits that are not MNIST's are named: one of `capsbench.data.sets.SETS`, or ``NAME=DIR`` for a folder or a file
of the user's. `capsbench.data.others` reads them.
"""

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from capsbench.contracts import CLASSES, Digits
from capsbench.data import embedded
from capsbench.data.idx import WAY_OUT, locate, read_array
from capsbench.data.naming import Source, source_of
from capsbench.data.others import load_others
from capsbench.data.places import auto_source, places
from capsbench.data.sets import SETS
from capsbench.errors import DigitsError
from capsbench.parameters import check_choice
from capsbench.results.writers import key_of_writers
from capsbench.spec import SPLITS, WRITERS, DataSpec
from capsbench.system.disk import kind_of


@dataclass(frozen=True)
class KnownDigits:
    """One of the sets of digits that exist; loading refuses all others.

    Attributes:
        origin: ``"embedded"`` or ``"mnist"``.
        split: One of `SPLITS`.
        count: How many digits it has.
        sha256: `Digits.sha256`.
        labels: SHA-256 of its labels' bytes, in file order.
    """

    origin: str
    split: str
    count: int
    sha256: str
    labels: str


# fmt: off
KNOWN = {one.sha256: one for one in (
    KnownDigits("mnist", "train", 50_000,
                "f81dd639134dd9b50ea9750b269189156d1ca498ca7de9b495e9e36ea76904b8",
                "6072d13d0c3b831e9e4dc3ba693426579504082fc45c186db0f74c0a3092638d"),
    KnownDigits("mnist", "validation", 10_000,
                "59c462c67835365a7da93b55fcc1ff0d2dfe9938697d3cca9b70d0d68ec05cc6",
                "f46875b7c22368a38a50c5c7639c3842341b81fe4d628c55fa1818e21e96ab3b"),
    KnownDigits("mnist", "trainval", 60_000,
                "edc0d1098aa497be14ace79ddd5171e5a3dcf9c4d196c015389203eb3ba1f59b",
                "1feba77c54802fa5339a11837ea4b2866434b83314ec45192930f1df69120c13"),
    KnownDigits("mnist", "test", 10_000,
                "c3f9adf9c66efb572b1f9326c3a511b45910c7173b97be66ceceeeeaef6b802b",
                "ddeff807876a9661a1110d45c266c86239a3a1b7d37da0c3716a7a683c852ff5"),
    KnownDigits("embedded", "train", 3_200,
                "3af17bdeb94fd45ee232cd1b24d17e0acda0ae7259af2d99ffe57df19473ced8",
                "616d1f45aba51ab0b7865824d2f2d3e7913da2072332182b26fdea49d14bf7e3"),
    KnownDigits("embedded", "validation", 800,
                "da1928af32c2394fd099c4782fe5886a2f20aba151a3210cb4b835416a325d22",
                "7e3539ca08310c0aafbd08d540786f9f3e0bb747282d6bc19ea542aedb826681"),
    KnownDigits("embedded", "trainval", 4_000,
                "9bb29e014dfa15ce48fa9745d9ab1a175a2db3e81b08852af395d152b4b3058e",
                "39bbc0270774c345707a1de9a38fd0744b26e43dfac434a914041a8deceddb72"),
    KnownDigits("embedded", "test", 1_000,
                "c2607999153c1b75b505480f806c0645f9d7fba021a52ca3a5835bb478c728ae",
                "dd09f7c420b0ae3b12e27577950099656961d334160a05f57159510b1011915e"),
)}
# fmt: on
"""By the SHA-256 that a spec names."""

FULL_TRAIN = 50_000
EMBEDDED_TRAIN_PER_CLASS = 320


def load_digits(split: str, source: str | Path = "auto", *, full: bool = False) -> Digits:
    """The digits of a split. The checksums of its files are compared each time.

    Args:
        split: One of `SPLITS`.
        source: ``"auto"``, ``"embedded"``, a folder, a name of `SETS`, or ``NAME=DIR``.
        full: Whether to refuse the embedded digits.

    Returns:
        Read-only arrays: images ``[n, 28, 28]`` uint8, 0 black to 255 white, and labels ``[n]`` uint8.

    Raises:
        UnknownNameError: There is no such split.
        DigitsError: The digits are missing, unreadable, not MNIST's though they have no other name, or not the full set
            though ``full`` is set.
    """
    check_choice("split", split, SPLITS)
    named = source_of(source)
    if named.other:
        return load_others(split, named)
    folder = auto_source() if named.name == "auto" else named.path
    if folder is not None:
        return _from_folder(split, folder)
    if full:
        found = "--digits embedded was given" if source == "embedded" else "they were not found"
        raise DigitsError(f"Full MNIST's {split} digits are needed, but {found}.\n{WAY_OUT}")
    return _from_package(split)


def digits_of_spec(spec: DataSpec, source: str | Path = "auto") -> Digits:
    """The digits of a spec, by their hash and by their name.

    Raises:
        DigitsError: As `digits_by_hash`.
    """
    return digits_by_hash(spec.digits, spec.split, source, name=spec.digits_name)


def digits_by_hash(sha256: str, split: str, source: str | Path = "auto", *, name: str = "") -> Digits:
    """The digits of a split with this `Digits.sha256`, by which a spec names them.

    ``"auto"`` searches every place, the embedded digits included. It skips a place that fails: the hash leaves no doubt
    about which digits are meant.

    Args:
        sha256: Of the digits.
        split: Which split they are.
        source: Where they may be, as `load_digits` takes it. A folder needs no name here.
        name: What they are called where they are not MNIST's.

    Raises:
        DigitsError: The hash is unknown, is that of another split, or the source does not have these digits.
    """
    if name:
        return _others_by_hash(sha256, split, source, name)
    if sha256 not in KNOWN:
        raise DigitsError(
            f"No known digits have the SHA-256 {sha256}:\n"
            "neither full MNIST nor the embedded digits of this version of capsbench."
        )
    known = KNOWN[sha256]
    if known.split != split:
        raise DigitsError(
            f"The {split} digits are needed, but SHA-256 {sha256} is that of {known.origin}'s {known.split} digits."
        )
    if source_of(source).other:
        raise DigitsError(f"MNIST's {split} digits are needed ({known.origin}), not those of --digits {source}.")
    if known.origin == "embedded":
        if source not in ("auto", "embedded"):
            raise DigitsError(f"The embedded {split} digits are needed, not those of {source}. Use --digits embedded.")
        return load_digits(split, "embedded")
    if source == "auto":
        for _, folder in places():
            with suppress(DigitsError):
                return _from_folder(split, folder)
    return load_digits(split, source, full=True)  # the folder that was named, or the error that explains


def _others_by_hash(sha256: str, split: str, source: str | Path, name: str) -> Digits:
    """The digits of a spec that names digits which are not MNIST's."""
    asked = source_of(source)
    if asked.path is None and asked.name != name and (asked.other or name not in SETS):
        where = "" if asked.name == "auto" else f", and --digits {asked.name} was given"
        raise DigitsError(f"Digits called {name!r} are needed{where}. Name the folder that has them with --digits DIR.")
    found = load_others(split, Source(name, asked.path))
    if found.sha256 != sha256:
        raise DigitsError(
            f"Digits {name!r} with the SHA-256 {sha256[:12]} are needed; the {split} digits of "
            f"{asked.path or name} have {found.sha256[:12]}. Name the folder that has them with --digits DIR."
        )
    return found


def name_of(sha256: str) -> str | None:
    """The origin of the digits with this `Digits.sha256`: ``"embedded"``, ``"mnist"``, or None if it is unknown."""
    return KNOWN[sha256].origin if sha256 in KNOWN else None


def origin_of(spec: DataSpec) -> str | None:
    """The name of a spec's digits: ``"embedded"``, ``"mnist"``, that of others, or None if it is unknown."""
    return spec.digits_name or name_of(spec.digits)


def sums_of(source: str | Path) -> dict[str, str]:
    """The SHA-256 of the digits to train and to test with, where they are not MNIST's; a name alone could be any.

    Where it is known who wrote those to test with, that of the writers, too: intervals depend on them.

    Raises:
        DigitsError: They are missing or damaged.
    """
    if not source_of(source).other:
        return {}
    test = load_digits("test", source)
    written = {} if test.writers is None else {WRITERS: key_of_writers(test.writers)}
    return {"trainval": load_digits("trainval", source).sha256, "test": test.sha256, **written}


def _from_file(split: str, path: Path) -> Digits:
    """MNIST from a file like Keras' ``mnist.npz``: its arrays say whether it is MNIST's."""
    found = load_others(split, Source("mnist", path))
    known = KNOWN.get(found.sha256)
    if known is None or known.origin != "mnist":
        raise DigitsError(f"{path} does not hold full MNIST. Name what it holds with --digits-as NAME.\n{WAY_OUT}")
    return found


def _from_folder(split: str, folder: Path) -> Digits:
    if kind_of(folder) == "file":
        return _from_file(split, folder)
    found = locate(folder)
    part = "t10k" if split == "test" else "train"
    images = read_array(f"{part}-images-idx3-ubyte", found)
    labels = read_array(f"{part}-labels-idx1-ubyte", found)
    cuts = {"train": slice(None, FULL_TRAIN), "validation": slice(FULL_TRAIN, None)}
    cut = cuts.get(split, slice(None))
    return Digits(images[cut], labels[cut], split, "mnist")


def _from_package(split: str) -> Digits:
    stored = embedded.read_embedded()
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
