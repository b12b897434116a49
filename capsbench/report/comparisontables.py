"""Comparisons as text: for a terminal, as GitHub's Markdown, LaTeX with booktabs, CSV, and JSON."""

import json
from collections.abc import Sequence

from capsbench.parameters import check_choice
from capsbench.report.comparison import Comparison, Comparisons, either, pooled, same_networks, side_by_side
from capsbench.report.differences import PAIRS_NOTE, Difference, decimals_of, points_of
from capsbench.report.notes import writers_note
from capsbench.report.numbers import told_p, told_seeds
from capsbench.report.tables import FORMATS, Table, render_tables
from capsbench.spec import MNIST, told_digits
from capsbench.statistics import holm

GAP_NOTE = "A gap is in points: clean minus transformed. Where B - A is above 0, the gap of B is the larger one."


def render_comparisons(found: Comparisons, style: str = "simple") -> str:
    """As text, in one of `capsbench.report.tables.FORMATS`: a table for each pair, or all of it as JSON.

    Raises:
        UnknownNameError: There is no such format.
    """
    check_choice("format", style, FORMATS)
    if style == "json":
        return json.dumps(found.to_dict(), indent=2)
    tables = [comparison_table(pair) for pair in found.pairs]
    every = same_networks(found.pairs)
    if style == "csv":  # whose columns are those of the tests
        tables = [pooled_table(pairs) for pairs in every if len(pairs) > 1] + tables
    else:
        tables = [table for pairs in every for table in _summary_tables(pairs)] + tables
    return render_tables(tables, style)


def comparison_table(comparison: Comparison) -> Table:
    """One row for each set of images."""
    return _table([comparison], comparison.differences)


def pooled_table(pairs: Sequence[Comparison]) -> Table:
    """One row for each set of images: two networks over all their seeds."""
    return _table(pairs, pooled(pairs))


def _table(pairs: Sequence[Comparison], differences: Sequence[Difference]) -> Table:
    rows = [
        [
            ", ".join(one.place),
            one.digits,
            one.images,
            f"{100 * one.first:.{decimals_of(one)}f}",
            f"{100 * one.second:.{decimals_of(one)}f}",
            points_of(one),
            told_p(one.p),
            told_p(corrected),
        ]
        for one, corrected in zip(differences, holm([one.p for one in differences]), strict=True)
    ]
    first = pairs[0]
    seeds = "" if len(pairs) == 1 else f", over {told_seeds([pair.first for pair in pairs])}"
    names = (f"{one.label} (seed {one.seed})" if len(pairs) == 1 else one.label for one in (first.first, first.second))
    written = writers_note([first.first]) if any(one.writers for one in differences) else []
    mcnemar = "" if written else ", which with one image a digit is McNemar's"
    tested = "; interval and p are over the seeds, too" if seeds else ""
    return Table(
        headers=["images", "digits", "number", "A %", "B %", "B - A, points", "p", "p, Holm"],
        rows=rows,
        notes=[
            "A % and B % are classified correctly.",
            f"B - A with its 95 % interval over resampled {'writers' if written else 'base digits'}; p of the exact "
            f"sign-flip test over them{mcnemar}{tested}.",
            *([GAP_NOTE] if any(one.gap for one in differences) else []),
            *([PAIRS_NOTE] if any(one.pairs for one in differences) else []),
            *written,
            "Of many rows some fall below 0.05 by chance; the last column has Holm's (1979) correction for all.",
            *_threads(first),
        ],
        title=", ".join(
            [
                first.first.suite,
                f"preset {either(first, lambda result: result.preset)}",
                *_other_digits(first),
                *(f"{side}: {name}" for side, name in zip("AB", names, strict=True)),
            ]
        )
        + seeds,
    )


def _summary_tables(pairs: Sequence[Comparison]) -> list[Table]:
    suite = ", ".join([pairs[0].first.suite, *_other_digits(pairs[0])])
    seeds = told_seeds([pair.first for pair in pairs])
    if any(pair.first.seed != pair.second.seed for pair in pairs):  # files that were named
        seeds = f"A: {seeds}, B: {told_seeds([pair.second for pair in pairs])}"
    title = f"{suite}, {seeds}: what differs, and the figures"
    return [
        Table(headers=["", "A", "B"], rows=side_by_side(pairs), title=title),
        *([pooled_table(pairs)] if len(pairs) > 1 else []),
    ]


def _threads(comparison: Comparison) -> list[str]:
    """That the two were measured with other numbers of threads, where they were."""
    first, second = (one.environment.get("threads") for one in (comparison.first, comparison.second))
    if first == second or None in (first, second):
        return []
    return [
        f"Threads: A {first}, B {second}. With another number, sums are added in another order, and one network with "
        "one seed ends with other weights."
    ]


def _other_digits(comparison: Comparison) -> list[str]:
    """What the digits of both results are called, where they are not MNIST's."""
    if {comparison.first.digits, comparison.second.digits} <= {*MNIST, "none"}:
        return []
    return [either(comparison, lambda result: told_digits(result.digits))]
