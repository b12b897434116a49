"""A known set of digits from the network into the user's cache, from the first mirror that has the right files."""

import http.client
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

from capsbench.contracts import Say, silent
from capsbench.data.places import cache_folder
from capsbench.data.sets import LARGEST_PACKED, SETS, KnownSet, packed_file
from capsbench.errors import DigitsError, StorageError
from capsbench.system.disk import free_bytes, human_bytes, make_folder, storage_errors, write_atomically

STALLED = 10.0  # seconds without a byte, after which a mirror is given up
TIMEOUT = 600.0  # seconds for one file
READ = 2**16  # bytes at a time
NEEDED = 80_000_000
"""Bytes on disk at the worst moment: the largest set's files of 31 MB, twice."""


def fetch_set(name: str, destination: Path | None = None, *, report: Say = silent) -> Path:
    """Puts the four files of a known set into a folder, packed as they are published, each checked and then renamed.

    It leaves those that are there and undamaged; it replaces damaged ones.

    Args:
        name: One of `capsbench.data.sets.SETS`.
        destination: The folder, by default that of the set in the cache; it is made if it is missing.
        report: Called with a line for people at each step.

    Returns:
        The folder.

    Raises:
        DigitsError: No mirror could be reached, or none had the right files.
        StorageError: The disk is full or a permission is missing.
    """
    known = SETS[name]
    destination = destination or cache_folder(name)
    missing = [file for file in known.files if not _is_whole(known, destination / file)]
    if not missing:
        report(f"{known.title} is in {destination} already.")
        return destination
    make_folder(destination.parent)
    free = free_bytes(destination)
    if free < NEEDED:
        raise StorageError(
            f"Fetching {known.title} into {destination} needs {human_bytes(NEEDED)}; {human_bytes(free)} is free.\n"
            "Free some space, or set XDG_CACHE_HOME to a folder on another disk."
        )
    with storage_errors(destination):
        downloads = tempfile.TemporaryDirectory(prefix=".fetch-", dir=destination.parent, ignore_cleanup_errors=True)
    with downloads as folder:
        files = {file: _download(known, file, Path(folder), destination, report) for file in missing}
    for file, content in files.items():  # one by one: other files in the folder are the user's
        write_atomically(destination / file, content)
    report(f"{known.title} is in {destination}. Its licence: {known.licence}")
    return destination


def _is_whole(known: KnownSet, path: Path) -> bool:
    try:
        packed_file(known, path)
    except DigitsError:
        return False
    return True


def _download(known: KnownSet, file: str, folder: Path, destination: Path, report: Say) -> bytes:
    """A checked file, from the first mirror that delivers it."""
    failures = []
    for mirror in known.mirrors:
        report(f"Trying {mirror}{file} ...")
        try:
            _save(f"{mirror}{file}", folder / file)
            return packed_file(known, folder / file)
        except DigitsError as error:
            reason = str(error).partition("\n")[0].rstrip(".").replace(f"{folder}/", "")
            failures.append(f"{mirror}: {reason}")
    raise DigitsError(
        f"{known.title} could not be fetched. {'; '.join(failures)}.\n"
        f"Get its four files ({', '.join(known.files)}) in another way, and put them into {destination}."
    )


def _save(address: str, path: Path) -> None:
    """Downloads a file; it stops where one is too long or too slow.

    Raises:
        DigitsError: The mirror does not answer, or not with the file.
    """
    begun = time.monotonic()
    try:
        with urllib.request.urlopen(address, timeout=STALLED) as answer:
            content = bytearray()
            while part := answer.read(READ):
                content += part
                if len(content) > LARGEST_PACKED:
                    raise DigitsError(f"it sends more than {human_bytes(LARGEST_PACKED)}")
                if time.monotonic() - begun > TIMEOUT:
                    raise DigitsError(f"gave up after {TIMEOUT:g} s")
    except urllib.error.HTTPError as error:
        raise DigitsError(f"it answers {error.code} {error.reason}") from None
    except (OSError, http.client.HTTPException) as error:  # no such host, a broken connection
        cause = getattr(error, "reason", error)
        raise DigitsError(getattr(cause, "strerror", None) or str(cause) or type(cause).__name__) from None
    with storage_errors(path):
        path.write_bytes(content)
