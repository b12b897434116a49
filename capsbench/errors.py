"""Every error that a user can meet, with the exit code that the command line gives it.

    CapsbenchError                  1
    ├── UsageError                  2   a request that cannot be carried out
    │   ├── UnknownNameError        2   no such data set, model, suite, preset or key
    │   ├── ParameterError          2   a value of the wrong type or out of its range
    │   ├── SpecMismatchError       2   a file of another spec stands where the output should go
    │   └── SuiteError              2   a suite has a fault of its own
    ├── DataError                   3   bad or missing data
    │   ├── DigitsError             3   the source digits are missing or damaged
    │   └── DataFileError           3   a data file is damaged, hostile or not ours
    ├── StorageError                4   disk, permission, lock
    │   └── LockedError             4   another run is writing the file
    ├── CellsFailedError            5   some cells of a run failed
    └── ChecksFailedError           5   a capsule layer failed a conformance check

    One of these stops a cell; the run goes on and ends in CellsFailedError:

    ├── ModelError                  1   a model returns something invalid
    │   └── NotNumbersError         1   its scores are infinite or NaN
    └── TrainingError               1   training cannot go on

A message is one or two lines: what is wrong, what was given, what to do. Ctrl-C ends in exit code 130.
"""

import re
from collections.abc import Iterable
from difflib import get_close_matches

LONGEST = 100  # characters of a value that a message repeats

MEANINGS = {
    "validation": "val valid valset validset dev devel devset development",
    "train": "training trainset tr",
    "test": "testing testset t10k te",
    "trainval": "trainvalid trainvalidation traindev valtrain",
    "cuda": "gpu gpus nvidia cudagpu",
    "cpu": "processor host",
    "padded": "mnist translatedmnist shiftedmnist",
    "affnist": "affinemnist affmnist rotatedmnist rotmnist mnistrot",
    "affine": "affnist robustness",
    "overlap": "multimnist segmentation",
    "mnist": "padded table1",
    "smoke": "quick fast tiny debug toy",
    "small": "default normal",
    "paper": "full original large big",
    "capsnet": "caps capsule capsules capsulenet capsulenetwork",
    "bf16": "bfloat16 amp mixed half",
    "fp32": "float32 float full",
    "fused": "triton",
    "reference": "naive einsum",
    "github": "md markdown gfm",
    "latex_booktabs": "latex tex booktabs",
    "simple": "text txt plain table",
    "learning_rate": "lr stepsize",
    "batch_size": "bs minibatch",
    "epochs": "epoch nepochs numepochs",
    "iterations": "routing routings numrouting routingiterations iters r",
    "rotation": "rot angle degrees",
    "shift": "translation translate jitter",
}
"""For some of our names other words of the field, in small letters without signs; they count where our name exists."""

AMBIGUOUS = {"eval", "evaluation", "holdout", "heldout", "traintest", "fp16", "float16", "resnet"}
"""Words that resemble one of our names and mean something else, or more than one thing."""

CLOSE = 0.65  # of `get_close_matches`: resnet and capsnet have 0.62
SHORTEST = 4  # letters: shorter words resemble others that mean something else, as gpu resembles cpu


CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
"""Characters that control a terminal or turn the direction of text; not tabs and ends of lines."""

LONGEST_WORD, LONGEST_LINE = 400, 2000  # characters of a message


def escaped(text: str) -> str:
    """A text whose control characters are shown and not obeyed."""
    return CONTROL.sub(lambda found: repr(found[0])[1:-1], text)


def one_line(text: str) -> str:
    """A text whose control characters are shown and not obeyed, ends of lines and tabs too: for a cell of a table."""
    return escaped(text).replace("\n", "\\n").replace("\t", "\\t")


def plain(text: str) -> str:
    """A message for a terminal: control characters escaped, words and lines of thousands of letters cut."""
    text = re.sub(rf"(\S{{{LONGEST}}})\S{{{LONGEST_WORD - LONGEST},}}", r"\1...", escaped(text))
    return re.sub(rf"(.{{{LONGEST_LINE}}}).+", r"\1...", text)


def shown(value: object) -> str:
    """A value as a message shows it: of any type, and cut where it is long."""
    try:
        text = str(value)
    except ValueError:  # Python refuses to write a number of more than some thousand digits
        return "a number of thousands of digits"
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."


def first_line(error: BaseException) -> str:
    """An error in one line: the first line of its message, after its class if that is not ours, and of its notes."""
    try:
        lines = str(error).splitlines() or ["no message"]
    except Exception:  # of anyone's class
        lines = ["no message"]
    told = lines[0] if isinstance(error, CapsbenchError) else f"{type(error).__name__}: {lines[0]}"
    return told + "".join(f" ({note.partition(chr(10))[0]})" for note in getattr(error, "__notes__", ()))


def _letters(name: str) -> str:
    """A name in small letters without signs: ``CNN_Pool`` and ``cnn-pool`` are alike."""
    return "".join(letter for letter in name.lower() if letter.isalnum())


def meant(name: str, names: list[str]) -> str | None:
    """The known name that someone meant; None if that is not clear."""
    word = _letters(name)
    meaning = [known for known in names if _letters(known) == word]
    for one in (word, word.rstrip("0123456789")):  # gpu:0
        meaning += [known for known in names if one and one in MEANINGS.get(known, "").split()]
    if meaning:
        return meaning[0]
    if word in AMBIGUOUS or len(word) < SHORTEST:
        return None
    near = get_close_matches(name, names, n=1, cutoff=CLOSE)
    return near[0] if near else None


class CapsbenchError(Exception):
    """The root of the tree; catches everything that capsbench raises on purpose."""

    exit_code = 1

    def __str__(self) -> str:
        return plain(super().__str__())


class UsageError(CapsbenchError, ValueError):
    """A request that cannot be carried out: a wrong name, value or combination."""

    exit_code = 2


class UnknownNameError(UsageError):
    """A name that does not exist.

    Args:
        kind: What has such names, such as ``"data set"``.
        name: The name that was given.
        known: Every name that exists.
    """

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        names = sorted(known)
        near = meant(shown(name), names)
        way_out = f"Did you mean {near!r}?" if near else f"Known: {', '.join(names) or 'none'}."
        super().__init__(f"No {kind} is called {shown(name)!r}. {way_out}")
        self.kind = kind
        self.name = name
        self.known = names

    def __reduce__(self) -> tuple[type["UnknownNameError"], tuple[str, str, list[str]]]:
        return type(self), (self.kind, self.name, self.known)


class ParameterError(UsageError):
    """A value of the wrong type or outside its range."""


class SpecMismatchError(UsageError):
    """A file of another spec stands where the output should go."""


class SuiteError(UsageError):
    """A suite has a fault of its own, whatever the results are."""


class DataError(CapsbenchError):
    """Bad or missing data."""

    exit_code = 3


class DigitsError(DataError):
    """The source digits are missing or damaged."""


class DataFileError(DataError):
    """A data file is damaged, hostile or not one of ours."""


class StorageError(CapsbenchError):
    """The disk is full, a permission is missing, or another run holds the lock."""

    exit_code = 4


class LockedError(StorageError):
    """Another run is writing the file."""


class ModelError(CapsbenchError):
    """A model returns something invalid."""


class NotNumbersError(ModelError):
    """A model's scores are infinite or NaN."""


class TrainingError(CapsbenchError):
    """Training cannot go on, for instance because the loss is not a number."""


class CellsFailedError(CapsbenchError):
    """Some cells of a run failed; the others are finished and their results are kept."""

    exit_code = 5


class ChecksFailedError(CapsbenchError):
    """A capsule layer or a network failed conformance checks."""

    exit_code = 5
