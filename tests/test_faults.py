"""Generation against kills, full disks and a second run: nothing is lost, and the next run ends with the same bytes."""

import errno
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from capsbench.cli import main
from capsbench.errors import StorageError
from capsbench.generation import Generated, generate_file
from capsbench.recipes import make_recipe
from capsbench.storage import open_dataset

COUNT = 10_000  # three blocks
SMALL = {"size": 28, "shift": 2}
SIZE = 7_910_000  # bytes of the file, roughly


def generate(path: str = "x.h5", **options: Any) -> Generated:
    recipe = make_recipe("padded", split="test", digits="embedded", count=COUNT, parameters=SMALL)
    return generate_file(recipe, Path(path), **options)


def whole() -> bytes:
    content = generate("whole/x.h5").path.read_bytes()
    assert abs(len(content) - SIZE) < 10_000
    return content


def names(folder: str = ".") -> list[str]:
    return sorted(path.name for path in Path(folder).iterdir() if path.name not in ("whole", "driver.py"))


SLOW = """
import os, sys, time
from pathlib import Path
import capsbench.generation as generation
from capsbench.recipes import make_recipe

recipe = make_recipe("padded", split="test", digits="embedded", count=10_000, parameters={"size": 28, "shift": 2})
real = generation.os.pwrite
def slow(*arguments):
    time.sleep(0.002)
    return real(*arguments)
generation.os.pwrite = slow
def report(done, total):
    print(done, flush=True)
sys.stdin.readline()
made = generation.generate_file(recipe, Path("x.h5"), report=report)
print("made", made.drawn, made.kept, flush=True)
"""


def start() -> subprocess.Popen[str]:
    """A run that waits for a line before it begins, so that its imports take nobody's time."""
    return subprocess.Popen([sys.executable, "-c", SLOW], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def test_a_run_killed_anywhere_and_started_again_ends_with_the_same_bytes() -> None:
    expected = whole()
    draw = random.Random(0)
    interrupted = 0
    following = start()
    try:
        for _ in range(20):
            process, following = following, start()
            assert process.stdin is not None and process.stdout is not None
            process.stdin.write("go\n")
            process.stdin.flush()
            for _ in range(draw.randrange(1, 5)):  # until the k-th line of progress, and then a little
                process.stdout.readline()
            time.sleep(draw.random() * 0.012)
            process.kill()
            process.communicate()
            if Path("x.h5").exists():
                assert Path("x.h5").read_bytes() == expected
                generate()
                assert names() == ["x.h5", "x.json"]
                Path("x.h5").unlink()
            else:
                interrupted += 1
    finally:
        following.kill()
        following.communicate()
    assert interrupted >= 5
    made = generate()
    assert made.drawn + made.kept == COUNT
    assert Path("x.h5").read_bytes() == expected
    assert names() == ["x.h5", "x.json"]


KILLED = """
import os, signal
from pathlib import Path
import h5py
from capsbench.generation import generate_file
from capsbench.recipes import make_recipe

def recipe_of(count):
    return make_recipe("padded", split="test", digits="embedded", count=count, parameters={"size": 28, "shift": 2})

recipe = recipe_of(5000)
os.fsync = lambda handle: None  # a killed process loses nothing that it gave to the system
expected = generate_file(recipe, Path("whole/x.h5")).path.read_bytes()

def die_at(number):
    calls = 0
    def doomed(real):
        def call(*arguments, **options):
            nonlocal calls
            calls += 1
            if calls == number:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*arguments, **options)
        return call
    for name in ("open", "pwrite", "fsync", "posix_fallocate", "close"):
        setattr(os, name, doomed(getattr(os, name)))
    for name in ("replace", "unlink"):
        setattr(Path, name, doomed(getattr(Path, name)))
    h5py.h5f.create = doomed(h5py.h5f.create)

def run(number, force):
    child = os.fork()
    if child == 0:
        try:
            die_at(number)
            generate_file(recipe, Path("x.h5"), force=force)
        except BaseException:
            import traceback
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    return os.waitpid(child, 0)[1]

kills = 0
for force in (False, True):
    for number in range(1, 1000):
        for path in Path().glob("x.*"):
            path.unlink()
        old = None
        if force:
            old = generate_file(recipe_of(9), Path("x.h5")).path.read_bytes()
        status = run(number, force)
        there = Path("x.h5").read_bytes() if Path("x.h5").exists() else None
        assert there in (expected, old), (number, force)
        if status == 0:
            assert there == expected
            break
        assert status == signal.SIGKILL, (status, number, force)
        kills += 1
        assert run(0, force) == 0
        assert Path("x.h5").read_bytes() == expected, (number, force)
        assert sorted(path.name for path in Path().glob("x*")) == ["x.h5", "x.json"], (number, force)
print(kills)
"""


def test_a_run_killed_before_each_of_its_system_calls_ends_with_the_same_bytes() -> None:
    # In a process without threads, which can be forked.
    done = subprocess.run([sys.executable, "-c", KILLED], capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert int(done.stdout) > 60


FAULTS = {"ENOSPC": errno.ENOSPC, "EIO": errno.EIO, "EROFS": errno.EROFS}
CALLS = ["open", "pwrite", "fsync", "posix_fallocate", "replace"]


def fail_at(number: int, fault: int, patch: pytest.MonkeyPatch) -> None:
    """Makes the n-th system call of a run fail."""
    calls = 0

    def doomed(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == number:
                raise OSError(fault, os.strerror(fault))
            return real(*arguments, **options)

        return call

    for name in CALLS:
        owner: Any = Path if name == "replace" else os
        patch.setattr(owner, name, doomed(getattr(owner, name)))


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_a_run_whose_nth_system_call_fails_ends_in_one_line_and_the_next_completes(fault: int) -> None:
    expected = whole()
    for number in range(1, 1000):
        for path in Path().glob("x.*"):
            path.unlink()
        with pytest.MonkeyPatch.context() as patch:
            fail_at(number, fault, patch)
            try:
                generate()
                break
            except StorageError as error:
                assert os.strerror(fault) in str(error) and "\n" not in str(error)
        if Path("x.h5").exists():
            assert Path("x.h5").read_bytes() == expected  # the folder could not be synced
        assert not {"x.h5.new", "x.h5.lock", "x.json.new"} & set(names()), number
        made = generate()
        assert made.drawn + made.kept == COUNT
        assert Path("x.h5").read_bytes() == expected, number
        assert names() == ["x.h5", "x.json"], number
    assert number > 25
    assert Path("x.h5").read_bytes() == expected


def full(handle: int, offset: int, size: int) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_disk_that_is_full_when_space_is_reserved_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(StorageError, match=r"No space left on device\. It needs 8\.0 MB, free are"):
        generate()
    assert names() == []


def test_a_header_that_libhdf5_cannot_write_is_a_storage_error() -> None:
    # The system's own limit on the size of files makes libhdf5's writes fail, at any byte.
    script = (
        "import resource, sys\n"
        "from pathlib import Path\n"
        "from capsbench.errors import StorageError\n"
        "from capsbench.generation import generate_file\n"
        "from capsbench.recipes import make_recipe\n"
        'recipe = make_recipe("padded", split="test", digits="embedded", count=5000)\n'
        "told = 0\n"
        "for limit in [*range(0, 4200, 300), 5000, 100_000, 8_000_000]:\n"
        "    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, -1))\n"
        "    try:\n"
        '        generate_file(recipe, Path("x.h5"))\n'
        "    except StorageError as error:\n"
        '        told += "File too large" in str(error)\n'
        '    assert not list(Path().glob("x*")), limit\n'
        "resource.setrlimit(resource.RLIMIT_FSIZE, (-1, -1))\n"
        'generate_file(recipe, Path("x.h5"))\n'
        "print(told)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout == "17\n"
    assert len(open_dataset("x.h5")) == 5000


def can_mount() -> bool:
    """Whether this account may mount a small disk to fill."""
    folder = Path("/tmp") / f"capsbench-disk-{os.getpid()}"
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "capsbench", str(folder)]
    try:
        folder.mkdir()
        if subprocess.run(command, capture_output=True, check=False).returncode:
            return False
        subprocess.run(["umount", folder], check=True)
    except OSError:
        return False
    finally:
        folder.rmdir()
    return True


@pytest.mark.parametrize("disk", ["mounted" if can_mount() else "imagined"])
@pytest.mark.parametrize("told", [True, False], ids=["the system tells", "the system does not tell"])
def test_a_disk_too_small(
    disk: str, told: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("disk").mkdir()
    if disk == "mounted":
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "capsbench", "disk"], check=True)
    else:
        monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1_000_000))
        monkeypatch.setattr(os, "posix_fallocate", full)
    if not told:  # another program may take the space between the question and the answer
        monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=10**12))
    arguments = ["generate", "padded", "--split", "test", "--count", "10000", "--out", "disk"]
    try:
        with pytest.raises(SystemExit) as stop:
            main(arguments)
        assert stop.value.code == 4
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("Error: disk/padded-test.h5 ") and re.search(r"needs 16\.[12] MB, free are ", line)
        assert names("disk") == []
        if disk == "mounted":  # what does fit is made
            with pytest.raises(SystemExit) as stop:
                main([*arguments, "--count", "100", "--set", "size=28"])
            assert stop.value.code == 0
    finally:
        if disk == "mounted":
            subprocess.run(["umount", "disk"], check=True)


DRIVER = """
import sys, time
import capsbench.generation as generation
from capsbench.cli import main

real = generation.stored_arrays
def slow(*arguments):
    time.sleep(0.3)
    return real(*arguments)
generation.stored_arrays = slow
main(sys.argv[1:])
"""


def start_command(*arguments: str) -> subprocess.Popen[str]:
    """A slow run of a command, caught in the middle of its work."""
    Path("driver.py").write_text(DRIVER)
    process = subprocess.Popen(
        [sys.executable, "driver.py", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    give_up = time.monotonic() + 60
    while not list(Path("d").glob("*.partial")):
        assert process.poll() is None and time.monotonic() < give_up
        time.sleep(0.01)
    return process


COMMAND = ["generate", "padded", "--split", "test", "--count", "20000", "--set", "size=28", "--out", "d"]


@pytest.mark.parametrize("delay", [0.0, 0.5])
def test_an_interrupted_command_ends_with_130_and_how_to_go_on(
    delay: float, capsys: pytest.CaptureFixture[str]
) -> None:
    process = start_command(*COMMAND)
    time.sleep(delay)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert out == ""
    (line,) = err.split("\n")[1:-1]  # after an empty one, past the terminal's ^C
    assert line == "Interrupted. What is done is kept: run the same command again to go on."
    assert names("d") == ["padded-test.h5.partial"]
    with pytest.raises(SystemExit) as stop:
        main(COMMAND)
    assert stop.value.code == 0
    assert names("d") == ["padded-test.h5", "padded-test.json"]
    if delay:
        assert "were there" in capsys.readouterr().out
    open_dataset("d/padded-test.h5")


def test_of_two_commands_on_one_file_the_second_ends_at_once_and_the_first_goes_on(
    capsys: pytest.CaptureFixture[str],
) -> None:
    process = start_command(*COMMAND)
    before = time.monotonic()
    for extra in ([], ["--force"]):
        with pytest.raises(SystemExit) as stop:
            main([*COMMAND, *extra])
        assert stop.value.code == 4
        out, err = capsys.readouterr()
        assert out == "" and "Another run is writing d/padded-test.h5" in err and err.count("\n") <= 2
    assert process.poll() is None and time.monotonic() - before < 10
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert names("d") == ["padded-test.h5", "padded-test.json"]
    open_dataset("d/padded-test.h5")
