"""Fixtures of all tests: no run finds digits, caches or files of the person who started it."""

import gc
import hashlib
import itertools
import os
import signal
from collections.abc import Callable, Iterator

# Each of the processes that run tests has one thread. Threads that spin while they wait would make torch much slower.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

from capsbench.contracts import CLASSES, UInt8Array
from capsbench.data import digits, embedded
from capsbench.report.figures import Figure
from capsbench.spec import SPLITS

from .warm_python import start

READ_EMBEDDED = embedded.read_embedded

LONGEST = (
    "faults/test_failures.py", "generators/test_family.py", "routing/test_fused.py", "routing/test_kernels.py",
    "suites/test_leakage.py", "suites/test_overlap.py", "suites/test_reconstruction.py", "suites/test_throughput.py",
    "tools/test_documents.py", "tools/test_gpu_figures.py", "training/test_together.py", "training/test_trainer.py",
)  # fmt: skip

FAULT = "fault"  # the property of a test's report that holds a fault and the number of tries

gc.disable()  # until all is collected: what is imported stays, and going through it again and again takes seconds
signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background is started with Ctrl-C ignored

settings.register_profile("unhurried", deadline=None)  # that a machine is busy is no defect
settings.register_profile("campaign", deadline=None, max_examples=2000)
settings.load_profile("unhurried")


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options of `make faults`."""
    group = parser.getgroup("fault campaigns")
    group.addoption("--campaign", action="store_true", help="Run the fault campaigns in full.")
    group.addoption("--campaign-table", metavar="FILE", help="Write what was tried there, if nothing failed.")
    group.addoption("--campaign-seed", type=int, default=0, metavar="N", help="Of all their random choices.")


def pytest_configure(config: pytest.Config) -> None:
    """In a campaign Hypothesis, too, looks at more."""
    if config.getoption("--campaign"):
        settings.load_profile("campaign")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The longest files come first: processes share the files out, and none shall end long after the others."""
    for item in items:
        if item.get_closest_marker("campaign") and not config.getoption("--campaign"):
            item.add_marker(pytest.mark.skip(reason="part of make faults"))
    items.sort(key=lambda item: not item.path.as_posix().endswith(LONGEST))


def pytest_collection_finish() -> None:
    """What was imported and collected stays: no later collection of garbage goes through all of it, for a second."""
    gc.freeze()
    gc.enable()


@pytest.fixture
def scale(request: pytest.FixtureRequest) -> Callable[[int, int], int]:
    """How many of something: the first number in every test run, the second in a campaign."""
    full = request.config.getoption("--campaign")
    return lambda small, large: large if full else small


@pytest.fixture(scope="session")
def worlds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Path]]:
    """For each test a home that is not there, and a folder that is empty: the same as long as tests leave them so.

    Most do. Thousands of folders take seconds to make and, at the end of a later run, many more to remove.
    """
    root = tmp_path_factory.mktemp("worlds")

    def untouched() -> Iterator[tuple[Path, Path]]:
        for number in itertools.count():
            home, folder = root / f"home-{number}", root / str(number)
            folder.mkdir()
            while folder.is_dir() and not any(folder.iterdir()) and not home.exists():
                yield home, folder

    return untouched()


@pytest.fixture(scope="session")
def warm_python(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """In place of `sys.executable`: starts in a tenth of a second what imports torch. See warm_python.py."""
    folder = tmp_path_factory.getbasetemp()  # of this process; that above it is of all that pytest-xdist starts
    with start((folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder) / "warm") as program:
        yield program


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures are empty: drawing them would take most of the time of a run that is small."""
    monkeypatch.setattr(Figure, "png", lambda figure: b"")


@pytest.fixture
def guessed(monkeypatch: pytest.MonkeyPatch) -> None:
    """An estimate of time is of one call, instead of a second of calls."""
    monkeypatch.setattr("capsbench.bench.estimating.SECONDS", 0.0)


@pytest.fixture
def survived(request: pytest.FixtureRequest) -> Callable[[str, int], None]:
    """Notes a fault and how often it was tried, for the table of `make faults`; if the test passes, all went well."""
    return lambda fault, tries: request.node.user_properties.append((FAULT, [fault, tries]))


@cache
def embedded_digits(file: Path, sha256: str) -> dict[str, UInt8Array]:
    """What a file of embedded digits has: thousands of data sets are made of the same."""
    return READ_EMBEDDED()


@pytest.fixture(scope="session", autouse=True)
def no_waiting(request: pytest.FixtureRequest) -> Iterator[None]:
    """The digits are read once, and no file waits for the disk: what a loss of power leaves cannot be seen here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(embedded, "read_embedded", lambda: embedded_digits(embedded.FILE, embedded.SHA256))
        if not request.config.getoption("--benchmark-enable"):
            patch.setattr(os, "fsync", lambda handle: None)
        # Processes that tests start keep none, for on a full disk Python keeps half a file. They read what this one
        # keeps, and so must the next: without, each process compiles the tests again for ten seconds.
        patch.setenv("PYTHONDONTWRITEBYTECODE", "1")
        yield


@pytest.fixture(scope="module")
def few_digits(no_waiting: None) -> Iterator[None]:
    """The embedded digits are a tenth of those in the package, of each class as many.

    For tests of how cells are run, for which it does not matter what a network learns. Child processes have all digits.
    """
    stored = embedded.read_embedded()
    few: dict[str, UInt8Array] = {}
    for part in ("train", "test"):
        by_class = np.argsort(stored[f"{part}_labels"], kind="stable").reshape(CLASSES, -1)
        chosen = np.sort(by_class[:, : by_class.shape[1] // 10], axis=None)
        few |= {name: stored[name][chosen] for name in (f"{part}_images", f"{part}_labels")}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(embedded, "read_embedded", lambda: few)
        patch.setattr(digits, "EMBEDDED_TRAIN_PER_CLASS", digits.EMBEDDED_TRAIN_PER_CLASS // 10)
        for split in SPLITS:
            one = digits.load_digits(split, "embedded")
            labels = hashlib.sha256(one.labels.tobytes()).hexdigest()
            known = digits.KnownDigits("embedded", split, len(one.labels), one.sha256, labels)
            patch.setitem(digits.KNOWN, one.sha256, known)
        yield


@pytest.fixture(autouse=True)
def own_world(worlds: Iterator[tuple[Path, Path]], monkeypatch: pytest.MonkeyPatch) -> None:
    """A home that is not there, so that `auto` finds the embedded digits, and an empty folder to stand in."""
    home, folder = next(worlds)
    monkeypatch.setenv("XDG_CACHE_HOME", str(home / "cache"))
    monkeypatch.setenv("TORCH_HOME", str(home / "torch"))
    monkeypatch.delenv("CAPSBENCH_DIGITS", raising=False)
    monkeypatch.chdir(folder)
