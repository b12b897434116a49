"""Two results on the same images: how they differ, and whether chance explains it.

A network's right answers are correlated with another's, because some digits are hard for both, and the variants of one
digit with each other. So differences are paired image by image; their interval resamples base digits, and their test
flips the signs of what base digits, all variants together, say.
"""

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from capsbench.contracts import IndexArray
from capsbench.errors import DataFileError, UsageError
from capsbench.parameters import check_choice
from capsbench.report.groups import by_network
from capsbench.report.tables import FORMATS, Table, render_tables
from capsbench.results.answers import PAIR_ANSWERS, Answers, unpacked_partners
from capsbench.results.result import Result, load_results
from capsbench.statistics import Interval, paired_by_pair, paired_interval, paired_p
from capsbench.system.disk import kind_of

Place = tuple[str, ...]
PAIRS_NOTE = "Of pairs of digits, interval and p are normal, with the variance over all pairs that share a digit."
SHOWN = 4  # results that an error names


@dataclass(frozen=True, kw_only=True)
class Difference:
    """How two networks differ on one set of images.

    Attributes:
        place: Where it stands in the metrics of both, such as ``("checkpoints", "best", "affine")``.
        first: Share of right answers 0..1 of the first.
        second: The same of the second.
        interval: 95 % interval of second minus first, over resampled base digits.
        p: Of the exact sign-flip test over base digits; with one image a digit, McNemar's.
        digits: How many base digits there are.
        images: How many images.
        pairs: Whether each shows two digits; then interval and p take both for units.
    """

    place: Place
    first: float
    second: float
    interval: Interval
    p: float
    digits: int
    images: int
    pairs: bool = False

    @property
    def difference(self) -> float:
        """Second minus first."""
        return self.second - self.first

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON types."""
        return {**vars(self), "place": list(self.place), "interval": list(self.interval), "difference": self.difference}


@dataclass(frozen=True)
class Comparison:
    """Two results, and how they differ wherever both keep who was right."""

    first: Result
    second: Result
    differences: list[Difference]

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON types."""
        return {
            "suite": self.first.suite,
            "preset": _either(self, lambda result: result.preset),
            "A": {"model": self.first.label, "seed": self.first.seed, "cell": self.first.cell},
            "B": {"model": self.second.label, "seed": self.second.seed, "cell": self.second.cell},
            "differences": [difference.to_dict() for difference in self.differences],
        }


@dataclass(frozen=True)
class Comparisons:
    """What `compare` found.

    Attributes:
        pairs: A comparison for each result that has a partner.
        alone: What has none, in words.
    """

    pairs: list[Comparison]
    alone: list[str]

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON types."""
        return {"pairs": [pair.to_dict() for pair in self.pairs], "without partner": self.alone}


def compare(first: str | Path, second: str | Path) -> Comparisons:
    """Compares results on the same images.

    Two files are compared as they are. Of folders, results of one suite, preset and seed are partners; where either
    folder has several of those, those of one network, and then those of one model with other parameters.

    Args:
        first: A result's file, or a folder of results.
        second: Another.

    Raises:
        UsageError: Both are the same, nothing has a partner, or partners were tested on different images.
        DataFileError: There are no results, or one is damaged or keeps no answers.
    """
    if os.path.realpath(first) == os.path.realpath(second):
        raise UsageError(f"{first} cannot be compared with itself; name two results.")
    ours, theirs = load_results(first), load_results(second)
    if kind_of(Path(first)) == kind_of(Path(second)) == "file":
        return Comparisons([compare_results(ours[0], theirs[0])], [])
    partners, alone = _partners(ours, theirs)
    if not partners:
        more = f" and {len(alone) - SHOWN} more" if len(alone) > SHOWN else ""
        raise UsageError(
            f"No result in {first} has a partner in {second}: of one suite, preset and seed. "
            f"There are {'; '.join(alone[:SHOWN])}{more}."
        )
    return Comparisons([compare_results(*pair) for pair in partners], alone)


def compare_results(first: Result, second: Result) -> Comparison:
    """Compares two results of one suite.

    Raises:
        UsageError: They are one result, of different suites, or were tested on different images.
        DataFileError: They keep no answers at the same place, or what they keep is damaged.
    """
    if first == second:
        raise UsageError(f"{_name(first)} cannot be compared with itself; name two results.")
    _check_comparable(first, second)
    theirs = dict(_kept(second.metrics))
    common = [
        place for place, _ in _kept(first.metrics) if place in theirs and _found(first, place) and _found(second, place)
    ]
    if not common:
        raise DataFileError(
            f"{_name(first)} and {_name(second)} keep no answers to the same images, so there is nothing to pair. "
            "Earlier versions of the suites kept none; run both again."
        )
    return Comparison(first, second, [_difference(first, second, place) for place in common])


def paired_notes(results: Sequence[Result], places: Mapping[str, Place]) -> list[str]:
    """Sentences for a table of one suite: how its networks differ from the first, on the same images, seed by seed.

    Args:
        results: Of one suite and preset.
        places: What a sentence calls it -> where in the metrics the answers are kept; what is missing is left out.

    Returns:
        A sentence for each place and each network but the first: "affine, best: capsnet minus cnn-pool ...".
    """
    (baseline, ours), *others = by_network(results).items()
    notes = []
    for title, place in places.items():
        for network, theirs in others:
            partners = [(one, other) for one in ours for other in theirs if one.seed == other.seed]
            by_seed = [text for one, other in partners if (text := _paired(one, other, place))]
            if by_seed:
                notes.append(f"{title}, {network} minus {baseline}, paired by image: {'; '.join(by_seed)}.")
    return notes


def render_comparisons(found: Comparisons, style: str = "simple") -> str:
    """As text, in one of `capsbench.report.tables.FORMATS`: a table for each pair, or all of it as JSON.

    Raises:
        UnknownNameError: There is no such format.
    """
    check_choice("format", style, FORMATS)
    if style == "json":
        return json.dumps(found.to_dict(), indent=2)
    return render_tables([comparison_table(pair) for pair in found.pairs], style)


def comparison_table(comparison: Comparison) -> Table:
    """One row for each set of images."""
    rows = [
        [
            ", ".join(one.place),
            one.digits,
            one.images,
            f"{100 * one.first:.{_decimals(one)}f}",
            f"{100 * one.second:.{_decimals(one)}f}",
            _points(one),
            f"{one.p:.2g}",
        ]
        for one in comparison.differences
    ]
    return Table(
        headers=["images", "digits", "number", "A %", "B %", "B - A, points", "p"],
        rows=rows,
        notes=[
            "B - A with its 95 % interval over resampled base digits; p of the exact sign-flip test over them, "
            "which with one image a digit is McNemar's.",
            *([PAIRS_NOTE] if any(one.pairs for one in comparison.differences) else []),
            "Of many rows some fall below 0.05 by chance.",
        ],
        title=", ".join(
            [
                comparison.first.suite,
                f"preset {_either(comparison, lambda result: result.preset)}",
                f"A: {comparison.first.label} (seed {comparison.first.seed})",
                f"B: {comparison.second.label} (seed {comparison.second.seed})",
            ]
        ),
    )


def _kept(metrics: Any, place: Place = ()) -> Iterator[tuple[Place, Mapping[str, Any]]]:
    """Every accuracy in a result's metrics that keeps its answers, with its place."""
    if isinstance(metrics, Mapping):
        if "answers" in metrics:
            yield place, metrics
        for key, value in metrics.items():
            yield from _kept(value, (*place, str(key)))
    elif isinstance(metrics, list):
        for number, value in enumerate(metrics):
            yield from _kept(value, (*place, str(number)))


def _partners_of(result: Result, place: Place) -> Any:
    """What a result keeps about the second digits of the pairs at a place, or None: it stands above the answers."""
    found, kept = result.metrics, None
    for key in place:
        kept = found.get("partners", kept) if isinstance(found, Mapping) else kept
        found = found[int(key)] if isinstance(found, list) else found[key]
    return kept


def _found(result: Result, place: Place) -> Mapping[str, Any] | None:
    """The accuracy at a place of a result's metrics, if it keeps its answers, and of pairs who the partners were."""
    found: Any = result.metrics
    for key in place:
        members = {str(number): one for number, one in enumerate(found)} if isinstance(found, list) else found
        found = members.get(key) if isinstance(members, Mapping) else None
    if not (isinstance(found, Mapping) and "answers" in found):
        return None
    return None if place[-1] in PAIR_ANSWERS and _partners_of(result, place) is None else found


def _difference(first: Result, second: Result, place: Place) -> Difference:
    ours, theirs = _answers(first, place), _answers(second, place)
    if (len(ours.correct), ours.digits) != (len(theirs.correct), theirs.digits):
        raise DataFileError(
            f"At {', '.join(place)} the results keep answers to {len(ours.correct):,} images of {ours.digits:,} digits "
            f"and {len(theirs.correct):,} images of {theirs.digits:,} digits; they were not tested on the same images."
        )
    interval, p = _tested(ours, theirs, _pairs(first, place, ours))
    return Difference(
        place=place,
        first=float(ours.correct.mean()),
        second=float(theirs.correct.mean()),
        interval=interval,
        p=p,
        digits=ours.digits,
        images=len(ours.correct),
        pairs=_partners_of(first, place) is not None,
    )


def _tested(ours: Answers, theirs: Answers, pairs: IndexArray | None) -> tuple[Interval, float]:
    """The interval of the second minus the first, and its p."""
    if pairs is not None:
        return paired_by_pair(ours.correct, theirs.correct, pairs)
    given = ours.correct, theirs.correct, ours.base
    return paired_interval(*given), paired_p(*given)


def _pairs(result: Result, place: Place, answers: Answers) -> IndexArray | None:
    """``[N, 2]``: the digits of each pair; None where images show one digit."""
    kept = _partners_of(result, place)
    if kept is None:
        return None
    partners = unpacked_partners(kept)
    if len(partners) != len(answers.correct):
        raise DataFileError(
            f"{_name(result)}, at {', '.join(place)}: {len(answers.correct):,} answers to {len(partners):,} pairs."
        )
    return np.column_stack([answers.base.astype(np.int64), partners])


def _answers(result: Result, place: Place) -> Answers:
    try:
        return Answers.from_dict(_found(result, place) or {})
    except DataFileError as error:
        raise DataFileError(f"{_name(result)}, at {', '.join(place)}: {error}") from None


def _paired(first: Result, second: Result, place: Place) -> str:
    """``seed 0 +3.1 (1.9..4.2) points, p 0.001``; nothing where one has no answers there."""
    if not (_found(first, place) and _found(second, place)):
        return ""
    try:
        _check_comparable(first, second)
    except UsageError as error:  # the table is still worth having
        return f"seed {first.seed} not compared ({error})"
    found = _difference(first, second, place)
    return f"seed {first.seed} {_points(found)} points, p {found.p:.2g}"


def _points(found: Difference) -> str:
    """Points of a percent, ``+0.10 (-0.02..+0.21)``."""
    decimals = _decimals(found)
    values = (100 * value for value in (found.difference, *found.interval))
    # Rounded first, and 0 added: what rounds to nothing has no sign of its own.
    middle, low, high = (f"{round(value, decimals) + 0.0:+.{decimals}f}" for value in values)
    return f"{middle} ({low}..{high})"


def _decimals(found: Difference) -> int:
    """Of percent: one image of 1,000 is 0.1, of 10,000 0.01."""
    return 2 if found.images >= 10_000 else 1


def _check_comparable(first: Result, second: Result) -> None:
    """Refuses results that were not tested alike.

    Raises:
        UsageError: They are of different suites or versions of one, or their test data differ.
    """
    if (first.suite, first.version) != (second.suite, second.version):
        raise UsageError(
            f"{_name(first)} (version {first.version}) and {_name(second)} (version {second.version}) cannot be "
            "compared: their suites or versions differ."
        )
    ours, theirs = _tested_on(first), _tested_on(second)
    if not ours.keys() & theirs.keys():
        raise UsageError(
            f"{_name(first)} and {_name(second)} cannot be compared: they have no test data in common, but "
            f"{', '.join(ours) or 'nothing'} and {', '.join(theirs) or 'nothing'}."
        )
    for role in ours:
        if role in theirs and ours[role] != theirs[role]:
            what = _what_differs(ours[role], theirs[role])
            raise UsageError(
                f"{_name(first)} and {_name(second)} were tested on different images: of {role!r}, {what}. "
                "Run both with the same data settings."
            )


def _tested_on(result: Result) -> dict[str, Mapping[str, Any]]:
    """The test data of a result, by role: spec and, of a file, digest."""
    try:
        return {role: used for role, used in result.data.items() if used["spec"]["split"] == "test"}
    except (KeyError, TypeError):
        raise DataFileError(f"{_name(result)} does not say what it was tested on.") from None


def _what_differs(first: Mapping[str, Any], second: Mapping[str, Any]) -> str:
    """``count: 1000 and 4000``."""
    ours, theirs = ({**used["spec"], "digest": used.get("digest")} for used in (first, second))
    keys = [key for key in ours | theirs if ours.get(key) != theirs.get(key)]
    return "; ".join(f"{key}: {ours.get(key)} and {theirs.get(key)}" for key in keys)


def _partners(first: Sequence[Result], second: Sequence[Result]) -> tuple[list[tuple[Result, Result]], list[str]]:
    """Results of one suite, preset and seed, and the names of those that have no such partner."""
    pairs: list[tuple[Result, Result]] = []
    alone: list[str] = []
    ours, theirs = _by_protocol(first), _by_protocol(second)
    for protocol in ours | theirs:
        here, there = ours.get(protocol, {}), theirs.get(protocol, {})
        if len(here) == len(there) == 1:
            pairs.append((next(iter(here.values())), next(iter(there.values()))))
            continue
        pairs += [(here.pop(label), there.pop(label)) for label in list(here) if label in there]
        # Of what is left, one network of a model in each: the same but for what was set.
        for model in {result.model for result in here.values()}:
            ours_of, theirs_of = (
                [label for label, result in side.items() if result.model == model] for side in (here, there)
            )
            if len(ours_of) == len(theirs_of) == 1:
                pairs.append((here.pop(ours_of[0]), there.pop(theirs_of[0])))
        alone += [f"{_name(result)} in A alone" for result in here.values()]
        alone += [f"{_name(result)} in B alone" for result in there.values()]
    return pairs, alone


def _by_protocol(results: Sequence[Result]) -> dict[tuple[Any, ...], dict[str, Result]]:
    """Suite, preset and seed -> label of the model -> result."""
    groups: dict[tuple[Any, ...], dict[str, Result]] = {}
    for result in results:
        members = groups.setdefault((result.suite, result.preset, result.seed), {})
        if result.label in members:
            raise UsageError(f"One folder has two results of {_name(result)}; name the files to be compared.")
        members[result.label] = result
    return groups


def _name(result: Result) -> str:
    return f"{result.label} ({result.suite}, preset {result.preset}, seed {result.seed})"


def _either(comparison: Comparison, fact: Callable[[Result], str]) -> str:
    """A fact of both results, once where it is the same."""
    return " and ".join(dict.fromkeys([fact(comparison.first), fact(comparison.second)]))
