"""Fetching a known set from a mirror on this machine: no test goes to the network."""

import hashlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from capsbench.data import set_fetching
from capsbench.data.places import cache_folder, status
from capsbench.data.set_fetching import fetch_set
from capsbench.data.sets import SETS
from capsbench.errors import DigitsError, StorageError

pytestmark = pytest.mark.usefixtures("nowhere")

FILES = list(SETS["qmnist"].files)


@dataclass
class Mirror:
    """A server of files; what it lacks it answers with 404.

    Attributes:
        address: Its files' addresses begin so.
        files: By name; None breaks the connection off.
        asked: The names of the files that the client requested.
    """

    address: str = ""
    files: dict[str, bytes | None] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)


@pytest.fixture
def mirror() -> Iterator[Mirror]:
    found = Mirror()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name = self.path.rpartition("/")[2]
            found.asked.append(name)
            if name not in found.files:
                self.send_error(404)
                return
            content = found.files[name]
            if content is None:
                return
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *arguments: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    found.address = f"http://127.0.0.1:{server.server_address[1]}/some/where/"
    yield found
    server.shutdown()
    server.server_close()


@pytest.fixture
def contents(mirror: Mirror, monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """Four small files that pass for QMNIST's; the mirror has them."""
    made = {name: name.encode() * 9 for name in FILES}
    mirror.files |= made
    sums = {name: hashlib.md5(content, usedforsecurity=False).hexdigest() for name, content in made.items()}
    monkeypatch.setitem(SETS, "qmnist", replace(SETS["qmnist"], files=sums, mirrors=(mirror.address,)))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    return made


def held(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()} if folder.exists() else {}


def test_four_checked_files_come_into_the_cache(mirror: Mirror, contents: dict[str, bytes]) -> None:
    lines: list[str] = []
    cache = fetch_set("qmnist", report=lines.append)
    assert cache == cache_folder("qmnist")
    assert held(cache) == contents
    assert list(cache.parent.iterdir()) == [cache]
    assert lines[0] == f"Trying {mirror.address}{FILES[0]} ..."
    assert lines[-1].startswith(f"QMNIST is in {cache}. Its licence: BSD")
    assert {row.name: row.state for row in status()}["qmnist"] == "complete"


def test_what_is_there_already_is_left(mirror: Mirror, contents: dict[str, bytes]) -> None:
    cache = fetch_set("qmnist")
    mirror.asked.clear()
    lines: list[str] = []
    fetch_set("qmnist", report=lines.append)
    assert (mirror.asked, lines) == ([], [f"QMNIST is in {cache} already."])
    (cache / FILES[1]).write_bytes(b"damaged")
    (cache / "mine.txt").write_text("not to be touched")
    assert {row.name: row.state for row in status()}["qmnist"] == "damaged"
    fetch_set("qmnist")
    assert mirror.asked == [FILES[1]]
    assert held(cache) == contents | {"mine.txt": b"not to be touched"}


def test_a_folder_of_ones_own(tmp_path: Path, contents: dict[str, bytes]) -> None:
    assert held(fetch_set("qmnist", tmp_path / "a" / "b")) == contents


def test_the_next_mirror_is_taken_where_one_has_a_wrong_file(
    mirror: Mirror, contents: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    known = SETS["qmnist"]
    monkeypatch.setitem(SETS, "qmnist", replace(known, mirrors=("http://127.0.0.1:9/", mirror.address)))
    assert held(fetch_set("qmnist")) == contents


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({FILES[2]: b"other bytes"}, f"{FILES[2]} is not QMNIST's: its MD5 should be"),
        ({FILES[2]: b""}, "its MD5 should be"),
        ({FILES[2]: None}, "Remote end closed connection"),
        ({FILES[2]: bytes(3000)}, r"it sends more than 2\.0 kB"),
    ],
)
def test_a_mirror_that_does_not_have_the_file(
    mirror: Mirror, contents: dict[str, bytes], monkeypatch: pytest.MonkeyPatch, change: Any, reason: str
) -> None:
    monkeypatch.setattr(set_fetching, "LARGEST_PACKED", 2000)
    monkeypatch.setattr(set_fetching, "READ", 1000)
    mirror.files |= change
    with pytest.raises(DigitsError, match=reason) as error:
        fetch_set("qmnist")
    assert str(error.value).count("\n") == 1
    assert f"put them into {cache_folder('qmnist')}" in str(error.value)
    assert list(cache_folder().parent.iterdir()) == []  # nothing half fetched stays


def test_a_file_that_is_not_there(mirror: Mirror, contents: dict[str, bytes]) -> None:
    del mirror.files[FILES[0]]
    with pytest.raises(DigitsError, match=f"QMNIST could not be fetched. {mirror.address}: it answers 404"):
        fetch_set("qmnist")


def test_mirror_that_cannot_be_reached(contents: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SETS, "qmnist", replace(SETS["qmnist"], mirrors=("http://127.0.0.1:9/",)))
    with pytest.raises(DigitsError, match=r"could not be fetched\. http://127\.0\.0\.1:9/: Connection refused"):
        fetch_set("qmnist")


def test_mirror_that_is_too_slow(contents: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(set_fetching, "TIMEOUT", -1.0)
    with pytest.raises(DigitsError, match="gave up after -1 s"):
        fetch_set("qmnist")


def test_full_disk_is_told_before_anything_is_fetched(
    mirror: Mirror, contents: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(set_fetching, "free_bytes", lambda path: 1)
    with pytest.raises(StorageError, match=r"needs 80\.0 MB; 1 B is free"):
        fetch_set("qmnist")
    assert mirror.asked == []


@pytest.mark.parametrize("name", SETS)
def test_addresses_and_sums_are_torchvisions(name: str) -> None:
    mnist = pytest.importorskip("torchvision.datasets.mnist")
    known, theirs = SETS[name], getattr(mnist, SETS[name].folder)
    if name == "qmnist":
        pinned = [one for part in ("train", "test") for one in theirs.resources[part]]
        assert [(f"{known.mirrors[0]}{file}", md5) for file, md5 in known.files.items()] == pinned
    else:
        assert list(known.files.items()) == theirs.resources
        assert list(known.mirrors) == theirs.mirrors
