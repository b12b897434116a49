"""The sentences below tables of results, and when each stands there."""

from collections.abc import Mapping, Sequence

import numpy as np

from capsbench.errors import DataFileError
from capsbench.report.suites import suite_of
from capsbench.report.tables import Table
from capsbench.results.result import Result, name_of
from capsbench.results.writers import unpacked_writers
from capsbench.spec import MNIST, WRITERS


def shown_by(suite: str) -> str:
    """What a suite shows to networks: digits, or images if it has its own."""
    return "images" if hasattr(suite_of(suite), "load") else "digits"


def signs_note(table: Table, shown: str) -> list[str]:
    """The meaning of the signs beside means, for those that the table has; ``shown`` is what the suite tests on."""
    text = " ".join(str(cell) for row in table.rows for cell in row)
    signs = {
        " ± ": f"± is the standard deviation over seeds (n - 1), all with the same test {shown}.",
        "..": f"Brackets hold a 95 % interval over base {shown}, of one seed.",
    }
    told = " ".join(meaning for sign, meaning in signs.items() if sign in text)
    return [told] if told else []


def writers_note(members: Sequence[Result]) -> list[str]:
    """The sentence about what is resampled where the labels of the run's digits say who wrote them; else nothing.

    Raises:
        DataFileError: What a result keeps of them is damaged.
    """
    numbers = sorted({number for one in members if (number := _number_of_writers(one))})
    if not numbers:
        return []
    return [
        "The labels say who wrote the test digits: intervals and tests over digits are over their "
        f"{' or '.join(f'{number:,}' for number in numbers)} writers, all digits of a writer together; of pairs of "
        "digits, over the writers of both."
    ]


def _number_of_writers(result: Result) -> int:
    """How many people wrote the test digits of a run; 0 where that is not known."""
    sums = result.identity.get("digits")
    key = sums.get(f"{result.digits}, {WRITERS}") if isinstance(sums, Mapping) else None
    if not isinstance(key, str) or key not in result.writers:
        return 0
    try:
        return len(np.unique(unpacked_writers(result.writers, key)))
    except DataFileError as error:
        raise DataFileError(f"{name_of(result)}: {error}") from None


def remarks_note(members: Sequence[Result]) -> list[str]:
    """What results say of their networks, once for each network."""
    return list(dict.fromkeys(f"{one.label}: {remark}" for one in members for remark in one.remarks))


def scores_note(members: Sequence[Result]) -> list[str]:
    """The sentence about scores, where some were judged."""
    if all(one.origin != "scores" for one in members):
        return []
    return [
        "Scores: computed elsewhere and judged here. How the network was trained and selected is not known; it stands "
        "where others have their best checkpoint by validation."
    ]


def threads_note(members: Sequence[Result]) -> list[str]:
    """Which results had another number of threads than others: that changes sums in their last digits."""
    found: dict[str, list[str]] = {}
    for one in members:
        if "threads" in one.environment:
            found.setdefault(str(one.environment["threads"]), []).append(f"{one.label} seed {one.seed}")
    if len(found) < 2:
        return []
    (most, _), *others = sorted(found.items(), key=lambda item: len(item[1]), reverse=True)
    told = "; ".join(f"{number} for {', '.join(names)}" for number, names in others)
    return [
        f"Cells had {most} thread{'s' * (most != '1')}, but {told}. With another number of threads, sums are added in "
        "another order, and figures differ as much as with another seed."
    ]


def smoke_note(results: Sequence[Result]) -> list[str]:
    """The sentence about the preset ``smoke``, if results are of it."""
    if not any(one.preset.partition(" ")[0] == "smoke" and one.origin == "trained" for one in results):
        return []
    return ["The preset smoke only shows that everything runs: networks are hardly trained, and figures mean nothing."]


def older_note(number: int) -> list[str]:
    """The sentence about results that `newest` leaves out, if there are any."""
    if not number:
        return []
    return [
        f"{number} older result{'s' * (number > 1)} of a network and seed, or of one file of weights, that were "
        "measured again: left out."
    ]


def beside_paper(results: Sequence[Result], said: str) -> list[str]:
    """A sentence about the paper's values below a table of results; none where they are not of MNIST's digits."""
    return [said] if all(one.digits in MNIST for one in results) else []
