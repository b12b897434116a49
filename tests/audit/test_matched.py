"""What docs/affine.md says of methods that compare at equal clean accuracy, by simulation from the committed trainings.

The curves of a training are smoothed, which gives its affine accuracy at the target; with the scatter of its
validations added again, each method is asked for that accuracy many times.
"""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from capsbench.results.result import Result, load_results
from capsbench.suites.affine_matched import affine_at

RESULTS = Path(__file__).resolve().parents[2] / "results" / "affine"
WIDTH, DRAWS = 9, 200

Found = dict[str, dict[str, npt.NDArray[np.float64]]]
"""Of each training, see `simulated`."""


def smooth(values: npt.NDArray[np.float64], width: int) -> npt.NDArray[np.float64]:
    """Means over a window, which is shorter at the ends."""
    half = width // 2
    return np.array([values[max(0, at - half) : at + half + 1].mean() for at in range(len(values))])


def simulated(cell: Result) -> dict[str, npt.NDArray[np.float64]] | None:
    """In points, what two methods find less the truth, and how much less accurate the first validation's network is.

    None where the smoothed curve does not reach the target.
    """
    target = cell.settings["target"]
    rows = [(row["accuracy"], row["affine"]) for row in cell.metrics["history"] if "affine" in row]
    seen = np.array(rows)
    width = min(WIDTH, 2 * (len(seen) // 4) + 1)
    clean, affine = np.maximum.accumulate(smooth(seen[:, 0], width)), smooth(seen[:, 1], width)
    past = int(np.searchsorted(clean, target))
    if not 0 < past < len(clean):
        return None
    truth = np.interp(target, clean[past - 1 : past + 1], affine[past - 1 : past + 1])
    scatter = (seen - np.column_stack([clean, affine]))[len(seen) // 4 :]
    random = np.random.default_rng(0)
    found: dict[str, list[float]] = {"first": [], "line": [], "luck": []}
    for _ in range(DRAWS):
        drawn = np.column_stack([clean, affine]) + scatter[random.integers(0, len(scatter), len(seen))]
        reached = np.flatnonzero(drawn[:, 0] >= target)
        line = affine_at(target, [{"accuracy": one, "affine": other} for one, other in drawn])
        if len(reached) and line is not None:
            found["first"].append(drawn[reached[0], 1] - truth)
            found["luck"].append(clean[reached[0]] - drawn[reached[0], 0])
            found["line"].append(line - truth)
    return {name: 100 * np.array(values) for name, values in found.items()}


@pytest.fixture(scope="module")
def found() -> Found:
    cells = {f"{path.parent.name} {path.stem}": path for path in sorted(RESULTS.rglob("*.json"))}
    each = {name: simulated(load_results(path)[0]) for name, path in cells.items()}
    return {name: one for name, one in each.items() if one is not None}


def test_the_line_scatters_a_third_as_much_as_the_first_validation(found: Found) -> None:
    assert len(found) >= 30
    for name, one in found.items():
        assert one["line"].std() < 0.35 * one["first"].std(), name


def test_the_first_validation_at_the_target_is_less_accurate_than_it_shows(found: Found) -> None:
    assert all(one["luck"].mean() < -0.05 for one in found.values())


def test_the_line_is_off_by_a_point_at_most_in_nine_of_ten_trainings(found: Found) -> None:
    off = [abs(one["line"].mean()) for one in found.values()]
    assert np.mean(np.array(off) < 1) >= 0.9 and max(off) < 3.1
