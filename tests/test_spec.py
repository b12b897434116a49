"""The spec as canonical text: equal specs are equal bytes, and text from anywhere is checked before it is a spec."""

import hashlib
import json
import math
from dataclasses import FrozenInstanceError, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capsbench.spec import SPLITS, DataSpec

SPEC = DataSpec(
    generator="affnist",
    version=1,
    split="test",
    seed=2**64 - 1,
    count=10,
    parameters={"shear": [-0.2, 0.2], "rotation": [-20.0, 20.0], "scale": [0.8, 1.2]},
    layers=False,
    digits="ab" * 32,
)

WORDS = st.text(st.characters(exclude_categories=("Cc", "Cs")))

specs = st.builds(
    DataSpec,
    generator=WORDS,
    version=st.integers(),
    split=st.sampled_from(SPLITS),
    seed=st.integers(0, 2**64 - 1),
    count=st.integers(1, 2**40),
    parameters=st.dictionaries(
        WORDS, st.integers() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False) | WORDS
    ),
    layers=st.booleans(),
    digits=WORDS,
)


def changed(**values: Any) -> str:
    return json.dumps(SPEC.to_dict() | values)


def test_canonical_text_has_sorted_keys_and_no_blanks() -> None:
    assert SPEC.to_json() == (
        '{"count":10,"digits":"' + "ab" * 32 + '","generator":"affnist","layers":false,'
        '"parameters":{"rotation":[-20.0,20.0],"scale":[0.8,1.2],"shear":[-0.2,0.2]},'
        '"seed":18446744073709551615,"split":"test","version":1}'
    )


def test_sha256_is_that_of_the_canonical_text() -> None:
    assert SPEC.sha256 == hashlib.sha256(SPEC.to_json().encode("utf-8")).hexdigest()


def test_order_of_the_parameters_does_not_matter() -> None:
    other = replace(SPEC, parameters=dict(reversed(list(SPEC.parameters.items()))))
    assert other.to_json() == SPEC.to_json()


@given(spec=specs)
def test_spec_survives_its_text(spec: DataSpec) -> None:
    again = DataSpec.from_json(spec.to_json())
    assert again == spec
    assert again.to_json() == spec.to_json()


@given(spec=specs)
def test_canonical_text_is_ascii(spec: DataSpec) -> None:
    assert spec.to_json().isascii()


def test_spec_that_is_not_canonical_is_read_and_made_so() -> None:
    assert DataSpec.from_json(json.dumps(SPEC.to_dict(), indent=3)).to_json() == SPEC.to_json()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "affnist",
        "null",
        "[]",
        "{}",
        '"spec"',
        "[" * 100_000,
        '{"count":' + "9" * 10_000 + "}",
        changed(extra=1),
        json.dumps({key: value for key, value in SPEC.to_dict().items() if key != "seed"}),
        changed(generator=1),
        changed(generator=None),
        changed(version="1"),
        changed(version=1.0),
        changed(version=True),
        changed(split=0),
        changed(split="dev"),
        changed(seed=-1),
        changed(seed=2**64),
        changed(seed=0.0),
        changed(seed="0"),
        changed(count=0),
        changed(count=-5),
        changed(count=10.0),
        changed(count=True),
        changed(parameters=[]),
        changed(parameters=None),
        changed(layers=0),
        changed(layers="false"),
        changed(digits=None),
        changed(digits=["ab"]),
    ],
    ids=range(31),
)
def test_text_that_is_no_spec_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        DataSpec.from_json(text)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_spec_never_says_what_json_cannot(value: float) -> None:
    with pytest.raises(ValueError, match="JSON"):
        replace(SPEC, parameters={"rate": value}).to_json()


def test_spec_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        SPEC.seed = 1  # type: ignore[misc]


def test_spec_of_an_imported_file_says_so_and_whether_its_digits_are_known() -> None:
    assert not SPEC.imported and SPEC.digits_known
    imported = replace(SPEC, generator="imported-affnist", digits="unknown")
    assert imported.imported and not imported.digits_known
