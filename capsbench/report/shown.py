"""Results as Python shows them: a table in a notebook, and plain values for pandas."""

import html
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from capsbench.errors import UsageError
from capsbench.registry import load_named
from capsbench.report.comparison import Compared, Comparisons, compare_networks
from capsbench.report.comparison import compare as compare_sides
from capsbench.report.comparisontables import render_comparisons
from capsbench.report.groups import tables
from capsbench.report.pages import render
from capsbench.report.tables import body
from capsbench.results.result import Result
from capsbench.results.result import load_results as load_list

FACTS = ("suite", "preset", "label", "model", "seed", "digits", "origin", "cell", "seconds", "date")


class Results(list[Result]):
    """A list of results that a notebook shows as tables."""

    def _repr_html_(self) -> str:
        parts = []
        for table in tables(self):
            notes = (f"<p><small>{html.escape(note)}</small></p>" for note in table.notes)
            parts += [f"<p><b>{html.escape(table.title)}</b></p>", body(table, "html"), *notes]
        return "\n".join(parts)

    def __str__(self) -> str:
        """The tables as text."""
        return render(self) if self else "no results"

    def to_dicts(self) -> list[dict[str, Any]]:
        """One flat dictionary a result, as ``pandas.DataFrame(results.to_dicts())`` takes them.

        What was measured is named by its place: ``best.affine`` is the share 0..1 of right answers at the best
        checkpoint, ``best.affine.low`` and ``best.affine.high`` are its 95 % interval.
        """
        return [{name: getattr(one, name) for name in FACTS} | dict(_values(one.metrics)) for one in self]


def load_results(folder: str | Path, *, suites: str | Sequence[str] = ()) -> Results:
    """Every result in a folder and below it, or the one in a file, in the order of their paths.

    Args:
        folder: The folder, or a file.
        suites: Suites of a user's own that results are of, such as ``["mine.py:Suite"]``; their code is run. A result
            does not choose the code that is run.

    Raises:
        UsageError: There is no such suite.
        DataFileError: There is no such folder, there are no results in it, or one of them is damaged.
    """
    load_named(suites)
    return Results(load_list(folder))


class Comparison(Comparisons):
    """What `compare` found, shown as tables."""

    def __str__(self) -> str:
        """The tables as text."""
        return render_comparisons(self)

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(str(self))}</pre>"


def compare(
    first: Compared, second: Compared | None = None, *, models: Sequence[str] = (), suites: str | Sequence[str] = ()
) -> Comparison:
    """Compares results on the same images, with paired tests.

    Two single results are compared as they are. Of several, results of one suite, preset, digits and seed are partners;
    where either side has several of those, those of one network, and then those of one model with other parameters.

    Example:
        ``print(compare("runs", models=["cnn-pool", "capsnet"]))``

    Args:
        first: A result's file, a folder of results, or results that were loaded.
        second: Others; without them two networks of the first are compared.
        models: These two networks, by their labels or by the names of their models.
        suites: Suites of a user's own that results are of, as `load_results` takes them.

    Returns:
        ``pairs`` of results with their differences, and ``to_dict()``; text and notebooks show tables.

    Raises:
        UsageError: Both are the same, nothing has a partner, or partners were tested on different images.
        DataFileError: There are no results, or one is damaged or keeps no answers.
    """
    load_named(suites)
    if (second is None) is not bool(models):
        raise UsageError("Two sides are compared: give the second one, or two networks of the first as models=.")
    found = compare_networks(first, models) if second is None else compare_sides(first, second)
    return Comparison(found.pairs, found.alone)


def _values(measured: Mapping[str, Any], place: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    """The numbers of a result by their places; what is kept of single images, and lists, are left out."""
    for key, value in measured.items():
        here = place if key == "checkpoints" and not place else (*place, key)
        if isinstance(value, Mapping) and "share" in value:
            name = ".".join(here)
            yield name, value["share"]
            for end, limit in zip(("low", "high"), value.get("interval") or (), strict=False):
                yield f"{name}.{end}", limit
        elif isinstance(value, Mapping):
            yield from _values(value, here)
        elif isinstance(value, int | float):
            yield ".".join(here), value
