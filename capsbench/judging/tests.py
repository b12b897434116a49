"""What a suite tests on, without a network: opened for judging, or written as files with a manifest."""

import os
import re
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from capsbench import registry
from capsbench.bench.cells import Cell
from capsbench.bench.data import CellData
from capsbench.bench.protocols import Protocol, load_suite
from capsbench.contracts import ProgressBar, Suite, no_bar
from capsbench.data.naming import named_digits
from capsbench.data.recipes import make_recipe
from capsbench.data.streaming import Stream
from capsbench.errors import DataFileError, UsageError
from capsbench.evaluation.subjects import Tests
from capsbench.files.layout import Outline
from capsbench.files.writing import write_file
from capsbench.judging.manifest import MANIFEST, Entry, Manifest, check_replaceable, load_manifest
from capsbench.judging.samples import SamplesFile
from capsbench.parameters import check_truth
from capsbench.paths import user_path
from capsbench.sources.identity import Identity
from capsbench.system.disk import is_regular, lock, make_folder, storage_errors


class DrawnData(CellData):
    """The data sets of a cell as streams: nothing is written."""

    def file(self, role: str, generator: str, split: str, **recipe: Any) -> Stream:
        """The samples of the file that a run generates, noted as there."""
        stream = Stream(make_recipe(generator, split=split, digits=self.digits, **recipe))
        self.note(role, stream, digest=stream.digest)
        return stream


@dataclass(frozen=True)
class Examination:
    """A suite's tests, opened without a network.

    Attributes:
        suite: The suite.
        cell: What is measured: a network that is known by its label alone.
        data: The data sets of the cell.
        tests: What the suite tests on.
    """

    suite: Any
    cell: Cell
    data: CellData
    tests: Tests

    @classmethod
    def of(
        cls,
        suite: str,
        preset: str,
        changes: Mapping[str, str],
        *,
        digits: str = "auto",
        label: str = "",
        seed: int = 0,
    ) -> "Examination":
        """Opens the tests of a suite.

        Raises:
            UsageError: A name, a key or a value makes no sense, or the suite cannot judge scores.
            DataError: The digits are missing or damaged, or a file to test on is.
        """
        kind = load_suite(suite, preset)
        if not callable(getattr(kind, "tests", None)) or not callable(getattr(kind, "judge", None)):
            raise UsageError(f"The suite {suite!r} needs the network itself: it cannot judge scores. {_others(suite)}")
        protocol = Protocol.of(suite, preset, changes)
        cell = _cell(suite, kind, protocol, digits, label, seed)
        data = DrawnData(cell, Path(), digits)
        instance: Any = kind()
        return cls(instance, cell, data, instance.tests(data))


def _cell(suite: str, kind: type[Suite], protocol: Protocol, digits: str, label: str, seed: int) -> Cell:
    return Cell(
        suite=suite,
        version=kind.version,
        preset=protocol.label,
        model=label,
        label=label,
        identity=Identity(label, {}),
        parameters={"origin": "scores"},  # so that it is no cell of a network of this name
        seed=seed,
        settings=protocol.settings,
        digits=protocol.origin(digits),
        digits_sums=protocol.sums(digits),
        device="",
        suite_identity=protocol.suite_identity,
        files=protocol.files,
    )


def _others(suite: str) -> str:
    """Which suites can judge."""
    able = [
        name
        for name, place in sorted(registry.catalog("suite").items())
        if place.startswith("capsbench.") and hasattr(registry.load("suite", name), "judge")
    ]
    return f"These can: {', '.join(able)}."


def file_stems(names: Iterable[str]) -> dict[str, str]:
    """What the files of tests are called: their names, with a dash for what a file's name should not hold."""
    stems: dict[str, str] = {}
    taken = {Path(MANIFEST).stem}
    for name in names:
        stem = re.sub(r"[^\w.=+-]+", "-", name).strip("-.") or "test"
        while stem in taken:
            stem += "-"
        taken.add(stem)
        stems[name] = stem
    return stems


def tests(
    suite: str,
    *,
    out: str | Path,
    preset: str = "small",
    changes: Mapping[str, str] | None = None,
    digits: str | Path = "auto",
    digits_as: str | None = None,
    force: bool = False,
    progress: ProgressBar = no_bar,
) -> Manifest:
    """Writes the files that a suite tests on, and ``manifest.json``: what `capsbench.judge` needs scores for.

    Args:
        suite: The suite, such as ``"affine"``.
        out: The folder; what is there and whole is left.
        preset: The protocol.
        changes: Settings that differ from the preset, as text.
        digits: ``"auto"``, ``"embedded"``, a set that was fetched (such as ``"fashion"``), or a folder of
            IDX files.
        digits_as: What the digits of a folder, or of a file like Keras' ``mnist.npz``, are called, where they are not
            MNIST's.
        force: Whether to write over files of other tests. Scores for those are renamed to ``NAME.npz.aside``.
        progress: Makes the report of a file's progress from its name.

    Returns:
        The manifest.

    Raises:
        UsageError: A name, a key or a value makes no sense, the suite cannot judge scores, or files of other tests
            stand there.
        DataError: The digits are missing or damaged.
        StorageError: The files cannot be written.
        LockedError: Another process writes tests in this folder.
    """
    check_truth("force", force)
    folder = user_path(out, "out")
    changes = dict(changes or {})
    opened = Examination.of(suite, preset, changes, digits=named_digits(digits, digits_as))
    check_replaceable(folder, Manifest(suite, preset, [], changes), force=force)
    make_folder(folder)
    with lock(folder / MANIFEST):
        check_replaceable(folder, Manifest(suite, preset, [], changes), force=force)  # another may have written it
        known = _known_digests(folder)
        entries = []
        for name, stem in file_stems(opened.tests).items():
            samples = SamplesFile(opened.tests[name]())
            path = folder / f"{stem}.h5"
            if force or not path.exists():  # a file that is there and of other tests is refused, and all stays
                _remove_manifest(folder)
            with progress(path.name) as report:
                written = write_file(path, Outline(samples.spec, samples.columns), samples, force=force, report=report)
            entries.append(Entry(stem, path.name, written.digest, len(samples), samples.image_shape))
            if (force or known) and known.get(stem) != written.digest:
                _put_scores_aside(folder, stem)
        manifest = Manifest(suite, preset, entries, changes, opened.cell.digits)
        manifest.save(folder)
    return manifest


def _known_digests(folder: Path) -> dict[str, str]:
    """The digest of each test of the manifest in a folder; none where it has no sound one."""
    try:
        return {entry.name: entry.digest for entry in load_manifest(folder).files}
    except DataFileError:
        return {}


def _put_scores_aside(folder: Path, stem: str) -> None:
    """Renames the scores of a test whose images have changed, so that they are not judged for the new ones."""
    for path in (folder / f"{stem}.npz", folder / f"{stem}.csv"):
        if is_regular(path):
            aside = path.with_name(f"{path.name}.aside")
            number = 1
            while os.path.lexists(aside):
                aside, number = path.with_name(f"{path.name}.aside{number}"), number + 1
            with storage_errors(path):
                path.rename(aside)
            warnings.warn(f"{path} has scores for other images; it is now called {aside.name}", stacklevel=3)


def _remove_manifest(folder: Path) -> None:
    """Removes the manifest before a file changes: beside files of other images it would say that they are its own."""
    with storage_errors(folder / MANIFEST):
        (folder / MANIFEST).unlink(missing_ok=True)
