"""The size of a file, worked out by hand."""

from dataclasses import replace
from typing import Any

from capsbench.data.columns import columns_of
from capsbench.data.recipes import Recipe, make_recipe
from capsbench.files.layout import Outline


def recipe(name: str, **options: Any) -> Recipe:
    defaults: dict[str, Any] = {"split": "test", "digits": "embedded", "count": 10}
    return make_recipe(name, **(defaults | options))


def test_the_bytes_of_a_file_are_those_of_its_samples_and_digests() -> None:
    one = recipe("multimnist", layers=True)
    sample = 36 * 36 + 2 + 2 * 36 * 36 + 2 * 4 + 2 * 2
    whole = replace(one.spec, count=4097)
    assert Outline(whole, columns_of(one.generator, whole)).data_bytes == 4097 * sample + 2 * 32 + 32
    assert Outline(whole, columns_of(one.generator, whole), range(96, 4096)).data_bytes == 4000 * sample + 32 + 32
