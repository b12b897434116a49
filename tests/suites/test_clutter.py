"""The clutter suite: its protocol, and networks whose results are known beforehand."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from capsbench.bench.planning import plan_run
from capsbench.bench.running import run_plan
from capsbench.bench.trying import try_network
from capsbench.data.streaming import stream
from capsbench.errors import ParameterError
from capsbench.report.charts import Chart
from capsbench.report.groups import charts
from capsbench.report.pages import render
from capsbench.results.result import Result
from capsbench.suites.clutter import TESTED, Clutter, ClutterSettings

from .known_networks import KNOWN, at_medium, tiny_networks

LEAKY = "capsnet (leaky=True)"
FIXED = """
from torch import nn

class Net(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Flatten(), nn.Linear(32 * 32, 10))
"""


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Result]:
    folder = tmp_path_factory.mktemp("clutter")
    names = {name: f"{KNOWN}:{name}" for name in ("Oracle", "Littered", "Passing", "Guess")}
    options: dict[str, Any] = {"preset": "smoke", "digits": "embedded", "device": "cpu", "out": folder / "runs"}
    with tiny_networks():
        plan = plan_run("clutter", models=[*names.values(), "cnn-pool", "capsnet"], **options)
        outcome = run_plan(plan)
    assert not outcome.failed, outcome.failed
    return dict(zip([*names, "cnn-pool", "capsnet", LEAKY], outcome.results, strict=True))


def best(result: Result) -> dict[str, Any]:
    found: dict[str, Any] = result.metrics["checkpoints"]["best"]
    return found


def test_who_knows_the_answer_is_never_cluttered(results: dict[str, Result]) -> None:
    found = best(results["Oracle"])
    assert found["clean"]["share"] == 1
    assert [found["scraps"][number]["share"] for number in ("2", "8")] == [1, 1]
    assert [found["gap"][number]["share"] for number in ("2", "8")] == [0, 0]
    assert found["critical clutter"] == 8


def test_the_preset_medium_is_right_about_who_knows_and_who_guesses(tmp_path: Path) -> None:
    oracle, guess = (found["checkpoints"]["best"] for found in at_medium("clutter", tmp_path))
    for number in ("2", "8"):
        assert oracle["scraps"][number]["share"] == 1 and guess["scraps"][number]["share"] < 0.14


def test_the_best_checkpoint_is_tested_with_its_own_weights(results: dict[str, Result]) -> None:
    looks = [(row["step"], row["accuracy"]) for row in results["Passing"].metrics["history"]]
    assert looks == [(20, 1), (40, 0), (50, 0)]
    found = best(results["Passing"])
    assert (found["step"], found["clean"]["correct"]) == (20, 1000)
    assert [found["scraps"][number]["correct"] for number in ("2", "8")] == [1000] * 2


def touched(scraps: int) -> Any:
    """``[1000]`` whether a scrap is seen upon a target's ink, from the pixels."""
    data = stream("cluttered", split="test", digits="embedded", size=32, scraps=scraps)
    every = np.arange(len(data))
    target = data.layers(every)[:, 0]
    return ((data.batch(every).images > target) & (target > 0)).any((1, 2))


def test_who_fails_where_a_target_is_touched_is_right_on_all_others(results: dict[str, Result]) -> None:
    found = best(results["Littered"])
    wrong = int(touched(8).sum())
    assert 800 < wrong < 1000
    assert (found["scraps"]["2"]["correct"], found["scraps"]["8"]["correct"]) == (950, 1000 - wrong)
    assert found["gap"]["2"]["share"] == pytest.approx(0.05) and found["gap"]["8"]["share"] == wrong / 1000
    low, high = found["gap"]["8"]["interval"]
    assert low < wrong / 1000 < high < low + 0.06
    assert found["critical clutter"] == 2
    alone = found["untouched"]
    assert (alone["8"]["correct"], alone["8"]["total"]) == (1000 - wrong, 1000 - wrong)
    free = ~touched(2)
    expected = free & (np.arange(1000) % 20 != 0)
    assert (alone["2"]["correct"], alone["2"]["total"]) == (expected.sum(), free.sum())


def test_who_guesses_is_right_by_chance(results: dict[str, Result]) -> None:
    found = best(results["Guess"])
    for point in (found["clean"], *found["scraps"].values()):
        assert abs(point["share"] - 0.1) < 4 * (0.1 * 0.9 / 1000) ** 0.5


def test_training_and_selection_see_neither_test_digits_nor_scraps(results: dict[str, Result]) -> None:
    data = {role: used["spec"] for role, used in results["capsnet"].data.items()}
    tests = {"clean": 0, "2 scraps": 2, "8 scraps": 8}
    assert {role: spec["split"] for role, spec in data.items()} == {
        "training": "train", "validation": "validation", **dict.fromkeys(tests, "test")
    }  # fmt: skip
    for role, spec in data.items():
        number = tests.get(role, 0)
        assert (spec["parameters"]["scraps"], spec["parameters"]["size"]) == ([number, number], 32)


def test_the_preset_trained_trains_and_selects_among_scraps(tmp_path: Path) -> None:
    plan = plan_run(
        "clutter",
        models=[f"{KNOWN}:Guess"],
        preset="trained",
        changes={"epochs": "1", "size": "32", "scraps": "2", "variants": "1"},
        digits="embedded",
        device="cpu",
        out=tmp_path,
    )
    (result,) = run_plan(plan).results
    used = {role: one["spec"]["parameters"]["scraps"] for role, one in result.data.items()}
    assert used == {"training": [0, 8], "validation": [0, 8], "clean": [0, 0], "2 scraps": [2, 2]}


def test_capsnet_is_measured_without_and_with_an_orphan_category(results: dict[str, Result]) -> None:
    plain, leaky = results["capsnet"], results[LEAKY]
    assert (plain.label, leaky.label) == ("capsnet", LEAKY)
    assert leaky.parameters == {**plain.parameters, "leaky": True}
    assert best(plain)["scraps"] != best(leaky)["scraps"]
    assert {cell.label for cell in plan_run("clutter", digits="embedded").cells} == {
        "cnn-pool", "resnet-gap", "capsnet", LEAKY
    }  # fmt: skip


def test_the_table_has_a_row_for_each_model(results: dict[str, Result]) -> None:
    table = Clutter().table(list(results.values()))
    assert list(table.headers) == [
        "network", "parameters", "seeds", "clean", "2 scraps", "8 scraps", "gap", "critical clutter"
    ]  # fmt: skip
    rows = {row[0].rpartition(":")[2]: row[3:] for row in table.rows}
    assert list(rows) == list(results)
    clean = f"100.0 ({100 * 0.025 ** (1 / 1000):.1f}..100.0)"  # at the lower end, no error in 1,000 is 2.5 % likely
    assert rows["Oracle"] == [clean, "100.0", "100.0", "0.0 (0.0..0.0)", "> 8"]
    share = best(results["Littered"])["scraps"]["8"]["share"]
    at = 2 + 6 * 0.05 / (0.95 - share)  # 90 % on the line from 95 % at 2 to the share at 8
    assert rows["Littered"][2] == f"{100 * share:.1f}" and rows["Littered"][4].startswith(f"{at:.1f} (")


def test_each_network_is_compared_with_the_first_and_leaky_routing_with_routing(results: dict[str, Result]) -> None:
    text = render([results[name] for name in ("cnn-pool", "capsnet", LEAKY)])
    for condition in ("clean", "8 scraps"):
        assert f"{condition}, capsnet minus cnn-pool, paired by image" in text
        assert f"{condition}, {LEAKY} minus capsnet, paired by image" in text
    assert f"{LEAKY} minus cnn-pool" not in text
    assert "0.2 of these 4 tests would have a p below 0.05 by chance" in text
    assert "The paper has no such experiment" in text


def test_seeds_are_summed_up(results: dict[str, Result]) -> None:
    """Two results as if they were of two seeds."""
    one, two = (
        replace(results[name], label="net", source="", seed=seed) for seed, name in enumerate(("Oracle", "Guess"))
    )
    share = 100 * best(results["Guess"])["clean"]["share"]
    row = Clutter().table([one, two]).rows[0]
    assert row[2:4] == [2, f"{(100 + share) / 2:.1f} ± {(100 - share) / 2**0.5:.1f}"]
    found, _ = Clutter().charts([one, two])
    assert isinstance(found, Chart)
    assert found.series["net"][0][1] == pytest.approx((100 + share) / 2)


def test_the_charts_show_accuracy_against_scraps_where_there_are_targets(results: dict[str, Result]) -> None:
    every, alone = charts([results["Littered"], results["cnn-pool"]])
    assert isinstance(every, Chart) and isinstance(alone, Chart)
    model, points = results["Littered"].label, best(results["Littered"])
    assert set(every.series) == set(alone.series) == {model, "cnn-pool"}
    assert every.series[model] == [(0, 100.0), (2, 95.0), (8, pytest.approx(100 * points["scraps"]["8"]["share"]))]
    free = points["untouched"]
    assert alone.series[model][:2] == [(0, 100.0), (2, pytest.approx(100 * free["2"]["share"]))]
    few = replace(results["Littered"], metrics={**results["Littered"].metrics})
    few.metrics["checkpoints"] = {"best": {**points, "untouched": {**free, "8": {"total": 0}}}}
    _, alone = charts([few])
    assert isinstance(alone, Chart)
    assert [number for number, _ in alone.series[model]] == [0, 2]


def test_networks_that_ship_learn_the_clean_target(results: dict[str, Result]) -> None:
    for name in ("cnn-pool", "capsnet", LEAKY):
        assert best(results[name])["clean"]["share"] > 0.3, name  # after one epoch


def test_a_network_of_one_size_fits_the_presets_with_canvases_of_that_size(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(FIXED)
    options: dict[str, Any] = {"models": [f"{tmp_path}/net.py"], "digits": "embedded", "out": tmp_path}
    assert len(plan_run("clutter", preset="smoke", **options).cells) == 1
    (trial,) = try_network(f"{tmp_path}/net.py", suites=["clutter"], digits="embedded", device="cpu")
    assert trial.seconds["smoke"] and [name for name, seconds in trial.seconds.items() if seconds] == ["smoke"]


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        *(("scraps", value, "scraps") for value in ("0,2", "33", "4,2", "2,2", "")),
        ("size", "26", "size must be in 28..128"),
        ("size", "41", "size must be even"),
        ("training_scraps", "0,33", "training_scraps must be in 0..32"),
        ("training_scraps", "8,4", "training_scraps must be two ascending numbers"),
    ],
)
def test_settings_that_make_no_sense_are_refused(key: str, value: str, said: str) -> None:
    with pytest.raises(ParameterError, match=said):
        plan_run("clutter", preset="smoke", changes={key: value}, digits="embedded", out=Path("runs"))


def test_the_presets_state_the_whole_protocol() -> None:
    assert set(Clutter.presets) == {"smoke", "small", "trained", "medium", "paper"}
    settings = {name: preset.settings for name, preset in Clutter.presets.items()}
    for name in ("small", "trained", "medium", "paper"):
        one = settings[name]
        assert isinstance(one, ClutterSettings) and one.scraps == TESTED
        assert one.training_scraps == ((0, 8) if name == "trained" else (0, 0))
    assert replace(settings["trained"], training_scraps=(0, 0)) == settings["small"]
    assert (settings["paper"].size, settings["paper"].precision) == (60, "bf16")
    assert Clutter.presets["paper"].models == {"capsnet": {"preset": "large"}}
