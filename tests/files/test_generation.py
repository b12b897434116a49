"""Files from recipes: the same bytes always, healed where they are damaged, held against their spec."""

import hashlib
import time
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from capsbench.data.columns import columns_of
from capsbench.errors import DataFileError
from capsbench.files.datafile import DataFile, open_dataset
from capsbench.files.generation import generate_file, repair_file, wrong_samples
from capsbench.files.header import create_header

from .small_files import MANY, counting, flip, names, overwrite, recipe

ORDER = ("images", "labels", "layers", "source", "shift", "transform", "scraps")


def seal(path: Path) -> None:
    """Makes the digests of a file those of its data, as a forger would."""
    file = DataFile(path)
    digests = b""
    for block in range(-(-len(file) // 4096)):
        digest = hashlib.sha256()
        for array in file.block(block).values():
            digest.update(array.tobytes())
        digests += digest.digest()
    overwrite(path, file.extents["digests"].offset, digests)
    overwrite(path, file.extents["root"].offset, hashlib.sha256(file.spec.to_json().encode() + digests).digest())


@pytest.mark.parametrize("layers", [False, True])
@pytest.mark.parametrize("name", ["padded", "affnist", "multimnist"])
def test_h5py_alone_reads_what_we_read(name: str, layers: bool) -> None:
    one = recipe(name, layers=layers, parameters=None)
    path = generate_file(one, Path("x.h5")).path
    ours = open_dataset(path)
    with h5py.File(path, "r") as file:
        parts = {part.name: part for part in columns_of(one.generator, one.spec)}
        assert set(file) == {*parts, "digests", "root"}
        for key in file:
            data = file[key]
            assert data.chunks is None and data.compression is None and not data.is_virtual and data.external is None
            assert not data.attrs
        for key, part in parts.items():
            assert file[key].shape == (100, *part.shape) and file[key].dtype == part.dtype
            assert file[key][:].any()
            if key != "layers":
                np.testing.assert_array_equal(file[key][:], getattr(ours, key))
                np.testing.assert_array_equal(file[key][5:9], getattr(ours.batch([5, 6, 7, 8]), key))
        if layers:
            np.testing.assert_array_equal(file["layers"][:].reshape(100, -1), ours.layers(range(100)).reshape(100, -1))
        assert file["digests"].shape == (1, 32) and file["digests"].dtype == "u1"
        assert file["root"].shape == (32,) and file["root"].dtype == "u1"
        assert file["root"][:].tobytes().hex() == ours.digest
        assert {key: bytes(value) for key, value in file.attrs.items()} == {
            "format": b"capsbench",
            "format_version": b"1",
            "spec": one.spec.to_json().encode(),
        }
        for key in file.attrs:
            kind = h5py.h5a.open(file.id, key.encode()).get_type()
            assert isinstance(kind, h5py.h5t.TypeStringID) and not kind.is_variable_str()


def test_the_same_spec_makes_the_same_bytes_at_another_time_in_another_place() -> None:
    first = generate_file(recipe("multimnist"), Path("a/x.h5")).path.read_bytes()
    time.sleep(1.1)  # HDF5 counts in seconds
    second = generate_file(recipe("multimnist"), Path("b/deeper/y.h5")).path.read_bytes()
    assert first == second
    assert first != generate_file(recipe("multimnist", seed=1), Path("c.h5")).path.read_bytes()


@pytest.mark.parametrize(
    ("name", "options"),
    [("padded", {}), ("affnist", {"layers": True, "count": 4100}), ("multimnist", {"layers": True, "count": 4100})],
)
def test_the_digests_are_those_of_the_contract(name: str, options: dict[str, Any]) -> None:
    one = recipe(name, **({"count": MANY} | options))
    made = generate_file(one, Path("x.h5"))
    with h5py.File("x.h5", "r") as file:
        text = file.attrs["spec"]
        digests = b""
        for start in range(0, one.spec.count, 4096):
            block = b"".join(file[key][start : start + 4096].tobytes() for key in ORDER if key in file)
            digests += hashlib.sha256(block).digest()
        assert file["digests"][:].tobytes() == digests
        assert file["root"][:].tobytes() == hashlib.sha256(text + digests).digest()
        assert made.digest == hashlib.sha256(text + digests).hexdigest()


@pytest.mark.parametrize("count", [1, 4095, 4096, 4097, MANY])
def test_a_shorter_data_set_is_the_beginning_of_a_longer_one(count: int) -> None:
    longer = recipe(count=MANY + 1).sampler.batch(np.arange(MANY + 1))
    made = generate_file(recipe(count=count), Path("x.h5"))
    assert (made.written, made.reused) == (count, 0)
    assert made.size == Path("x.h5").stat().st_size
    file = open_dataset("x.h5")
    assert len(file) == count
    for key in ("images", "labels", "source", "shift"):
        np.testing.assert_array_equal(getattr(file, key), getattr(longer, key)[:count])


def test_repair_restores_a_file_byte_for_byte_wherever_it_is_flipped() -> None:
    path = generate_file(recipe(count=MANY), Path("x.h5")).path
    whole = path.read_bytes()
    places = DataFile(path).extents
    random = np.random.default_rng(0)
    places_hit = [("images", int(random.integers(places["images"].sample_bytes * MANY))) for _ in range(8)]
    for key in ("labels", "source", "shift", "digests", "root"):
        place = places[key]
        places_hit.append((key, int(random.integers(place.sample_bytes * place.shape[0]))))
    for key, offset in places_hit:
        flip(path, places[key].offset + offset)
        block = offset // places[key].sample_bytes // (1 if key == "digests" else 4096)
        file = DataFile(path)
        if key == "root":
            assert file.bad_blocks() == [] and not file.root_holds()
        else:
            assert file.bad_blocks() == [block], (key, offset)
        with pytest.raises(DataFileError, match="root digest" if key == "root" else rf"damaged in block {block} "):
            open_dataset(path)
        repaired = repair_file(path, digits="embedded")
        size = MANY if key == "root" else min(4096, MANY - block * 4096)
        assert (repaired.written, repaired.reused) == (size, MANY - size)
        assert path.read_bytes() == whole, (key, offset)
    assert names() == ["x.h5", "x.json"]


def test_damage_in_several_blocks_is_told_and_repaired_together() -> None:
    path = generate_file(recipe(count=5 * 4096), Path("x.h5")).path
    whole = path.read_bytes()
    place = DataFile(path).extents["images"]
    for block in (0, 1, 3, 4):
        flip(path, place.offset + block * 4096 * place.sample_bytes)
    with pytest.raises(DataFileError) as told:
        open_dataset(path)
    assert (
        "block 0 (samples 0..4095), block 1 (samples 4096..8191), block 3 (samples 12288..16383) and 1 more"
    ) in str(told.value)
    seen: list[int] = []
    repair_file(path, report=lambda done, total: seen.append(done))
    assert seen == [4096, 8192, 12288, 16384, 20480]
    assert path.read_bytes() == whole


def test_repair_of_a_whole_file_changes_nothing() -> None:
    path = generate_file(recipe(), Path("x.h5")).path
    before = path.stat().st_mtime_ns
    assert repair_file(path).written == 0
    assert path.stat().st_mtime_ns == before


def test_repair_of_what_is_not_there_leaves_no_trace() -> None:
    with pytest.raises(DataFileError, match="There is no file"):
        repair_file(Path("nowhere/x.h5"))
    Path("text.h5").write_text("text")
    with pytest.raises(DataFileError, match="not an HDF5 file"):
        repair_file(Path("text.h5"))
    assert names() == ["text.h5"]


def test_a_file_whose_header_and_spec_disagree_is_not_written_into() -> None:
    small, large = recipe(), recipe(parameters=None)
    create_header(Path("x.h5"), large.spec.to_json(), columns_of(small.generator, small.spec), 100)
    before = Path("x.h5").read_bytes()
    with pytest.raises(DataFileError, match="not of the types and sizes that its spec draws"):
        repair_file(Path("x.h5"))
    with pytest.raises(DataFileError, match="not of the types and sizes"):
        generate_file(large, Path("x.h5"))
    with pytest.raises(DataFileError, match="not of the types and sizes"):
        wrong_samples(DataFile(Path("x.h5")), 5)
    with pytest.raises(DataFileError, match="not of the types and sizes"):
        DataFile(Path("x.h5")).layers([0])
    assert Path("x.h5").read_bytes() == before


def test_samples_drawn_anew_are_those_of_the_file() -> None:
    for name, layers in (("padded", False), ("affnist", False), ("multimnist", True)):
        path = generate_file(recipe(name, layers=layers, count=5000), Path(f"{name}.h5")).path
        assert wrong_samples(open_dataset(path), 500) == []
        assert wrong_samples(open_dataset(path), 10**9) == []


@pytest.mark.parametrize("key", ["images", "labels", "source", "shift", "layers"])
def test_samples_forged_together_with_their_digests_are_found(key: str) -> None:
    path = generate_file(recipe("multimnist", layers=True, count=5000), Path("x.h5")).path
    place = DataFile(path).extents[key]
    for sample in (17, 4500):
        offset = place.offset + sample * place.sample_bytes
        value = path.read_bytes()[offset]
        overwrite(path, offset, bytes([(value + 1) % 9]))
    seal(path)
    open_dataset(path)  # the digests hold
    assert wrong_samples(DataFile(path), 5000) == [17, 4500]
    assert repair_file(path).written == 0


def test_a_forged_sign_of_zero_is_found() -> None:
    one = recipe("affnist", parameters={"shear": "0"})
    path = generate_file(one, Path("x.h5")).path
    place = DataFile(path).extents["transform"]
    assert DataFile(path).transform is not None
    overwrite(path, place.offset + 3 * place.sample_bytes + 4, b"\0\0\0\x80")
    seal(path)
    assert wrong_samples(open_dataset(path), 100) == [3]


def test_the_choice_of_samples_follows_its_seed() -> None:
    path = generate_file(recipe(count=2000), Path("x.h5")).path
    chosen = []
    for seed in (1, 1, 2, None, None):
        file = DataFile(path)
        counter = counting(file.recipe())
        wrong_samples(file, 50, seed=seed)
        assert len(set(counter.drawn)) == 50 and counter.drawn == sorted(counter.drawn)
        chosen.append(tuple(counter.drawn))
    assert chosen[0] == chosen[1] and len(set(chosen)) == 4
