"""The sidecar ``NAME.json`` of a data file: everything that is not reproducible, such as date, host and versions.

It repeats the spec, so that a file with a damaged header can be made again.
"""

import json
import platform
import shlex
import sys
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import h5py
import numpy as np

from capsbench.data.columns import block_count
from capsbench.data.digits import origin_of
from capsbench.data.naming import source_of
from capsbench.data.sets import SETS
from capsbench.files.layout import Outline
from capsbench.files.shards import shard_counts, shard_index
from capsbench.parameters import as_text
from capsbench.spec import DataSpec
from capsbench.system.disk import write_atomically
from capsbench.version import VERSION

LARGEST = 65536  # bytes of a sidecar; one has some thousand

Beginning = tuple[DataSpec, range | None]
"""A spec, and which of its samples; None for all of them."""


def sidecar_of(path: Path) -> Path:
    """Where the sidecar of a data file stands."""
    return path.with_suffix(".json")


def read_sidecar(path: Path) -> Beginning | None:
    """The spec and the shard in the sidecar of a data file; None if it is missing or damaged."""
    with suppress(OSError, ValueError, KeyError, TypeError, RecursionError):
        name = sidecar_of(path)
        if not name.is_file() or name.stat().st_size > LARGEST:  # opening a pipe would wait for ever
            return None
        content = json.loads(name.read_text())
        spec = DataSpec.from_json(json.dumps(content["spec"]))
        if "shard" not in content:
            return spec, None
        start, stop = content["shard"]
        if type(start) is type(stop) is int and 0 <= start < stop <= spec.count:
            return spec, range(start, stop)
    return None


def write_sidecar(outline: Outline, path: Path) -> None:
    """Writes the sidecar of a data file.

    Raises:
        StorageError: It cannot be written.
    """
    content = {
        "spec": outline.spec.to_dict(),
        **({} if outline.shard is None else {"shard": [outline.shard.start, outline.shard.stop]}),
        "digits": origin_of(outline.spec) or "unknown",
        "blocks": block_count(len(outline)),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "host": platform.node(),
        "capsbench": VERSION,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "h5py": h5py.__version__,
        "hdf5": h5py.version.hdf5_version,
        "platform": f"{sys.platform} {platform.machine()}",
    }
    write_atomically(sidecar_of(path), json.dumps(content, indent=2).encode() + b"\n")


def remake_command(path: Path, *, digits: str = "auto") -> str | None:
    """The command that makes a file again, if its sidecar says so; for a file whose header is beyond repair.

    Args:
        path: The file.
        digits: Where the user has the digits, as `generate_command` takes it.
    """
    found = read_sidecar(path)
    if found is None or path.suffix != ".h5":
        return None
    spec, shard = found
    if spec.imported:
        split = ["--split", spec.split] if not spec.digits_known else []
        return shlex.join(["capsbench", "import", "affnist", "FILE.mat", *split, "--out", str(path), "--force"])
    name = None
    if shard is not None:
        number = next(shard_counts([shard], spec.count), None)
        if number is None:
            return None
        name = f"{shard_index(shard, number, spec.count)}/{number}"
    return f"{generate_command(spec, name, digits=digits)} {shlex.join(['--out', str(path), '--force'])}"


def generate_command(spec: DataSpec, shard: str | None = None, *, digits: str = "auto") -> str:
    """The command that generates the file of a spec.

    Args:
        spec: The spec.
        shard: One shard of it, such as ``"0/4"``; None for the whole.
        digits: Where the user has the digits; the embedded ones are named whatever this is.
    """
    words = ["capsbench", "generate", spec.generator, "--split", spec.split]
    words += ["--seed", str(spec.seed), "--count", str(spec.count)]
    for key, value in spec.parameters.items():
        words += ["--set", f"{key}={as_text(value)}"]
    words += ["--layers"] if spec.layers else []
    words += ["--shard", shard] if shard is not None else []
    return shlex.join([*words, *_digits_words(spec, digits)])


def _digits_words(spec: DataSpec, digits: str) -> list[str]:
    """The option that names the digits of a spec."""
    if spec.digits_name:
        place = source_of(digits).path  # a folder lies elsewhere on another machine
        if place is None and spec.digits_name in SETS:
            return ["--digits", spec.digits_name]
        return ["--digits", "DIR" if place is None else str(place), "--digits-as", spec.digits_name]
    # Otherwise `auto` might take the full set, which was not here when the file was made.
    source = "embedded" if origin_of(spec) == "embedded" else digits
    return [] if source == "auto" else ["--digits", str(source)]
