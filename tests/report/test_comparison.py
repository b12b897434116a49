"""Two results side by side, with answers worked by hand."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

import capsbench
from capsbench.errors import DataFileError, UsageError
from capsbench.report.comparison import (
    Comparisons,
    compare,
    compare_networks,
    compare_results,
    pooled,
)
from capsbench.report.comparisontables import comparison_table, render_comparisons
from capsbench.report.differences import Question, paired_notes
from capsbench.results.answers import Answers, packed_partners
from capsbench.results.result import Result, load_results, save_result
from capsbench.results.writers import key_of_writers, packed_writers
from capsbench.statistics import pair_error

AFFINE = ("checkpoints", "best", "affine")


def point(correct: list[int] | np.ndarray, digits: int) -> dict[str, Any]:
    bits = np.array(correct, bool)
    kept = Answers(bits, digits).to_dict()
    return {"share": float(bits.mean()), "correct": int(bits.sum()), "total": len(bits), "interval": [0, 1], **kept}


def result(model: str, correct: list[int] | np.ndarray, *, digits: int = 4, **changes: Any) -> Result:
    test = {"spec": {"split": "test", "seed": changes.pop("data_seed", 0), "count": len(correct)}, "digest": "ab"}
    training = {"spec": {"split": "train", "seed": 0, "count": changes.pop("trained", 100)}}
    content: dict[str, Any] = {
        "suite": "affine",
        "version": 2,
        "preset": "small",
        "model": model,
        "label": model,
        "source": "",
        "seed": 0,
        "cell": "0123456789ab",
        "settings": {},
        "parameters": {},
        "digits": "embedded",
        "data": {"training": training, "affine": test},
        "metrics": {"checkpoints": {"best": {"affine": point(correct, digits), "epoch": 3}}, "history": [{"epoch": 1}]},
        "seconds": 1.0,
        "environment": {"device": "cpu"},
        "date": "2026-01-01T00:00:00+00:00",
    }
    return Result(**(content | changes))


def test_two_results_worked_by_hand() -> None:
    # Four digits, two variants each. The second is right where the first is, and on both variants of digits 1 and 2.
    first = result("cnn", [1, 0, 0, 0, 1, 0, 0, 0])
    second = result("capsnet", [1, 1, 1, 0, 1, 1, 1, 0])
    (found,) = compare_results(first, second).differences
    assert found.place == AFFINE
    assert (found.first, found.second, found.difference) == (0.25, 0.75, 0.5)
    assert (found.digits, found.images) == (4, 8)
    assert found.p == 0.5  # two digits changed, both the same way: 2 * (1/2)**2; eight images would have said 1/8
    assert found.interval == (0.0, 1.0)  # of four digits, all differences 0 or all 1 happens in 1 of 16 draws each
    (back,) = compare_results(second, first).differences
    assert (back.difference, back.p, back.interval) == (-0.5, 0.5, (-1.0, 0.0))


def test_difference_interval_and_p_are_those_of_scipy() -> None:
    draw = np.random.default_rng(0)
    hard = np.tile(draw.random(300) < 0.2, 4)
    ours, theirs = ~hard & (draw.random(1200) < 0.9), ~hard & (draw.random(1200) < 0.97)
    (found,) = compare_results(result("a", ours, digits=300), result("b", theirs, digits=300)).differences
    by_digit = (theirs.astype(float) - ours).reshape(4, 300).mean(0)
    flips = np.random.default_rng(1).choice([-1, 1], (4000, 300)) @ by_digit  # of the four variants, not of the first
    assert found.p == pytest.approx((np.abs(flips) >= abs(by_digit.sum()) - 1e-9).mean(), abs=0.005)
    single = compare_results(result("a", ours[:300], digits=300), result("b", theirs[:300], digits=300)).differences[0]
    changed = (ours != theirs)[:300]
    assert single.p == pytest.approx(stats.binomtest(int(theirs[:300][changed].sum()), int(changed.sum())).pvalue)
    error = by_digit.std() / np.sqrt(300)
    assert found.difference == pytest.approx(by_digit.mean())
    assert found.interval == pytest.approx((by_digit.mean() - 1.96 * error, by_digit.mean() + 1.96 * error), abs=0.004)


def test_every_place_that_both_keep_is_compared() -> None:
    one, two = point([1, 0], 2), point([1, 1], 2)
    ours = result("cnn", [1, 1], metrics={"a": [{"b": one}, {"c": two}], "ours": one, "share": {"share": 0.5}})
    theirs = result("capsnet", [1, 1], metrics={"a": [{"b": two}, {"c": two}], "theirs": one})
    found = {one.place: one.difference for one in compare_results(ours, theirs).differences}
    assert found == {("a", "0", "b"): 0.5, ("a", "1", "c"): 0.0}


def test_gaps_are_compared_digit_by_digit() -> None:
    # Four digits. The first network's gap is 100 - 25 %, the second's 75 - 75 %: it wins digits 1 and 2 of the
    # transformed images, and loses digit 3 of the clean ones. Three digits differ, all the same way: 2 * (1/2)**3.
    def tested(model: str, clean: list[int], moved: list[int], **kept: Any) -> Result:
        best = {"clean": point(clean, 4), "affine": point(moved, 4), "gap": {"share": 0.0}, **kept}
        return result(model, moved, metrics={"checkpoints": {"best": best, "last": {"affine": point(moved, 4)}}})

    ours = tested("cnn", [1, 1, 1, 1], [1, 0, 0, 0])
    theirs = tested("capsnet", [1, 1, 1, 0], [1, 1, 1, 0], other=point([1] * 4, 4))
    found = compare_results(ours, theirs).differences
    assert [one.place[1:] for one in found] == [
        ("best", "clean"),
        ("best", "affine"),
        ("best", "gap"),
        ("last", "affine"),
    ]
    gap = found[2]
    assert (gap.first, gap.second, gap.difference, gap.p) == (0.75, 0.0, -0.75, 0.25)
    assert (gap.digits, gap.images, gap.interval) == (4, 8, (-1.0, -0.25))
    assert gap.to_dict()["gap"] and "gap" not in found[0].to_dict()
    made = comparison_table(compare_results(ours, theirs))
    assert made.rows[2][:6] == ["checkpoints, best, gap", 4, 8, "75.0", "0.0", "-75.0 (-100.0..-25.0)"]
    assert any(note.startswith("A gap is in points") for note in made.notes)


@pytest.mark.parametrize("within", [(), ("best",), ("a", "b", "c")])
def test_a_gap_stands_behind_its_images_however_deep_they_are(within: tuple[str, ...]) -> None:
    def tested(model: str) -> Result:
        metrics: dict[str, Any] = {"clean": point([1, 1], 2), "affine": point([1, 0], 2), "other": point([1, 1], 2)}
        for name in reversed(within):
            metrics = {name: metrics}
        return result(model, [1, 1], metrics=metrics)

    found = compare_results(tested("cnn"), tested("capsnet")).differences
    assert [one.place for one in found] == [(*within, name) for name in ("clean", "affine", "gap", "other")]


def gaps_of(
    model: str, clean: list[int], moved: list[int], *, people: dict[str, list[int]] | None = None, seed: int = 0
) -> Result:
    points = {"clean": point(clean, len(clean)), "affine": point(moved, len(clean))}
    written = {}
    for name, writers in (people or {}).items():
        numbers = np.array(writers, np.int32)
        points[name] |= {"writers": key_of_writers(numbers)}
        written[key_of_writers(numbers)] = packed_writers(numbers)
    return result(model, clean, metrics={"best": points}, writers=written, seed=seed)


def test_gaps_may_differ_by_two_hundred_points() -> None:
    # The first network reads clean digits alone (gap 100 %), the second transformed ones alone (-100 %).
    right, wrong = [1] * 4, [0] * 4
    pairs = [
        compare_results(gaps_of("cnn", right, wrong, seed=seed), gaps_of("capsnet", wrong, right, seed=seed))
        for seed in (0, 1)
    ]
    (one,) = [found for found in pairs[0].differences if found.gap]
    (both,) = [found for found in pooled(pairs) if found.gap]
    assert one.interval == both.interval == (-2.0, -2.0)
    assert both.difference == -2.0


def test_writers_of_a_gap_are_those_that_both_results_know() -> None:
    people = [number // 2 for number in range(40)]
    names = {"clean": people, "affine": people}
    draw = np.random.default_rng(0)
    answers = [draw.integers(0, 2, 40).tolist() for _ in range(4)]

    def writers_of_gap(first: dict[str, Any], second: dict[str, Any]) -> int:
        ours, theirs = (
            gaps_of(model, clean, moved, people=known)
            for model, known, (clean, moved) in (("cnn", first, answers[:2]), ("capsnet", second, answers[2:]))
        )
        (found,) = [one for one in compare_results(ours, theirs).differences if one.gap]
        return found.writers

    assert writers_of_gap(names, names) == 20
    assert writers_of_gap(names, {}) == writers_of_gap({}, names) == writers_of_gap({}, {}) == 0
    few = {"clean": [0, 1] * 20, "affine": [0, 1] * 20}  # of two people, digits are the units
    assert writers_of_gap(few, few) == 0


def test_a_result_that_names_two_sets_of_writers_is_damaged() -> None:
    people = {"clean": list(range(20)) * 2, "affine": list(range(40))}
    ours, theirs = (gaps_of(model, [1] * 40, [0] * 40, people=people) for model in ("cnn", "capsnet"))
    with pytest.raises(DataFileError, match="best, gap: A result is damaged: it names different writers"):
        compare_results(ours, theirs)


def test_metrics_that_are_answers_themselves_have_no_place() -> None:
    ours, theirs = (result(model, [1], metrics=point([1, 1], 2)) for model in ("cnn", "capsnet"))
    with pytest.raises(DataFileError, match="keep no answers to the same images"):
        compare_results(ours, theirs)


def test_of_other_digits_no_gap_is_compared() -> None:
    best = {"clean": point([1, 1], 2), "affine": point([1, 0, 1, 0], 4)}
    ours, theirs = (result(model, [1] * 4, metrics={"checkpoints": {"best": best}}) for model in ("cnn", "capsnet"))
    assert [one.place[-1] for one in compare_results(ours, theirs).differences] == ["clean", "affine"]


def test_what_was_tested_on_other_images_is_not_compared() -> None:
    with pytest.raises(UsageError, match="different images: of 'affine', seed: 0 and 7"):
        compare_results(result("cnn", [1, 0, 1, 0]), result("capsnet", [1, 0, 1, 0], data_seed=7))
    ours = result("cnn", [1, 0, 1, 0])
    ours.data["affine"]["digest"] = "cd"
    with pytest.raises(UsageError, match="digest: cd and ab"):
        compare_results(ours, result("capsnet", [1, 0, 1, 0]))
    with pytest.raises(UsageError, match="their suites or versions differ"):
        compare_results(result("cnn", [1, 0, 1, 0]), result("capsnet", [1, 0, 1, 0], version=1))
    with pytest.raises(UsageError, match="their suites or versions differ"):
        compare_results(result("cnn", [1, 0, 1, 0]), result("capsnet", [1, 0, 1, 0], suite="overlap"))
    compare_results(result("cnn", [1, 0, 1, 0]), result("capsnet", [1, 0, 1, 0], trained=9))  # training may differ


def test_answers_that_are_missing_or_do_not_fit_are_said_to_be() -> None:
    with pytest.raises(DataFileError, match=r"cnn \(affine, preset small, seed 0\).* keep no answers"):
        compare_results(result("cnn", [1, 0], digits=2, metrics={"share": 1}), result("capsnet", [1, 0], digits=2))
    with pytest.raises(DataFileError, match="8 images of 4 digits and 8 images of 2 digits"):
        compare_results(result("cnn", [1] * 8, digits=4), result("capsnet", [1] * 8, digits=2))
    broken = result("cnn", [1, 0], digits=2)
    broken.metrics["checkpoints"]["best"]["affine"]["answers"] = "AAAA"
    with pytest.raises(DataFileError, match="damaged"):
        compare_results(broken, result("capsnet", [1, 0], digits=2))
    with pytest.raises(DataFileError, match="what it was tested on"):
        compare_results(result("cnn", [1, 0], digits=2, data={"a": "b"}), result("capsnet", [1, 0], digits=2))


def saved(folder: Path, *results: Result) -> Path:
    for number, one in enumerate(results):
        save_result(one, folder / f"{number}.json")
    return folder


def test_files_are_compared_as_they_are(tmp_path: Path) -> None:
    saved(tmp_path, result("cnn", [1, 0, 1, 0]), result("capsnet", [1, 1, 1, 0], seed=3))
    found = capsbench.compare(tmp_path / "0.json", str(tmp_path / "1.json"))
    assert [(pair.first.label, pair.second.seed) for pair in found.pairs] == [("cnn", 3)]
    assert found.alone == []


def test_results_that_were_loaded_are_compared_as_their_files_are(tmp_path: Path) -> None:
    first, second = result("cnn", [1, 0, 0, 0]), result("capsnet", [1, 1, 1, 0])
    one, other = saved(tmp_path / "one", first), saved(tmp_path / "other", second)
    expected = compare(one, other).to_dict()
    assert compare(load_results(one), other).to_dict() == expected
    assert compare([first], [second]).to_dict() == compare(first, second).to_dict() == expected
    with pytest.raises(UsageError, match="cannot be compared with itself"):
        compare(first, first)
    with pytest.raises(UsageError, match="No result in A has a partner in B"):
        compare([first], [replace(second, seed=1)])


def test_folders_are_paired_by_suite_preset_and_seed(tmp_path: Path) -> None:
    right = [1, 0, 1, 0]
    ours = saved(tmp_path / "a", *(result("cnn", right, seed=seed) for seed in (0, 1, 2)))
    theirs = saved(
        tmp_path / "b",
        *(result("capsnet", right, seed=seed) for seed in (1, 2, 5)),
        result("capsnet", right, seed=0, preset="smoke"),
    )
    found = compare(ours, theirs)
    assert [(pair.first.label, pair.second.label, pair.first.seed, pair.second.seed) for pair in found.pairs] == [
        ("cnn", "capsnet", 1, 1),
        ("cnn", "capsnet", 2, 2),
    ]
    assert found.alone == [
        "cnn (affine, preset small, seed 0) in A alone",
        "capsnet (affine, preset small, seed 5) in B alone",
        "capsnet (affine, preset smoke, seed 0) in B alone",
    ]


def test_results_without_a_partner_say_of_which_digits_they_are_where_both_occur(tmp_path: Path) -> None:
    right = [1, 0, 1, 0]
    whole = replace(result("cnn", right, seed=1), digits="mnist")
    ours = saved(tmp_path / "a", result("cnn", right), whole)
    found = compare(ours, saved(tmp_path / "b", result("mine", right)))
    assert found.alone == ["cnn (affine, preset small, seed 1), full MNIST, in A alone"]
    found = compare([result("cnn", right)], [result("mine", right), whole, replace(whole, digits="kmnist")])
    assert found.alone == [
        "cnn (affine, preset small, seed 1), full MNIST, in B alone",
        "cnn (affine, preset small, digits kmnist, seed 1) in B alone",
    ]
    found = compare(
        [result("cnn", right)], [result("mine", right), replace(result("cnn", right, seed=1), digits="kmnist")]
    )
    assert found.alone == ["cnn (affine, preset small, digits kmnist, seed 1) in B alone"]


def test_of_several_models_the_same_are_partners(tmp_path: Path) -> None:
    right = [1, 0, 1, 0]
    ours = saved(tmp_path / "a", result("capsnet", right), result("cnn", right))
    theirs = saved(tmp_path / "b", result("cnn", right, cell="b"), result("mine", right))
    found = compare(ours, theirs)
    assert [(pair.first.label, pair.second.label) for pair in found.pairs] == [("cnn", "cnn")]
    assert [line.split()[0] for line in found.alone] == ["capsnet", "mine"]


def test_one_model_with_other_parameters_is_a_partner_where_there_is_no_closer(tmp_path: Path) -> None:
    right = [1, 0, 1, 0]
    ours = saved(tmp_path / "a", result("capsnet", right), result("cnn", right))
    changed = replace(result("capsnet", [1, 1, 1, 1]), label="capsnet (iterations=1)")
    found = compare(ours, saved(tmp_path / "b", changed, result("cnn", right, cell="b")))
    pairs = [(pair.first.label, pair.second.label) for pair in found.pairs]
    assert pairs == [("cnn", "cnn"), ("capsnet", "capsnet (iterations=1)")] and found.alone == []


def test_a_network_is_named_as_tables_name_it(tmp_path: Path) -> None:
    shipped = result("stn", [1, 0, 1, 0], origin="weights", training={"file": "pretrained"}, label="stn", date="x")
    folder = saved(tmp_path / "a", result("cnn", [1, 0, 0, 0]), shipped)
    (pair,) = compare_networks(folder, ["cnn", "stn (weights that ship)"]).pairs
    assert pair.second.model == "stn"


def test_files_of_different_seeds_are_said_to_be(tmp_path: Path) -> None:
    first, second = result("cnn", [1, 0, 0, 0]), result("capsnet", [1, 1, 0, 0], seed=3)
    found = render_comparisons(Comparisons([compare_results(first, second)], []))
    assert found.splitlines()[0] == "affine, A: one seed: 0, B: one seed: 3: what differs, and the figures"


def test_partners_come_in_the_order_of_their_files(tmp_path: Path) -> None:
    models = [f"net{number}" for number in range(12)]  # a set of these has another order in nearly every process
    ours = saved(tmp_path / "a", *(result(model, [1, 0, 1, 0]) for model in models))
    changed = (replace(result(model, [1, 1, 1, 1]), label=f"{model} (depth=2)") for model in models)
    found = compare(ours, saved(tmp_path / "b", *changed))
    assert [pair.first.label for pair in found.pairs] == [one.label for one in load_results(ours)]


def test_what_makes_no_sense_to_compare_is_said(tmp_path: Path) -> None:
    right = [1, 0, 1, 0]
    ours = saved(tmp_path / "a", result("cnn", right))
    with pytest.raises(UsageError, match="with itself"):
        compare(ours, tmp_path / "b" / ".." / "a")
    with pytest.raises(UsageError, match="with itself"):
        compare(ours / "0.json", ours / "0.json")
    with pytest.raises(DataFileError, match="no folder"):
        compare(ours, tmp_path / "nowhere")
    with pytest.raises(UsageError, match=r"has a partner in .*cnn .* in A alone; capsnet .* in B alone"):
        compare(ours, saved(tmp_path / "b", result("capsnet", right, seed=1)))
    with pytest.raises(UsageError, match=r"two results of cnn .*name the files"):
        compare(ours, saved(tmp_path / "c", result("cnn", right), result("cnn", right)))


def test_the_table_of_a_comparison() -> None:
    made = comparison_table(
        compare_results(result("cnn", [1, 0, 0, 0]), result("capsnet", [1, 1, 1, 0], preset="tiny"))
    )
    assert made.title == "affine, preset small and tiny, A: cnn (seed 0), B: capsnet (seed 0)"
    assert list(made.rows) == [
        ["checkpoints, best, affine", 4, 4, "25.0", "75.0", "+50.0 (+0.0..+100.0)", "0.5", "0.5"],
    ]


def test_notes_tell_the_difference_from_the_first_network_seed_by_seed() -> None:
    results = [
        result("cnn", [1, 0, 0, 0]),
        result("cnn", [1, 1, 0, 0], seed=1),
        result("capsnet", [1, 1, 1, 0]),
        result("capsnet", [1, 0, 0, 0], seed=1),
        result("capsnet", [1, 0, 0, 0], seed=2),  # cnn has no such seed
    ]
    places = {"affine, best": Question(AFFINE), "affine, at target": Question(("checkpoints", "target", "affine"))}
    assert paired_notes(results, places) == [
        "affine, best, capsnet minus cnn, paired by image: seed 0 +50.0 (+0.0..+100.0) points, p 0.5 / 1; "
        "seed 1 -25.0 (-75.0..+0.0) points, p 1 / 1; over seeds and digits +12.5 (-100.0..+100.0) points, p 0.82.",
        "If all networks were equal, 0.1 of these 2 tests would have a p below 0.05 by chance. After the slash: p with "
        "Holm's (1979) correction for all of them.",
    ]
    assert paired_notes(results[:2], places) == []


def test_images_may_be_left_out_of_a_question() -> None:
    results = [result("cnn", [1, 0, 0, 0]), result("capsnet", [1, 1, 1, 0])]
    some = Question(AFFINE, lambda _: np.array([True, True, False, False]))
    (note,) = paired_notes(results, {"near": some})
    assert note == "near, capsnet minus cnn, paired by image: seed 0 +50.0 (+0.0..+100.0) points, p 1."
    assert paired_notes(results, {"near": Question(AFFINE, lambda _: None)}) == []


def test_a_note_says_why_a_pair_was_not_compared() -> None:
    (note,) = paired_notes(
        [result("cnn", [1, 0]), result("capsnet", [1, 0], data_seed=1)], {"affine": Question(AFFINE)}
    )
    assert "seed 0 not compared" in note and "different images" in note


def test_a_comparison_is_plain_json(tmp_path: Path) -> None:
    ours = saved(tmp_path / "a", result("cnn", [1, 0, 0, 0]))
    theirs = saved(tmp_path / "b", result("capsnet", [1, 1, 1, 0]), replace(result("capsnet", [1] * 4), seed=9))
    content = compare(ours, theirs).to_dict()
    (networks,) = content.pop("networks")
    assert (networks["A"], networks["B"], networks["seeds"]) == ("cnn", "capsnet", [0])
    assert networks["pooled"] == content["pairs"][0]["differences"]
    assert content == {
        "pairs": [
            {
                "suite": "affine",
                "preset": "small",
                "digits": "embedded",
                "A": {"model": "cnn", "seed": 0, "cell": "0123456789ab", "threads": None},
                "B": {"model": "capsnet", "seed": 0, "cell": "0123456789ab", "threads": None},
                "differences": [
                    {
                        "place": list(AFFINE),
                        "first": 0.25,
                        "second": 0.75,
                        "difference": 0.5,
                        "interval": [0.0, 1.0],
                        "p": 0.5,
                        "digits": 4,
                        "images": 4,
                        "pairs": False,
                        "seeds": 1,
                    }
                ],
            }
        ],
        "without partner": ["capsnet (affine, preset small, seed 9) in B alone"],
    }


@pytest.mark.parametrize(
    ("images", "wrong", "told"),
    [
        (1000, (35, 25), ["96.5", "97.5", "+1.0"]),
        (10_000, (35, 25), ["99.65", "99.75", "+0.10"]),
        (10_000, (25, 25), ["99.75", "99.75", "+0.00"]),
    ],
)
def test_as_many_decimals_are_shown_as_an_image_is_worth(images: int, wrong: tuple[int, int], told: list[str]) -> None:
    ours, theirs = (result(str(count), np.arange(images) >= count, digits=images) for count in wrong)
    (row,) = comparison_table(compare_results(ours, replace(theirs, cell="others"))).rows
    assert [row[3], row[4], row[5].partition(" ")[0]] == told


def test_what_rounds_to_nothing_has_no_sign() -> None:
    ours = np.ones(30_000, bool)
    theirs = ours.copy()
    theirs[7] = False
    comparison = compare_results(result("a", ours, digits=30_000), result("b", theirs, digits=30_000))
    assert comparison_table(comparison).rows[0][5].startswith("+0.00 (")


def test_one_result_in_two_places_is_not_compared_with_itself(tmp_path: Path) -> None:
    one = result("cnn", [1, 0, 1, 0])
    save_result(one, tmp_path / "a" / "one.json")
    save_result(one, tmp_path / "b" / "copy.json")
    with pytest.raises(UsageError, match="compared with itself"):
        compare(tmp_path / "a", tmp_path / "b")


def test_results_without_a_test_in_common_are_refused() -> None:
    one, other = result("cnn", [1, 0, 1, 0]), result("capsnet", [1, 1, 1, 0])
    moved = replace(other, data={"training": other.data["training"], "elsewhere": other.data["affine"]})
    with pytest.raises(UsageError, match="no test data in common, but affine and elsewhere"):
        compare_results(one, moved)


def of_pairs(model: str, correct: list[int], partners: list[int]) -> Result:
    found = {"checkpoints": {"best": {"exact pair": point(correct, 4)}}}
    source = np.column_stack([np.arange(len(correct)) % 4, partners]).astype(np.int32)
    return result(model, correct, metrics={**found, "partners": packed_partners(source)})


def test_of_pairs_both_digits_are_the_units() -> None:
    ours, theirs = [1, 0, 0, 1, 1, 0, 1, 0], [1, 1, 0, 1, 1, 1, 1, 1]
    partners = [1, 2, 3, 0, 2, 1, 1, 1]  # digit 1 is in all three that only the second found
    made = compare_results(of_pairs("cnn", ours, partners), of_pairs("capsnet", theirs, partners))
    (found,) = made.differences
    differences = np.array(theirs, float) - ours
    error = pair_error(differences, np.column_stack([np.arange(8) % 4, partners]))
    assert found.pairs and found.interval == pytest.approx((0.375 - 1.96 * error, 0.375 + 1.96 * error), abs=1e-4)
    assert found.p == pytest.approx(2 * stats.norm.sf(0.375 / error))
    assert any("share a digit" in note for note in comparison_table(made).notes)


def test_pairs_without_known_partners_are_not_compared() -> None:
    ours, theirs = (of_pairs(name, [1, 0, 1, 0], [1, 2, 3, 0]) for name in ("cnn", "capsnet"))
    del theirs.metrics["partners"]
    with pytest.raises(DataFileError, match="keep no answers"):
        compare_results(ours, theirs)
    with pytest.raises(DataFileError, match="keep no answers"):
        compare_results(theirs, ours)
    short = of_pairs("capsnet", [1, 0, 1, 0], [1, 2, 3, 0])
    short.metrics["partners"] = packed_partners(np.zeros((3, 2), np.int32))
    with pytest.raises(DataFileError, match="4 answers to 3 pairs"):
        compare_results(short, ours)


@pytest.mark.parametrize(("threads", "noted"), [((1, 2), True), ((2, 2), False), ((None, 2), False)])
def test_a_comparison_notes_other_numbers_of_threads(threads: tuple[int | None, int], noted: bool) -> None:
    found = compare_results(
        *(
            result(model, [1, 0, 1, 1], environment={"device": "cpu"} | ({"threads": number} if number else {}))
            for model, number in zip("ab", threads, strict=True)
        )
    )
    told = [note for note in comparison_table(found).notes if "Threads" in note]
    assert told == (
        [
            "Threads: A 1, B 2. With another number, sums are added in another order, and one network with one seed "
            "ends with other weights."
        ]
        if noted
        else []
    )
    assert found.to_dict()["B"]["threads"] == 2
