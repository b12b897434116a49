"""Which files are the user's own: neither installed, nor Python's, nor capsbench's."""

import hashlib
import os
import stat
import sysconfig
from functools import cache
from pathlib import Path

CAPSBENCH = Path(__file__).resolve().parents[1]
# Asked for before any import is watched: sysconfig imports, and Python 3.13's fails where it is asked again meanwhile.
LIBRARY = tuple(Path(sysconfig.get_path(kind)).resolve() for kind in ("stdlib", "platstdlib"))
INSTALLED = ("site-packages", "dist-packages")  # the names of the folders that pip and Linux distributions install into
DESCRIBING = (".dist-info", ".egg-info")  # folders in which an installation says what it is; torch's import reads them
LARGE = 2**20  # bytes: the digest of a larger file is kept for as long as its size and its times stay


@cache
def _python_and_capsbench() -> tuple[Path, ...]:
    """The folders of Python's library and of capsbench; in a checkout, two of capsbench's packages are links."""
    return (*LIBRARY, CAPSBENCH, *((CAPSBENCH / name).resolve() for name in ("generators", "models")))


def is_own(path: str | os.PathLike[str]) -> bool:
    """Whether a file is the user's own: neither installed, nor of Python's library, nor of capsbench.

    What is installed in editable mode stays where its author edits it, and is his own.
    """
    place = Path(path).resolve()
    if any(part in INSTALLED or part.endswith(DESCRIBING) for part in place.parts):
        return False
    return not any(place.is_relative_to(folder) for folder in _python_and_capsbench())


def digest(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal digits; empty where it is no regular file, or cannot be read."""
    try:
        facts = path.stat()
        if not stat.S_ISREG(facts.st_mode):  # reading a FIFO would wait for ever
            return ""
        if facts.st_size > LARGE:
            return _digest_of_large(path, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns)
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return ""


@cache
def _digest_of_large(path: Path, size: int, modified: int, changed: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
