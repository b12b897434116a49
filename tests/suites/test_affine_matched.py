"""Affine accuracy at equal clean accuracy: lines by hand, and which rule has the least luck, by simulation."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from capsbench.results.result import Result
from capsbench.suites.affine_matched import affine_at, matched_notes


def history(*looks: tuple[float, float]) -> list[dict[str, float]]:
    return [{"accuracy": clean, "affine": affine} for clean, affine in looks]


def test_a_line_worked_by_hand() -> None:
    # Affine is 0.7 at 97 % and grows three times as fast; what lies further than 1.5 points away does not count.
    looks = [(clean, 0.7 + 3 * (clean - 0.97)) for clean in (0.957, 0.962, 0.968, 0.975, 0.984)]
    assert affine_at(0.97, history((0.93, 0.1), *looks, (0.99, 0.2))) == pytest.approx(0.7)


def test_without_looks_on_both_sides_there_is_no_number() -> None:
    below = [(0.960, 0.6), (0.962, 0.6), (0.965, 0.6), (0.966, 0.6)]
    assert affine_at(0.97, history(*below)) is None
    assert affine_at(0.97, history(*below, (0.971, 0.6))) == pytest.approx(0.6)
    assert affine_at(0.97, history(*below[:2], (0.971, 0.6))) is None
    assert affine_at(0.97, [{"accuracy": 0.97}]) is None


def cell(model: str, seed: int, affine: float) -> Result:
    looks = history(*((clean, affine + clean - 0.97) for clean in (0.96, 0.965, 0.97, 0.975, 0.98)))
    content: dict[str, Any] = {"suite": "affine", "version": 2, "preset": "small", "model": model, "label": model}
    content |= {"source": "", "seed": seed, "cell": "0", "settings": {"target": 0.97}, "parameters": {}}
    content |= {"digits": "embedded", "data": {"validation": {"spec": {"count": 800}}}, "metrics": {"history": looks}}
    return Result(**content, seconds=1.0, environment={}, date="2026-01-01T00:00:00+00:00")


def test_the_sentence_about_equal_clean_accuracy() -> None:
    networks = {
        "cnn": [cell("cnn", 0, 0.70), cell("cnn", 1, 0.71)],
        "capsnet": [cell("capsnet", 0, 0.73), cell("capsnet", 1, 0.74)],
    }
    assert matched_notes(networks) == [
        "At 97.00% clean accuracy, by a line through the validations within 1.5 points: affine % on validation digits "
        "cnn 70.5 ± 0.7, capsnet 73.5 ± 0.7; capsnet minus cnn +3.0 (+3.0..+3.0) over seeds. "
        "A validation of 800 digits has a standard error of 0.60 points there."
    ]
    networks["capsnet"][1].metrics["history"] = []
    (note,) = matched_notes(networks)
    assert "capsnet 73.0 (1 of 2 seeds)." in note
    for one in networks["capsnet"] + networks["cnn"]:
        one.metrics.pop("history")
    assert matched_notes(networks) == []


def test_the_line_has_less_luck_than_the_first_look(scale: Callable[[int, int], int]) -> None:
    # As in the committed histories: accuracy creeps to the target, a look is off by 0.6 points, affine by 1.
    random = np.random.default_rng(0)
    clean = 0.975 - 0.06 * np.exp(-np.arange(90) / 18)
    affine = 0.70 + 3 * (clean - 0.97)
    lines, firsts, lucky = [], [], []
    for _ in range(scale(300, 5000)):
        shown, seen = clean + random.normal(0, 0.006, 90), affine + random.normal(0, 0.010, 90)
        first = int(np.flatnonzero(shown >= 0.97)[0])
        firsts.append(seen[first] - 0.70)
        lucky.append(clean[first] - 0.97)
        lines.append(affine_at(0.97, history(*zip(shown, seen, strict=True))) - 0.70)  # type: ignore[operator]
    assert np.mean(lucky) < -0.004  # its clean accuracy is less than it shows, by more than half a standard error
    assert abs(np.mean(lines)) < abs(np.mean(firsts)) / 2 and np.std(lines) < np.std(firsts) / 3
