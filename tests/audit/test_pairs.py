"""The figures of overlap and reconstruction once more: accuracies, intervals over both digits, segmentation, AUC."""

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from scipy import sparse, stats

from capsbench.data.streaming import stream
from capsbench.evaluation.inference import predict, reconstruct
from capsbench.evaluation.pairs import absent_digits, measure_reconstructions, pair_accuracies
from capsbench.evaluation.subjects import NetworkSubject
from capsbench.models import build
from capsbench.report.comparison import compare_results
from capsbench.results.result import Result, load_results

from .kept import RESULTS, bits, unfolded

FOLDERS = ("overlap/epyc-cpu", "reconstruction/epyc-cpu")


def parts(result: Result) -> tuple[dict[str, Any], np.ndarray]:
    """What a result measured of pairs, and the digits of each of its test pairs, drawn again: ``[N, 2]``."""
    metrics, role = (result.metrics, "test") if result.suite == "overlap" else (result.metrics["pairs"], "pair test")
    count = result.data[role]["spec"]["count"]
    source = stream("multimnist", split="test", digits="embedded", count=count).batch(np.arange(count)).source
    assert source is not None
    return dict(metrics), source.astype(np.int64)


def error(values: np.ndarray, pairs: np.ndarray) -> float:
    """The standard error of a mean, from all pairs of pairs with a digit in common; no less than from those of both."""
    row = np.repeat(np.arange(len(pairs)), 2)
    of = sparse.csr_matrix((np.ones(pairs.size), (row, pairs.ravel())))
    shared = (of @ of.T).tocsr()
    residuals = values - values.mean()
    variances = [float(residuals @ ((shared >= digits) @ residuals)) for digits in (1, 2)]
    return float(np.sqrt(max(variances))) / len(values)


@pytest.mark.parametrize("folder", FOLDERS)
def test_accuracies_of_pairs_and_their_intervals(folder: str) -> None:
    from statsmodels.stats.proportion import proportion_confint

    for result in load_results(RESULTS / folder):
        metrics, source = parts(result)
        partners = np.ascontiguousarray(unfolded(metrics["partners"])).view("<i4")[:, 0]
        assert (partners == source[:, 1]).all()
        for point in metrics.get("checkpoints", {"best": metrics}).values():
            both, some = (bits(point[name]).astype(float) for name in ("exact pair", "at least one"))
            for name, values in (("exact pair", both), ("at least one", some), ("per digit", (both + some) / 2)):
                share, found = values.mean(), point[name]
                assert found["share"] == pytest.approx(share, abs=1e-12)
                draws = share * (1 - share) / error(values, source) ** 2
                wilson = proportion_confint(share * draws, draws, method="wilson")
                assert found["interval"] == pytest.approx(wilson, abs=1e-6), name


def test_differences_on_pairs_have_the_variance_of_both_digits() -> None:
    loaded = {(one.preset, one.label): one for one in load_results(RESULTS / FOLDERS[0])}
    for preset in ("small", "zero-shot"):
        first, second = loaded[preset, "cnn-pair"], loaded[preset, "capsnet"]
        _, source = parts(first)
        for found in compare_results(first, second).differences:
            _, name, metric = found.place
            before, after = (bits(one.metrics["checkpoints"][name][metric]) for one in (first, second))
            more = after.astype(float) - before
            spread = error(more, source)
            assert found.interval == pytest.approx(stats.norm.interval(0.95, more.mean(), spread), abs=1e-6)
            assert found.p == pytest.approx(2 * stats.norm.sf(abs(more.mean()) / spread), rel=1e-6)


@pytest.fixture(scope="module")
def drawn() -> dict[str, Any]:
    """A network with the weights that it begins with, and what it says of sixty pairs."""
    torch.manual_seed(0)
    model = build("capsnet", image_size=36, preset="small").eval()
    data = stream("multimnist", split="test", digits="embedded", count=60)
    batch = data.batch(np.arange(60))
    answers = predict(model, data)
    subject = NetworkSubject(model, {"test": lambda: data})
    labels = batch.labels.astype(np.int64)
    absent = absent_digits(batch.labels)
    images = reconstruct(model, data, np.column_stack([labels, absent]))
    assert images is not None
    return {
        "answers": answers,
        "labels": labels,
        "absent": absent,
        "images": images,
        "layers": data.layers(np.arange(60)),
        "whole": batch.images,
        "measured": measure_reconstructions(partial(subject.draw, "test"), data, answers),
    }


def test_a_pair_is_found_where_its_digits_are_the_two_highest_scores(drawn: dict[str, Any]) -> None:
    both, some = 0, 0
    for scores, labels in zip(drawn["answers"].scores, drawn["labels"], strict=True):
        hits = len(set(np.argsort(scores)[-2:].tolist()) & set(labels.tolist()))
        both, some = both + (hits == 2), some + (hits >= 1)
    found = pair_accuracies(drawn["answers"])
    assert (found["exact pair"].correct, found["at least one"].correct) == (both, some)
    assert found["per digit"].correct == both + some


def test_the_absent_digits_auc_is_scikit_learns(drawn: dict[str, Any]) -> None:
    from sklearn.metrics import roc_auc_score

    ink = (drawn["images"] >= 0.5).sum((2, 3))
    present = np.repeat([1, 0], [120, 60])
    scores = drawn["answers"].scores
    of = [np.take_along_axis(scores, drawn["labels"], 1).ravel(), scores[np.arange(60), drawn["absent"]]]
    expected = {
        "pixels of ink": roc_auc_score(present, np.concatenate([ink[:, :2].ravel(), ink[:, 2]])),
        "any ink": roc_auc_score(present, np.concatenate([ink[:, :2].ravel(), ink[:, 2]]) > 0),
        "score": roc_auc_score(present, np.concatenate(of)),
    }
    found = {name: one["auc"] for name, one in drawn["measured"]["absent"].items()}
    assert found == pytest.approx(expected, abs=1e-9)


def test_segmentation_is_scikit_learns(drawn: dict[str, Any]) -> None:
    from sklearn.metrics import f1_score, jaccard_score

    owned, ious, f1s = [], [], []
    true, claimed = [], []
    for images, layers, whole in zip(drawn["images"][:, :2], drawn["layers"], drawn["whole"], strict=True):
        ink, all_ink = layers >= 128, whole >= 128
        for mine, other in ((0, 1), (1, 0)):
            alone = ink[mine] & ~ink[other]
            owned += (np.sign(images[mine] - images[other])[alone] / 2 + 0.5).tolist()
            part = all_ink & (images[mine] >= 0.5 * images.max(0))
            ious.append(jaccard_score(ink[mine].ravel(), part.ravel()))
        parts_of = [all_ink & (one >= 0.5 * images.max(0)) for one in images]
        true.append((ink[0] & ink[1]).ravel())
        claimed.append((parts_of[0] & parts_of[1]).ravel())
        f1s.append(f1_score(true[-1], claimed[-1], zero_division=0))
    found = drawn["measured"]["segmentation"]["true labels"]
    assert found["owner"] == pytest.approx(np.mean(owned), abs=1e-6)
    assert found["relative_iou"] == pytest.approx(np.mean(ious), abs=1e-6)
    assert found["shared_f1"] == pytest.approx(f1_score(np.concatenate(true), np.concatenate(claimed)), abs=1e-6)
