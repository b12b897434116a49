"""CIFAR-10 from the network into the user's cache: the archive of the Python batches, from where torchvision has it."""

import sys
import tarfile
import tempfile
import zlib
from pathlib import Path

from capsbench.contracts import Say, silent
from capsbench.data.cifar10 import LARGEST, MD5S, PYTHON, places, read_batches
from capsbench.data.fetching import run_program
from capsbench.errors import DataError, DigitsError, StorageError
from capsbench.system.disk import free_bytes, human_bytes, make_folder, storage_errors, write_atomically

ARCHIVE, ARCHIVE_MD5 = "cifar-10-python.tar.gz", "c58f30108f718f92721af3b95e74349a"

# torchvision's class CIFAR10 would also load the batches as pickles; its downloader compares the archive's MD5 alone.
TORCHVISION = f"""
import socket, sys
socket.setdefaulttimeout(30)  # seconds without a byte
from torchvision.datasets import CIFAR10
from torchvision.datasets.utils import download_url
download_url(CIFAR10.url, sys.argv[1], filename="{ARCHIVE}", md5="{ARCHIVE_MD5}")
"""

NEEDED = 550_000_000
"""Bytes on disk at the worst moment: the archive of 170 MB, and six files of 186 MB in all, twice."""


def fetch_cifar10(destination: Path | None = None, *, report: Say = silent) -> Path:
    """Puts the six Python batches of CIFAR-10 into a folder, each checked and then renamed into place.

    It does nothing if they are there and undamaged; it replaces damaged ones. No pickle is read.

    Args:
        destination: The folder, by default the first of `capsbench.data.cifar10.places`; it is made if it is missing.
        report: Called with a line for people at each step.

    Returns:
        The folder.

    Raises:
        DigitsError: The archive could not be fetched, or is not CIFAR-10's.
        StorageError: The disk is full or a permission is missing.
    """
    destination = destination or places()[0]
    if _has_all(destination):
        report(f"CIFAR-10 is in {destination} already.")
        return destination
    make_folder(destination.parent)
    free = free_bytes(destination)
    if free < NEEDED:
        raise StorageError(
            f"Fetching CIFAR-10 into {destination} needs {human_bytes(NEEDED)}; only {human_bytes(free)} is free.\n"
            "Free some space, or set XDG_CACHE_HOME to a folder on another disk."
        )
    with storage_errors(destination):
        downloads = tempfile.TemporaryDirectory(prefix=".fetch-", dir=destination.parent, ignore_cleanup_errors=True)
    with downloads as folder:
        report("Trying torchvision's source, 170 MB ...")
        try:
            run_program([sys.executable, "-c", TORCHVISION, folder], Path(folder))
            unpack(Path(folder) / ARCHIVE, Path(folder))
            files = read_batches(Path(folder))
        except DataError as error:
            reason = str(error).partition("\n")[0].rstrip(".")
            raise DigitsError(
                f"CIFAR-10 could not be fetched. torchvision's source: {reason}.\n"
                f"Get {ARCHIVE} in another way, unpack it, and name the folder with --digits DIR."
            ) from None
    for name, content in files.items():  # one by one: other files in the folder are the user's
        write_atomically(destination / name, content)
    report(f"CIFAR-10 is in {destination}.")
    return destination


def _has_all(folder: Path) -> bool:
    try:
        read_batches(folder)
    except DataError:
        return False
    return True


def unpack(archive: Path, folder: Path) -> None:
    """Reads the six files from the archive, and nothing else; it stops where a file is too long.

    Raises:
        DigitsError: The archive is damaged, or lacks one.
    """
    try:
        with tarfile.open(archive, "r:gz") as tar:
            for name in MD5S:
                member = tar.extractfile(f"{PYTHON}/{name}")
                content = member.read(LARGEST) if member else b""  # None: a folder of that name
                with storage_errors(folder / name):
                    (folder / name).write_bytes(content)
    except (tarfile.TarError, OSError, EOFError, KeyError, zlib.error) as error:
        raise DigitsError(f"{archive.name} is not the archive that was expected: {error}") from None
