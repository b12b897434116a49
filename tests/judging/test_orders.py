"""Scores in another order: each is found by its name, and none where there is none."""

from typing import Any

import numpy as np
import pytest

from capsbench.data.digits import load_digits
from capsbench.evaluation.predictions import Predictions
from capsbench.judging.orders import other_order, ties

COUNT = 400


def answers(rows: Any = None, columns: Any = None, *, right: float = 0.9, variants: int = 1) -> Predictions:
    """Answers to digits, most of them right; ``rows`` and ``columns`` say what was saved in which place."""
    random = np.random.default_rng(0)
    labels = np.tile(load_digits("test", "embedded").labels[:COUNT], variants)
    named = np.where(random.random(len(labels)) < right, labels, random.integers(0, 10, len(labels)))
    scores = np.eye(10)[named] + random.random((len(labels), 10)) / 2
    scores = scores if rows is None else scores[rows]
    scores = scores if columns is None else scores[:, columns]
    return Predictions(scores, labels, np.tile(np.arange(COUNT, dtype=np.int32), variants))


def test_scores_in_order_are_not_complained_about() -> None:
    assert not other_order(answers())
    assert not other_order(answers(right=0.3))
    assert not other_order(answers(right=0))
    assert not other_order(answers(variants=2))


def test_a_network_that_always_names_one_class_is_not_in_another_order() -> None:
    one = answers()
    assert not other_order(Predictions(np.tile(np.eye(10)[3], (COUNT, 1)), one.labels, one.source))


def test_scores_that_tie_are_named() -> None:
    scores = np.tile(np.arange(10.0), (200, 1))
    of_each = np.arange(200, dtype=np.int32)

    def told(*labels: int) -> str:
        shown = np.tile(np.array(labels, np.uint8), (200, 1)).squeeze(1 if len(labels) == 1 else ())
        return ties(Predictions(scores, shown, of_each))

    assert not told(3) and not told(3, 4)
    scores[:2, 8] = 9  # the highest: decides single digits, and of pairs nothing
    assert "2 of 200 images" in told(3) and not told(3, 4)
    scores[:2, 7:9] = 8  # the second and the third
    assert not told(3) and "2 of 200 images" in told(3, 4)
    scores[1, 7] = 7  # one in 200
    assert not told(3, 4)


def test_of_a_few_images_any_order_could_fit() -> None:
    some = answers(columns=np.roll(np.arange(10), 1)).among(np.arange(COUNT) < 40)
    assert not other_order(some)


def test_classes_that_begin_with_one_are_found() -> None:
    told = other_order(answers(columns=[1, 2, 3, 4, 5, 6, 7, 8, 9, 0]))
    assert "if the columns stood for the classes 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, it would be 88.2%." in told


def test_classes_in_any_order_are_found() -> None:
    told = other_order(answers(columns=[4, 0, 9, 1, 3, 2, 8, 7, 6, 5]))
    assert "the classes 4, 0, 9, 1, 3, 2, 8, 7, 6, 5, it" in told


EVERY = np.arange(COUNT)


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        (EVERY[::-1], "if the rows were reversed"),
        (np.roll(EVERY, 1), "if each row were 1 further up"),
        (np.roll(EVERY, -3), "if each row were 3 further down"),
        (np.array(sorted(EVERY.tolist(), key=str)), "sorted as text"),
        (np.argsort(load_digits("test", "embedded").labels[:COUNT], kind="stable"), "sorted by class"),
    ],
)
def test_rows_in_another_order_are_found(rows: Any, told: str) -> None:
    assert told in other_order(answers(rows))


def test_variants_of_a_digit_side_by_side_are_found() -> None:
    side_by_side = np.arange(3 * COUNT).reshape(3, COUNT).T.ravel()
    assert "the variants of a digit stood side by side" in other_order(answers(side_by_side, variants=3))


def test_pairs_in_another_order_are_found() -> None:
    random = np.random.default_rng(0)
    labels = np.array([random.choice(10, 2, replace=False) for _ in range(COUNT)], np.uint8)
    scores = random.random((COUNT, 10)) / 2
    np.put_along_axis(scores, labels.astype(np.int64), 1, axis=1)
    source = np.column_stack([EVERY, EVERY[::-1]]).astype(np.int32)
    assert not other_order(Predictions(scores, labels, source))
    assert "the classes 9, 0, 1, 2" in other_order(Predictions(np.roll(scores, 1, axis=1), labels, source))
    assert "if each row were 1 further up" in other_order(Predictions(np.roll(scores, 1, axis=0), labels, source))
