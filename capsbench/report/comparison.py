"""Two results or folders of them: which are partners, and how they differ."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from capsbench.errors import DataFileError, UnknownNameError, UsageError
from capsbench.report.differences import (
    Difference,
    check_comparable,
    difference_at,
    found_at,
    kept_places,
    over_seeds,
)
from capsbench.report.gaps import gap_difference, gap_places, gaps_of
from capsbench.report.groups import by_network
from capsbench.report.headlines import Headline, headlines_of
from capsbench.report.suites import readable
from capsbench.results.result import Result, load_results, name_of
from capsbench.spec import MNIST, told_digits
from capsbench.system.disk import kind_of

SHOWN = 4  # results that an error names


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
            "preset": either(self, lambda result: result.preset),
            "digits": either(self, lambda result: result.digits),
            "A": _stated(self.first),
            "B": _stated(self.second),
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
        return {
            "networks": [summarised(pairs) for pairs in same_networks(self.pairs)],
            "pairs": [pair.to_dict() for pair in self.pairs],
            "without partner": self.alone,
        }


Compared = str | Path | Result | Sequence[Result]
"""A result's file, a folder of results, or what was loaded already."""


def compare(first: Compared, second: Compared) -> Comparisons:
    """Compares results on the same images.

    Two single results are compared as they are. Of several, results of one suite, preset, digits and seed are
    partners; where either side has several of those, those of one network, and then those of one model with other
    parameters.

    Args:
        first: A result's file, a folder of results, or results that were loaded.
        second: Others.

    Raises:
        UsageError: Both are the same, nothing has a partner, or partners were tested on different images.
        DataFileError: There are no results, or one is damaged or keeps no answers.
    """
    paths = [os.path.realpath(one) for one in (first, second) if isinstance(one, str | Path)]
    if len(paths) > len(set(paths)):
        raise UsageError(f"{first} cannot be compared with itself; name two results.")
    ours, theirs = _loaded(first), _loaded(second)
    if _is_single(first) and _is_single(second):
        return Comparisons([compare_results(ours[0], theirs[0])], [])
    partners, alone = _partners(ours, theirs)
    if not partners:
        more = f" and {len(alone) - SHOWN} more" if len(alone) > SHOWN else ""
        raise UsageError(
            f"No result in {_name(first, 'A')} has a partner in {_name(second, 'B')}: of one suite, preset, digits and "
            "seed. "
            f"There are {'; '.join(alone[:SHOWN])}{more}."
        )
    return Comparisons([compare_results(*pair) for pair in partners], alone)


def _loaded(side: Compared) -> list[Result]:
    if isinstance(side, str | Path):
        return load_results(side)
    return [side] if isinstance(side, Result) else list(side)


def _is_single(side: Compared) -> bool:
    return isinstance(side, Result) or (isinstance(side, str | Path) and kind_of(Path(side)) == "file")


def _name(side: Compared, otherwise: str) -> str:
    return str(side) if isinstance(side, str | Path) else otherwise


def compare_networks(place: Compared, models: Sequence[str]) -> Comparisons:
    """Compares two networks of one folder, seed by seed.

    Args:
        place: A folder of results, or results that were loaded.
        models: Two networks, by their labels or by the names of their models.

    Raises:
        UsageError: There are not two, one is not in the folder, or there are several of a name.
        DataFileError: There are no results, or one is damaged or keeps no answers.
    """
    results, where = _loaded(place), _name(place, "these results")
    labels = sorted({one.label for one in results})
    if len(models) != 2 or models[0] == models[1]:
        raise UsageError(
            f"Two networks are compared, got {len(set(models))}: name another place, or two networks of {where} with "
            f"--model. There are {', '.join(labels[:SHOWN])}."
        )
    sides, shown = [], by_network(results)
    for model in models:
        named = (
            [one for one in results if one.label == model]
            or [one for one in results if one.model == model]
            or shown.get(model, [])
        )
        if not named:
            raise UnknownNameError(f"network in {where}", model, labels)
        if len({one.label for one in named}) > 1:
            several = ", ".join(sorted({one.label for one in named})[:SHOWN])
            raise UsageError(f"{where} has several networks {model!r}: {several}. Name one as a table does.")
        sides.append(named)
    partners, alone = _partners(*sides)
    if not partners:
        raise UsageError(
            f"No result of {models[0]} in {where} has the suite, preset, digits and seed of one of {models[1]}."
        )
    return Comparisons([compare_results(*pair) for pair in partners], alone)


def compare_results(first: Result, second: Result) -> Comparison:
    """Compares two results of one suite.

    Raises:
        UsageError: They are one result, of different suites, or were tested on different images.
        DataFileError: They keep no answers at the same place, or what they keep is damaged.
    """
    if first == second:
        raise UsageError(f"{name_of(first)} cannot be compared with itself; name two results.")
    check_comparable(first, second)
    theirs = dict(kept_places(second.metrics))
    common = [
        place
        for place, _ in kept_places(first.metrics)
        if place in theirs and found_at(first, place) and found_at(second, place)
    ]
    if not common:
        raise DataFileError(
            f"{name_of(first)} and {name_of(second)} keep no answers to the same images, so there is nothing to pair. "
            "Earlier versions of the suites kept none; run both again."
        )
    gaps = gap_places(common, gaps_of(first.suite))
    found = []
    for place in common:
        found.append(difference_at(first, second, place))
        for gap, (clean, moved) in gaps.items():
            between = gap_difference(first, second, gap, clean, moved) if moved == place else None
            found += [between] if between else []
    return Comparison(first, second, found)


def pooled(pairs: Sequence[Comparison]) -> list[Difference]:
    """How two networks differ over all their seeds, wherever the results of every seed keep their answers."""
    every = [{one.place: one for one in pair.differences} for pair in pairs]
    common = [place for place in every[0] if all(place in places for places in every)]
    return [over_seeds([places[place] for places in every]) for place in common]


def same_networks(pairs: Sequence[Comparison]) -> list[list[Comparison]]:
    """Comparisons of the same two networks by one protocol, which differ in the seed."""
    found: dict[tuple[str, ...], list[Comparison]] = {}
    for pair in pairs:
        key = (pair.first.label, pair.second.label, pair.first.protocol, pair.second.protocol)
        found.setdefault(key, []).append(pair)
    return list(found.values())


def side_by_side(pairs: Sequence[Comparison]) -> list[tuple[str, str, str]]:
    """What differs between two networks' settings, parameters and machines, and their headline figures."""
    sides = [[getattr(pair, side) for pair in pairs] for side in ("first", "second")]
    stated = [_flat(cells[0]) for cells in sides]
    rows = []
    for name in dict.fromkeys([*stated[0], *stated[1]]):
        ours, theirs = (str(one.get(name, "-")) for one in stated)
        rows += [(name, ours, theirs)] if ours != theirs else []
    for one in headlines_of(pairs[0].first.suite):
        told = [readable(pairs[0].first.suite, _told_headline, one, cells) for cells in sides]
        rows.append((f"{one.name}, {one.unit}".strip(", "), *told))
    return rows


def _told_headline(headline: Headline, cells: Sequence[Result]) -> str:
    try:
        return headline.told(headline.over_seeds(cells), cells)
    except LookupError:  # of a result that keeps answers and not this figure
        return headline.why_missing(cells[0])


def _flat(result: Result) -> dict[str, Any]:
    """What two results may differ in."""
    return {
        "network": result.label,
        "origin": result.from_where,
        "version of the suite": result.version,
        "digits": result.digits,
        "protocol": result.protocol,
        **{f"setting {key}": value for key, value in result.settings.items()},
        **{f"parameter {key}": value for key, value in result.parameters.items()},
        "parameters in all": f"{number:,}" if type(number := result.metrics.get("parameters")) is int else "-",
        **{f"{key} (machine)": value for key, value in result.environment.items()},
    }


def summarised(pairs: Sequence[Comparison]) -> dict[str, Any]:
    """Two networks over all their seeds, as plain JSON types."""
    return {
        "A": pairs[0].first.label,
        "B": pairs[0].second.label,
        "seeds": [pair.first.seed for pair in pairs],
        "side by side": [{"what": what, "A": ours, "B": theirs} for what, ours, theirs in side_by_side(pairs)],
        "pooled": [one.to_dict() for one in pooled(pairs)],
    }


def _partners(first: Sequence[Result], second: Sequence[Result]) -> tuple[list[tuple[Result, Result]], list[str]]:
    """Results of one suite, preset, digits and seed, and the names of those that have no such partner."""
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
        for model in dict.fromkeys(result.model for result in here.values()):
            ours_of, theirs_of = (
                [label for label, result in side.items() if result.model == model] for side in (here, there)
            )
            if len(ours_of) == len(theirs_of) == 1:
                pairs.append((here.pop(ours_of[0]), there.pop(theirs_of[0])))
        for side, left in (("A", here), ("B", there)):
            alone += [f"{name_of(one)}{_of_mnist(one, [*first, *second])} in {side} alone" for one in left.values()]
    return pairs, alone


def _of_mnist(result: Result, among: Sequence[Result]) -> str:
    """Whether a result is of full MNIST or of the embedded digits, if both occur. `name_of` names all other digits."""
    several = result.digits in MNIST and len({one.digits for one in among} & {*MNIST}) > 1
    return f", {told_digits(result.digits)}," if several else ""


def _by_protocol(results: Sequence[Result]) -> dict[tuple[Any, ...], dict[str, Result]]:
    """Suite, preset, digits and seed -> label of the model -> result."""
    groups: dict[tuple[Any, ...], dict[str, Result]] = {}
    for result in results:
        members = groups.setdefault((result.suite, result.preset, result.digits, result.seed), {})
        if result.label in members:
            versions = sorted({result.version, members[result.label].version})
            of = f", of versions {versions[0]} and {versions[1]} of the suite" if len(versions) > 1 else ""
            raise UsageError(f"One folder has two results of {name_of(result)}{of}; name the files to be compared.")
        members[result.label] = result
    return groups


def _stated(result: Result) -> dict[str, Any]:
    """Which result it is; on a CPU its sums are of so many threads."""
    return {
        "model": result.label,
        "seed": result.seed,
        "cell": result.cell,
        "threads": result.environment.get("threads"),
    }


def either(comparison: Comparison, fact: Callable[[Result], str]) -> str:
    """A fact of both results, once where it is the same."""
    return " and ".join(dict.fromkeys([fact(comparison.first), fact(comparison.second)]))
