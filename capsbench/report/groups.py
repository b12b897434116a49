"""Which results may stand together, and what their suites make of them."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

from capsbench.errors import DataFileError, SuiteError, UsageError
from capsbench.report.figures import Figure
from capsbench.report.glossary import WORDS
from capsbench.report.notes import (
    older_note,
    remarks_note,
    scores_note,
    shown_by,
    signs_note,
    smoke_note,
    threads_note,
    writers_note,
)
from capsbench.report.numbers import told_seeds
from capsbench.report.suites import listed, readable, suite_of
from capsbench.report.tables import Table
from capsbench.results.result import Result
from capsbench.spec import MNIST, told_digits

OF_PAPER = ("mnist", "cifar10")
"""The full sets that the paper measured on."""


@dataclass(frozen=True)
class ReportedValue:
    """A value that the paper reports, and how ours is found.

    Attributes:
        what: What is measured, with the network and the unit.
        paper: The paper's value.
        ours: Maps results of the suite in preset ``paper`` to our value, or to None where it was not measured.
    """

    what: str
    paper: str
    ours: Callable[[Sequence[Result]], str | None]


@dataclass(frozen=True)
class Group:
    """Results of one suite that can be compared: one protocol and device.

    Attributes:
        suite: The suite's name.
        members: The newest result of each network and seed.
        older: How many others there are.
    """

    suite: str
    members: list[Result]
    older: int = 0

    @property
    def title(self) -> str:
        """The line above their table and charts."""
        first = self.members[0]
        source = told_digits(first.digits)
        return ", ".join(
            part
            for part in (self.suite, f"preset {first.preset}", source, self.device, told_seeds(self.members))
            if part
        )

    @property
    def folder(self) -> str:
        """The folder of their charts in that of a run's results, which holds those of other protocols and devices."""
        return _file_words(["charts", *self._words])

    def apart(self, others: Sequence["Group"]) -> str:
        """What tells it from the others in a file's name: the preset; if that is not enough the device, the protocol.

        It does not depend on their order, so a result that joins them renames nothing but files of its own preset.
        """
        number = 1
        rivals = [one for one in others if one is not self]
        if not rivals:
            return ""
        while number < len(self._words) and any(one._words[:number] == self._words[:number] for one in rivals):
            number += 1
        return "-" + _file_words(self._words[:number])

    @property
    def _words(self) -> tuple[str, str, str]:
        first = self.members[0]
        return first.preset.partition(" ")[0], self.device, first.protocol[:6]

    @property
    def device(self) -> str:
        """What they were measured on; nothing of scores alone."""
        return next((device for one in self.members if (device := device_of(one)) is not None), "")

    @property
    def other_digits(self) -> str:
        """The name of the digits that they were measured on; empty where they are MNIST's, or none."""
        name = self.members[0].digits
        return "" if name in (*MNIST, "none") else name

    def table(self) -> Table:
        """The suite's table of these results.

        Raises:
            DataFileError: The suite cannot read a result.
            SuiteError: The suite makes no table.
        """
        table = self._made(suite_of(self.suite).table)
        if not isinstance(table, Table):
            raise SuiteError(f"The table of suite {self.suite!r} is no Table, but {type(table).__name__}.")
        return replace(
            table,
            title=self.title,
            notes=[
                *signs_note(table, shown_by(self.suite)),
                *writers_note(self.members),
                *table.notes,
                *scores_note(self.members),
                *remarks_note(self.members),
                *threads_note(self.members),
                *smoke_note(self.members),
                *older_note(self.older),
                WORDS,
            ],
        )

    def charts(self) -> list[Figure]:
        """The suite's charts and pictures of these results; none if it has no method ``charts``.

        Raises:
            DataFileError: The suite cannot read a result.
        """
        make = getattr(suite_of(self.suite), "charts", None)
        return listed(self.suite, "charts", Figure, make, self.members) if make else []

    def ours(self, reported: ReportedValue) -> str | None:
        """Our value beside one that the paper reports, of networks trained here; None where it was not measured.

        Raises:
            DataFileError: The suite cannot read a result.
        """
        ours = [one for one in self.members if one.origin == "trained"]
        return cast("str | None", replace(self, members=ours)._made(reported.ours)) if ours else None

    def _made(self, make: Callable[[Sequence[Result]], Any]) -> Any:
        return readable(self.suite, make, self.members)


def current(results: Sequence[Result]) -> tuple[list[Result], list[str]]:
    """The results of the suites' present versions, and a sentence for each suite and version that is left out.

    Also left out are results of suites that cannot be asked, such as one in a file that nobody but the result names.

    Raises:
        DataFileError: None is left.
    """
    present: dict[str, Any] = {}
    why: dict[str, str] = {}
    for suite in dict.fromkeys(one.suite for one in results):
        try:
            present[suite] = suite_of(suite).version
        except UsageError as error:
            why[suite] = str(error)
    kept: list[Result] = []
    left_out: dict[tuple[str, str], int] = {}
    for result in results:
        if result.suite in why:
            key = "", why[result.suite]
        elif result.version != present[result.suite]:
            old = f" of version {result.version} of the suite {result.suite!r}"
            key = old, f"This is version {present[result.suite]}. Run again."
        else:
            kept.append(result)
            continue
        left_out[key] = left_out.get(key, 0) + 1
    notes = [
        f"{number} result{'s' * (number > 1)}{old} {'are' if number > 1 else 'is'} left out. {reason}"
        for (old, reason), number in left_out.items()
    ]
    if not kept:
        raise DataFileError(" ".join(notes) or "There are no results.")
    return kept, notes


def groups(results: Sequence[Result]) -> list[Group]:
    """Results by protocol and device, so that no table mixes what cannot be compared.

    Scores have no device: they stand beside the results of every device, and alone where there are none.
    """
    found: dict[tuple[Any, ...], list[Result]] = {}
    for result in results:
        found.setdefault(_protocol(result), []).append(result)
    for key in [key for key in found if key[-1] is None]:
        beside = [other for other in found if other[:-1] == key[:-1] and other != key]
        for other in beside:
            found[other] += found[key]
        if beside:
            del found[key]
    made = []
    for (suite, *_), members in found.items():
        kept = newest(members)
        made.append(Group(suite, _ordered(suite, kept), len(members) - len(kept)))
    return made


def newest(results: Sequence[Result]) -> list[Result]:
    """The results, without those of a network and seed that were measured again later by the same protocol and device.

    One file of weights is one training, and stays once. Their order stays.
    """
    latest: dict[tuple[Any, ...], tuple[str, str, int]] = {}
    keys = []
    for number, one in enumerate(results):
        edition = "" if one.origin == "scores" else one.source  # those of each seed are other files
        weights = one.training.get("sha256") if one.origin == "weights" else None  # of one training, whatever the seed
        keys.append((*_protocol(one), _marked(one), edition, weights or one.seed))
        found = (one.date, one.cell, number)
        latest[keys[-1]] = max(latest.get(keys[-1], found), found)
    return [one for number, (one, key) in enumerate(zip(results, keys, strict=True)) if latest[key][-1] == number]


def alike(results: Sequence[Result], among: Sequence[Result]) -> list[Result]:
    """The results of ``among`` that may stand in one table with one of ``results``."""
    protocols = {_protocol(result) for result in results}
    return [other for other in among if any(_together(_protocol(other), one) for one in protocols)]


def _protocol(result: Result) -> tuple[Any, ...]:
    return result.suite, result.protocol, device_of(result)


def _together(first: tuple[Any, ...], second: tuple[Any, ...]) -> bool:
    return first[:-1] == second[:-1] and (first[-1] == second[-1] or None in (first[-1], second[-1]))


def device_of(result: Result) -> str | None:
    """What it was measured on; None of scores, which have no device."""
    return None if result.origin == "scores" else str(result.environment.get("device", "?"))


def _file_words(words: Sequence[str]) -> str:
    return re.sub("[^a-z0-9]+", "-", " ".join(words).lower()).strip("-")


def _ordered(suite: str, members: Sequence[Result]) -> list[Result]:
    """Sorted by network, then by seed: the suite's own networks first, in the suite's order."""
    own = readable(suite, list, suite_of(suite).models)

    def place(result: Result) -> int:
        return own.index(result.model) if result.model in own and result.origin == "trained" else len(own)

    return sorted(members, key=lambda result: (place(result), result.model, result.label, result.origin, result.seed))


def at_paper_size(results: Sequence[Result]) -> bool:
    """Whether results are of networks trained here by preset ``paper``, unchanged, on full MNIST or CIFAR-10.

    The paper's values may stand beside these alone.
    """
    return all(one.origin == "trained" and one.preset == "paper" and one.digits in OF_PAPER for one in results)


def tables(results: Sequence[Result]) -> list[Table]:
    """One table for each group of results that can be compared."""
    return [group.table() for group in groups(results)]


def charts(results: Sequence[Result]) -> list[Figure]:
    """The figures of all groups, each with a name of its own."""
    return [chart for _, members in figures_by_group(results) for chart in members]


def figures_by_group(results: Sequence[Result]) -> list[tuple[Group, list[Figure]]]:
    """Each group of results that can be compared, with its figures; each figure has a name of its own."""
    drawn = [(group, list(group.charts())) for group in groups(results)]
    holders: dict[str, list[Group]] = {}
    for group, figures in drawn:
        for chart in figures:
            holders.setdefault(chart.name, []).append(group)
    made = []
    taken: set[str] = set()
    for group, figures in drawn:
        named = []
        networks = list(by_network(group.members))
        for chart in figures:
            words = f"{chart.name}{group.apart(holders[chart.name])}"
            name, number = words, 1
            while name in taken:  # of another model or seed
                number += 1
                name = f"{words}-{number}"
            taken.add(name)
            # An image is passed on without its page, so it names its results itself.
            note = "\n".join(filter(None, [chart.note, f"{group.title}."]))
            named.append(replace(chart, name=name, note=note, digits=group.other_digits, networks=networks))
        made.append((group, named))
    return made


def by_network(results: Sequence[Result]) -> dict[str, list[Result]]:
    """The results of each network by its label, over its seeds; editions of one user's file stay apart.

    A network that was not trained here has a mark behind its label.
    """
    editions: dict[str, set[str]] = {}
    for result in results:
        if result.origin != "scores":  # those of each seed are other files
            editions.setdefault(_marked(result), set()).add(result.source)
    networks: dict[str, list[Result]] = {}
    for result in results:
        edition = f" [{result.source[:6]}]" if len(editions.get(_marked(result), ())) > 1 else ""
        networks.setdefault(_marked(result) + edition, []).append(result)
    return networks


def _marked(result: Result) -> str:
    return result.label if result.origin == "trained" else f"{result.label} ({result.from_where})"
