"""From scores of a network that ran elsewhere to a result like any other."""

import platform
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

import h5py
import numpy as np

from capsbench.bench.protocols import check_seeds
from capsbench.contracts import IndexArray, ProgressBar, no_bar
from capsbench.data.naming import named_digits
from capsbench.data.samples import writers_of
from capsbench.errors import DataFileError, ParameterError, UsageError, plain, shown
from capsbench.evaluation.predictions import Predictions
from capsbench.evaluation.subjects import Images
from capsbench.judging.manifest import Entry, Manifest, load_manifest
from capsbench.judging.orders import other_order, ties
from capsbench.judging.samples import SamplesFile
from capsbench.judging.scores import Drawings, has_digest, has_drawings, read_scores, scores_file
from capsbench.judging.tests import Examination, file_stems
from capsbench.parameters import convert
from capsbench.paths import user_path
from capsbench.report.shown import Results
from capsbench.results.result import Result, load_result, now, save_result
from capsbench.sources.identity import Identity
from capsbench.sources.places import digest
from capsbench.system.disk import kind_of, lock, make_folder
from capsbench.version import VERSION

LONGEST_LABEL = 80


@dataclass(frozen=True)
class Judged:
    """A result from scores.

    Attributes:
        result: The result.
        path: Its file.
        warnings: Sentences about another order in which the scores would be far better, and about missing digests.
    """

    result: Result
    path: Path
    warnings: list[str]


def judge(
    suite: str,
    folder: str | Path,
    *,
    label: str,
    seed: int = 0,
    digits: str | Path = "auto",
    digits_as: str | None = None,
    out: str | Path = "runs",
) -> Results:
    """Judges scores of a network that ran elsewhere, in any framework.

    `capsbench.tests` wrote what they are for. For each name of its manifest the folder holds ``NAME.npz``, with
    ``scores`` ``[N, 10]`` in the file's order and ``digest``, the file's root digest; or ``NAME.csv`` with a line
    ``index,0,1,...,9`` and one for each image, before which ``# digest HEX`` may stand. Reconstructions of pairs,
    ``reconstructions`` ``[N, 10, H, W]``, are segmented.

    Args:
        suite: The suite, such as ``"affine"``.
        folder: The folder of the scores and of ``manifest.json``.
        label: What tables call the network. A result with this label and seed is replaced.
        seed: Which of several trainings of the network the scores are of.
        digits: ``"auto"``, ``"embedded"``, a set that was fetched (such as ``"fashion"``), or a folder of
            IDX files, as for the tests.
        digits_as: What the digits of a folder, or of a file like Keras' ``mnist.npz``, are called, where they are not
            MNIST's.
        out: The folder of results.

    Returns:
        The result.

    Raises:
        UsageError: A name or a value makes no sense.
        DataError: Scores are missing, damaged or for other images.
        StorageError: The result cannot be written to ``out``.
    """
    judged = judge_scores(suite, folder, label=label, seed=seed, digits=named_digits(digits, digits_as), out=out)
    for sentence in judged.warnings:
        warnings.warn(sentence, stacklevel=2)
    return Results([judged.result])


def judge_scores(
    suite: str, folder: str | Path, *, label: str, seed: int | str, digits: str, out: str | Path
) -> Judged:
    """As `judge`, which says more."""
    begun = perf_counter()
    place, results = user_path(folder, "The folder of scores"), user_path(out, "out")
    _check_label(label)
    number: int = convert("seed", seed, int)
    check_seeds([number])
    if kind_of(place) != "folder":
        raise DataFileError(f"There is no folder {place} to read scores from.")
    manifest = load_manifest(place)
    if manifest.suite != suite:
        raise UsageError(f"The manifest in {place} is of suite {shown(manifest.suite)!r}, not {suite!r}.")
    opened = Examination.of(suite, manifest.preset, manifest.changes, digits=digits, label=label, seed=number)
    subject = ScoresSubject(opened, place, _entries(opened, manifest, place), _files(place, manifest))
    metrics = opened.suite.judge(opened.data, opened.tests, subject)
    subject.warnings.extend(_without_digest(subject.files.values()))
    cell = opened.cell
    made_of = Identity(label, {path.name: digest(path) for path in subject.files.values()})
    result = Result(
        suite=suite,
        version=cell.version,
        preset=cell.preset,
        model=label,
        label=label,
        source=made_of.hash,
        identity={"model": dict(made_of.parts), **cell.made_of},
        seed=number,
        cell=cell.id,
        settings=asdict(cell.settings),
        parameters={},
        digits=cell.digits,
        data=opened.data.data,
        metrics={"parameters": None, **metrics},
        seconds=perf_counter() - begun,
        environment=_environment(),
        date=now(),
        origin="scores",
        remarks=subject.warnings,
        writers=opened.data.writers,
    )
    path = results / cell.folder / f"{cell.name}.json"
    make_folder(path.parent)
    with lock(path):
        save_result(result, path)
    return Judged(load_result(path), path, subject.warnings)


@dataclass(frozen=True)
class ScoresSubject:
    """A network that is known by its scores.

    Attributes:
        opened: The tests.
        folder: Where the scores lie.
        entries: What the manifest says of each test.
        files: The file with the scores of each name of the manifest.
        warnings: What was noticed so far.
        progress: Shows how far a test is.
    """

    opened: Examination
    folder: Path
    entries: Mapping[str, Entry]
    files: Mapping[str, Path]
    warnings: list[str] = field(default_factory=list)
    progress: ProgressBar = no_bar

    def predict(self, name: str) -> Predictions:
        """The scores of a test.

        Raises:
            DataFileError: They are not for this test.
        """
        entry, path = self.entries[name], self.files[self.entries[name].name]
        samples = SamplesFile(self.opened.tests[name]())
        if (entry.digest, entry.count) != (samples.facts.digest, len(samples)):
            raise DataFileError(
                f"{self.folder} has a manifest of other tests: {entry.name} is {entry.count:,} images with digest "
                f"{shown(entry.digest)[:16]}, here it is {len(samples):,} with {samples.facts.digest[:16]}. Were they "
                "made from other digits (--digits), or by another version of capsbench? Write the tests again, and "
                "compute the scores for them."
            )
        if entry.image_shape != samples.image_shape:
            raise DataFileError(
                f"The manifest in {self.folder} has image_shape {shown(list(entry.image_shape))} for {entry.name}, "
                f"whose images are {list(samples.image_shape)}. Write it again: capsbench tests ... --force"
            )
        scores = read_scores(path, len(samples), entry.digest)
        facts = samples.facts
        found = Predictions(scores, facts.labels, facts.source, writers_of(samples.samples))
        noticed = filter(None, (other_order(found), ties(found)))
        self.warnings.extend(plain(f"{entry.name}: {one}") for one in noticed)
        return found

    def draw(self, name: str, rows: IndexArray, classes: IndexArray, layer: int | None = None) -> Images | None:
        """The reconstructions of a test, where they came with the scores; layers alone were not shown to the network.

        Raises:
            DataFileError: They are not for this test.
        """
        entry = self.entries[name]
        path = self.files[entry.name]
        if layer is not None or not has_drawings(path):
            return None
        return Drawings(path, entry.count, entry.image_shape)(rows, classes)


def _check_label(label: str) -> None:
    if not isinstance(label, str) or not label.strip() or len(label) > LONGEST_LABEL or not label.isprintable():
        raise ParameterError(
            f"label must be a text of 1 to {LONGEST_LABEL} printable characters, got {shown(label) or 'nothing'}."
        )


def _entries(opened: Examination, manifest: Manifest, folder: Path) -> dict[str, Entry]:
    """For each test what the manifest says of it.

    Raises:
        DataFileError: It does not name the tests.
    """
    stems = file_stems(opened.tests)
    known = {entry.name: entry for entry in manifest.files}
    if set(known) != set(stems.values()) or len(known) != len(manifest.files):
        differing = sorted(set(known) ^ set(stems.values()))
        raise DataFileError(
            f"The manifest in {folder} does not name the tests of suite {manifest.suite!r} in preset "
            f"{manifest.preset!r}: {shown(', '.join(differing)) or 'a name comes twice'}. Write it again: "
            f"capsbench tests --suite {manifest.suite} --preset {manifest.preset} --out {folder} --force"
        )
    return {name: known[stem] for name, stem in stems.items()}


def _files(folder: Path, manifest: Manifest) -> dict[str, Path]:
    """The file with the scores of each name of the manifest.

    Raises:
        DataFileError: Some have none.
    """
    found = {entry.name: scores_file(folder, entry.name) for entry in manifest.files}
    missing = [name for name, path in found.items() if path is None]
    if missing:
        named = {path.stem for path in (*folder.glob("*.npz"), *folder.glob("*.csv"))} - set(found)
        others = f" It has scores of {', '.join(sorted(named)[:3])}, which are no tests." if named else ""
        raise DataFileError(
            f"{folder} has no scores of {', '.join(missing[:3])}{', ...' if len(missing) > 3 else ''} "
            f"({len(missing)} of {len(found)} tests): NAME.npz or NAME.csv is needed for each.{others}"
        )
    return {name: path for name, path in found.items() if path is not None}


def _without_digest(files: Iterable[Path]) -> list[str]:
    """What must be said of scores that do not say which images they are for; of others nothing."""
    found = [path.name for path in files if not has_digest(path)]
    if not found:
        return []
    names = shown(", ".join(found[:3])) + (f", ... ({len(found)} files)" if len(found) > 3 else "")
    return [
        f"no digest in {names}: nothing shows that the scores are for these images; a first line '# digest HEX' does."
    ]


def _environment() -> dict[str, Any]:
    """Where the scores were judged; where they were computed is not known."""
    return {
        "capsbench": VERSION,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "h5py": h5py.__version__,
        "system": f"{platform.system()} {platform.machine()}",
    }
