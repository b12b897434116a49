"""Files of affNIST made into ours: what was written arrives, and whatever goes wrong ends in one error."""

import errno
import hashlib
import os
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy.io import savemat

import capsbench
from capsbench.contracts import ArrayBatch
from capsbench.data.digits import load_digits
from capsbench.data.recipes import make_recipe
from capsbench.errors import (
    DataFileError,
    ParameterError,
    SpecMismatchError,
    StorageError,
    UnknownNameError,
    UsageError,
)
from capsbench.files.datafile import open_dataset
from capsbench.files.generation import repair_file, wrong_samples
from capsbench.files.sidecar import read_sidecar
from capsbench.importing import affnist as importing
from capsbench.importing.affnist import import_affnist

from .reading import in_this_process

FULL = os.environ.get("CAPSBENCH_DIGITS")
"""Where full MNIST is, if the person who started the tests says so."""

MAT = Path("x.mat")
OUT = Path("x.h5")


def write_mat(batch: ArrayBatch, path: Path = MAT, *, compressed: bool = False, **changes: Any) -> Path:
    """Writes samples of ours as a file of affNIST has them."""
    assert batch.transform is not None
    fields = {
        "affine_transformation_matrix": np.zeros((3, 3)),
        "image": batch.images.reshape(len(batch.labels), -1).T,
        "label_one_of_n": (np.arange(10)[:, None] == batch.labels).astype(np.uint8),
        "label_int": batch.labels[None].astype(np.float64),
        "human_readable_transform": batch.transform.T.astype(np.float64),
    }
    savemat(path, {"affNISTdata": fields | changes}, do_compression=compressed)
    return path


@cache
def drawn(count: int = 1600) -> ArrayBatch:
    """Samples of ours: of the 800 embedded validation digits, two of each."""
    sampler = make_recipe("affnist", split="validation", digits="embedded", seed=7, count=count).sampler
    return sampler.batch(np.arange(count))


def reordered(batch: ArrayBatch, order: npt.NDArray[np.int64]) -> ArrayBatch:
    """The same samples in another order."""
    return ArrayBatch(**{name: getattr(batch, name)[order] for name in ("images", "labels", "transform", "source")})


def left() -> list[str]:
    return sorted(path.name for path in Path().iterdir())


@pytest.fixture(autouse=True)
def no_child(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reads in this process, but where a test is marked to be about the child that does: half a second each."""
    if not request.node.get_closest_marker("child"):
        monkeypatch.setattr(importing, "in_child", in_this_process)


@pytest.fixture
def reader(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], None]:
    """Puts a function body in place of scipy's reader, in children alone: ``file`` is what it is to read."""

    def write(body: str) -> None:
        (tmp_path / "scipy").mkdir()
        (tmp_path / "scipy" / "__init__.py").touch()
        (tmp_path / "scipy" / "io.py").write_text(f"def loadmat(file, variable_names):\n    {body}\n")
        monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])

    return write


@pytest.mark.child
@pytest.mark.parametrize("compressed", [True, False])
def test_what_the_file_holds_arrives(compressed: bool) -> None:
    batch = drawn()
    made = import_affnist(write_mat(batch, compressed=compressed), OUT)
    assert (made.written, made.reused) == (1600, 0)
    file = open_dataset(OUT)
    for name in ("images", "labels", "transform"):
        np.testing.assert_array_equal(getattr(file, name), getattr(batch, name))
    np.testing.assert_array_equal(file.source, np.arange(1600) % 800)
    assert file.spec.to_dict() == {
        "generator": "imported-affnist",
        "version": 1,
        "split": "validation",
        "seed": 0,
        "count": 1600,
        "parameters": {"mat": hashlib.sha256(MAT.read_bytes()).hexdigest()},
        "layers": False,
        "digits": load_digits("validation", "embedded").sha256,
    }
    assert file.digest == made.digest
    assert read_sidecar(OUT) == (file.spec, None)
    assert left() == ["x.h5", "x.json", "x.mat"]


def test_the_same_file_gives_the_same_bytes() -> None:
    write_mat(drawn(), Path("other name.mat"))
    write_mat(drawn())
    assert MAT.read_bytes()[128:] == Path("other name.mat").read_bytes()[128:]  # the header has a date
    MAT.write_bytes(Path("other name.mat").read_bytes())
    import_affnist(MAT, OUT)
    import_affnist(Path("other name.mat"), Path("deep/er/y.h5"))
    assert OUT.read_bytes() == Path("deep/er/y.h5").read_bytes()


def test_the_images_are_upright() -> None:
    ramp = np.repeat(np.arange(40, dtype=np.uint8), 40)  # each row of one grey, darkest at the top
    write_mat(drawn(count=3), image=np.stack([ramp] * 3, 1))
    import_affnist(MAT, OUT)
    np.testing.assert_array_equal(open_dataset(OUT).images[2][:, 17], np.arange(40))


def test_samples_may_come_digit_by_digit() -> None:
    batch = drawn()
    order = np.arange(1600).reshape(2, 800).T.ravel()  # both of the first digit, both of the second
    whole = {name: getattr(batch, name)[order] for name in ("images", "labels", "transform")}
    import_affnist(write_mat(ArrayBatch(**whole)), OUT)
    file = open_dataset(OUT)
    assert file.spec.digits == load_digits("validation", "embedded").sha256
    np.testing.assert_array_equal(file.source, np.arange(1600) // 2)


def test_sources_of_shuffled_samples_come_from_their_ids() -> None:
    order = np.random.default_rng(0).permutation(1600)
    batch = reordered(drawn(), order)
    assert batch.source is not None
    import_affnist(write_mat(batch, original_id=(batch.source + 1.0)[None]), OUT)
    file = open_dataset(OUT)
    assert (file.spec.digits, file.spec.split) == (load_digits("validation", "embedded").sha256, "validation")
    assert file.spec.parameters["source"] == "original_id"
    np.testing.assert_array_equal(file.source, order % 800)


def test_ids_of_some_digits_tell_them_apart() -> None:
    batch = reordered(drawn(), np.random.default_rng(0).permutation(1600)[:900])
    assert batch.source is not None
    import_affnist(write_mat(batch, original_id=batch.source[None] + 1), OUT)
    file = open_dataset(OUT)
    assert (file.spec.digits, file.spec.split) == ("unknown", "test")
    np.testing.assert_array_equal(file.source, batch.source)


def test_ids_in_the_order_of_the_labels_change_nothing() -> None:
    batch = drawn()
    plain = write_mat(batch, Path("plain.mat"))
    import_affnist(plain, OUT)
    with_ids = write_mat(batch, original_id=np.arange(1600)[None] % 800 + 1)
    import_affnist(with_ids, Path("y.h5"))
    first, second = open_dataset(OUT), open_dataset("y.h5")
    assert set(first.spec.parameters) == set(second.spec.parameters) == {"mat"}
    np.testing.assert_array_equal(first.source, second.source)


def test_ids_that_contradict_the_labels_are_refused_in_two_lines() -> None:
    ids = np.arange(1600)[None] % 800 + 1
    write_mat(drawn(), original_id=np.roll(ids, 1))
    with pytest.raises(DataFileError, match=r"x\.mat cannot be imported: its original_id contradicts") as told:
        import_affnist(MAT, OUT)
    assert len(str(told.value).splitlines()) == 2 and left() == ["x.mat"]


def test_batches_become_one_file_in_the_order_of_their_numbers() -> None:
    batch = drawn(count=5600)  # two blocks; the first ends within a batch
    names = [Path(f"{number}.mat") for number in (1, 2, 9, 10, 11, 20, 32)]
    for number, path in enumerate(names):
        write_mat(reordered(batch, np.arange(800) + 800 * number), path)
    made = import_affnist(sorted(names, key=str), OUT)  # as a shell lists them: 1, 10, 11, 2
    assert made.written == 5600
    file = open_dataset(OUT)
    np.testing.assert_array_equal(file.source, np.arange(5600) % 800)
    for name in ("images", "labels", "transform"):
        np.testing.assert_array_equal(getattr(file, name), getattr(batch, name))
    assert file.spec.parameters["mats"] == 7 and file.spec.digits == load_digits("validation", "embedded").sha256
    assert import_affnist(names[::-1], OUT).written == 0


def test_a_batch_that_is_given_twice_is_refused() -> None:
    first = write_mat(drawn(), Path("1.mat"))
    second = Path("2.mat")
    second.write_bytes(first.read_bytes())
    with pytest.raises(UsageError, match=r"2\.mat has the bytes of 1\.mat\. Give each file once\."):
        import_affnist([first, second], OUT)
    assert not OUT.exists()


@pytest.mark.parametrize("split", [None, "test", "train"])
def test_where_labels_tell_nothing_sources_are_unknown(split: str | None) -> None:
    import_affnist(write_mat(drawn(count=801)), OUT, split=split)
    file = open_dataset(OUT)
    assert (file.spec.digits, file.spec.split) == ("unknown", split or "test")
    assert (file.source == -1).all() and len(file) == 801


def test_a_split_that_the_labels_contradict_is_refused() -> None:
    write_mat(drawn())
    with pytest.raises(ParameterError, match=r"--split is test.*embedded's validation digits.*Leave --split out"):
        import_affnist(MAT, OUT, split="test")
    assert left() == ["x.mat"]
    assert import_affnist(MAT, OUT, split="validation").written == 1600


def test_what_makes_no_sense_is_refused_before_anything_is_read() -> None:
    with pytest.raises(UnknownNameError, match="No split is called 'tset'"):
        import_affnist(MAT, OUT, split="tset")
    for name in ("x", "x.mat", "."):
        with pytest.raises(UsageError, match=r"must end in .h5"):
            import_affnist(MAT, Path(name), force=True)


def test_a_file_that_is_there_is_left_and_another_is_not_written_over() -> None:
    write_mat(drawn())
    import_affnist(MAT, OUT)
    before = OUT.read_bytes()
    assert (import_affnist(MAT, OUT).written, OUT.read_bytes()) == (0, before)
    other = write_mat(drawn(count=900), Path("y.mat"))
    with pytest.raises(SpecMismatchError, match="Add --force"):
        import_affnist(other, OUT)
    assert OUT.read_bytes() == before
    assert import_affnist(other, OUT, force=True).written == 900
    assert len(open_dataset(OUT)) == 900


def test_damage_is_repaired_by_importing_again_and_nothing_else() -> None:
    import_affnist(write_mat(drawn()), OUT)
    before = OUT.read_bytes()
    damaged = bytearray(before)
    damaged[open_dataset(OUT).extents["images"].offset + 5] ^= 1
    OUT.write_bytes(damaged)
    with pytest.raises(DataFileError, match="damaged in block 0"):
        open_dataset(OUT)
    with pytest.raises(DataFileError, match=r"Import the file of affNIST again: capsbench import affnist"):
        repair_file(OUT)
    assert OUT.read_bytes() == damaged
    assert import_affnist(MAT, OUT).written == 1600
    assert OUT.read_bytes() == before
    with pytest.raises(DataFileError, match="Import the file of affNIST again"):
        wrong_samples(open_dataset(OUT), 5)


def test_an_import_that_was_stopped_goes_on() -> None:
    write_mat(drawn(count=5000))  # two blocks

    def stop(done: int, total: int) -> None:
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        import_affnist(MAT, OUT, report=stop)
    assert left() == ["x.h5.partial", "x.mat"]
    made = import_affnist(MAT, OUT)
    assert (made.written, made.reused) == (904, 4096)
    import_affnist(MAT, Path("y.h5"))
    assert OUT.read_bytes() == Path("y.h5").read_bytes()


def test_nobody_can_draw_affnist_itself() -> None:
    with pytest.raises(UsageError, match=r"capsbench import affnist FILE\.mat"):
        capsbench.generate("imported-affnist")


def cut(batch: ArrayBatch) -> bytes:
    """A file that ends too soon."""
    return write_mat(batch, compressed=True).read_bytes()[:-1000]


HEADER = b"MATLAB".ljust(124)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "it is empty"),
        (b"words\n", "not of MATLAB 5"),
        (b"PK\x03\x04" + bytes(600), "it is a zip archive; unpack it and import the .mat files in it"),
        (b"\x1f\x8b\x08" + bytes(600), "it is a gzip file; unpack it"),
        (b"\n<!DOCTYPE html><html>", "it is a web page"),
        (b"\x89HDF\r\n\x1a\n" + bytes(600), "MATLAB 7.3"),
        (HEADER + b"\x00\x02IM" + bytes(600), "MATLAB 7.3"),
        (HEADER + b"\x00\x01IM", "no variable affNISTdata"),
        (HEADER + b"\x00\x01IM" + b"\xff" * 100, "it is damaged"),
        (cut, "it is damaged"),
        (lambda batch: write_mat(batch, image=np.zeros((3, 3))).read_bytes(), "its image must be 1600xN, got 3x3"),
    ],
)
def test_a_file_that_is_none_of_affnist_is_refused_in_two_lines(content: Any, message: str) -> None:
    MAT.write_bytes(content(drawn(count=50)) if callable(content) else content)
    with pytest.raises(DataFileError, match=message) as told:
        import_affnist(MAT, OUT)
    assert str(told.value).startswith("x.mat cannot be imported: ") and len(str(told.value).splitlines()) == 2
    assert left() == ["x.mat"]


def test_what_is_no_file_is_refused() -> None:
    Path("folder.mat").mkdir()
    os.mkfifo("pipe.mat")
    for name in ("folder.mat", "pipe.mat", "/dev/zero"):
        with pytest.raises(DataFileError, match="is a folder or a device"):
            import_affnist(Path(name), OUT)
    with pytest.raises(DataFileError, match=r"There is no file x.mat\."):
        import_affnist(MAT, OUT)
    Path("loop.mat").symlink_to("loop.mat")
    with pytest.raises(DataFileError, match=r"loop\.mat cannot be read: "):
        import_affnist(Path("loop.mat"), OUT)
    assert not OUT.exists()


@pytest.mark.child
@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "ended by SIGSEGV"),
        ("import os; os._exit(3)", r"its reader failed \(exit code 3\)"),
        ("bytearray(5 << 30)", "more memory than an import may take"),
        ("raise UnboundLocalError('\\x1b[2Jhidden')", r"it is damaged \(UnboundLocalError:  \[2Jhidden\)"),
        ("raise RecursionError('x' * 9000)", r"RecursionError: x{100,200}\.\.\.\."),
        ("raise SystemExit('so long')", r"its reader failed \(so long\)"),
        ("print('words'); import os; os._exit(0)", "its reader failed"),
        ("print('{\"samples\": 5}', flush=True); import os; os._exit(0)", "did not deliver its samples"),
        ("print('{\"samples\": true}', flush=True); import os; os._exit(0)", "did not deliver its samples"),
        ("print('[' * 9000, flush=True); import os; os._exit(0)", "its reader failed"),
    ],
)
def test_whatever_becomes_of_the_reader_is_an_error(body: str, message: str, reader: Callable[[str], None]) -> None:
    reader(body)
    write_mat(drawn(count=3))
    with pytest.raises(DataFileError, match=message) as told:
        import_affnist(MAT, OUT)
    assert len(str(told.value).splitlines()) == 2 and "\x1b" not in str(told.value)
    assert left() == ["x.mat"]


@pytest.mark.child
def test_a_file_on_which_the_reader_crashes_is_refused() -> None:
    content = write_mat(drawn(count=30), compressed=False).read_bytes()
    tag = struct.pack("<II", 2, 300)  # 300 bytes of uint8 follow: label_one_of_n
    assert content.count(tag) == 1
    MAT.write_bytes(content.replace(tag, bytes(8)))
    with pytest.raises(DataFileError, match=r"SIGSEGV|it is damaged"):  # the latter once scipy does not crash
        import_affnist(MAT, OUT)


@pytest.mark.child
@pytest.mark.parametrize("body", ["import time; time.sleep(60)", "while True: pass"])
def test_a_reader_that_does_not_come_to_an_end_is_ended(
    body: str, reader: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    reader(body)
    monkeypatch.setattr(importing, "SECONDS", 1)
    write_mat(drawn(count=3))
    begun = time.monotonic()
    with pytest.raises(DataFileError, match="takes more than 1 seconds"):
        import_affnist(MAT, OUT)
    assert time.monotonic() - begun < 20


@pytest.mark.parametrize(
    ("place", "content"), [(-1, b"\x0b"), (0, b"\0\0\0\0\0\0\xf0\x7f"), (3 * 48, b"\xfe\xff\xff\xff")]
)
def test_what_a_reader_hands_over_is_checked_again(place: int, content: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    real = importing.in_child

    def forged(source: int, target: int) -> Any:
        ended = real(source, target)
        os.pwrite(target, content, place % os.fstat(target).st_size)
        return ended

    monkeypatch.setattr(importing, "in_child", forged)
    with pytest.raises(DataFileError, match="did not deliver its samples"):
        import_affnist(write_mat(drawn(count=3)), OUT)


def test_what_cannot_be_mapped_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    def memmap(*arguments: Any) -> None:
        raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))

    monkeypatch.setattr(np, "memmap", memmap)
    import_affnist(write_mat(drawn(count=800)), OUT)
    np.testing.assert_array_equal(open_dataset(OUT).images, drawn(count=800).images)


def test_a_file_that_changes_meanwhile_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    real = importing.in_child

    def meanwhile(source: int, target: int) -> Any:
        os.utime(MAT, (1, 1))
        return real(source, target)

    monkeypatch.setattr(importing, "in_child", meanwhile)
    with pytest.raises(DataFileError, match="was changed while it was read"):
        import_affnist(write_mat(drawn(count=3)), OUT)


@pytest.mark.child
def test_where_nothing_can_be_written_storage_is_what_fails(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    write_mat(drawn(count=3))
    with pytest.raises(StorageError, match="could not be written"):
        import_affnist(MAT, Path("/proc/self/x.h5"))
    limited = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))"
    (tmp_path / "sitecustomize.py").write_text(limited)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    with pytest.raises(StorageError, match=r"x.h5 could not be written: File too large. Only"):
        import_affnist(MAT, OUT)
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(StorageError, match="No process could be started"):
        import_affnist(MAT, OUT)
    assert left() == ["x.mat"]


@pytest.mark.child
def test_control_c_ends_the_child_too(reader: Callable[[str], None], tmp_path: Path) -> None:
    reader(f"import os, time; open({str(tmp_path / 'pid')!r}, 'w').write(f'{{os.getpid()}} '); time.sleep(60)")
    write_mat(drawn(count=3))
    command = [sys.executable, "-m", "capsbench", "import", "affnist", "x.mat", "--out", "x.h5"]
    with subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    ) as process:
        give_up = time.monotonic() + 30
        while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text().endswith(" "):
            assert time.monotonic() < give_up and process.poll() is None
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=20)
    assert process.returncode == 130 and told.strip().startswith("Interrupted.") and "Traceback" not in told
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)
    assert left() == ["x.mat"]
