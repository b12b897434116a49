"""Every answer of results, a line for each image: what it shows, how it was drawn, what was answered."""

import csv
import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from capsbench.contracts import Say, silent
from capsbench.data.digits import digits_of_spec, name_of
from capsbench.data.recipes import recipe_of
from capsbench.errors import CapsbenchError, DataFileError
from capsbench.report.differences import kept_places
from capsbench.results.answers import Answers, mistakes_of, unpacked_partners
from capsbench.results.result import Result
from capsbench.spec import DataSpec
from capsbench.system.disk import lock, make_folder, storage_errors

FACTORS = ("rotation", "shear", "scale_y", "scale_x", "dy", "dx", "dy_2", "dx_2", "scraps")
COLUMNS = (
    "suite",
    "network",
    "seed",
    "cell",
    "images",
    "index",
    "digest",
    "source",
    "digits",
    "label",
    "answer",
    "right",
    *FACTORS,
)
PART = 4096  # samples that are drawn at a time for their factors


def save_samples(results: Sequence[Result], path: Path, digits: str = "auto", say: Say = silent) -> int:
    """Writes the answers of results as CSV, whole or not at all.

    Args:
        results: Results that keep their answers.
        path: The file.
        digits: Where source digits are looked for; without them labels of right answers and factors stay empty.
        say: Called with a sentence where something is missing.

    Returns:
        How many lines it wrote.

    Raises:
        DataFileError: No result keeps answers, or what one keeps is damaged.
        StorageError: The file cannot be written.
    """
    make_folder(path.parent)
    temporary = path.with_name(f"{path.name}.new")
    with storage_errors(path), lock(path, wait=True):  # another process may write the same file
        try:
            temporary.unlink(missing_ok=True)  # what a killed one left
            with temporary.open("x", newline="", errors="backslashreplace") as file:
                writer = csv.writer(file, lineterminator="\n")
                writer.writerow(COLUMNS)
                number = 0
                for line in _every_line(results, digits, say):
                    writer.writerow(line)
                    number += 1
            if not number:
                raise DataFileError("No result keeps its answers, so there are none to write.")
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    return number


def _every_line(results: Sequence[Result], digits: str, say: Say) -> Iterator[list[Any]]:
    known: dict[str, tuple[Any, Any]] = {}
    for result in results:
        for place, point in kept_places(result.metrics):
            if place[-1] != "at least one":  # whose images are those of exact pairs
                yield from _lines(result, place, point, known, digits, say)


def _lines(
    result: Result, place: Sequence[str], point: Any, known: dict[str, tuple[Any, Any]], digits: str, say: Say
) -> Iterator[list[Any]]:
    answers = Answers.from_dict(point)
    mistakes = mistakes_of(point)
    used = _used(result, place, len(answers.correct))
    spec: dict[str, Any] = used.get("spec", {})
    labels, factors = _drawn(spec, len(answers.correct), known, digits, say)
    source = spec.get("digits_name") or name_of(str(spec.get("digits"))) or ""
    partners = _partners(result, place, len(answers.correct))
    base = answers.base.tolist()
    wrong = 0
    for index, right in enumerate(answers.correct.tolist()):
        shown = [base[index]] + ([] if partners is None else [int(partners[index])])
        label = [int(labels[one]) for one in shown] if labels is not None else []
        answer = label if right else []
        if not right:
            if mistakes is not None:
                half = mistakes.shape[1] // 2
                label, answer = mistakes[wrong, :half].tolist(), mistakes[wrong, half:].tolist()
            wrong += 1
        yield [
            result.suite, result.label, result.seed, result.cell, ", ".join(place), index, used.get("digest", ""),
            source, " ".join(map(str, shown)), " ".join(map(str, label)), " ".join(map(str, answer)), int(right),
            *(factors[index] if factors is not None else [""] * len(FACTORS)),
        ]  # fmt: skip


def _used(result: Result, place: Sequence[str], images: int) -> dict[str, Any]:
    """The test data behind a place of the metrics: its spec and, of a file, its digest."""
    last, before = place[-1], place[-2] if len(place) > 1 else ""
    told = (
        last,
        f"{before} at {last} px",
        f"{last} {before}",
        f"{last} {before.removesuffix('s')}",
    )  # 8 scraps, 1 scrap
    for role in (*told, *(["pair test"] if place[0] == "pairs" else []), "test"):
        used = result.data.get(role)
        if isinstance(used, dict) and isinstance(spec := used.get("spec"), dict) and spec.get("count") == images:
            return used
    return {}


def _drawn(
    content: dict[str, Any], images: int, known: dict[str, tuple[Any, Any]], source: str, say: Say
) -> tuple[Any, Any]:
    """The labels of all base digits, and ``[images]`` lists of factors; None where the digits are not here."""
    key = repr(content)
    if key not in known:
        try:
            spec = DataSpec.from_json(json.dumps(content))
            source = _where(spec, source)
            labels = digits_of_spec(spec, source).labels
            sampler = recipe_of(spec, source).sampler
            parts = [sampler.batch(np.arange(start, min(start + PART, images))) for start in range(0, images, PART)]
            known[key] = labels, [line for part in parts for line in _factors(part)]
        except (CapsbenchError, ValueError) as error:
            say(f"Labels of right answers and factors stay empty: {error}")
            known[key] = None, None
    return known[key]


def _where(spec: DataSpec, asked: str) -> str:
    """Where the digits of a spec are: a folder of results may have runs of several."""
    for place in (asked, "auto", "embedded"):
        with suppress(CapsbenchError):
            digits_of_spec(spec, place)
            return place
    return asked


def _factors(batch: Any) -> list[list[Any]]:
    """A line of `FACTORS` for each sample, empty where a data set does not have one."""
    if batch.transform is not None:
        return [[*map(float, line), "", "", ""] for line in batch.transform]
    shift = batch.shift.reshape(len(batch.shift), -1) if batch.shift is not None else np.zeros((len(batch.labels), 0))
    scraps = [""] * len(shift) if batch.scraps is None else batch.scraps.tolist()
    moved = [["", "", "", "", *line, *[""] * (4 - len(line))] for line in shift.tolist()]
    return [[*line, number] for line, number in zip(moved, scraps, strict=True)]


def _partners(result: Result, place: Sequence[str], images: int) -> Any:
    """The second digits of pairs."""
    found: Any = result.metrics
    kept = found.get("partners")
    for key in place:
        found = found.get(key) if isinstance(found, dict) else None
        kept = found.get("partners", kept) if isinstance(found, dict) else kept
    if kept is None or place[-1] != "exact pair":
        return None
    partners = unpacked_partners(kept)
    return partners if len(partners) == images else None
