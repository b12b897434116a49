"""What holds for every data set, shown for each entry of one table."""

import dataclasses
import hashlib
import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capsbench.contracts import ArrayBatch, Digits, Generator, IndexArray, Sampler, UInt8Array
from capsbench.data.columns import EXTRAS
from capsbench.data.digits import load_digits
from capsbench.generators import CATALOG
from capsbench.randomness import stream_number
from capsbench.registry import load
from capsbench.spec import SPLITS

from .reference import Randomness, Sample, affnist, cluttered, crowded, multimnist, padded

LARGEST_INDEX = 2**40 - 1


@dataclass(frozen=True)
class Case:
    """A data set with parameters, its reference, and the SHA-256 of its first 256 samples (see `digest`).

    ``bystanders`` says that its images show more than the layers.
    """

    name: str
    parameters: Mapping[str, Any]
    reference: Callable[..., Sample]
    golden: str
    bystanders: bool = False

    @property
    def generator(self) -> Generator:
        generator: Generator = load("data set", self.name)(**self.parameters)
        return generator


CASES = {
    "padded": Case("padded", {}, padded, "99b1dbc2d2043f2d399c94b3d43309fdabd20dcad50e37a935306dc43d84f7b8"),
    "padded, centered": Case(
        "padded", {"shift": 0}, padded, "eeba39295fe98a69f2caeadee32b258b0bc0429c0dce8ecb951588f0928ce103"
    ),
    "padded, the ink cut": Case(
        "padded", {"size": 28, "shift": 2}, padded, "21127df8bba9b5852c44b1a785942ed0360d8a6b5d20bfe3a38cdf9d7683756e"
    ),
    "padded, large": Case(
        "padded", {"size": 128, "shift": 64}, padded, "08bf96d56cec11190c8af6e11582f5a986a4ca9ab5ce035bcd2e5feca58000dd"
    ),
    "affnist, large": Case(
        "affnist", {"size": 128}, affnist, "4961fb641dbdba1a61d3c81300b578cea2a3161a581f3a800c321d73588f2fce"
    ),
    "affnist": Case("affnist", {}, affnist, "fd584ad19240054c37fc3f4dc165048ca5ebab37da64cb32b2a0177abc1c272d"),
    "affnist, past its ranges": Case(
        "affnist",
        {"rotation": (-180.0, 180.0), "shear": (-1.0, 1.0), "scale": (0.5, 2.0)},
        affnist,
        "dcf29614e8965302643506621cc45dfdeb3ba8ccacf648e6ad2c9c7a66571174",
    ),
    "multimnist": Case(
        "multimnist", {}, multimnist, "de4530a58719dc660eeb73be1d4f03a58afe2eb32eee24eae315c59b80a2034d"
    ),
    "multimnist, as released": Case(
        "multimnist",
        {"shift": 6, "reuse": True},
        multimnist,
        "0b0c5e69d19f4b663d89ec76e479c219b61200d53210362343d4143b615edc72",
    ),
    "multimnist, no margin": Case(
        "multimnist",
        {"shift": 14, "margin": 0},
        multimnist,
        "0c20492a2cfea95e917c578b7d6c5d646dff21812bd60380f3546fe5b4f0069f",
    ),
    "crowded": Case(
        "crowded", {}, crowded, "c65ae833a170f1482acb37c59b9ca0fc3ce11cceb5611b09e9fa8a975138211a", bystanders=True
    ),
    "crowded, at the strip's ends": Case(
        "crowded",
        {"spacing": 28},
        crowded,
        "41be04110af131d241b1d54f2899316982e1b1ebcbdf29973dec2ea8e88d58e9",
        bystanders=True,
    ),
    "crowded, shuffled": Case(
        "crowded",
        {"flankers": "shuffled", "spacing": 14, "jitter": 18},
        crowded,
        "15a9244e35883deb4a9550b881a946fcfc06ea66792deab91410241daacf2cf6",
        bystanders=True,
    ),
    "crowded, the target alone": Case(
        "crowded", {"flankers": "none"}, crowded, "ae54168caaad382c382dc718c810b2fab0cde4310713327bcb3bf2ec4e07a6fb"
    ),
    "cluttered": Case(
        "cluttered", {}, cluttered, "1df5470e616adec34bae9bb559295287c1f48b6d4fb796b39a6a767a68166cdc", bystanders=True
    ),
    "cluttered, large scraps on a small canvas": Case(
        "cluttered",
        {"size": 28, "scraps": (1, 32), "scrap_size": 27},
        cluttered,
        "9a1e30fb80caf2031a370477b7528de0310e57e37ca3c03b20ac9d0678493dbb",
        bystanders=True,
    ),
    "cluttered, one pixel each": Case(
        "cluttered",
        {"size": 36, "scraps": (7, 7), "scrap_size": 1},
        cluttered,
        "49b39f3a082a55cb3ac9b0ae383dd97a69ab187adf198276287fb81a08758b23",
        bystanders=True,
    ),
    "cluttered, clean": Case(
        "cluttered",
        {"size": 40, "scraps": (0, 0)},
        cluttered,
        "2ffcb10c83db82719c25e800e4f7043cdbfc0c6cb93a70c91f10052792dfd4e8",
    ),
}

DRAWN = {name: case for name, case in CASES.items() if case.parameters.get("shift") != 0}
"""Those that leave something to chance."""

every_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys(), scope="module")
every_drawn_case = pytest.mark.parametrize("case", DRAWN.values(), ids=DRAWN.keys(), scope="module")


@pytest.fixture(scope="module")
def sampler(case: Case, digits: Digits) -> Sampler:
    """With seed 0."""
    return case.generator.sampler(digits, 0)


@pytest.fixture(scope="module")
def samples(sampler: Sampler) -> dict[str, Any]:
    """The first 1,100: generators draw up to 512 at a time."""
    return draw(sampler, np.arange(1100))


def arrays(batch: ArrayBatch, layers: UInt8Array) -> dict[str, Any]:
    """Everything of some samples, in the order in which a file's digests take it."""
    found = {
        "images": batch.images,
        "labels": batch.labels,
        "layers": layers,
        "source": batch.source,
        "shift": batch.shift,
        "transform": batch.transform,
        "scraps": batch.scraps,
    }
    return {name: array for name, array in found.items() if array is not None}


def draw(sampler: Sampler, indices: IndexArray) -> dict[str, Any]:
    return arrays(sampler.batch(indices), sampler.layers(indices))


def in_batches(sampler: Sampler, indices: IndexArray, size: int) -> dict[str, Any]:
    parts = [draw(sampler, indices[start : start + size]) for start in range(0, len(indices), size)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def assert_same(found: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    assert found.keys() == expected.keys()
    for name in found:
        np.testing.assert_array_equal(found[name], expected[name], err_msg=name, strict=True)


def digest(samples: Mapping[str, Any]) -> str:
    """SHA-256 of the bytes of images, labels, layers, source, motion and scraps, in that order; C, little-endian."""
    whole = hashlib.sha256()
    for array in samples.values():
        whole.update(array.astype(array.dtype.newbyteorder("<")).tobytes())
    return whole.hexdigest()


def test_every_data_set_that_ships_stands_in_the_table() -> None:
    assert {case.name for case in CASES.values()} == set(CATALOG)


@every_case
def test_bytes_are_those_published(case: Case, sampler: Sampler) -> None:
    """Where this fails, samples have changed: give the generator a new version, and its digests here with it."""
    assert digest(draw(sampler, np.arange(256))) == case.golden


@every_case
@pytest.mark.parametrize(
    ("seed", "first"), [(0, 0), (1, 950), (2**64 - 1, 2**32 - 25), (2**40 + 7, LARGEST_INDEX - 49)]
)
def test_samples_equal_the_slow_reference(
    case: Case, digits: Digits, seed: int, first: int, scale: Callable[[int, int], int]
) -> None:
    indices = first + np.linspace(0, 49, scale(8, 50)).astype(np.int64)
    found = draw(case.generator.sampler(digits, seed), indices)
    words = Randomness(seed, stream_number(load("data set", case.name).number, digits.split))
    parameters = dataclasses.asdict(case.generator)  # type: ignore[call-overload]
    motion = found["shift" if "shift" in found else "transform"]
    for k, i in enumerate(indices):
        expected = case.reference(digits, words, int(i), **parameters)
        np.testing.assert_array_equal(found["images"][k], expected.image, err_msg=f"sample {i}")
        np.testing.assert_array_equal(found["layers"][k], expected.layers)
        assert found["labels"][k].tolist() == list(expected.labels) or [found["labels"][k]] == expected.labels
        assert np.ravel(found["source"][k]).tolist() == list(expected.source)
        # Equal in all bits, but for what is left of 0 where the two ends of an interval cancel.
        np.testing.assert_allclose(motion[k], np.array(expected.motion, motion.dtype), rtol=0, atol=1e-12)
        assert {name: found[name][k] for name in EXTRAS if name in found} == expected.extras


@every_case
def test_samples_do_not_depend_on_the_batch(
    sampler: Sampler, samples: dict[str, Any], scale: Callable[[int, int], int]
) -> None:
    first = np.arange(scale(77, 1100))
    assert_same(in_batches(sampler, first, 7), {name: array[first] for name, array in samples.items()})
    some = np.arange(0, 1100, scale(82, 11))
    assert_same(in_batches(sampler, some, 1), {name: array[some] for name, array in samples.items()})


@every_case
def test_samples_do_not_depend_on_the_order(sampler: Sampler, samples: dict[str, Any]) -> None:
    shuffled = np.random.default_rng(0).permutation(1100)[:700]
    assert_same(draw(sampler, shuffled), {name: array[shuffled] for name, array in samples.items()})


@settings(max_examples=settings().max_examples // 20)  # 5, and in a campaign 100
@given(chosen=st.lists(st.integers(0, LARGEST_INDEX), min_size=1, max_size=12))
@every_case
def test_any_indices_in_any_order_give_each_its_own_sample(sampler: Sampler, chosen: list[int]) -> None:
    assert_same(draw(sampler, np.array(chosen)), in_batches(sampler, np.array(chosen), 1))


@every_case
def test_two_samplers_of_one_seed_agree(case: Case, digits: Digits, sampler: Sampler) -> None:
    assert_same(draw(case.generator.sampler(digits, 0), np.arange(64)), draw(sampler, np.arange(64)))


@every_case
def test_workers_can_be_handed_the_generator(case: Case) -> None:
    assert pickle.loads(pickle.dumps(case.generator)) == case.generator


@every_case
def test_arrays_are_of_the_types_and_shapes_of_the_contract(case: Case, sampler: Sampler) -> None:
    generator = case.generator
    height, width = generator.image_shape
    digits = (2,) if generator.pairs else ()
    shapes = {
        "images": (np.uint8, (5, height, width)),
        "labels": (np.uint8, (5, *digits)),
        "layers": (np.uint8, (5, *(digits or (1,)), height, width)),
        "source": (np.int32, (5, *digits)),
        generator.motion: {"shift": (np.int8, (5, *digits, 2)), "transform": (np.float32, (5, 6))}[generator.motion],
        **dict.fromkeys(getattr(generator, "extras", ()), (np.uint8, (5,))),
    }
    found = draw(sampler, np.arange(5))
    assert {name: (array.dtype, array.shape) for name, array in found.items()} == shapes
    assert sampler.batch(np.arange(5)).layers is None


@every_case
def test_arrays_are_the_callers_own(sampler: Sampler) -> None:
    before = draw(sampler, np.arange(16))
    kept = {name: array.copy() for name, array in before.items()}
    for array in before.values():
        array[...] = 1
    assert_same(draw(sampler, np.arange(16)), kept)


@every_case
def test_any_prefix_is_balanced(sampler: Sampler, digits: Digits) -> None:
    count = 2500
    batch = sampler.batch(np.arange(count))
    assert batch.source is not None
    base = batch.source.reshape(count, -1)[:, 0]
    np.testing.assert_array_equal(base, np.arange(count) % len(digits))
    for prefix in (1000, 2000):
        classes = np.bincount(batch.labels.reshape(count, -1)[:prefix, 0], minlength=10)
        assert classes.tolist() == [prefix // 10] * 10


@every_case
def test_layers_add_up_to_the_image(case: Case, samples: dict[str, Any]) -> None:
    total = np.minimum(samples["layers"].sum(1, dtype=np.uint16), 255)
    if case.bystanders:
        assert (samples["images"] >= total).all()
        assert (samples["images"] > total).any((1, 2)).all()
    else:
        assert np.array_equal(samples["images"], total)
    assert samples["images"].any((1, 2)).all()


@every_case
@pytest.mark.parametrize("split", SPLITS)
def test_labels_are_those_of_the_sources_in_their_split(case: Case, split: str) -> None:
    digits = load_digits(split, "embedded")
    last = np.arange(len(digits) - 100, len(digits) + 100)  # and the first that come again
    batch = case.generator.sampler(digits, 0).batch(np.concatenate([np.arange(100), last]))
    assert batch.source is not None
    assert 0 <= batch.source.min() <= batch.source.max() < len(digits)
    np.testing.assert_array_equal(batch.labels, digits.labels[batch.source])


@every_drawn_case
def test_another_seed_draws_other_samples(case: Case, digits: Digits) -> None:
    images = [case.generator.sampler(digits, seed).batch(np.arange(64)).images for seed in (0, 1, 2**32)]
    for first, second in ((0, 1), (0, 2), (1, 2)):
        assert (images[first] != images[second]).any((1, 2)).mean() > 0.7


@every_drawn_case
def test_another_split_draws_other_samples_even_of_the_same_digits(case: Case, digits: Digits) -> None:
    images = [case.generator.sampler(replace(digits, split=split), 0).batch(np.arange(64)).images for split in SPLITS]
    for k in range(1, len(SPLITS)):
        assert (images[0] != images[k]).any((1, 2)).mean() > 0.7


@every_drawn_case
def test_another_variant_of_a_digit_is_another_sample(case: Case, sampler: Sampler, digits: Digits) -> None:
    first, second = (sampler.batch(np.arange(256) + variant * len(digits)).images for variant in (0, 1))
    assert (first != second).any((1, 2)).mean() > 0.7


@every_case
def test_measures_are_a_number_for_each_sample(sampler: Sampler) -> None:
    batch = sampler.batch(np.arange(300))
    measures = sampler.measures(batch)
    assert measures
    for name, values in measures.items():
        assert values.shape == (300,), name
        assert values.dtype == np.float64, name
        assert np.isfinite(values).all(), name


@pytest.mark.parametrize("name", CATALOG)
def test_generator_keeps_to_the_contract(name: str) -> None:
    kind = load("data set", name)
    assert kind.version >= 1
    assert isinstance(kind.pairs, bool)
    assert kind.motion in ("shift", "transform")
    assert "paper" in kind.presets
    with pytest.raises(dataclasses.FrozenInstanceError):
        kind().version = 2
    fields = {field.name for field in dataclasses.fields(kind)}
    for preset in kind.presets.values():
        settings_of_preset = {key: value for key, value in preset.items() if key != "variants"}
        assert settings_of_preset.keys() <= fields
        assert preset.get("variants", 1) >= 1
        kind(**settings_of_preset)
