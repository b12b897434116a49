"""Fixtures of the source digits: a machine without digits, and folders that pass for full MNIST's."""

import hashlib
from pathlib import Path

import numpy as np
import pytest

from capsbench.data.idx import FILES, IdxFile

from .idx_folders import Placer, idx_header


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hides whatever digits the machine has, the embedded ones aside."""
    for variable in ("CAPSBENCH_DIGITS", "TORCH_HOME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="session")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four files of MNIST's names and sizes: digit i has i in its first four pixels and the label i % 10."""
    folder = tmp_path_factory.mktemp("written")
    for part, count in (("train", 60_000), ("t10k", 10_000)):
        images = np.zeros((count, 28 * 28), np.uint8)
        images[:, :4] = np.arange(count, dtype=">u4").view(np.uint8).reshape(count, 4)
        labels = np.arange(count) % 10
        (folder / f"{part}-images-idx3-ubyte").write_bytes(idx_header(count, 28, 28) + images.tobytes())
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(idx_header(count) + labels.astype(np.uint8).tobytes())
    return folder


@pytest.fixture(scope="session")
def sums(written: Path) -> dict[str, str]:
    return {name: hashlib.md5((written / name).read_bytes(), usedforsecurity=False).hexdigest() for name in FILES}


@pytest.fixture
def stand_in(written: Path, sums: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of files that pass for MNIST's."""
    for name, md5 in sums.items():
        monkeypatch.setitem(FILES, name, IdxFile(md5, FILES[name].shape))
    return written


@pytest.fixture
def place(stand_in: Path) -> Placer:
    """Puts the stand-ins into a folder, as links; ``without`` leaves one out."""

    def put(folder: Path, *, without: str = "") -> Path:
        folder.mkdir(parents=True)
        for name in FILES:
            if name != without:
                (folder / name).symlink_to(stand_in / name)
        return folder

    return put
