"""How two results differ on the same images, with its interval and its p; and sentences about it for tables.

A network's right answers are correlated with another's, because some digits are hard for both, and the variants of one
digit with each other. So differences are paired image by image; their interval resamples base digits, and their test
flips the signs of what base digits, all variants together, say.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from capsbench.contracts import IndexArray
from capsbench.errors import DataFileError, UsageError
from capsbench.report.groups import by_network
from capsbench.report.notes import shown_by
from capsbench.report.numbers import told_p
from capsbench.results.answers import PAIR_ANSWERS, Answers, unpacked_partners
from capsbench.results.result import Result, name_of
from capsbench.results.writers import resampled_units
from capsbench.statistics import (
    Interval,
    holm,
    interval_over_seeds,
    p_over_seeds,
    paired_by_pair,
    paired_interval,
    paired_p,
)

Place = tuple[str, ...]
PAIRS_NOTE = "Of pairs of digits, interval and p are normal, with the variance over all pairs that share a digit."


@dataclass(frozen=True, kw_only=True)
class Difference:
    """How two networks differ on one set of images, or in the gap between two.

    Attributes:
        place: Where it stands in the metrics of both, such as ``("checkpoints", "best", "affine")``.
        first: Share of right answers 0..1 of the first; of a gap -1..1, clean minus transformed.
        second: The same of the second.
        interval: 95 % interval of second minus first, over resampled base digits.
        p: Of the exact sign-flip test over base digits; with one image a digit, McNemar's. Of several seeds,
            `capsbench.statistics.p_over_seeds`.
        digits: How many base digits there are.
        images: How many images; of a gap those of both sets.
        gap: Whether it is of gaps.
        pairs: Whether each shows two digits; then interval and p take both for units.
        seeds: How many seeds it is over.
        writers: How many people wrote the digits, which then are the units; 0 where that is not known.
    """

    place: Place
    first: float
    second: float
    interval: Interval
    p: float
    digits: int
    images: int
    gap: bool = False
    pairs: bool = False
    seeds: int = 1
    writers: int = 0

    @property
    def difference(self) -> float:
        """Second minus first."""
        return self.second - self.first

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON types; without writers where they are not known, and ``gap`` where it is none."""
        stated = {key: value for key, value in vars(self).items() if key not in ("writers", "gap") or value}
        return {**stated, "place": list(self.place), "interval": list(self.interval), "difference": self.difference}


@dataclass(frozen=True)
class Question:
    """What two networks are compared on.

    Attributes:
        place: Where in the metrics the answers are kept.
        among: The images of a result that count, ``[N]`` bool, or None where it does not say; without it all count.
    """

    place: Place
    among: Callable[[Result], npt.NDArray[np.bool_] | None] | None = None


def paired_notes(
    results: Sequence[Result], questions: Mapping[str, Question], *, baselines: Mapping[str, str] | None = None
) -> list[str]:
    """Sentences for a table of one suite: how its networks differ from the first, on the same images, seed by seed.

    Args:
        results: Of one suite and preset.
        questions: What a sentence calls it -> what is asked; what a result does not hold is left out.
        baselines: A network's label -> that of the network it is compared with, where that is not the first.

    Returns:
        A sentence for each question and each network but the first: "affine, best: capsnet minus cnn-pool ..."; and
        one on the number of tests where there are several.
    """
    networks = by_network(results)
    first, *others = networks
    found: dict[str, list[tuple[int, Difference | str]]] = {}
    for title, question in questions.items():
        for network in others:
            baseline = (baselines or {}).get(network, first)
            pairs = ((one, other) for one in networks[baseline] for other in networks[network])
            partners = [(one, other) for one, other in pairs if one.seed == other.seed]
            by_seed = [(one.seed, _asked(one, other, question)) for one, other in partners]
            told = [(seed, answer) for seed, answer in by_seed if answer]
            if told:
                found[f"{title}, {network} minus {baseline}, paired by image: "] = told
    tested = [answer for told in found.values() for _, answer in told if isinstance(answer, Difference)]
    corrected = iter(holm([one.p for one in tested]))
    notes = []
    for beginning, told in found.items():
        parts = [_told_seed(seed, answer, corrected, len(tested) > 1) for seed, answer in told]
        notes.append(
            beginning + "; ".join(parts + _over_seeds([answer for _, answer in told], shown_by(results[0].suite))) + "."
        )
    if any(one.pairs for one in tested):
        notes.append(PAIRS_NOTE)
    if len(tested) > 1:
        notes.append(
            f"If all networks were equal, {0.05 * len(tested):.2g} of these {len(tested)} tests would have a p below "
            "0.05 by chance. After the slash: p with Holm's (1979) correction for all of them."
        )
    return notes


def _told_seed(seed: int, answer: "Difference | str", corrected: Iterator[float], several: bool) -> str:
    """``seed 0 +3.1 (1.9..4.2) points, p 0.001 / 0.003``."""
    if isinstance(answer, str):
        return f"seed {seed} {answer}"
    holms = next(corrected)
    after = f" / {told_p(holms)}" if several else ""
    return f"seed {seed} {points_of(answer)} points, p {told_p(answer.p)}{after}"


def _over_seeds(answers: Sequence["Difference | str"], shown: str) -> list[str]:
    """The mean over seeds with its interval and p over seeds and what is shown; nothing of a single seed."""
    found = [one for one in answers if isinstance(one, Difference)]
    if len(found) < 2:
        return []
    pooled = over_seeds(found)
    return [f"over seeds and {shown} {points_of(pooled)} points, p {told_p(pooled.p)}"]


def _asked(first: Result, second: Result, question: Question) -> "Difference | str":
    """The difference; why there is none, in words; nothing where one has no answers there."""
    if not (found_at(first, question.place) and found_at(second, question.place)):
        return ""
    try:
        check_comparable(first, second)
    except UsageError as error:  # the table is still worth having
        return f"not compared ({error})"
    among = question.among(first) if question.among else None
    if question.among and among is None:
        return ""
    return difference_at(first, second, question.place, among)


def kept_places(metrics: Any, place: Place = ()) -> Iterator[tuple[Place, Mapping[str, Any]]]:
    """Every accuracy in a result's metrics that keeps its answers, with its place; the metrics themselves are none."""
    if isinstance(metrics, Mapping):
        if place and "answers" in metrics:
            yield place, metrics
        for key, value in metrics.items():
            yield from kept_places(value, (*place, str(key)))
    elif isinstance(metrics, list):
        for number, value in enumerate(metrics):
            yield from kept_places(value, (*place, str(number)))


def _partners_of(result: Result, place: Place) -> Any:
    """What a result keeps about the second digits of the pairs at a place, or None: it stands above the answers."""
    found, kept = result.metrics, None
    for key in place:
        kept = found.get("partners", kept) if isinstance(found, Mapping) else kept
        found = found[int(key)] if isinstance(found, list) else found[key]
    return kept


def found_at(result: Result, place: Place) -> Mapping[str, Any] | None:
    """The accuracy at a place of a result's metrics, if it keeps its answers, and of pairs who the partners were."""
    found: Any = result.metrics
    for key in place:
        members = {str(number): one for number, one in enumerate(found)} if isinstance(found, list) else found
        found = members.get(key) if isinstance(members, Mapping) else None
    if not (isinstance(found, Mapping) and "answers" in found):
        return None
    return None if place[-1] in PAIR_ANSWERS and _partners_of(result, place) is None else found


def difference_at(
    first: Result, second: Result, place: Place, among: npt.NDArray[np.bool_] | None = None
) -> Difference:
    """How two results differ at a place of both.

    Args:
        first: One.
        second: The other.
        place: Where both keep their answers.
        among: ``[N]`` the images that count; None: all.

    Raises:
        DataFileError: What they keep is damaged, or they were not tested on the same images.
    """
    ours, theirs = answers_of_both(first, second, place)
    some = np.ones(len(ours.correct), np.bool_) if among is None else among
    before, after = ours.correct[some], theirs.correct[some]
    pairs = _pairs(first, place, ours)
    shown = (ours.base if pairs is None else pairs)[some]
    unit = resampled_units(shown, None if theirs.writers is None else ours.writers)
    if pairs is not None:
        interval, p = paired_by_pair(before, after, unit)
    else:
        interval, p = paired_interval(before, after, unit), paired_p(before, after, unit)
    return Difference(
        place=place,
        first=float(before.mean()),
        second=float(after.mean()),
        interval=interval,
        p=p,
        digits=int(np.count_nonzero(np.bincount(ours.base[some]))),
        images=len(before),
        pairs=pairs is not None,
        writers=0 if unit is shown else len(np.unique(unit)),
    )


def answers_of_both(first: Result, second: Result, place: Place) -> tuple[Answers, Answers]:
    """What two results keep at a place of both.

    Raises:
        DataFileError: It is damaged, or of other images.
    """
    ours, theirs = _answers(first, place), _answers(second, place)
    if (len(ours.correct), ours.digits) != (len(theirs.correct), theirs.digits):
        raise DataFileError(
            f"At {', '.join(place)} the results keep answers to {len(ours.correct):,} images of {ours.digits:,} digits "
            f"and {len(theirs.correct):,} images of {theirs.digits:,} digits; they were not tested on the same images."
        )
    if not (ours.writers is None or theirs.writers is None or np.array_equal(ours.writers, theirs.writers)):
        raise DataFileError(
            f"At {', '.join(place)} {name_of(first)} and {name_of(second)} name different writers of the same digits. "
            "Run one again with the labels of the other (--digits)."
        )
    return ours, theirs


def pooled_difference(
    pairs: Sequence[tuple[Result, Result]], place: Place, among: npt.NDArray[np.bool_] | None = None
) -> Difference:
    """How two networks differ at a place of their results, over all their seeds.

    Args:
        pairs: A result of the one and of the other, for each seed.
        place: Where all keep their answers.
        among: ``[N]`` the images that count; None: all.

    Raises:
        DataFileError: As `difference_at`.
    """
    return over_seeds([difference_at(first, second, place, among) for first, second in pairs])


def over_seeds(found: Sequence[Difference]) -> Difference:
    """The mean of differences at one place, of a seed each; the only one as it is.

    Interval and p are over seeds and test digits; see `interval_over_seeds` and `p_over_seeds` in
    `capsbench.statistics`.
    """
    if len(found) == 1:
        return found[0]
    values, intervals = [one.difference for one in found], [one.interval for one in found]
    low, high = interval_over_seeds(values, intervals)
    largest = 2.0 if found[0].gap else 1.0  # a gap is -1..1 itself
    return replace(
        found[0],
        first=float(np.mean([one.first for one in found])),
        second=float(np.mean([one.second for one in found])),
        interval=(max(-largest, low), min(largest, high)),
        p=p_over_seeds(values, intervals),
        seeds=len(found),
    )


def _pairs(result: Result, place: Place, answers: Answers) -> IndexArray | None:
    """``[N, 2]``: the digits of each pair; None where images show one digit."""
    kept = _partners_of(result, place)
    if kept is None:
        return None
    partners = unpacked_partners(kept)
    if len(partners) != len(answers.correct):
        raise DataFileError(
            f"{name_of(result)}, at {', '.join(place)}: {len(answers.correct):,} answers to {len(partners):,} pairs."
        )
    return np.column_stack([answers.base.astype(np.int64), partners])


def _answers(result: Result, place: Place) -> Answers:
    (found,) = Answers.of_result(result, [found_at(result, place) or {}], ", ".join(place))
    return found


def points_of(found: Difference) -> str:
    """Points of a percent, ``+0.10 (-0.02..+0.21)``."""
    return told_points(found.difference, found.interval, decimals_of(found))


def told_points(difference: float, interval: Interval, decimals: int) -> str:
    """A difference of shares and its interval in points of a percent, ``+0.10 (-0.02..+0.21)``."""
    values = (100 * value for value in (difference, *interval))
    # Rounded first, and 0 added: what rounds to nothing has no sign of its own.
    middle, low, high = (f"{round(value, decimals) + 0.0:+.{decimals}f}" for value in values)
    return f"{middle} ({low}..{high})"


def decimals_of(found: Difference) -> int:
    """Of percent: one image of 1,000 is 0.1, of 10,000 0.01."""
    return 2 if found.images >= 10_000 else 1


def check_comparable(first: Result, second: Result) -> None:
    """Refuses results that were not tested alike.

    Raises:
        UsageError: They are of different suites or versions of one, or their test data differ.
    """
    if (first.suite, first.version) != (second.suite, second.version):
        raise UsageError(
            f"{name_of(first)} (version {first.version}) and {name_of(second)} (version {second.version}) cannot be "
            "compared: their suites or versions differ."
        )
    ours, theirs = _tested_on(first), _tested_on(second)
    if not ours.keys() & theirs.keys():
        raise UsageError(
            f"{name_of(first)} and {name_of(second)} cannot be compared: they have no test data in common, but "
            f"{', '.join(ours) or 'nothing'} and {', '.join(theirs) or 'nothing'}."
        )
    for role in ours:
        if role in theirs and ours[role] != theirs[role]:
            what = _what_differs(ours[role], theirs[role])
            raise UsageError(
                f"{name_of(first)} and {name_of(second)} were tested on different images: of {role!r}, {what}. "
                "Run both with the same data settings."
            )


def _tested_on(result: Result) -> dict[str, Mapping[str, Any]]:
    """The test data of a result, by role: spec and, of a file, digest."""
    try:
        return {role: used for role, used in result.data.items() if used["spec"]["split"] == "test"}
    except (KeyError, TypeError):
        raise DataFileError(f"{name_of(result)} does not say what it was tested on.") from None


def _what_differs(first: Mapping[str, Any], second: Mapping[str, Any]) -> str:
    """``count: 1000 and 4000``."""
    ours, theirs = ({**used["spec"], "digest": used.get("digest")} for used in (first, second))
    keys = [key for key in ours | theirs if ours.get(key) != theirs.get(key)]
    return "; ".join(f"{key}: {ours.get(key)} and {theirs.get(key)}" for key in keys)
