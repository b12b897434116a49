"""Any valid spec becomes a file that matches the slow reference, and any invalid one is refused by name."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import capsbench
from capsbench.data.digits import load_digits
from capsbench.data.recipes import make_recipe
from capsbench.errors import UsageError
from capsbench.files.datafile import DataFile, open_dataset
from capsbench.files.generation import generate_file, wrong_samples
from capsbench.spec import SPLITS

from .reference import NUMBERS, REFERENCES, Randomness, Sample

EXAMPLES = settings().max_examples  # 100, and 2,000 in a campaign
LARGEST_SEED = 2**64 - 1


@st.composite
def padded(draw: st.DrawFn) -> dict[str, Any]:
    size = 2 * draw(st.integers(14, 64))
    return {"size": size, "shift": draw(st.integers(0, size // 2))}


@st.composite
def multimnist(draw: st.DrawFn) -> dict[str, Any]:
    margin = draw(st.integers(0, 18))
    return {"margin": margin, "shift": draw(st.integers(0, margin + 14)), "reuse": draw(st.booleans())}


@st.composite
def crowded(draw: st.DrawFn) -> dict[str, Any]:
    spacing = draw(st.integers(14, 28))
    flankers = draw(st.sampled_from(["digits", "shuffled", "none"]))
    return {"flankers": flankers, "spacing": spacing, "jitter": draw(st.integers(0, 32 - spacing))}


@st.composite
def cluttered(draw: st.DrawFn) -> dict[str, Any]:
    least = draw(st.integers(0, 32))
    scraps = (least, draw(st.integers(least, 32)))
    return {"size": 2 * draw(st.integers(14, 64)), "scraps": scraps, "scrap_size": draw(st.integers(1, 28))}


@st.composite
def affnist(draw: st.DrawFn) -> dict[str, Any]:
    limits = {"rotation": (-180.0, 180.0), "shear": (-2.0, 2.0), "scale": (0.25, 4.0)}
    ends = {key: sorted(draw(st.tuples(*2 * [st.floats(*limit)]))) for key, limit in limits.items()}
    ranges = {key: (low + 0.0, high + 0.0) for key, (low, high) in ends.items()}  # -0.0 is 0.0
    return {**ranges, "size": draw(st.just(40) | st.integers(28, 128))}


PARAMETERS = {
    "affnist": affnist(),
    "cluttered": cluttered(),
    "crowded": crowded(),
    "multimnist": multimnist(),
    "padded": padded(),
}

PRESETS: list[tuple[str, str, dict[str, Any]]] = [
    ("padded", "centered", {"size": 40, "shift": 0}),
    ("multimnist", "release", {"shift": 6, "margin": 4, "reuse": True}),
    ("cluttered", "clean", {"size": 60, "scraps": (0, 0), "scrap_size": 8}),
    ("crowded", "alone", {"flankers": "none", "spacing": 20, "jitter": 4}),
]
"""What the presets that need no full set stand for."""


@dataclass(frozen=True)
class Asked:
    """What is asked for, and what that comes to.

    Attributes:
        name: The data set.
        options: As they are given: count or variants, a preset or parameters, as values or as text.
        parameters: What the parameters are then.
        count: How many samples.
    """

    name: str
    options: Mapping[str, Any]
    parameters: Mapping[str, Any]
    count: int


def as_text(value: Any) -> str:
    return ",".join(map(repr, value)) if isinstance(value, tuple) else str(value)


@st.composite
def asked(draw: st.DrawFn) -> Asked:
    split = draw(st.sampled_from(SPLITS))
    options: dict[str, Any] = {"split": split, "layers": draw(st.booleans()), "digits": "embedded"}
    options["seed"] = draw(st.integers(0, LARGEST_SEED) | st.sampled_from([0, 2**32 - 1, 2**32, LARGEST_SEED]))
    if draw(st.integers(0, 5)) == 0:
        name, preset, parameters = draw(st.sampled_from(PRESETS))
        options["preset"] = preset
    else:
        name = draw(st.sampled_from(sorted(PARAMETERS)))
        parameters = draw(PARAMETERS[name])
        text = draw(st.booleans())
        options["parameters"] = {key: as_text(value) if text else value for key, value in parameters.items()}
    digits = {"train": 3200, "validation": 800, "trainval": 4000, "test": 1000}[split]
    if draw(st.integers(0, 5)) == 0 and digits <= 1000:
        options["variants"] = draw(st.integers(1, 6))
        count = digits * options["variants"]
    else:
        options["count"] = count = draw(st.integers(1, 9000) if draw(st.integers(0, 3)) == 0 else st.integers(1, 200))
    return Asked(name, options, parameters, count)


def expected(one: Asked, index: int) -> Sample:
    """A sample by the definitions."""
    digits = load_digits(one.options["split"], "embedded")
    words = Randomness(one.options["seed"], 16 * NUMBERS[one.name] + SPLITS.index(one.options["split"]))
    return REFERENCES[one.name](digits, words, index, **one.parameters)


def assert_sample(file: DataFile, one: Asked, index: int) -> None:
    sample = expected(one, index)
    batch, layers = file.batch([index]), file.layers([index])
    np.testing.assert_array_equal(batch.images[0], sample.image, err_msg=f"sample {index}")
    np.testing.assert_array_equal(layers[0], sample.layers)
    assert batch.source is not None
    assert np.ravel(batch.source[0]).tolist() == list(sample.source)
    assert np.ravel(batch.labels[0]).tolist() == [int(label) for label in sample.labels]
    motion = batch.shift if batch.transform is None else batch.transform
    assert motion is not None
    np.testing.assert_allclose(motion[0], np.array(sample.motion, motion.dtype), rtol=0, atol=1e-12)


def clear() -> None:
    """Hypothesis runs its examples in one folder."""
    for path in Path().iterdir():
        path.unlink()


@settings(max_examples=EXAMPLES // 4)
@given(one=asked(), data=st.data())
def test_any_valid_spec_becomes_a_file_that_verifies_and_matches_the_reference(one: Asked, data: st.DataObject) -> None:
    clear()
    generate_file(make_recipe(one.name, **one.options), Path("x.h5"))
    file = open_dataset("x.h5")
    assert len(file) == file.spec.count == one.count
    spec = file.spec
    assert (spec.generator, spec.split, spec.seed) == (one.name, one.options["split"], one.options["seed"])
    assert spec.layers == one.options["layers"] == ("layers" in file.extents)
    stated = {key: tuple(value) if isinstance(value, list) else value for key, value in spec.parameters.items()}
    left_out = {("affnist", "size", 40)}  # which came after the first specs
    assert stated == {key: value for key, value in one.parameters.items() if (one.name, key, value) not in left_out}
    some = data.draw(st.lists(st.integers(0, one.count - 1), max_size=2), label="samples")
    for index in {0, one.count - 1, *some}:
        assert_sample(file, one, index)
    assert wrong_samples(file, 20, seed=0) == []


@settings(max_examples=EXAMPLES // 10)
@given(one=asked())
def test_the_python_face_makes_the_same_file(one: Asked) -> None:
    clear()
    generate_file(make_recipe(one.name, **one.options), Path("x.h5"))
    options = dict(one.options)
    own = options.pop("parameters", {})
    (path,) = capsbench.generate(one.name, out="y.h5", **options, **own)
    assert path.read_bytes() == Path("x.h5").read_bytes()


NUMBER_LIMITS: dict[str, dict[str, tuple[float, float]]] = {
    "padded": {"size": (28, 128), "shift": (0, 20)},
    "multimnist": {"margin": (0, 18), "shift": (0, 18)},
    "cluttered": {"size": (28, 128), "scraps": (0, 32), "scrap_size": (1, 28)},
    "crowded": {"spacing": (14, 28), "jitter": (0, 12)},
    "affnist": {"rotation": (-180, 180), "shear": (-2, 2), "scale": (0.25, 4), "size": (28, 128)},
}
"""Of each number alone, the others as they are by default."""

HUGE = [10**30, -(10**30), 1e308, 2**64, "9" * 300, "1e300"]
NO_NUMBERS: list[Any] = [
    "",
    "abc",
    "1;2",
    "0x10",
    {},
    {"a": 1},
    [],
    [1, 2, 3],
    (1, 2, 3),
    object(),
    True,
    None,
    "true",
]
NO_NUMBERS += [math.nan, math.inf, -math.inf, "nan", "inf", "-inf", "1e999", 1j, "1,2,3", {1}]

SETTINGS: dict[str, list[Any]] = {
    "count": [0, -1, 2**40 + 1, 1.5, "0", "1.5", *(value for value in NO_NUMBERS if value is not None), *HUGE],
    "variants": [0, -1, 2**40, 0.5, *(value for value in NO_NUMBERS if value is not None), *HUGE],
    "seed": [-1, 2**64, 1.5, 1.0, *NO_NUMBERS, *HUGE],
}


@st.composite
def refused(draw: st.DrawFn) -> tuple[str, dict[str, Any], str]:
    """A data set, options of which one makes no sense, and the key of that one."""
    name = draw(st.sampled_from(sorted(NUMBER_LIMITS)))
    options: dict[str, Any] = {"split": "test", "count": 3}
    kind = draw(st.sampled_from(["range", "type", "setting", "unknown", "split", "preset", "both", "order"]))
    key = draw(st.sampled_from(sorted(NUMBER_LIMITS[name])))
    low, high = NUMBER_LIMITS[name][key]
    if kind == "range":
        outside = draw(st.floats(max_value=low, exclude_max=True) | st.floats(min_value=high, exclude_min=True))
        value = math.floor(outside) if outside < low and math.isfinite(outside) else outside
        return name, options | {key: draw(st.sampled_from([value, str(value), *HUGE]))}, key
    if kind == "type":
        return name, options | {key: draw(st.sampled_from(NO_NUMBERS))}, key
    if kind == "setting":
        key = draw(st.sampled_from(sorted(SETTINGS)))
        options.pop("count", None)
        return name, options | {key: draw(st.sampled_from(SETTINGS[key]))}, key
    if kind == "unknown":
        known = {*NUMBER_LIMITS[name], "flankers", "reuse", "name", "out", "split", "layers", "digits", "force"}
        known |= {"workers", "shard", "preset", *SETTINGS}
        key = draw(st.from_regex(r"[a-z_]{1,12}", fullmatch=True).filter(lambda word: word not in known))
        return name, options | {key: draw(st.sampled_from([1, "x", None]))}, key
    if kind == "both":
        return name, options | {"variants": draw(st.integers(1, 9))}, "variants"
    if kind == "order":
        low, high = NUMBER_LIMITS["affnist"]["shear"]
        return "affnist", options | {"shear": (high / 2, low / 2)}, "shear"
    word = draw(
        st.text(max_size=20).filter(
            lambda text: text not in (*SPLITS, "paper", "centered", "release", "alone", "clean")
        )
    )
    return name, options | {kind: word}, kind


@settings(max_examples=EXAMPLES * 2)
@given(case=refused())
def test_any_invalid_spec_is_refused_by_an_error_that_names_the_key(case: tuple[str, dict[str, Any], str]) -> None:
    clear()
    name, options, key = case
    with pytest.raises(UsageError) as told:
        capsbench.generate(name, out="x.h5", digits="embedded", **options)
    message = str(told.value)
    assert key in message, message
    assert 1 <= len(message.splitlines()) <= 2, message
    assert len(message) < 1000
    assert list(Path().iterdir()) == []


def one(**options: Any) -> Callable[[], object]:
    return lambda: capsbench.generate("padded", **({"split": "test", "count": 3, "digits": "embedded"} | options))


STRANGE: dict[str, tuple[Callable[[], object], str]] = {
    "a whole number past floats": (one(size=10**400), "size"),
    "the same as text": (one(size="9" * 400), "size"),
    "a whole number past printing": (one(size=10**5000), "size"),
    "a count past printing": (one(count=10**5000), "count"),
    "a seed past printing": (one(seed=10**5000), "seed"),
    "bytes for a number": (lambda: capsbench.generate("affnist", split="test", count=3, rotation=b"1"), "rotation"),
    "text for layers": (one(layers="no"), "layers"),
    "text for force": (one(force="no"), "force"),
    "a number for the digits": (one(digits=5), "digits"),
    "a number for a split": (one(split=5), "split"),
    "a number for a preset": (one(preset=5), "preset"),
    "a number for a shard": (one(shard=3), "shard"),
}


@pytest.mark.parametrize(("act", "key"), STRANGE.values(), ids=STRANGE)
def test_what_is_stranger_still_is_refused_by_name(act: Callable[[], object], key: str) -> None:
    with pytest.raises(UsageError, match=key):
        act()
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize("key", ["size", "count", "seed", "split", "preset"])
def test_a_message_stays_short_however_long_what_was_asked_for(key: str) -> None:
    with pytest.raises(UsageError) as told:
        one(**{key: "9" * 5000})()
    assert key in str(told.value) and len(str(told.value)) < 1000
