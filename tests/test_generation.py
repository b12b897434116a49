"""Files from recipes: the same bytes always, resumed where they were left, healed where they are damaged."""

import hashlib
import json
import os
import shlex
import shutil
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import h5py
import numpy as np
import pytest

from capsbench.cli import main
from capsbench.contracts import ArrayBatch, FloatArray, IndexArray, Sampler, UInt8Array
from capsbench.errors import DataFileError, ParameterError, SpecMismatchError, StorageError
from capsbench.generation import generate_file, remake_command, repair_file, wrong_samples
from capsbench.header import create_header
from capsbench.layout import columns_of
from capsbench.recipes import Recipe, make_recipe
from capsbench.storage import DataFile, open_dataset

SMALL = {"size": 28, "shift": 2}
MANY = 10_000  # three blocks
ORDER = ("images", "labels", "layers", "source", "shift", "transform")


def recipe(name: str = "padded", **options: Any) -> Recipe:
    defaults: dict[str, Any] = {"split": "test", "digits": "embedded", "count": 100}
    if name == "padded":
        defaults["parameters"] = SMALL
    return make_recipe(name, **(defaults | options))


def names(folder: Path = Path()) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


class Counting:
    """A sampler that notes what it is asked for."""

    def __init__(self, sampler: Sampler) -> None:
        self.sampler = sampler
        self.drawn: list[int] = []

    def batch(self, indices: IndexArray) -> ArrayBatch:
        self.drawn += indices.tolist()
        return self.sampler.batch(indices)

    def layers(self, indices: IndexArray) -> UInt8Array:
        return self.sampler.layers(indices)

    def measures(self, batch: ArrayBatch) -> Mapping[str, FloatArray]:
        return self.sampler.measures(batch)


def counting(one: Recipe) -> Counting:
    """Makes a recipe's sampler note what it draws."""
    counter = Counting(one.sampler)
    one.__dict__["sampler"] = counter  # where cached_property keeps it
    return counter


def stop_after(samples: int) -> Callable[[int, int], None]:
    """A report that interrupts the run once so many samples are done."""

    def report(done: int, total: int) -> None:
        if done >= samples:
            raise KeyboardInterrupt

    return report


def overwrite(path: Path, offset: int, content: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(content)


def flip(path: Path, offset: int) -> None:
    byte = path.read_bytes()[offset]
    overwrite(path, offset, bytes([byte ^ 0x10]))


def seal(path: Path) -> None:
    """Makes the digests of a file those of its data, as a forger would."""
    file = DataFile(path)
    digests = b""
    for block in range(-(-len(file) // 4096)):
        digest = hashlib.sha256()
        for array in file.block(block).values():
            digest.update(array.tobytes())
        digests += digest.digest()
    overwrite(path, file.places["digests"].offset, digests)
    overwrite(path, file.places["root"].offset, hashlib.sha256(file.spec.to_json().encode() + digests).digest())


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
    assert (made.drawn, made.kept) == (count, 0)
    assert made.size == Path("x.h5").stat().st_size
    file = open_dataset("x.h5")
    assert len(file) == count
    for key in ("images", "labels", "source", "shift"):
        np.testing.assert_array_equal(getattr(file, key), getattr(longer, key)[:count])


def test_nothing_but_the_file_and_its_sidecar_is_left() -> None:
    generate_file(recipe(), Path("deep/er/x.h5"))
    assert names(Path("deep/er")) == ["x.h5", "x.json"]


def test_the_final_name_is_not_there_before_the_file_is_whole() -> None:
    seen = []
    generate_file(recipe(count=MANY), Path("x.h5"), report=lambda done, total: seen.append((done, total, names())))
    assert [done for done, _, _ in seen] == [0, 4096, 8192, MANY]
    assert {total for _, total, _ in seen} == {MANY}
    assert all(there == ["x.h5.lock", "x.h5.partial"] for _, _, there in seen)


@pytest.mark.parametrize(("done", "missing"), [(0, 0), (1, 4096), (8192, 8192)])
def test_an_interrupted_run_goes_on_where_it_was(done: int, missing: int) -> None:
    whole = generate_file(recipe(count=MANY), Path("whole.h5")).path.read_bytes()
    with pytest.raises(KeyboardInterrupt):
        generate_file(recipe(count=MANY), Path("x.h5"), report=stop_after(done))
    assert "x.h5" not in names() and "x.h5.partial" in names() and "x.h5.lock" not in names()
    again = recipe(count=MANY)
    counter = counting(again)
    made = generate_file(again, Path("x.h5"))
    assert (made.drawn, made.kept) == (MANY - missing, missing)
    assert counter.drawn == list(range(missing, MANY))
    assert Path("x.h5").read_bytes() == whole
    assert names() == ["whole.h5", "whole.json", "x.h5", "x.json"]


def test_of_a_partial_file_only_what_is_not_right_is_drawn_anew() -> None:
    whole = generate_file(recipe(count=MANY), Path("whole.h5")).path
    with pytest.raises(KeyboardInterrupt):
        generate_file(recipe(count=MANY), Path("x.h5"), report=stop_after(MANY))
    flip(Path("x.h5.partial"), DataFile(whole).places["images"].offset + 28 * 28 * 5000)
    made = generate_file(recipe(count=MANY), Path("x.h5"))
    assert (made.drawn, made.kept) == (4096, MANY - 4096)
    assert Path("x.h5").read_bytes() == whole.read_bytes()


@pytest.mark.parametrize("damage", ["cut", "empty", "garbage", "flipped header"])
def test_a_partial_file_that_does_not_read_as_ours_is_started_anew(damage: str) -> None:
    whole = generate_file(recipe(count=MANY), Path("whole.h5")).path.read_bytes()
    with pytest.raises(KeyboardInterrupt):
        generate_file(recipe(count=MANY), Path("x.h5"), report=stop_after(4096))
    partial = Path("x.h5.partial")
    if damage == "flipped header":
        flip(partial, 100)
    else:
        partial.write_bytes({"cut": partial.read_bytes()[:50_000], "empty": b"", "garbage": b"x" * 9000}[damage])
    assert generate_file(recipe(count=MANY), Path("x.h5")).drawn == MANY
    assert Path("x.h5").read_bytes() == whole


def test_a_whole_file_is_verified_and_left() -> None:
    generate_file(recipe(), Path("x.h5"))
    before = [Path(name).stat() for name in names()]
    again = recipe()
    counter = counting(again)
    made = generate_file(again, Path("x.h5"))
    assert (made.drawn, made.kept) == (0, 100)
    after = [Path(name).stat() for name in names()]
    assert [(one.st_ino, one.st_mtime_ns) for one in after] == [(one.st_ino, one.st_mtime_ns) for one in before]
    assert not counter.drawn


@pytest.mark.parametrize("key", ["images", "labels", "source", "shift", "digests", "root"])
def test_a_damaged_file_is_healed_by_generating_it_again(key: str) -> None:
    path = generate_file(recipe(count=MANY), Path("x.h5")).path
    whole = path.read_bytes()
    flip(path, DataFile(path).places[key].offset + 1)
    assert path.read_bytes() != whole
    assert generate_file(recipe(count=MANY), path).drawn == (0 if key == "root" else 4096)
    assert path.read_bytes() == whole


CHANGES: list[tuple[dict[str, Any], str]] = [
    ({"seed": 1}, "seed: asked 1, found 0"),
    ({"count": 99}, "count: asked 99, found 100"),
    ({"layers": True}, "layers: asked True, found False"),
    ({"split": "validation"}, "split: asked validation, found test"),
    ({"parameters": SMALL | {"shift": 1}}, "shift: asked 1, found 2"),
    ({"name": "affnist", "parameters": None}, "generator: asked affnist, found padded"),
]


@pytest.mark.parametrize("finished", [True, False], ids=["finished", "partial"])
@pytest.mark.parametrize(("change", "difference"), CHANGES, ids=[difference for _, difference in CHANGES])
def test_a_file_of_another_spec_is_refused_and_kept(change: dict[str, Any], difference: str, finished: bool) -> None:
    if finished:
        generate_file(recipe(), Path("x.h5"))
    else:
        with pytest.raises(KeyboardInterrupt):
            generate_file(recipe(), Path("x.h5"), report=stop_after(0))
    there = {name: Path(name).read_bytes() for name in names()}
    other = recipe(**change)
    with pytest.raises(SpecMismatchError) as told:
        generate_file(other, Path("x.h5"))
    assert difference in str(told.value) and "--force" in str(told.value)
    assert {name: Path(name).read_bytes() for name in names()} == there
    made = generate_file(other, Path("x.h5"), force=True)
    assert made.drawn == other.spec.count
    assert open_dataset("x.h5").spec == other.spec
    assert names() == ["x.h5", "x.json"]
    assert json.loads(Path("x.json").read_text())["spec"] == other.spec.to_dict()


def test_force_keeps_the_old_file_until_the_new_one_is_whole() -> None:
    old = generate_file(recipe(), Path("x.h5")).path.read_bytes()
    with pytest.raises(KeyboardInterrupt):
        generate_file(recipe(seed=1), Path("x.h5"), force=True, report=stop_after(0))
    assert Path("x.h5").read_bytes() == old
    open_dataset("x.h5")


def test_a_partial_file_is_said_to_be_unfinished_and_not_damaged() -> None:
    with pytest.raises(KeyboardInterrupt):
        generate_file(recipe(count=MANY), Path("x.h5"), report=stop_after(4096))
    with pytest.raises(DataFileError, match=r"x\.h5\.partial is unfinished: 2 of its 3 blocks are missing"):
        open_dataset("x.h5.partial")


def test_a_forced_run_that_was_stopped_goes_on() -> None:
    generate_file(recipe(), Path("x.h5"))
    other = recipe(seed=1, count=MANY)
    with pytest.raises(KeyboardInterrupt):
        generate_file(other, Path("x.h5"), force=True, report=stop_after(4096))
    assert generate_file(other, Path("x.h5"), force=True).kept == 4096


def test_force_draws_a_whole_file_anew() -> None:
    whole = generate_file(recipe(), Path("x.h5")).path.read_bytes()
    assert generate_file(recipe(), Path("x.h5"), force=True).drawn == 100
    assert Path("x.h5").read_bytes() == whole


@pytest.mark.parametrize("content", [b"", b"text", b"\x89HDF\r\n\x1a\n"])
def test_what_is_no_data_file_is_not_overwritten_unless_forced(content: bytes) -> None:
    Path("x.h5").write_bytes(content)
    with pytest.raises(DataFileError, match="--force"):
        generate_file(recipe(), Path("x.h5"))
    assert Path("x.h5").read_bytes() == content
    assert names() == ["x.h5"]
    generate_file(recipe(), Path("x.h5"), force=True)
    open_dataset("x.h5")


@pytest.mark.parametrize("force", [True, False])
def test_a_folder_where_the_file_should_go_is_refused_before_anything_is_drawn(force: bool) -> None:
    Path("x.h5").mkdir()
    one = recipe()
    counter = counting(one)
    with pytest.raises(StorageError, match="a folder stands there"):
        generate_file(one, Path("x.h5"), force=force)
    assert names() == ["x.h5"] and not counter.drawn


def test_too_little_space_is_refused_before_there_is_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1_000_000))
    with pytest.raises(StorageError, match=r"needs 8\.0 MB, free are 1\.0 MB"):
        generate_file(recipe(count=MANY), Path("x.h5"))
    assert names() == []


def test_a_system_that_writes_little_at_a_time_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = generate_file(recipe(), Path("whole.h5")).path.read_bytes()
    real = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda handle, content, offset: real(handle, content[:997], offset))
    generate_file(recipe(), Path("x.h5"))
    assert Path("x.h5").read_bytes() == whole


def test_a_file_is_synced_before_it_takes_its_name_even_when_another_run_wrote_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(KeyboardInterrupt):
        generate_file(recipe(), Path("x.h5"), report=stop_after(100))
    with pytest.raises(KeyboardInterrupt), monkeypatch.context() as patch:
        patch.setattr(os, "fsync", lambda handle: stop_after(0)(0, 0))
        generate_file(recipe(), Path("x.h5"))
    events: list[tuple[str, int]] = []
    sync, rename = os.fsync, Path.replace

    def fsync(handle: int) -> None:
        events.append(("sync", os.fstat(handle).st_ino))
        sync(handle)

    def replace_(path: Path, target: Path) -> Path:
        events.append(("rename", path.stat().st_ino))
        return rename(path, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(Path, "replace", replace_)
    assert generate_file(recipe(), Path("x.h5")).drawn == 0
    file, folder = Path("x.h5").stat().st_ino, Path().stat().st_ino
    assert events.index(("sync", file)) < events.index(("rename", file))
    assert events[-1] == ("sync", folder)


def test_two_runs_on_one_file_the_second_is_refused_and_the_first_goes_on() -> None:
    whole = generate_file(recipe(count=MANY), Path("whole.h5")).path.read_bytes()
    begun, go_on = threading.Event(), threading.Event()

    def wait(done: int, total: int) -> None:
        begun.set()
        go_on.wait(20)

    first = threading.Thread(target=lambda: generate_file(recipe(count=MANY), Path("x.h5"), report=wait))
    first.start()
    assert begun.wait(20)
    before = time.perf_counter()
    for force in (False, True):
        with pytest.raises(StorageError, match=r"Another run is writing x\.h5"):
            generate_file(recipe(count=MANY), Path("x.h5"), force=force)
    assert time.perf_counter() - before < 1
    go_on.set()
    first.join()
    assert Path("x.h5").read_bytes() == whole
    assert "x.h5.lock" not in names()


def test_repair_restores_a_file_byte_for_byte_wherever_it_is_flipped() -> None:
    path = generate_file(recipe(count=MANY), Path("x.h5")).path
    whole = path.read_bytes()
    places = DataFile(path).places
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
        size = 0 if key == "root" else min(4096, MANY - block * 4096)
        assert (repaired.drawn, repaired.kept) == (size, MANY - size)
        assert path.read_bytes() == whole, (key, offset)
    assert names() == ["x.h5", "x.json"]


def test_damage_in_several_blocks_is_told_and_mended_together() -> None:
    path = generate_file(recipe(count=5 * 4096), Path("x.h5")).path
    whole = path.read_bytes()
    place = DataFile(path).places["images"]
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
    assert repair_file(path).drawn == 0
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
    place = DataFile(path).places[key]
    for sample in (17, 4500):
        offset = place.offset + sample * place.sample_bytes
        value = path.read_bytes()[offset]
        overwrite(path, offset, bytes([(value + 1) % 9]))
    seal(path)
    open_dataset(path)  # the digests hold
    assert wrong_samples(DataFile(path), 5000) == [17, 4500]
    assert repair_file(path).drawn == 0


def test_a_forged_sign_of_zero_is_found() -> None:
    one = recipe("affnist", parameters={"shear": "0"})
    path = generate_file(one, Path("x.h5")).path
    place = DataFile(path).places["transform"]
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


@pytest.mark.parametrize("content", ["my own notes", '{"spec": {"mine": 1}}', "[]"])
def test_a_users_own_file_where_the_sidecar_goes_is_not_lost(content: str) -> None:
    Path("x.json").write_text(content)
    with pytest.raises(SpecMismatchError, match=r"x\.json stands where the sidecar of x\.h5 goes.*--force"):
        generate_file(recipe(), Path("x.h5"))
    assert Path("x.json").read_text() == content
    assert names() == ["x.json"]
    generate_file(recipe(), Path("x.h5"), force=True)
    assert json.loads(Path("x.json").read_text())["spec"] == recipe().spec.to_dict()


def test_what_is_not_reproducible_stands_in_the_sidecar() -> None:
    one = recipe("multimnist")
    generate_file(one, Path("x.h5"))
    content = json.loads(Path("x.json").read_text())
    assert content["spec"] == one.spec.to_dict()
    assert {"date", "host", "capsbench", "python", "numpy", "h5py", "hdf5"} <= set(content)
    assert content["digits"] == "embedded"
    raw = Path("x.h5").read_bytes()
    for key in ("date", "host"):
        assert content[key].encode() not in raw


@pytest.mark.parametrize("damage", ["missing", "of another spec", "no JSON", "too deep", "a list"])
def test_a_sidecar_that_does_not_tell_of_the_file_is_written_anew(damage: str) -> None:
    generate_file(recipe(seed=1), Path("y.h5"))
    generate_file(recipe(), Path("x.h5"))
    good = json.loads(Path("x.json").read_text())["spec"]
    if damage == "missing":
        Path("x.json").unlink()
    elif damage == "of another spec":
        shutil.copy("y.json", "x.json")
    else:
        Path("x.json").write_text({"no JSON": "{", "too deep": "[" * 100_000, "a list": "[1]"}[damage])
    assert generate_file(recipe(), Path("x.h5")).drawn == 0
    assert json.loads(Path("x.json").read_text())["spec"] == good


@pytest.mark.parametrize(
    "one",
    [
        recipe(),
        recipe("affnist", parameters={"rotation": "-45,45", "scale": 1}, seed=2**64 - 1),
        recipe("multimnist", preset="release", layers=True, split="validation", count=7),
    ],
    ids=["padded", "affnist", "multimnist"],
)
def test_the_command_of_the_sidecar_makes_the_file_anew(one: Recipe, capsys: pytest.CaptureFixture[str]) -> None:
    path = Path("a folder/it's $HOME.h5")
    whole = generate_file(one, path).path.read_bytes()
    path.write_bytes(b"broken")
    command = remake_command(path)
    assert command is not None
    words = shlex.split(command)
    assert words[0] == "capsbench"
    with pytest.raises(SystemExit) as stop:
        main(words[1:])
    assert stop.value.code == 0
    assert path.read_bytes() == whole


def test_the_command_takes_the_digits_that_the_file_was_made_of(monkeypatch: pytest.MonkeyPatch) -> None:
    generate_file(recipe(), Path("x.h5"))
    assert "--digits embedded" in str(remake_command(Path("x.h5")))
    full = replace(recipe().spec, digits="c3f9adf9c66efb572b1f9326c3a511b45910c7173b97be66ceceeeeaef6b802b")
    Path("x.json").write_text(json.dumps({"spec": full.to_dict()}))
    assert "--digits" not in str(remake_command(Path("x.h5")))


def test_parameters_that_are_not_set_are_written_as_they_are_read() -> None:
    spec = replace(recipe().spec, parameters={"a": None, "b": True, "c": [1.5, None]})
    Path("x.json").write_text(json.dumps({"spec": spec.to_dict()}))
    assert "--set a=none --set b=True --set c=1.5,none " in str(remake_command(Path("x.h5")))


@pytest.mark.parametrize("content", [None, "", "{}", '{"spec": 1}', '{"spec": {"generator": 1}}', "[" * 100_000, "\0"])
def test_without_a_sound_sidecar_there_is_no_command(content: str | None) -> None:
    if content is not None:
        Path("x.json").write_text(content)
    assert remake_command(Path("x.h5")) is None


def test_a_sidecar_cannot_smuggle_a_command() -> None:
    spec = replace(recipe().spec, generator="padded; touch smuggled #", parameters={"a$(touch b)": "`touch c`"})
    Path("x.json").write_text(json.dumps({"spec": spec.to_dict()}))
    command = remake_command(Path("x.h5"))
    assert command is not None and "padded; touch smuggled #" in shlex.split(command)
    assert "--set" in shlex.split(command) and "a$(touch b)=`touch c`" in shlex.split(command)


def test_a_spec_too_long_to_be_read_again_is_not_written() -> None:
    one = recipe()
    with pytest.raises(ParameterError, match="20,000 bytes"):
        create_header(Path("x.h5"), "x" * 20_000, columns_of(one.generator, one.spec), 100)
    assert names() == []


def test_a_long_spec_is_written_and_read() -> None:
    one = recipe()
    text = replace(one.spec, parameters={"a": "x" * 15_000}).to_json()
    create_header(Path("x.h5"), text, columns_of(one.generator, one.spec), 100)
    assert DataFile(Path("x.h5")).spec.to_json() == text
