"""Reading data files: what is ours is read right, and what is not is refused before a byte of data is read."""

import errno
import json
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from capsbench.data.columns import columns_of
from capsbench.data.recipes import Recipe, make_recipe
from capsbench.errors import DataError, DataFileError, DigitsError
from capsbench.files.datafile import DataFile, open_dataset
from capsbench.files.generation import generate_file, repair_file, wrong_samples
from capsbench.files.header import _extent, create_header, read_header
from capsbench.files.inspection import measure
from capsbench.files.packing import pack_file
from capsbench.files.preview import preview
from capsbench.spec import DataSpec

COUNT = 60


def recipe(name: str = "padded", **options: Any) -> Recipe:
    defaults: dict[str, Any] = {"split": "test", "digits": "embedded", "count": COUNT}
    if name == "padded":
        defaults["parameters"] = {"size": 28, "shift": 2}
    return make_recipe(name, **(defaults | options))


def made(name: str = "padded", **options: Any) -> Path:
    return generate_file(recipe(name, **options), Path(f"{name}.h5")).path


def with_spec(text: str) -> Path:
    """A file that is ours in all but its spec."""
    one = recipe()
    create_header(Path("x.h5"), text, columns_of(one.generator, one.spec), COUNT)
    return Path("x.h5")


def changed(**changes: Any) -> Path:
    return with_spec(replace(recipe().spec, **changes).to_json())


@pytest.fixture
def no_hanging() -> Iterator[None]:
    """Opens the other end of every pipe after a while, for whoever waits for it deep in a library."""
    let_go = 'sleep 5; for pipe in *; do if [ -p "$pipe" ]; then exec 3<>"$pipe"; fi; done; sleep 0.1'
    helper = subprocess.Popen(["sh", "-c", let_go], start_new_session=True)
    yield
    os.killpg(helper.pid, signal.SIGKILL)
    helper.wait()


def test_a_file_tells_what_it_is() -> None:
    one = recipe("multimnist")
    path = generate_file(one, Path("x.h5")).path
    file = open_dataset(str(path))
    assert file.spec == one.spec and len(file) == COUNT
    assert file.images.shape == (COUNT, 36, 36) and isinstance(file.images, np.memmap)
    assert file.labels.shape == (COUNT, 2) and file.source.shape == (COUNT, 2)
    assert file.shift is not None and file.shift.shape == (COUNT, 2, 2) and file.transform is None
    assert "multimnist/test" in repr(file) and "60" in repr(file)
    with pytest.raises(ValueError, match="read-only"):
        file.images[0, 0, 0] = 1
    other = open_dataset(made("affnist"))
    assert other.shift is None and other.transform is not None and other.transform.shape == (COUNT, 6)


@pytest.mark.parametrize("name", ["padded", "affnist", "multimnist", "cluttered"])
@pytest.mark.parametrize(
    "indices", [[5, 0, 59, 5], (5, 0, 59, 5), range(3), [], np.array([7], np.int32), np.arange(60)]
)
def test_a_batch_is_what_the_generator_draws(name: str, indices: Any) -> None:
    one = recipe(name)
    file = open_dataset(generate_file(one, Path("x.h5")).path)
    batch, drawn = file.batch(indices), one.sampler.batch(np.asarray(indices, np.int64))
    for key in ("images", "labels", "source", "shift", "transform", "scraps"):
        expected = getattr(drawn, key)
        found = getattr(batch, key)
        assert (found is None) == (expected is None)
        if expected is not None:
            assert type(found) is np.ndarray and found.dtype == expected.dtype
            np.testing.assert_array_equal(found, expected)
    assert batch.layers is None


@pytest.mark.parametrize("index", [-1, COUNT, 2**40])
def test_a_sample_that_is_not_there_is_an_error_for_stored_and_for_drawn_layers(index: int) -> None:
    for layers in (False, True):
        file = open_dataset(made("multimnist", layers=layers) if layers else made("multimnist"), verify=False)
        with pytest.raises(IndexError, match=r"must be 0\.\.59"):
            file.batch([0, index])
        with pytest.raises(IndexError, match=r"must be 0\.\.59"):
            file.layers([0, index])
        Path("multimnist.h5").unlink()


@pytest.mark.parametrize("name", ["padded", "affnist", "multimnist"])
def test_layers_are_the_same_from_the_file_and_from_the_digits(name: str) -> None:
    indices = np.array([9, 3, 59])
    stored = open_dataset(generate_file(recipe(name, layers=True), Path("with.h5")).path)
    drawn = open_dataset(generate_file(recipe(name), Path("without.h5")).path)
    k = 2 if name == "multimnist" else 1
    expected = recipe(name).sampler.layers(indices)
    assert expected.shape[:2] == (3, k)
    for file in (stored, drawn):
        np.testing.assert_array_equal(file.layers(indices), expected)
        np.testing.assert_array_equal(file.layers(tuple(indices.tolist())), expected)


def test_layers_that_must_be_drawn_need_the_digits() -> None:
    Path("empty").mkdir()
    path = generate_file(recipe("multimnist"), Path("without.h5")).path
    with pytest.raises(DigitsError, match="embedded"):
        open_dataset(path, digits="empty").layers([0])
    full = replace(recipe("multimnist").spec, digits="c3f9adf9c66efb572b1f9326c3a511b45910c7173b97be66ceceeeeaef6b802b")
    create_header(Path("full.h5"), full.to_json(), columns_of(recipe("multimnist").generator, full), COUNT)
    with pytest.raises(DigitsError, match="capsbench data fetch"):
        open_dataset("full.h5", verify=False).layers([0])
    kept = generate_file(recipe("multimnist", layers=True), Path("with.h5")).path
    assert open_dataset(kept, digits="empty").layers([0]).shape == (1, 2, 36, 36)


def test_a_file_pickles_small_and_works_after() -> None:
    file = open_dataset(made(count=5000))
    content = pickle.dumps(file)
    assert len(content) < 1000
    os.chdir("/")
    np.testing.assert_array_equal(pickle.loads(content).images, file.images)


def sum_of(file: DataFile, indices: list[int]) -> int:
    return int(file.batch(indices).images.astype(np.int64).sum() + file.layers(indices).astype(np.int64).sum())


def test_a_file_goes_to_a_process_that_is_spawned() -> None:
    # In a script of its own: pytest itself cannot be imported anew by a child.
    Path("task.py").write_text(
        "import multiprocessing, sys\n"
        "from capsbench.files.datafile import open_dataset\n"
        "def total(file, indices):\n"
        "    return int(file.batch(indices).images.astype(int).sum() + file.layers(indices).astype(int).sum())\n"
        "if __name__ == '__main__':\n"
        "    file = open_dataset(sys.argv[1])\n"
        "    parts = [(file, [0, 3]), (file, [1, 59])]\n"
        "    with multiprocessing.get_context('spawn').Pool(1) as pool:\n"
        "        print(*pool.starmap(total, parts))\n"
    )
    path = made("multimnist")
    done = subprocess.run([sys.executable, "task.py", path], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    file = open_dataset(path)
    assert done.stdout.split() == [str(sum_of(file, [0, 3])), str(sum_of(file, [1, 59]))]


def test_opening_without_verifying_reads_no_data_and_verifying_reads_all() -> None:
    path = made(count=5000)
    place = DataFile(path).extents["images"]
    with path.open("r+b") as raw:
        raw.seek(place.offset + 4999 * place.sample_bytes)
        raw.write(b"\x55")
    open_dataset(path, verify=False)
    with pytest.raises(DataFileError, match=r"block 1 \(samples 4096\.\.4999\)\. Repair it with: capsbench verify"):
        open_dataset(path)


def test_the_way_to_repair_a_file_can_be_pasted() -> None:
    path = generate_file(recipe(), Path("my data/it's.h5")).path
    with path.open("r+b") as raw:
        raw.seek(DataFile(path).extents["root"].offset)
        raw.write(b"\0")
    with pytest.raises(DataFileError, match=r"capsbench verify 'my data/it'\"'\"'s\.h5' --repair"):
        open_dataset(path)


def test_the_way_to_repair_a_file_names_the_folder_of_digits_that_it_was_opened_with() -> None:
    path = made()
    with path.open("r+b") as raw:
        raw.seek(DataFile(path).extents["root"].offset)
        raw.write(b"\0")
    with pytest.raises(DataFileError, match=r"capsbench verify padded\.h5 --repair --digits 'my digits'$"):
        open_dataset(path, digits="my digits")


@pytest.mark.parametrize("packed", [False, True])
def test_what_follows_the_end_of_a_file_is_noticed(packed: bool) -> None:
    path = made()
    if packed:
        pack_file(path, Path("packed.h5"))
        path = Path("packed.h5")
    whole = path.read_bytes()
    path.write_bytes(whole + b"junk")
    assert open_dataset(path, verify=False).images.shape == (60, 28, 28)
    with pytest.raises(
        DataFileError, match=rf"{path} is followed by 4 bytes that do not belong to it\. (Repair it|A packed file)"
    ):
        open_dataset(path)
    if not packed:
        assert repair_file(path).written == 0 and path.read_bytes() == whole


def test_labels_that_are_no_class_are_refused() -> None:
    from hashlib import sha256

    path = made()
    places = DataFile(path).extents
    with path.open("r+b") as raw:
        raw.seek(places["labels"].offset)
        raw.write(b"\x0a")
    digest = sha256(b"".join(array.tobytes() for array in DataFile(path).block(0).values())).digest()
    with path.open("r+b") as raw:
        raw.seek(places["digests"].offset)
        raw.write(digest)
        raw.seek(places["root"].offset)
        raw.write(sha256(DataFile(path).spec.to_json().encode() + digest).digest())
    with pytest.raises(DataFileError, match="a label is 10"):
        open_dataset(path)


def hostile(change: Callable[[h5py.File], None]) -> Path:
    """A good file, and then what someone did to it with h5py."""
    path = made()
    with h5py.File(path, "r+", libver=("v110", "v110")) as file:
        change(file)
    return path


def external_link(file: h5py.File) -> None:
    del file["images"]
    file["images"] = h5py.ExternalLink("target", "/images")


def soft_link(file: h5py.File) -> None:
    del file["source"]
    file["source"] = h5py.SoftLink("/labels")


def external_storage(file: h5py.File) -> None:
    del file["images"]
    file.create_dataset("images", (COUNT, 28, 28), "u1", external=[("target", 0, COUNT * 784)])


def virtual(file: h5py.File) -> None:
    layout = h5py.VirtualLayout((COUNT, 28, 28), "u1")
    layout[:] = h5py.VirtualSource("target", "images", (COUNT, 28, 28))
    del file["images"]
    file.create_virtual_dataset("images", layout)


def remade(name: str, **how: Any) -> Callable[[h5py.File], None]:
    def change(file: h5py.File) -> None:
        if name in file:
            del file[name]
        file.create_dataset(name, **how)

    return change


def compact(file: h5py.File) -> None:
    del file["source"]
    layout = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    layout.set_layout(h5py.h5d.COMPACT)
    h5py.h5d.create(file.id, b"source", h5py.h5t.STD_I32LE, h5py.h5s.create_simple((COUNT,)), layout)


def nested(file: h5py.File) -> None:
    del file["images"]
    group = file
    for _ in range(2000):
        group = group.create_group("images")


def cycle(file: h5py.File) -> None:
    del file["images"]
    file["images"] = file["/"]


def named_type(file: h5py.File) -> None:
    del file["images"]
    file["images"] = np.dtype("u1")


def attribute(name: str, value: Any) -> Callable[[h5py.File], None]:
    def change(file: h5py.File) -> None:
        file.attrs[name] = value

    return change


def without(name: str) -> Callable[[h5py.File], None]:
    return lambda file: file.__delitem__(name)


def with_extra(name: str) -> Callable[[h5py.File], None]:
    return lambda file: file.__setitem__(name, np.zeros((COUNT, 6), "f4"))


HOSTILE: dict[str, tuple[Callable[[h5py.File], None], str]] = {
    "external link": (external_link, "is a link to another place"),
    "soft link": (soft_link, "is a link to another place"),
    "external storage": (external_storage, "not stored contiguously in the file itself"),
    "virtual data set": (virtual, "not stored contiguously"),
    "huge, not allocated": (remade("images", shape=(COUNT, 2**20, 2**20), dtype="u1"), "does not fit the file"),
    "huge, chunked": (remade("images", shape=(2**40, 28, 28), dtype="u1", chunks=(2**20, 28, 28)), "in chunks of"),
    "sizes that overflow": (remade("layers", shape=(2**31, 2**31, 4), dtype="u1"), "does not fit"),
    "gzip": (remade("images", shape=(COUNT, 28, 28), dtype="u1", chunks=True, compression="gzip"), "in chunks of"),
    "compact": (compact, "contiguously"),
    "objects": (remade("labels", data=["a"] * COUNT, dtype=h5py.string_dtype()), "types and sizes"),
    "records": (remade("labels", data=np.zeros(COUNT, [("a", "u1"), ("b", "u1")])), "types and sizes"),
    "floats": (remade("images", data=np.zeros((COUNT, 28, 28), "f4")), "types and sizes"),
    "signed": (remade("labels", data=np.zeros(COUNT, "i1")), "types and sizes"),
    "big-endian": (remade("source", data=np.zeros(COUNT, ">i4")), "types and sizes"),
    "fewer samples": (remade("images", data=np.zeros((COUNT - 1, 28, 28), "u1")), "types and sizes"),
    "more samples": (remade("labels", data=np.zeros(COUNT + 1, "u1")), "types and sizes"),
    "a block too many": (remade("digests", data=np.zeros((2, 32), "u1")), "types and sizes"),
    "a short root": (remade("root", data=np.zeros(31, "u1")), "types and sizes"),
    "a scalar": (remade("root", data=np.uint8(1)), "is empty"),
    "null space": (remade("root", data=h5py.Empty("u1")), "is empty|contiguously"),
    "no rows": (remade("images", data=np.zeros((0, 28, 28), "u1")), "is empty"),
    "no columns": (remade("images", data=np.zeros((COUNT, 28, 0), "u1")), "is empty"),
    "one axis": (remade("images", data=np.zeros(COUNT, "u1")), "no images"),
    "wide": (remade("images", data=np.zeros((COUNT, 1, 5000), "u1")), "no images"),
    "no images": (without("images"), "no images"),
    "no labels": (without("labels"), "no labels"),
    "no source": (without("source"), "types and sizes"),
    "no shift": (without("shift"), "types and sizes"),
    "no digests": (without("digests"), "types and sizes"),
    "shift and transform": (with_extra("transform"), "types and sizes"),
    "layers that the spec does not have": (with_extra("layers"), "types and sizes"),
    "something else": (with_extra("other"), "arrays that no file"),
    "nested groups": (nested, "is not an array"),
    "a cycle of groups": (cycle, "is not an array"),
    "a named type": (named_type, "is not an array"),
    "another format": (attribute("format", np.bytes_("other")), "was not made by capsbench"),
    "a number for a format": (attribute("format", 7), "was not made by capsbench"),
    "no text for a format": (attribute("format", h5py.Empty("S9")), "was not made by capsbench"),
    "several formats": (attribute("format", np.array([b"capsbench"])), "was not made by capsbench"),
    "a newer version": (
        attribute("format_version", np.bytes_("2")),
        "format version 2; this capsbench reads version 1",
    ),
    "an absurd version": (attribute("format_version", np.bytes_("9" * 9000)), r"version 9{20};"),
    "a version as a number": (attribute("format_version", 1), "format version"),
    "a spec of variable length": (attribute("spec", "{}"), "no valid spec"),
    "a spec of a megabyte": (attribute("spec", np.bytes_("x" * 2**20)), "no valid spec"),
    "a spec that is no UTF-8": (attribute("spec", np.bytes_(b"\xff\xfe")), "no valid spec"),
    "a spec that is no JSON": (attribute("spec", np.bytes_("count=7")), "no valid spec"),
    "a spec that is deep": (attribute("spec", np.bytes_("[" * 16_000)), "no valid spec"),
    "a spec that is a list": (attribute("spec", np.bytes_("[]")), "no valid spec"),
}


@pytest.mark.parametrize(("change", "message"), HOSTILE.values(), ids=HOSTILE)
@pytest.mark.usefixtures("no_hanging")
def test_a_hostile_file_is_refused_before_its_data_are_read(
    change: Callable[[h5py.File], None], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = hostile(change)
    os.mkfifo("target")  # whoever opens it waits for ever
    monkeypatch.setattr(np, "memmap", lambda *_: pytest.fail("data were mapped"))
    monkeypatch.setattr(h5py.Dataset, "__getitem__", lambda *_: pytest.fail("data were read"))
    before = time.perf_counter()
    with pytest.raises(DataFileError, match=message) as told:
        DataFile(path)
    assert time.perf_counter() - before < 1
    assert len(str(told.value)) < 400 and "\n" not in str(told.value)


def test_a_data_set_that_ends_past_the_file_is_refused() -> None:
    path = made()
    place = DataFile(path).extents["images"]
    end = place.offset + COUNT * 784
    with h5py.File(path, "r") as file:
        assert _extent(path, file, b"images", end) == place
        with pytest.raises(DataFileError, match="does not fit the file"):
            _extent(path, file, b"images", end - 1)


def test_a_spec_too_long_is_not_read() -> None:
    text = replace(recipe().spec, parameters={"a": "x" * 17_000}).to_json()
    with pytest.raises(DataFileError, match="no valid spec"):
        DataFile(hostile(attribute("spec", np.bytes_(text.encode()))))


def test_links_of_the_hostile_files_are_followed_by_others() -> None:
    # Otherwise the test above would show nothing.
    np.full(COUNT * 784, 65, np.uint8).tofile("target")
    with h5py.File(hostile(external_storage), "r") as file:
        assert (file["images"][:] == 65).all()
    with h5py.File("target", "w") as file:
        file["images"] = np.full((COUNT, 28, 28), 66, np.uint8)
    Path("padded.h5").unlink()
    for change in (external_link, virtual):
        with h5py.File(hostile(change), "r") as file:
            assert (file["images"][:] == 66).all()
        Path("padded.h5").unlink()


SPECS: dict[str, tuple[Callable[[DataSpec], str], str]] = {
    "another count": (lambda spec: replace(spec, count=61).to_json(), "types and sizes"),
    "no samples": (lambda spec: replace(spec, count=0).to_json(), "out of range"),
    "fewer than none": (lambda spec: replace(spec, count=-60).to_json(), "out of range"),
    "an absurd count": (lambda spec: replace(spec, count=2**200).to_json(), "types and sizes"),
    "a count that is no number": (lambda spec: spec.to_json().replace('"count":60', '"count":60.0'), "count"),
    "a count that is true": (lambda spec: spec.to_json().replace('"count":60', '"count":true'), "count"),
    "digits past counting": (lambda spec: spec.to_json().replace('"count":60', f'"count":{"9" * 5000}'), "no valid"),
    "a seed too far": (lambda spec: replace(spec, seed=2**64).to_json(), "out of range"),
    "no such split": (lambda spec: replace(spec, split="tests").to_json(), "out of range"),
    "a key too many": (lambda spec: json.dumps({**spec.to_dict(), "path": "/"}), "keys"),
    "NaN": (lambda spec: spec.to_json().replace('"shift":2', '"shift":NaN'), "no valid spec"),
    "infinity": (lambda spec: spec.to_json().replace('"shift":2', '"shift":1e999'), "no valid spec"),
    "blanks": (lambda spec: json.dumps(spec.to_dict(), sort_keys=True), "not canonical"),
    "a key twice": (lambda spec: spec.to_json().replace('"seed":0', '"seed":0,"seed":0'), "not canonical"),
    "a terminal's commands": (lambda spec: replace(spec, generator="\x1b[2J").to_json(), "control characters"),
    "a delete": (lambda spec: replace(spec, generator="a\x7f").to_json(), "control characters"),
    "a line's end": (lambda spec: replace(spec, parameters={"a\nb": 1}).to_json(), "control characters"),
    "layers": (lambda spec: replace(spec, layers=True).to_json(), "types and sizes"),
}


@pytest.mark.parametrize(("change", "message"), SPECS.values(), ids=SPECS)
def test_a_spec_that_is_none_is_refused(change: Callable[[DataSpec], str], message: str) -> None:
    path = with_spec(change(recipe().spec))
    with pytest.raises(DataFileError, match=message) as told:
        DataFile(path)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("missing.h5", "There is no file missing.h5"),
        ("a/b/missing.h5", "There is no file"),
        ("text/below", "cannot be read: Not a directory"),
        ("folder", "a folder or a device"),
        ("pipe", "a folder or a device"),
        ("/dev/zero", "a folder or a device"),
        ("empty", "is not an HDF5 file .it is empty."),
        ("text", "is not an HDF5 file"),
        ("loop", "cannot be read: Too many levels"),
        ("signature", "has a damaged header"),
        ("x" * 300, "cannot be read: File name too long"),
    ],
)
@pytest.mark.usefixtures("no_hanging")
def test_what_is_no_data_file_is_told_apart(path: str, message: str) -> None:
    Path("folder").mkdir()
    os.mkfifo("pipe")
    Path("empty").touch()
    Path("text").write_text("a text\n")
    Path("loop").symlink_to("loop")
    Path("signature").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(2000))
    with pytest.raises(DataFileError, match=message) as told:
        open_dataset(path)
    assert "\n" not in str(told.value)


def test_a_file_that_may_not_be_read_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    path = made()

    def forbidden(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", forbidden)
    with pytest.raises(DataFileError, match="cannot be read: Permission denied"):
        open_dataset(path)


def test_a_file_whose_name_is_no_unicode_is_read() -> None:
    path = Path(os.fsdecode(b"\xff\xfe.h5"))
    generate_file(recipe(), path)
    assert len(open_dataset(path)) == COUNT


def test_a_file_cut_anywhere_is_refused() -> None:
    content = made().read_bytes()
    for length in [*range(0, 4096, 111), *range(4096, len(content), 5000), len(content) - 1]:
        Path("x.h5").write_bytes(content[:length])
        with pytest.raises(DataFileError, match=r"x\.h5"):
            DataFile(Path("x.h5"))


def test_a_file_that_is_cut_after_its_header_was_read_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    path = made()
    header = read_header(path)
    monkeypatch.setattr("capsbench.files.datafile.read_header", lambda path: header)
    path.write_bytes(path.read_bytes()[:9000])
    with pytest.raises(DataFileError, match=r"was truncated since it was opened"):
        DataFile(path)
    path.unlink()
    with pytest.raises(DataFileError, match=r"cannot be read: No such file"):
        DataFile(path)


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # an interrupt between a file's opening and its `with`
def test_an_interrupt_while_a_header_is_made_or_read_is_not_lost() -> None:
    path = made()
    one = recipe()
    parts, text = columns_of(one.generator, one.spec), one.spec.to_json()
    create_header(Path("new.h5"), text, parts, COUNT)
    fired = raised = 0

    def interrupt(*_: object) -> None:
        nonlocal fired
        fired += 1
        signal.raise_signal(signal.SIGINT)

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        for step in range(300):
            try:
                signal.setitimer(signal.ITIMER_REAL, 2e-5 * (1 + step % 150))
                if step < 150:
                    read_header(path)
                else:
                    create_header(Path("new.h5"), text, parts, COUNT)
                signal.setitimer(signal.ITIMER_REAL, 0)
            except KeyboardInterrupt:
                raised += 1
    finally:
        signal.signal(signal.SIGALRM, before)
    assert raised == fired > 50
    read_header(path)


def test_a_thread_that_is_not_the_main_one_reads_headers_too() -> None:
    path = made()
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(read_header, path).result().spec == recipe().spec


STRANGE: dict[str, dict[str, Any]] = {
    "a generator that is not here": {"generator": "paded"},
    "a generator of another version": {"version": 2},
    "digits that nobody knows": {"digits": "0" * 64},
    "digits of another split": {"split": "train"},
    "a parameter too many": {"parameters": {"size": 28, "shift": 2, "turn": 1}},
    "a parameter out of range": {"parameters": {"size": 28, "shift": 99}},
    "a parameter past numbers": {"parameters": {"size": 2**70, "shift": 2}},
    "a parameter that is text": {"parameters": {"size": "big", "shift": 2}},
    "a parameter that is a list": {"parameters": {"size": [28, 28, 28], "shift": 2}},
    "a parameter that is a mapping": {"parameters": {"size": {"a": 1}, "shift": 2}},
    "a parameter that is nothing": {"parameters": {"size": None, "shift": 2}},
    "a function": {"generator": "os:getpid"},
    "a class": {"generator": "pathlib:Path"},
    "no attribute": {"generator": "os:nothing"},
    "a record": {"generator": "capsbench.contracts:Output", "parameters": {"scores": 1}},
    "a method": {"generator": "capsbench.contracts:DataSpec.from_json"},
    "two colons": {"generator": "os:path:join"},
    "a colon": {"generator": ":"},
}


@pytest.mark.parametrize("change", STRANGE.values(), ids=STRANGE)
def test_a_spec_that_cannot_be_drawn_here_is_told(change: dict[str, Any]) -> None:
    file = DataFile(changed(**change))
    for act in (lambda: file.layers([0]), lambda: measure(file), lambda: wrong_samples(file, 3), file.recipe):
        with pytest.raises(DataError) as told:
            act()
        assert str(told.value).count("\n") <= 1
    with pytest.raises(DataError):
        repair_file(file.path)


@pytest.mark.parametrize("generator", ["evil.py:Padded", "./evil.py:Padded", "evil:Padded", "folder.evil:Padded"])
def test_a_file_does_not_choose_which_code_runs(generator: str, monkeypatch: pytest.MonkeyPatch) -> None:
    code = "from pathlib import Path\nPath('ran').touch()\nfrom capsbench.generators.padded import Padded\n"
    Path("folder").mkdir()
    for place in ("evil.py", "folder/evil.py"):
        Path(place).write_text(code)
    monkeypatch.syspath_prepend(str(Path.cwd()))
    file = DataFile(changed(generator=generator))
    for act in (lambda: file.layers([0]), lambda: measure(file), lambda: wrong_samples(file, 3)):
        with pytest.raises(DataFileError, match="we do not run code that a file names"):
            act()
    with pytest.raises(DataFileError, match="we do not run code that a file names"):
        repair_file(file.path)
    preview(file, Path("x.png"), rows=1, columns=1)
    assert not Path("ran").exists()


def test_a_file_of_code_that_the_user_names_is_made_and_repaired_where_it_is_named() -> None:
    code = "from capsbench.generators.padded import Padded\n\nclass Mine(Padded):\n    number = 77\n"
    Path("mine.py").write_text(code)
    path = generate_file(recipe("mine.py:Mine"), Path("x.h5")).path
    whole = path.read_bytes()
    path.write_bytes(whole[:5000] + b"\x55" + whole[5001:])
    with pytest.raises(DataFileError, match="damaged in block 0"):
        open_dataset(path)
    assert generate_file(recipe("mine.py:Mine"), path).written == COUNT
    assert path.read_bytes() == whole
    with pytest.raises(DataFileError, match="we do not run code that a file names"):
        wrong_samples(open_dataset(path), 3)


def test_a_file_that_is_cut_while_it_is_checked_ends_in_a_line_and_not_the_process() -> None:
    made()
    script = (
        "import os\nfrom pathlib import Path\nfrom capsbench.errors import DataFileError\n"
        "from capsbench.files.datafile import DataFile\n"
        "read = DataFile._read\n"
        "def read_and_cut(self, names, start, stop):\n"  # in the very moment between a digest and its block
        "    found = read(self, names, start, stop)\n    os.truncate('padded.h5', 5000)\n    return found\n"
        "DataFile._read = read_and_cut\nfile = DataFile(Path('padded.h5'))\n"
        "try:\n    file.bad_blocks()\nexcept DataFileError as error:\n    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "padded.h5 was truncated since it was opened.\n"


@pytest.fixture
def unmappable(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system whose files cannot be mapped."""

    def memmap(*arguments: Any) -> None:
        raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))

    monkeypatch.setattr(np, "memmap", memmap)


@pytest.mark.usefixtures("unmappable")
def test_a_file_that_cannot_be_mapped_is_read() -> None:
    path = made("multimnist", layers=True)
    file = open_dataset(path)
    sampler = recipe("multimnist", layers=True).sampler
    drawn = sampler.batch(np.arange(COUNT))
    for name in ("images", "labels", "source", "shift"):
        np.testing.assert_array_equal(getattr(file, name), getattr(drawn, name))
    np.testing.assert_array_equal(file.layers([3, 5]), sampler.layers(np.array([3, 5])))
    with pytest.raises(ValueError, match="read-only"):
        file.images[0] = 1
    content = bytearray(path.read_bytes())
    content[file.extents["images"].offset + 5] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataFileError, match="damaged in block 0"):
        open_dataset(path)
    assert repair_file(path).written == COUNT


@pytest.mark.usefixtures("unmappable")
def test_a_file_that_cannot_be_mapped_and_not_be_held_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    file = open_dataset(made())  # which checks it block by block
    monkeypatch.setattr("capsbench.system.memory.available", lambda: 1000)
    message = r"padded.h5 cannot be mapped where it is, and memory is too small to read its 47.5 kB. Copy it to a local"
    with pytest.raises(DataFileError, match=message) as told:
        _ = file.images
    assert "--force" not in str(told.value)
