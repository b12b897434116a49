"""The crowding suite: its protocol, and networks whose results are known beforehand."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from capsbench.bench.planning import plan_run
from capsbench.bench.running import run_plan
from capsbench.errors import ParameterError
from capsbench.report.charts import Chart
from capsbench.report.groups import charts
from capsbench.report.pages import render
from capsbench.results.result import Result
from capsbench.suites.crowding import KINDS, RANDOM_NAMING, SPACINGS, Crowding, CrowdingSettings

from .known_networks import KNOWN, at_medium, tiny_networks


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Result]:
    folder = tmp_path_factory.mktemp("crowding")
    names = {name: f"{KNOWN}:{name}" for name in ("Oracle", "Crowded", "Edge", "Passing", "Guess")}
    models = [*names.values(), "cnn-pool", "capsnet"]
    options: dict[str, Any] = {"preset": "smoke", "digits": "embedded", "device": "cpu", "out": folder / "runs"}
    with tiny_networks():
        plan = plan_run("crowding", models=models, **options)
        outcome = run_plan(plan)
    assert not outcome.failed, outcome.failed
    return dict(zip([*names, "cnn-pool", "capsnet"], outcome.results, strict=True))


def best(result: Result) -> dict[str, Any]:
    found: dict[str, Any] = result.metrics["checkpoints"]["best"]
    return found


def test_who_knows_the_answer_is_never_crowded(results: dict[str, Result]) -> None:
    found = best(results["Oracle"])
    assert found["alone"]["share"] == 1
    for kind in KINDS:
        assert [found[kind][spacing]["share"] for spacing in ("14", "28")] == [1, 1]
        assert found["critical spacing"][kind] == 14
        for spacing in ("14", "28"):
            assert found["flanker named"][kind][spacing] == {"number": 0, "of all": 0, "of wrong": None}


def test_the_preset_medium_is_right_about_who_knows_and_who_guesses(tmp_path: Path) -> None:
    oracle, guess = at_medium("crowding", tmp_path)
    points = [found["checkpoints"]["best"] for found in (oracle, guess)]
    for kind in KINDS:
        for spacing in ("14", "28"):
            assert points[0][kind][spacing]["share"] == 1 and points[1][kind][spacing]["share"] < 0.14


def test_the_best_checkpoint_is_tested_with_its_own_weights(results: dict[str, Result]) -> None:
    looks = [(row["step"], row["accuracy"]) for row in results["Passing"].metrics["history"]]
    assert looks == [(20, 1), (40, 0), (50, 0)]
    found = best(results["Passing"])
    assert (found["step"], found["alone"]["correct"]) == (20, 1000)
    assert [found[kind][spacing]["correct"] for kind in KINDS for spacing in ("14", "28")] == [1000] * 4


def test_who_names_near_flankers_is_crowded_by_digits_and_not_by_their_ink(results: dict[str, Result]) -> None:
    found = best(results["Crowded"])
    assert found["alone"]["share"] == 1
    assert [found["digits"][spacing]["share"] for spacing in ("14", "28")] == [0, 1]
    assert [found["shuffled"][spacing]["share"] for spacing in ("14", "28")] == [1, 1]
    assert found["critical spacing"] == {"digits": 28, "shuffled": 14}
    assert found["flanker named"]["digits"]["14"] == {"number": 1000, "of all": 1, "of wrong": 1}
    assert found["flanker named"]["shuffled"]["14"]["number"] == 0


def test_critical_spacing_is_the_least_from_which_on_nine_tenths_are_kept(results: dict[str, Result]) -> None:
    found = best(results["Edge"])
    assert [found["shuffled"][spacing]["correct"] for spacing in ("14", "28")] == [900, 1000]
    assert [found["digits"][spacing]["correct"] for spacing in ("14", "28")] == [1000, 888]
    assert found["critical spacing"] == {"digits": None, "shuffled": 14}


def test_who_guesses_is_right_and_names_a_flanker_by_chance(results: dict[str, Result]) -> None:
    found = best(results["Guess"])
    # Two flankers are of 2 - 1/9 classes in the mean, of the ten that are guessed.
    naming = (2 - 1 / 9) / 10
    assert pytest.approx(naming / 0.9) == RANDOM_NAMING
    for kind in KINDS:
        for spacing in ("14", "28"):
            accuracy, named = found[kind][spacing], found["flanker named"][kind][spacing]
            assert accuracy["total"] == 1000
            assert abs(accuracy["share"] - 0.1) < 4 * (0.1 * 0.9 / 1000) ** 0.5
            assert abs(named["of all"] - naming) < 4 * (naming * (1 - naming) / 1000) ** 0.5
            assert named["number"] == round(1000 * named["of all"])
            assert named["of wrong"] == pytest.approx(named["number"] / (1000 - accuracy["correct"]))


def test_training_and_selection_see_neither_test_digits_nor_flankers(results: dict[str, Result]) -> None:
    data = {role: used["spec"] for role, used in results["capsnet"].data.items()}
    splits = {role: spec["split"] for role, spec in data.items()}
    tests = ["alone", *(f"{kind} at {spacing} px" for kind in KINDS for spacing in (14, 28))]
    assert splits == {"training": "train", "validation": "validation", **dict.fromkeys(tests, "test")}
    for role, spec in data.items():
        kind = role.split()[0]
        assert spec["parameters"]["flankers"] == (kind if kind in KINDS else "none")
        assert spec["parameters"]["jitter"] == 4


def test_the_table_has_a_row_for_each_model_and_kind_of_flankers(results: dict[str, Result]) -> None:
    table = Crowding().table(list(results.values()))
    rows = {(row[0].rpartition(":")[2], row[3]): row[4:] for row in table.rows}
    assert list(rows) == [(name, kind) for name in results for kind in KINDS]
    assert list(table.headers[4:]) == ["alone", "14 px", "28 px", "critical spacing", "named %", "of wrong %"]
    alone = f"100.0 ({100 * 0.025 ** (1 / 1000):.1f}..100.0)"  # at the lower end, no error in 1,000 is 2.5 % likely
    assert rows["Oracle", "digits"] == [alone, "100.0", "100.0", "< 14", "0.0", "no answers"]
    assert rows["Crowded", "digits"] == [alone, "0.0", "100.0", "26.6", "100.0", "100.0"]
    text = render([results["cnn-pool"], results["capsnet"]])
    assert "The paper has no such experiment" in text and "capsnet minus cnn-pool, paired by image" in text


def test_seeds_are_summed_up(results: dict[str, Result]) -> None:
    """Two results as if they were of two seeds."""
    one, two = (
        replace(results[name], label="net", source="", seed=seed) for seed, name in enumerate(("Oracle", "Crowded"))
    )
    row = Crowding().table([one, two]).rows[0]
    assert row[2:] == [2, "digits", "100.0 ± 0.0", "50.0 ± 70.7", "100.0 ± 0.0", "< 14 / 26.6", "50.0 ± 70.7", "100.0"]
    found, _ = Crowding().charts([one, two])
    assert found.series["net, digits"] == [(14, 50.0), (28, 100.0)]


def test_the_charts_show_accuracy_and_named_flankers_against_the_spacing(results: dict[str, Result]) -> None:
    right, named = charts([results["Crowded"], results["capsnet"]])
    assert isinstance(right, Chart) and isinstance(named, Chart)
    model = results["Crowded"].label
    shown = [f"{name}, {what}" for name in (model, "capsnet") for what in ("alone", *KINDS)]
    assert sorted(right.series) == sorted(shown)
    assert sorted(named.series) == sorted(name for name in shown if not name.endswith("alone"))
    assert right.series[f"{model}, alone"] == [(14, 100.0), (28, 100.0)]
    assert right.series[f"{model}, digits"] == [(14, 0.0), (28, 100.0)]
    assert right.series[f"{model}, shuffled"] == [(14, 100.0), (28, 100.0)]
    assert named.series[f"{model}, digits"] == [(14, 100.0), (28, 0.0)]
    alone = best(results["capsnet"])["alone"]["share"]
    assert right.series["capsnet, alone"] == [(14, 100 * alone), (28, 100 * alone)]


def test_networks_that_ship_learn_the_target_alone(results: dict[str, Result]) -> None:
    for name in ("cnn-pool", "capsnet"):
        assert best(results[name])["alone"]["share"] > 0.5  # after one epoch


@pytest.mark.parametrize("asked", ["12", "30", "20,14", "14,14", ""])
def test_spacings_that_make_no_sense_are_refused(asked: str) -> None:
    with pytest.raises(ParameterError, match="spacings"):
        plan_run("crowding", preset="smoke", changes={"spacings": asked}, digits="embedded", out=Path("runs"))


def test_the_presets_state_the_whole_protocol() -> None:
    assert set(Crowding.presets) == {"smoke", "small", "medium", "paper"}
    assert SPACINGS == (14, 16, 18, 20, 22, 24, 26, 28)
    for name in ("small", "medium", "paper"):
        settings = Crowding.presets[name].settings
        assert isinstance(settings, CrowdingSettings) and settings.spacings == SPACINGS
    paper = Crowding.presets["paper"].settings
    assert (paper.schedule, paper.precision, paper.batch_size, paper.learning_rate) == (
        "exponential",
        "bf16",
        128,
        1e-3,
    )
    assert Crowding.presets["paper"].models == {"capsnet": {"preset": "large"}}
