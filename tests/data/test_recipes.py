"""From what is asked for to a spec, from a spec to its samples, and what is refused on either way."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from capsbench.data.digits import load_digits
from capsbench.data.recipes import Recipe, make_recipe, recipe_of, spec_difference
from capsbench.errors import CapsbenchError, DataFileError, DigitsError, ParameterError, UnknownNameError, UsageError
from capsbench.spec import SPLITS, DataSpec


def recipe(name: str = "affnist", **options: Any) -> Recipe:
    return make_recipe(name, **({"split": "test", "digits": "embedded"} | options))


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("padded", {"size": 40, "shift": 6}),
        ("affnist", {"rotation": [-20.0, 20.0], "shear": [-0.2, 0.2], "scale": [0.8, 1.2]}),
        ("multimnist", {"shift": 4, "margin": 4, "reuse": False}),
    ],
)
def test_defaults_are_the_papers(name: str, parameters: Mapping[str, Any]) -> None:
    spec = recipe(name).spec
    assert spec == DataSpec(
        generator=name,
        version=1,
        split="test",
        seed=0,
        count=1000,
        parameters=parameters,
        layers=False,
        digits=load_digits("test", "embedded").sha256,
    )


@pytest.mark.parametrize(("split", "count"), list(zip(SPLITS, (3200, 800, 4000, 1000), strict=True)))
def test_count_is_the_number_of_digits_by_default(split: str, count: int) -> None:
    assert recipe(split=split).spec.count == count
    assert recipe(split=split, variants=32).spec.count == 32 * count
    assert recipe(split=split, count=7).spec.count == 7


@pytest.mark.parametrize(
    "parameters",
    [
        {"rotation": "-20,20"},
        {"rotation": (-20, 20)},
        {"rotation": [-20.0, 20]},
        {"scale": "0.8,1.2", "shear": ("-0.2", 0.2)},
        {},
    ],
)
def test_however_it_is_written_the_same_request_is_the_same_spec(parameters: Mapping[str, Any]) -> None:
    assert recipe(parameters=parameters).spec.to_json() == recipe().spec.to_json()


def test_one_number_means_fixed() -> None:
    assert recipe(parameters={"rotation": "10"}).spec.parameters["rotation"] == [10.0, 10.0]


@pytest.mark.parametrize(
    ("name", "preset", "parameters"),
    [
        ("padded", "centered", {"size": 40, "shift": 0}),
        ("multimnist", "release", {"shift": 6, "margin": 4, "reuse": True}),
    ],
)
def test_preset_is_a_named_set_of_parameters(name: str, preset: str, parameters: Mapping[str, Any]) -> None:
    assert recipe(name, preset=preset).spec.parameters == parameters


def test_parameters_win_over_the_preset() -> None:
    spec = recipe("multimnist", preset="release", parameters={"shift": "5"}).spec
    assert spec.parameters == {"shift": 5, "margin": 4, "reuse": True}


@pytest.mark.parametrize("name", ["padded", "affnist", "multimnist"])
def test_paper_preset_refuses_the_embedded_digits(name: str) -> None:
    with pytest.raises(DigitsError, match="capsbench data fetch") as caught:
        recipe(name, preset="paper")
    assert caught.value.exit_code == 3


@pytest.mark.parametrize(("name", "variants"), [("padded", 1), ("affnist", 32), ("multimnist", 1000)])
def test_paper_preset_has_the_papers_number_of_variants(
    name: str, variants: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Full MNIST need not be here: the embedded digits stand in for it."""
    small = load_digits("test", "embedded")
    monkeypatch.setattr("capsbench.data.recipes.load_digits", lambda *_, **__: small)
    assert recipe(name, preset="paper").spec.count == variants * len(small)
    assert recipe(name, preset="paper", variants=2).spec.count == 2 * len(small)
    assert recipe(name, preset="paper", count=5).spec.count == 5


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"split": "tests"}, UnknownNameError, "No split is called 'tests'. Did you mean 'test'?"),
        (
            {"preset": "papre"},
            UnknownNameError,
            "No preset of data set 'affnist' is called 'papre'. Did you mean 'paper'?",
        ),
        (
            {"parameters": {"rotatoin": 1}},
            UnknownNameError,
            "No parameter of data set 'affnist' is called 'rotatoin'. Did you mean 'rotation'?",
        ),
        ({"parameters": {"variants": 2}}, UnknownNameError, "No parameter of data set 'affnist' is called 'variants'."),
        ({"parameters": {"rotation": "ten"}}, ParameterError, "rotation must be a number, got ten."),
        ({"parameters": {"rotation": "nan"}}, ParameterError, "rotation must be in -180..180, got nan."),
        (
            {"parameters": {"rotation": "0,181"}},
            ParameterError,
            "rotation must be in -180..180, got 181.0.",
        ),
        ({"parameters": {"rotation": "9,-9"}}, ParameterError, "rotation must be two ascending numbers, got 9,-9."),
        ({"parameters": {"scale": 0}}, ParameterError, "scale must be in 0.25..4, got 0.0."),
        ({"parameters": {"shear": "-3,3"}}, ParameterError, "shear must be in -2..2, got -3.0."),
        ({"seed": -1}, ParameterError, "seed must be a whole number in 0..2**64-1, got -1."),
        ({"seed": 2**64}, ParameterError, ", got 18446744073709551616."),
        ({"count": 0}, ParameterError, "count must be in 1..1,099,511,627,776, got 0."),
        ({"count": -3}, ParameterError, "count must be in 1..1,099,511,627,776, got -3."),
        ({"count": 2**40 + 1}, ParameterError, ", got 1099511627777."),
        ({"variants": 0}, ParameterError, "variants must be in 1.."),
        ({"variants": 2**40 // 999}, ParameterError, ", got 1100612240."),
        ({"count": 5, "variants": 2}, ParameterError, "Give count or variants, not both; got 5 and 2"),
    ],
)
def test_request_that_makes_no_sense_is_refused(
    options: Mapping[str, Any], error: type[CapsbenchError], words: str
) -> None:
    with pytest.raises(error) as caught:
        recipe(**options)
    assert words in str(caught.value)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("options", [{"count": True}, {"count": 10.5}, {"variants": 1.5}, {"variants": True}])
def test_count_that_is_no_whole_number_is_refused(options: Mapping[str, Any]) -> None:
    with pytest.raises(ParameterError, match="must be a whole number"):
        recipe(**options)


@pytest.mark.parametrize("options", [{"count": 2000}, {"count": 2000.0}, {"variants": 2}, {"variants": 2.0}])
def test_count_is_of_one_type_however_it_is_written(options: Mapping[str, Any]) -> None:
    assert recipe(**options).spec.to_json() == recipe(variants=2).spec.to_json()
    assert type(recipe(**options).spec.count) is int


@pytest.mark.parametrize(
    ("name", "parameters", "words"),
    [
        ("padded", {"size": 41}, "size must be even, so that the digit can be centered, got 41"),
        ("padded", {"size": 26}, "size must be in 28..128, got 26."),
        ("padded", {"size": 130}, "size must be in 28..128, got 130."),
        ("padded", {"size": 40, "shift": 21}, "shift must be in 0..20, got 21."),
        ("padded", {"size": 28, "shift": 15}, "shift must be in 0..14, got 15."),
        ("padded", {"shift": -1}, "shift must be in 0..20, got -1."),
        ("padded", {"shift": 1.5}, "shift must be a whole number, got 1.5."),
        ("multimnist", {"margin": 19}, "margin must be in 0..18, got 19."),
        ("multimnist", {"shift": 19}, "shift must be in 0..18, got 19."),
        ("multimnist", {"reuse": "perhaps"}, "reuse must be true or false, got perhaps."),
    ],
)
def test_parameter_outside_its_range_is_refused(name: str, parameters: Mapping[str, Any], words: str) -> None:
    with pytest.raises(ParameterError) as caught:
        recipe(name, parameters=parameters)
    assert words in str(caught.value)


@pytest.mark.parametrize("name", ["fractions:Fraction", "json:dumps", "capsbench.contracts:Batch"])
def test_what_is_no_data_set_is_refused(name: str) -> None:
    with pytest.raises(UsageError):
        recipe(name)
    with pytest.raises(UsageError):
        recipe(name, preset="paper")


def test_recipe_of_a_spec_draws_the_same_samples() -> None:
    first = recipe("multimnist", seed=5, parameters={"shift": 3})
    again = recipe_of(DataSpec.from_json(first.spec.to_json()), "embedded")
    assert (again.spec, again.generator) == (first.spec, first.generator)
    some = np.array([0, 999, 123_456])
    np.testing.assert_array_equal(again.sampler.batch(some).images, first.sampler.batch(some).images)


def test_sampler_is_made_once() -> None:
    one = recipe()
    assert one.sampler is one.sampler


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"generator": "affnits"}, "No data set is called 'affnits'. Did you mean 'affnist'?"),
        (
            {"version": 9},
            "The file was made by version 9 of 'affnist'; version 1 is installed, which draws other samples.",
        ),
        ({"parameters": {"turn": 3}}, "No parameter of data set 'affnist' is called 'turn'."),
        ({"parameters": {"rotation": [0, 999]}}, "rotation must be in -180..180, got 999.0."),
        ({"parameters": {"rotation": {}}}, "rotation must be a number, got {}."),
        ({"parameters": {"rotation": None}}, "rotation must be a number, got None."),
        ({"parameters": {"rotation": [[[]]]}}, "rotation must be a number"),
    ],
)
def test_spec_that_cannot_be_drawn_here_is_bad_data(change: Mapping[str, Any], words: str) -> None:
    with pytest.raises(DataFileError) as caught:
        recipe_of(replace(recipe().spec, **change), "embedded")
    assert words in str(caught.value)
    assert caught.value.exit_code == 3


def test_spec_of_unknown_digits_is_bad_data() -> None:
    with pytest.raises(DigitsError, match="No known digits have the SHA-256 00"):
        recipe_of(replace(recipe().spec, digits="00"), "embedded")


def test_spec_of_another_splits_digits_is_bad_data() -> None:
    with pytest.raises(DigitsError):
        recipe_of(replace(recipe().spec, split="train"), "embedded")


@pytest.mark.parametrize("place", ["{folder}/trap.py", "trap"])
def test_no_code_that_a_spec_names_is_run(place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A spec may come with a file from anywhere, and the code that it names with it."""
    sprung = tmp_path / "sprung"
    (tmp_path / "trap.py").write_text(f"open({str(sprung)!r}, 'w').close()\n")
    monkeypatch.syspath_prepend(tmp_path)
    generator = place.format(folder=tmp_path) + ":Padded"
    with pytest.raises(DataFileError):
        recipe_of(replace(recipe("padded").spec, generator=generator), "embedded")
    assert not sprung.exists()


def test_difference_of_two_specs_is_told_in_words() -> None:
    asked = recipe(seed=1, parameters={"shear": 0}).spec
    found = recipe().spec
    assert spec_difference(asked, found) == "seed: asked 1, found 0; shear: asked [0.0, 0.0], found [-0.2, 0.2]"
    assert spec_difference(found, found) == ""


def test_difference_names_what_only_one_of_them_has() -> None:
    asked, found = recipe("padded").spec, recipe("affnist").spec
    words = spec_difference(asked, found)
    assert "generator: asked padded, found affnist" in words
    assert "size: asked 40, found nothing" in words
    assert "rotation: asked nothing, found [-20.0, 20.0]" in words


@pytest.mark.parametrize("extras", ["'scraps'", "('scrap',)", "1"])
def test_columns_that_no_file_has_are_refused(extras: str, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "from dataclasses import dataclass\nfrom capsbench.generators.padded import Padded\n\n"
        f"@dataclass(frozen=True, kw_only=True)\nclass Mine(Padded):\n    pass\n\nMine.extras = {extras}\n"
    )
    with pytest.raises(UsageError, match=r"its extras must be some of \('scraps',\), got "):
        make_recipe(f"{tmp_path}/mine.py:Mine", split="test", digits="embedded")


def test_a_parameter_that_came_later_is_stated_only_where_it_differs() -> None:
    """So that older specs, and the digests that begin with them, stay what they are."""
    usual = make_recipe("affnist", split="test", digits="embedded").spec
    assert set(usual.parameters) == {"rotation", "shear", "scale"}
    stated = make_recipe("affnist", split="test", digits="embedded", parameters={"size": "40"}).spec
    assert stated.to_json() == usual.to_json()
    larger = make_recipe("affnist", split="test", digits="embedded", parameters={"size": "64"}).spec
    assert larger.parameters["size"] == 64 and larger.sha256 != usual.sha256
    for spec, size in ((usual, 40), (larger, 64)):
        again = recipe_of(DataSpec.from_json(spec.to_json()), "embedded")
        assert again.spec == spec and again.generator.image_shape == (size, size)
