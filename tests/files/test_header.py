"""The header of a file: made, and read only as far as it is sound."""

from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from capsbench.data.columns import columns_of
from capsbench.errors import DataFileError, ParameterError
from capsbench.files.datafile import DataFile
from capsbench.files.header import create_header

from .small_files import names, recipe


def test_a_spec_too_long_to_be_read_again_is_not_written() -> None:
    one = recipe()
    with pytest.raises(ParameterError, match="got 20,000"):
        create_header(Path("x.h5"), "x" * 20_000, columns_of(one.generator, one.spec), 100)
    assert names() == []


def test_a_long_spec_is_written_and_read() -> None:
    one = recipe()
    text = replace(one.spec, parameters={"a": "x" * 15_000}).to_json()
    create_header(Path("x.h5"), text, columns_of(one.generator, one.spec), 100)
    assert DataFile(Path("x.h5")).spec.to_json() == text


SHARDS: list[tuple[dict[str, str], str]] = [
    ({"start": "0"}, "does not say which samples it holds"),
    ({"stop": "100"}, "does not say which samples it holds"),
    ({"start": "-1", "stop": "99"}, "does not say which samples it holds"),
    ({"start": "00", "stop": "100"}, "does not say which samples it holds"),
    ({"start": "1e1", "stop": "110"}, "does not say which samples it holds"),
    ({"start": "9" * 5000, "stop": "9" * 5000}, "does not say which samples it holds"),
    ({"start": "50", "stop": "50"}, "not a shard"),
    ({"start": "60", "stop": "50"}, "not a shard"),
    ({"start": "150", "stop": "250"}, "not a shard"),
    ({"start": "0", "stop": "200"}, "not a shard"),
    ({"start": "0", "stop": "99"}, "not of the types and sizes"),
]


@pytest.mark.parametrize(("attributes", "message"), SHARDS, ids=[str(index) for index in range(len(SHARDS))])
def test_a_file_that_does_not_hold_the_samples_that_it_names_is_refused(
    attributes: dict[str, str], message: str
) -> None:
    one = recipe(count=200)
    create_header(Path("x.h5"), one.spec.to_json(), columns_of(one.generator, one.spec), 100, shard=range(100))
    assert DataFile(Path("x.h5")).span == range(100)
    with h5py.File("x.h5", "r+") as file:
        for name in ("start", "stop"):
            del file.attrs[name]
        for name, value in attributes.items():
            file.attrs.create(name, np.bytes_(value.encode()))
    with pytest.raises(DataFileError, match=message):
        DataFile(Path("x.h5"))
