"""An imported file beside ours: ink boxes by hand, distances by definition, and conventions that are known."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from capsbench.contracts import ArrayBatch
from capsbench.data.columns import columns
from capsbench.data.digits import load_digits
from capsbench.data.recipes import make_recipe
from capsbench.errors import DataFileError
from capsbench.files.datafile import DataFile
from capsbench.files.generation import generate_file
from capsbench.files.layout import Outline
from capsbench.files.writing import write_file
from capsbench.importing.affnist import Importing, MatSamples
from capsbench.importing.agreement import (
    FACTORS,
    INK,
    Agreement,
    FactorComparison,
    agreement_text,
    ink_margins,
    measure_agreement,
)
from capsbench.spec import DataSpec

FULL = "c3f9adf9c66efb572b1f9326c3a511b45910c7173b97be66ceceeeeaef6b802b"
"""The digits of full MNIST's test split, which no test has."""

COUNT = 1000


def drawn(**options: Any) -> ArrayBatch:
    options = {"seed": options.pop("seed", 0), "parameters": options}
    recipe = make_recipe("affnist", split="test", digits="embedded", count=COUNT, **options)
    return recipe.sampler.batch(np.arange(COUNT))


def imported(batch: ArrayBatch, digits: str | None = None) -> DataFile:
    """A file as an import makes it, of samples of ours, sample i showing digit i."""
    assert batch.transform is not None
    spec = DataSpec(
        generator="imported-affnist",
        version=1,
        split="test",
        seed=0,
        count=len(batch.labels),
        parameters={"mat": "0" * 64},
        layers=False,
        digits=digits or load_digits("test", "embedded").sha256,
    )
    source = np.arange(len(batch.labels), dtype=np.int32)
    source[:] = -1 if digits == "unknown" else source
    samples = MatSamples(batch.images, batch.labels, batch.transform.astype(np.float64), source)
    outline = Outline(spec, columns(image_shape=(40, 40), pairs=False, motion="transform", layers=False))
    return DataFile(write_file(Path("x.h5"), outline, Importing([samples], source), force=True).path)


def found(result: Agreement, name: str) -> FactorComparison:
    (one,) = (one for one in result.comparisons if one.name == name)
    return one


def test_ink_margins_are_those_that_can_be_counted() -> None:
    images = np.zeros((4, 40, 40), np.uint8)
    images[0, 3:10, 20:22] = 1
    images[2, 39, 0] = 255
    images[3, 5, 6] = images[3, 30, 37] = 9
    boxes = ink_margins(images)
    assert boxes.tolist() == [[3, 20, 7, 2, 3], [39, 0, 1, 1, 0], [5, 6, 26, 32, 2]]  # the second image is blank
    assert ink_margins(images[1:2]).shape == (0, 5)


def test_our_own_samples_are_spread_as_ours_and_drawn_to_the_bit() -> None:
    batch = drawn()
    result = measure_agreement(imported(batch))
    assert [one.name for one in result.comparisons] == [*FACTORS, *INK]
    assert (result.samples, result.digits, result.without_ink) == (COUNT, "embedded", 0)
    assert all(one.distance == 0 and one.imported == one.ours for one in result.comparisons)
    assert result.redrawing is not None
    assert (result.redrawing.samples, result.redrawing.ours, result.redrawing.reading) == (300, 0.0, "ours")
    assert result.redrawing.nearest == 0 and 15 < result.redrawing.centred < 40
    assert batch.transform is not None
    shear = batch.transform[:, 1].astype(np.float64)
    spread = found(result, "shear").imported
    assert (spread.mean, spread.least, spread.greatest) == pytest.approx((shear.mean(), shear.min(), shear.max()))
    assert spread.percentiles == pytest.approx(np.percentile(shear, (5, 50, 95)))


def test_other_ranges_are_told_by_their_distance() -> None:
    result = measure_agreement(imported(drawn(rotation=(-10, 10), seed=3)))
    # Of U(-20, 20) a quarter lies below -10, where U(-10, 10) has nothing.
    assert found(result, "rotation (degrees)").distance == pytest.approx(0.25, abs=0.05)
    assert found(result, "shear").distance < 0.08
    wide = measure_agreement(imported(drawn(scale=1.9)))
    assert found(wide, "ink: height").distance > 0.9
    assert found(wide, "ink: height").imported.mean > 1.5 * found(wide, "ink: height").ours.mean
    assert found(wide, "scale, vertical").distance == 1


READINGS = {
    "rotation of the other sign": ([0, 1, 2, 3, 4, 5], [-1, 1, 1, 1, 1, 1]),
    "vertical translation of the other sign": ([0, 1, 2, 3, 4, 5], [1, 1, 1, 1, -1, 1]),
    "vertical and horizontal swapped": ([0, 1, 3, 2, 5, 4], [1, 1, 1, 1, 1, 1]),
    "vertical and horizontal swapped, shear of the other sign, horizontal translation of the other sign": (
        [0, 1, 3, 2, 5, 4],
        [1, -1, 1, 1, -1, 1],
    ),
}


@pytest.mark.parametrize("reading", READINGS)
def test_another_convention_is_recognised(reading: str) -> None:
    batch = drawn()
    assert batch.transform is not None
    order, signs = READINGS[reading]
    other = batch.transform[:, order] * np.array(signs, np.float32)
    redrawing = measure_agreement(imported(replace(batch, transform=other))).redrawing
    assert redrawing is not None
    assert redrawing.reading == reading and redrawing.nearest == 0
    assert redrawing.ours > 2


def test_the_distance_of_redrawn_samples_is_in_grey_levels() -> None:
    batch = drawn()
    lighter = np.minimum(batch.images, 245) + np.uint8(10)
    redrawing = measure_agreement(imported(replace(batch, images=lighter))).redrawing
    assert redrawing is not None
    shown = np.arange(300) * COUNT // 300
    expected = np.abs(lighter[shown].astype(float) - batch.images[shown]).mean()
    assert redrawing.ours == pytest.approx(expected) and 9 < expected <= 10


def test_of_a_large_file_evenly_spread_samples_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("capsbench.importing.agreement.MEASURED", 10)
    monkeypatch.setattr("capsbench.importing.agreement.REDRAWN", 7)
    monkeypatch.setattr("capsbench.files.inspection.AT_ONCE", 3)
    batch = drawn()
    assert batch.transform is not None
    result = measure_agreement(imported(batch))
    assert found(result, "shear").imported.mean == pytest.approx(batch.transform[::100, 1].mean())
    assert (result.samples, result.redrawing and result.redrawing.samples) == (10, 7)


@pytest.mark.parametrize(
    ("digits", "why"),
    [("unknown", "the digits of the file are"), (FULL, "Full MNIST's test digits are needed")],
)
def test_what_cannot_be_redrawn_is_said(digits: str, why: str) -> None:
    result = measure_agreement(imported(drawn(), digits=digits))
    assert result.redrawing is None and result.not_redrawn.startswith(why)
    assert len(result.comparisons) == len(FACTORS) + len(INK)
    assert f"redrawn     not: {result.not_redrawn}" in agreement_text(result.to_dict())[-1]


def test_transforms_that_nobody_draws_are_left_out() -> None:
    batch = drawn()
    assert batch.transform is not None
    odd = batch.transform.copy()
    odd[:, 2] = np.where(np.arange(COUNT) % 2, odd[:, 2], 0)  # a scale of nothing
    odd[7::10, 0] = 1e30
    redrawing = measure_agreement(imported(replace(batch, transform=odd))).redrawing
    shown = np.arange(300) * COUNT // 300
    assert redrawing is not None
    assert redrawing.samples == ((shown % 2 == 1) & (shown % 10 != 7)).sum() and redrawing.ours == 0
    result = measure_agreement(imported(replace(batch, transform=odd * 0)))
    assert result.redrawing is None and "no sample has a transform that we can draw" in result.not_redrawn


def test_blank_images_have_no_box() -> None:
    batch = drawn()
    images = batch.images.copy()
    images[::4] = 0
    result = measure_agreement(imported(replace(batch, images=images)))
    assert result.without_ink == 250
    assert any("no ink      250 imported" in line for line in agreement_text(result.to_dict()))
    result = measure_agreement(imported(replace(batch, images=images * 0)))
    assert [one.name for one in result.comparisons] == list(FACTORS) and result.without_ink == COUNT


def test_what_is_found_is_plain_json_and_text() -> None:
    facts = measure_agreement(imported(drawn(seed=1))).to_dict()
    assert json.loads(json.dumps(facts, allow_nan=False))["comparisons"][0]["name"] == "rotation (degrees)"
    lines = agreement_text(facts)
    (row,) = (line for line in lines if "scale, vertical" in line)
    spread = facts["comparisons"][2]["imported"]
    assert f"{spread['mean']:.3f}" in row and f"{spread['percentiles'][1]:.3f}" in row
    assert f"{facts['comparisons'][2]['distance']:.3f}" in row
    assert max(map(len, lines)) <= 120
    assert any("0.00 grey levels off" in line for line in lines) and "no other choice" in lines[-1]


def test_a_file_that_only_says_that_it_was_imported_is_refused() -> None:
    pairs = generate_file(make_recipe("multimnist", split="test", digits="embedded", count=20), Path("y.h5"))
    with pytest.raises(DataFileError, match="not those of an imported file"):
        measure_agreement(DataFile(pairs.path))
    batch = drawn()
    assert batch.transform is not None
    broken = batch.transform.copy()
    broken[5, 5] = np.nan
    with pytest.raises(DataFileError, match="not those of an imported file"):
        measure_agreement(imported(replace(batch, transform=broken)))
    one = imported(batch)
    pairs_of_maps = columns(image_shape=(40, 40), pairs=True, motion="transform", layers=False)
    twice = {name: np.stack([getattr(one, name)] * 2, 1) for name in ("labels", "source")}
    arrays = {"images": batch.images, "transform": batch.transform, **twice}
    made = write_file(Path("z.h5"), Outline(one.spec, pairs_of_maps), lambda start, stop: arrays)
    with pytest.raises(DataFileError, match="not those of an imported file"):
        measure_agreement(DataFile(made.path))
