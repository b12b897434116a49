"""The header of a file: made, and read only as far as it is sound."""

from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from capsbench.data.columns import columns_of
from capsbench.errors import DataFileError, ParameterError
from capsbench.files import header
from capsbench.files.datafile import DataFile, open_dataset
from capsbench.files.generation import generate_file, repair_file
from capsbench.files.header import create_header
from capsbench.files.packing import pack_file

from .small_files import MANY, names, overwrite, recipe, stop_after

SUPERBLOCK = 8  # the place of its version


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


def test_hdf5_1_8_opens_plain_files_and_1_10_packed_ones() -> None:
    path = generate_file(recipe(), Path("x.h5")).path
    pack_file(path, Path("packed.h5"))
    assert (path.read_bytes()[SUPERBLOCK], Path("packed.h5").read_bytes()[SUPERBLOCK]) == (2, 3)
    with h5py.File(path) as file:
        names = [name for name in file if file[name].id.get_create_plist().get_layout() != h5py.h5d.CONTIGUOUS]
    assert names == []


def test_a_file_of_superblock_3_is_read_and_resumed_and_repaired(monkeypatch: pytest.MonkeyPatch) -> None:
    many = recipe(count=MANY)
    expected = generate_file(many, Path("now.h5"))
    with monkeypatch.context() as patch:
        patch.setattr(header, "PLAIN_VERSION", h5py.h5f.LIBVER_V110)
        with pytest.raises(KeyboardInterrupt):
            generate_file(many, Path("then.h5"), report=stop_after(5000))
    made = generate_file(many, Path("then.h5"))
    assert made.reused > 0 and made.digest == expected.digest
    assert Path("then.h5").read_bytes()[SUPERBLOCK] == 3
    file = open_dataset("then.h5")
    np.testing.assert_array_equal(file.images, open_dataset("now.h5").images)
    overwrite(Path("then.h5"), file.extents["images"].offset, b"!!!!")
    assert repair_file(Path("then.h5")).written == 4096
    with Path("then.h5").open("ab") as more:
        more.write(b"surplus")
    with pytest.raises(DataFileError, match="is followed by 7 bytes"):
        open_dataset("then.h5")
