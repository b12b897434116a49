"""The figures of mnist, crowding and clutter once more, from the bits of their results."""

from itertools import combinations
from typing import Any

import numpy as np
import pytest

from capsbench.report.comparison import compare_results
from capsbench.report.groups import tables
from capsbench.results.result import load_results

from .kept import RESULTS, bits, results

MNIST, CROWDING, CLUTTER = "mnist/epyc-cpu", "crowding/epyc-cpu", "clutter/epyc-cpu"


COLUMNS = ((3, "best"), (4, "last"))


def test_errors_of_mnist_and_their_deviations() -> None:
    (table,) = tables(load_results(RESULTS / MNIST))
    kept = results(MNIST)
    for row in table.rows:
        for column, name in COLUMNS:
            answers = [bits(kept[row[0], seed]["metrics"]["checkpoints"][name]["test"]) for seed in range(3)]
            errors = [100 * (~one).mean() for one in answers]
            assert row[column] == f"{np.mean(errors):.2f} ± {np.std(errors, ddof=1):.2f}"


def test_exact_intervals_of_each_seed_of_mnist() -> None:
    from statsmodels.stats.proportion import proportion_confint

    for one in load_results(RESULTS / MNIST):
        (table,) = tables([one])
        for column, name in COLUMNS:
            wrong = ~bits(one.metrics["checkpoints"][name]["test"])
            low, high = proportion_confint(wrong.sum(), len(wrong), method="beta")
            assert table.rows[0][column] == f"{100 * wrong.mean():.2f} ({100 * low:.2f}..{100 * high:.2f})"


def test_mcnemars_test_of_mnist() -> None:
    from statsmodels.stats.contingency_tables import mcnemar

    for first, second in combinations(load_results(RESULTS / MNIST), 2):
        if first.seed != second.seed:
            continue
        (found,) = (one for one in compare_results(first, second).differences if one.place[1] == "best")
        before, after = (bits(one.metrics["checkpoints"]["best"]["test"]) for one in (first, second))
        table = [[(a & b).sum() for b in (after, ~after)] for a in (before, ~before)]
        assert found.p == pytest.approx(mcnemar(table, exact=True).pvalue, rel=1e-9)


def spacing_of(point: dict[str, Any], kind: str) -> float | None:
    """Where accuracy last falls below nine tenths of that alone, by a straight line; None past the tested spacings."""
    enough = 0.9 * bits(point["alone"]).mean()
    tested = sorted(int(name) for name in point[kind])
    shares = [bits(point[kind][str(spacing)]).mean() for spacing in tested]
    below = [number for number, share in enumerate(shares) if share < enough]
    if not below or below[-1] == len(tested) - 1:
        return None
    left = below[-1]
    return float(np.interp(enough, shares[left : left + 2], tested[left : left + 2]))


def test_crowding_and_its_critical_spacings() -> None:
    (table,) = tables(load_results(RESULTS / CROWDING))
    column = list(table.headers).index("critical spacing")
    rows = {(row[0], row[3]): row for row in table.rows}
    kept = results(CROWDING)
    for model in ("cnn-pool", "capsnet"):
        for kind in ("digits", "shuffled"):
            shown = rows[model, kind][column].split(" / ")
            for seed, text in enumerate(shown):
                point = kept[model, seed]["metrics"]["checkpoints"]["best"]
                at = spacing_of(point, kind)
                assert text == "> 28" if at is None else text.startswith(f"{at:.1f} (")
            for spacing in range(14, 29, 2):
                shares = [
                    100 * bits(kept[model, seed]["metrics"]["checkpoints"]["best"][kind][str(spacing)]).mean()
                    for seed in range(3)
                ]
                at_spacing = rows[model, kind][list(table.headers).index(f"{spacing} px")]
                assert at_spacing == f"{np.mean(shares):.1f} ± {np.std(shares, ddof=1):.1f}"


def clutter_of(point: dict[str, Any]) -> float | None:
    """Where accuracy first falls below nine tenths of that on a clean canvas; None past the tested numbers."""
    tested = [0, *sorted(int(name) for name in point["scraps"])]
    shares = [bits(point["clean"]).mean(), *(bits(point["scraps"][str(number)]).mean() for number in tested[1:])]
    enough = 0.9 * shares[0]
    below = [number for number, share in enumerate(shares) if share < enough]
    if not below:
        return None
    (high, low), (left, right) = (values[below[0] - 1 : below[0] + 1] for values in (shares, tested))
    return float(left + (right - left) * (high - enough) / (high - low))


def test_clutter_and_what_it_costs() -> None:
    (table,) = tables(load_results(RESULTS / CLUTTER))
    column = {header: number for number, header in enumerate(table.headers)}
    kept = results(CLUTTER)
    for row in table.rows:
        points = [content["metrics"]["checkpoints"]["best"] for (label, _), content in kept.items() if label == row[0]]
        assert len(points) == row[column["seeds"]]
        for number in (1, 2, 4, 6, 8, 12, 16):
            shares = [100 * bits(one["scraps"][str(number)]).mean() for one in points]
            spread = f" ± {np.std(shares, ddof=1):.1f}" if len(points) > 1 else ""
            assert row[column[f"{number} scrap{'s' * (number > 1)}"]] == f"{np.mean(shares):.1f}{spread}"
        gaps = [100 * (bits(one["clean"]).mean() - bits(one["scraps"]["8"]).mean()) for one in points]
        assert row[column["gap"]].startswith(f"{np.mean(gaps):.1f} ")
        for text, one in zip(row[column["critical clutter"]].split(" / "), points, strict=True):
            at = clutter_of(one)
            assert text == "> 16" if at is None else text.startswith(f"{at:.1f} (")
