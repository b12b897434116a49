"""Answers worked out by hand: which classes are named, and whether they are right."""

import numpy as np

from capsbench.evaluation.predictions import Predictions


def test_highest_scores_come_first_and_of_equal_ones_the_lower_class() -> None:
    scores = np.array([[0.1, 0.5, 0.5, 0.9], [0, 0, 0, 0]], np.float32)
    found = Predictions(scores, np.zeros(2, np.uint8), np.zeros(2, np.int32))
    assert found.highest(1).tolist() == [[3], [0]]
    assert found.highest(3).tolist() == [[3, 1, 2], [0, 1, 2]]


def test_a_tie_goes_to_the_lower_class() -> None:
    tied = Predictions(np.zeros((2, 10), np.float32), np.array([0, 9], np.uint8), np.array([0, 1], np.int32))
    assert tied.correct.tolist() == [True, False]


def test_ties_go_to_the_lower_class() -> None:
    flat = Predictions(np.zeros((2, 10), np.float32), np.array([[0, 1], [0, 2]], np.uint8), np.zeros((2, 2), np.int32))
    assert flat.correct.tolist() == [True, False]
