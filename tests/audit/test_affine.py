"""The figures of affine once more, from its files and the bits of its results, by scipy, sklearn and statsmodels."""

from typing import Any

import numpy as np
import pytest
from scipy import ndimage, stats

from capsbench.data.digits import load_digits
from capsbench.data.streaming import stream
from capsbench.report.comparison import compare_results
from capsbench.report.comparisontables import comparison_table
from capsbench.report.groups import tables
from capsbench.results.result import load_results

from .kept import RESULTS, bits, reached, results

SMALL, PAPER = "affine/epyc-cpu", "affine/h200"
CHECKPOINTS = {"target": "first at target", "best": "best validation", "last": "last epoch"}


@pytest.fixture(scope="module")
def small() -> dict[tuple[str, int], dict[str, Any]]:
    return results(SMALL)


@pytest.fixture(scope="module")
def transform(small: dict[tuple[str, int], dict[str, Any]]) -> np.ndarray:
    """``[4000, 6]``: how the affine test images are drawn."""
    (count,) = {one["data"]["affine"]["spec"]["count"] for one in small.values()}
    drawn = stream("affnist", split="test", digits="embedded", count=count).batch(np.arange(count)).transform
    assert drawn is not None
    return drawn


def test_images_are_those_of_scipy(transform: np.ndarray) -> None:
    batch = stream("affnist", split="test", digits="embedded", count=len(transform)).batch(np.arange(150))
    assert batch.source is not None
    digits = load_digits("test", "embedded").images
    for image, source, row in zip(batch.images, batch.source, transform, strict=False):
        rotation, shear, scale_y, scale_x, dy, dx = row.astype(np.float64)
        turn = np.deg2rad(rotation)
        turned = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
        forward = turned @ np.array([[1, shear], [0, 1]]) @ np.diag([scale_x, scale_y])  # of (x, y)
        back = np.linalg.inv(forward)[::-1, ::-1]  # of (y, x)
        offset = 13.5 - back @ (19.5 + np.array([dy, dx]))
        drawn = ndimage.affine_transform(
            digits[source].astype(np.float64), back, offset, (40, 40), order=1, mode="grid-constant"
        )
        assert np.abs(drawn - image).max() < 1.6


@pytest.mark.parametrize("folder", [SMALL, PAPER])
def test_accuracies_and_gaps_are_those_of_the_bits(folder: str) -> None:
    from sklearn.metrics import accuracy_score
    from statsmodels.stats.proportion import proportion_confint

    for one in results(folder).values():
        for point in one["metrics"]["checkpoints"].values():
            shares = {}
            for role in ("clean", "centered", "affine"):
                right = bits(point[role])
                shares[role] = accuracy_score(np.ones(len(right)), right)
                assert point[role]["share"] == pytest.approx(shares[role], abs=1e-12)
            assert point["gap"]["share"] == pytest.approx(shares["clean"] - shares["affine"], abs=1e-12)
            right = bits(point["centered"])
            exact = proportion_confint(right.sum(), len(right), method="beta")
            assert point["centered"]["interval"] == pytest.approx(exact, abs=1e-9)


def test_intervals_over_digits_are_those_of_scipys_bootstrap(small: dict[tuple[str, int], dict[str, Any]]) -> None:
    point = small["capsnet", 0]["metrics"]["checkpoints"]["best"]
    clean, affine = (bits(point[role]).reshape(4, 1000).mean(0) for role in ("clean", "affine"))
    for values, found in ((affine, point["affine"]["interval"]), (clean - affine, point["gap"]["interval"])):
        again = stats.bootstrap((values,), np.mean, n_resamples=9999, method="percentile", rng=np.random.default_rng(1))
        assert found == pytest.approx(tuple(again.confidence_interval), abs=0.002)


def test_who_is_within_reach_and_in_which_bin(
    small: dict[tuple[str, int], dict[str, Any]], transform: np.ndarray
) -> None:
    far = np.abs(transform[:, 4:].astype(np.float64)).max(1)
    columns = {"rotation": transform[:, 0], "shear": transform[:, 1], "scale_y": transform[:, 2]}
    columns |= {"scale_x": transform[:, 3], "translation": far}
    for one in small.values():
        assert (reached(one) == (far < 6.5)).all()
        right = bits(one["metrics"]["checkpoints"]["best"]["affine"])
        for factor, points in one["metrics"]["factors"]["all at once"].items():
            edges = [points[0]["low"], *(point["high"] for point in points)]
            at = np.clip(np.digitize(columns[factor].astype(np.float64), edges) - 1, 0, len(points) - 1)
            counts = [(int(right[at == number].sum()), int((at == number).sum())) for number in range(len(points))]
            assert [(point["correct"], point["total"]) for point in points] == counts, factor


def test_an_interval_of_a_bin_is_of_its_share(small: dict[tuple[str, int], dict[str, Any]]) -> None:
    for one in small.values():
        right, inside = bits(one["metrics"]["checkpoints"]["best"]["affine"]), reached(one)
        base = np.arange(4000) % 1000
        for point in one["metrics"]["factors"]["all at once"]["translation"][-3:]:
            low, high = point["interval"]
            assert low < point["share"] < high
            assert abs((low + high) / 2 - point["share"]) < 0.15 * (high - low)  # skewed, but not off the centre
        hits, shown = (np.bincount(base[inside], weights=of[inside], minlength=1000) for of in (right, np.ones(4000)))
        share = hits.sum() / shown.sum()
        error = np.sqrt(np.square(hits - share * shown).sum()) / shown.sum()  # by the delta method
        bins = one["metrics"]["factors"]["all at once"]["translation"][:3]
        assert sum(point["correct"] for point in bins) / sum(point["total"] for point in bins) == share
        assert 0.003 < error < 0.01


def test_the_masks_of_the_papers_size_agree_with_its_bins() -> None:
    for one in results(PAPER).values():
        inside, right = reached(one), bits(one["metrics"]["checkpoints"]["best"]["affine"])
        bins = [point for point in one["metrics"]["factors"]["all at once"]["translation"] if point["high"] <= 6.5]
        assert sum(point["total"] for point in bins) == inside.sum()
        assert sum(point["correct"] for point in bins) == (right & inside).sum()


def test_the_tables_columns_within_reach(small: dict[tuple[str, int], dict[str, Any]]) -> None:
    (table,) = tables(load_results(RESULTS / SMALL))
    rows = {(row[0], row[3]): row for row in table.rows}
    for model in ("cnn-pool", "capsnet"):
        for name, title in CHECKPOINTS.items():
            near, gaps = [], []
            for seed in range(3):
                one = small[model, seed]
                point = one["metrics"]["checkpoints"][name]
                near.append(100 * bits(point["affine"])[reached(one)].mean())
                gaps.append(100 * bits(point["clean"]).mean() - near[-1])
            shown = [f"{np.mean(values):.1f} ± {stats.tstd(values):.1f}" for values in (near, gaps)]
            assert rows[model, title][9:11] == shown


def test_differences_and_their_tests(small: dict[tuple[str, int], dict[str, Any]]) -> None:
    from statsmodels.stats.contingency_tables import mcnemar
    from statsmodels.stats.multitest import multipletests

    loaded = {(one.label, one.seed): one for one in load_results(RESULTS / SMALL)}
    for seed in range(3):
        comparison = compare_results(loaded["cnn-pool", seed], loaded["capsnet", seed])
        for found in comparison.differences:
            _, name, role = found.place
            points = [small[model, seed]["metrics"]["checkpoints"][name] for model in ("cnn-pool", "capsnet")]
            if role == "gap":
                each = [bits(one["clean"]).reshape(-1, 1000).mean(0) - bits(one["affine"]).reshape(-1, 1000).mean(0)
                        for one in points]  # fmt: skip
                assert (found.first, found.second) == pytest.approx([one.mean() for one in each])
                error = np.subtract(*each).std() / np.sqrt(1000)
                normal = 2 * stats.norm.sf(abs(found.difference) / error)
                assert found.p == pytest.approx(normal, rel=0.2, abs=0.01)
                assert np.ptp(found.interval) == pytest.approx(2 * 1.96 * error, rel=0.1)
                continue
            before, after = (bits(one[role]) for one in points)
            assert found.difference == pytest.approx(after.mean() - before.mean())
            by_digit = (after.astype(int) - before).reshape(-1, 1000).sum(0)
            if role == "centered":  # one image a digit
                table = [[(a & b).sum() for b in (after, ~after)] for a in (before, ~before)]
                assert found.p == pytest.approx(mcnemar(table, exact=True).pvalue, rel=1e-9)
            else:
                normal = 2 * stats.norm.sf(abs(by_digit.sum()) / np.sqrt(np.square(by_digit).sum()))
                assert found.p == pytest.approx(normal, rel=0.2, abs=0.01)
        shown = comparison_table(comparison)
        holm = multipletests([one.p for one in comparison.differences], method="holm")[1]
        assert [row[-1] for row in shown.rows] == [f"{p:.2g}" for p in holm]


def test_a_sign_flip_p_by_simulation(small: dict[tuple[str, int], dict[str, Any]]) -> None:
    loaded = {(one.label, one.seed): one for one in load_results(RESULTS / SMALL)}
    found = {
        one.place: one for one in compare_results(loaded["cnn-pool", 1], loaded["capsnet", 1]).differences
    }["checkpoints", "target", "clean"]  # fmt: skip
    before, after = (
        bits(small[model, 1]["metrics"]["checkpoints"]["target"]["clean"]) for model in ("cnn-pool", "capsnet")
    )
    by_digit = (after.astype(float) - before).reshape(-1, 1000).sum(0)
    flips = stats.permutation_test(
        (by_digit,),
        lambda x, axis: x.sum(axis),
        permutation_type="samples",
        n_resamples=1999,
        rng=np.random.default_rng(2),
    )
    assert found.p == pytest.approx(flips.pvalue, abs=0.035)
