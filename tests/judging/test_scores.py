"""Files of scores: what is read from them, and what each fault is called."""

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from capsbench.errors import DataFileError
from capsbench.judging.scores import Drawings, has_digest, has_drawings, read_scores, scores_file

DIGEST = "ab" * 32
SCORES = np.random.default_rng(0).normal(size=(6, 10)).astype(np.float32)
HEADER = "index,0,1,2,3,4,5,6,7,8,9\n"


def lines(scores: Any = SCORES, order: Any = range(6)) -> str:
    return HEADER + "".join(f"{n},{','.join(map(repr, map(float, scores[n])))}\n" for n in order)


def saved(path: Path, **arrays: Any) -> Path:
    np.savez(path, **arrays)
    return path


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64, np.int16])
def test_scores_of_numpy_are_read_as_they_are(tmp_path: Path, kind: Any) -> None:
    values = (10 * SCORES).astype(kind)
    found = read_scores(saved(tmp_path / "test.npz", scores=values, digest=DIGEST), 6, DIGEST)
    assert np.array_equal(found, values.astype(np.float64))
    assert found.dtype == (np.float32 if kind in (np.float16, np.float32) else np.float64)


@pytest.mark.parametrize("digest", [DIGEST.upper(), np.bytes_(DIGEST), np.frombuffer(bytes.fromhex(DIGEST), np.uint8)])
def test_a_digest_is_read_as_numpy_or_h5py_give_it(tmp_path: Path, digest: Any) -> None:
    path = saved(tmp_path / "test.npz", scores=SCORES, digest=digest)
    assert np.array_equal(read_scores(path, 6, DIGEST), SCORES)


def test_arrays_in_fortrans_order_and_compressed_ones_are_read(tmp_path: Path) -> None:
    path = tmp_path / "test.npz"
    np.savez_compressed(path, scores=np.asfortranarray(SCORES), digest=np.array(DIGEST))
    assert np.array_equal(read_scores(path, 6, DIGEST), SCORES)


def test_lines_of_csv_may_come_in_any_order(tmp_path: Path) -> None:
    path = tmp_path / "test.csv"
    path.write_text("\ufeff" + lines(order=[3, 0, 5, 1, 4, 2]).replace("\n", "\r\n") + "\n")
    assert np.array_equal(read_scores(path, 6, DIGEST), SCORES.astype(np.float64))


def test_columns_of_csv_go_by_their_names(tmp_path: Path) -> None:
    path = tmp_path / "test.csv"
    path.write_text("9,8,7,6,5,4,3,2,1,0, index\n" + "".join(f"{','.join('9876543210')},{n}\n" for n in range(6)))
    assert np.array_equal(read_scores(path, 6, DIGEST), np.tile(np.arange(10.0), (6, 1)))


def test_lines_of_numpys_savetxt_are_read(tmp_path: Path) -> None:
    path = tmp_path / "test.csv"
    np.savetxt(path, np.column_stack([np.arange(6), SCORES]), delimiter=",", header=HEADER.strip(), comments="")
    assert np.array_equal(read_scores(path, 6, DIGEST), SCORES.astype(np.float64))


def test_lines_of_pandas_are_read_which_leave_the_index_without_a_name(tmp_path: Path) -> None:
    path = tmp_path / "test.csv"
    path.write_text(lines().replace("index", "", 1))
    assert np.array_equal(read_scores(path, 6, DIGEST), SCORES.astype(np.float64))
    path.write_text("0,1,2,3,4,5,6,7,8,9," + lines().removeprefix("index,0,1,2,3,4,5,6,7,8,9"))
    with pytest.raises(DataFileError, match="the first line must name the columns"):
        read_scores(path, 6, DIGEST)


@pytest.mark.parametrize("line", ["# digest {}", "#digest {}", "# Digest: {},,,,,,,,,,", "\ufeff# digest {}\r"])
def test_a_line_of_a_csv_file_says_which_images_its_scores_are_for(tmp_path: Path, line: str) -> None:
    path = tmp_path / "test.csv"
    path.write_text(lines())
    assert not has_digest(path)
    path.write_text(line.format(DIGEST.upper()) + "\n" + lines())
    assert has_digest(path) and np.array_equal(read_scores(path, 6, DIGEST), SCORES.astype(np.float64))
    path.write_text(line.format("cd" * 32) + "\n" + lines())
    with pytest.raises(DataFileError, match=r"test\.csv is for other images: its digest is cdcdcdcdcdcdcdcd"):
        read_scores(path, 6, DIGEST)


def at(row: int, column: int, value: float) -> Any:
    scores = SCORES.copy()
    scores[row, column] = value
    return scores


@pytest.mark.parametrize(
    ("arrays", "told"),
    [
        ({"scores": SCORES}, "has no digest"),
        ({"scores": SCORES, "digest": "cd" * 32}, "is for other images: its digest is cdcdcdcdcdcdcdcd"),
        ({"scores": SCORES, "digest": np.zeros(1000)}, "digest must be a text of 64"),
        ({"digest": DIGEST, "logits": SCORES}, "has no array 'scores'; it has digest, logits"),
        (
            {"scores": SCORES[:5], "digest": DIGEST},
            r"scores must be \[6, 10\] numbers, .*, got \[5, 10\]",
        ),
        ({"scores": SCORES.T, "digest": DIGEST}, r"got \[10, 6\] of float32"),
        ({"scores": SCORES.argmax(1), "digest": DIGEST}, r"got \[6\] of int64"),
        ({"scores": SCORES.astype(str), "digest": DIGEST}, "numbers, one row an image"),
        ({"scores": SCORES.astype(object), "digest": DIGEST}, "Python objects, which are not read"),
        ({"scores": SCORES.astype(complex), "digest": DIGEST}, "of complex128"),
        ({"scores": at(4, 7, np.nan), "digest": DIGEST}, "the score of image 4 for class 7 is nan"),
        ({"scores": at(0, 0, np.inf), "digest": DIGEST}, "the score of image 0 for class 0 is inf"),
        (
            {"scores": SCORES.astype(float) * 1e300, "digest": DIGEST},
            r"for class 0 is .*e\+.*finite numbers of at most 3.4e\+38",
        ),
    ],
)
def test_a_fault_of_numpys_file_is_named(tmp_path: Path, arrays: dict[str, Any], told: str) -> None:
    path = saved(tmp_path / "test.npz", **arrays)
    with pytest.raises(DataFileError, match=told) as caught:
        read_scores(path, 6, DIGEST)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "the first line must name the columns .* got an empty line. In Python: pandas"),
        (lines().partition("\n")[2], "the first line must name the columns"),
        (lines().replace("index", "id"), "the first line must name the columns .* got id,0,1"),
        (lines(order=[0, 1, 2, 4]), "has scores of 4 of 6 images; it lacks index 3, 5"),
        (lines(order=[0, 1, 2, 3, 4, 5, 2]), "index 2 stands in line 4 and again in line 8"),
        (lines() + "6" + ",0" * 10 + "\n", r"line 8: index must be 0..5, got 6"),
        (lines() + "-1" + ",0" * 10 + "\n", r"line 8: index must be 0..5, got -1"),
        (lines() + "1.5" + ",0" * 10 + "\n", r"index must be 0..5, got 1.5"),
        (lines() + "nan" + ",0" * 10 + "\n", r"index must be 0..5, got nan"),
        (lines() + "1_0" + ",0" * 10 + "\n", r"index must be 0..5, got 1_0"),
        (lines() + "1.0" + ",0" * 10 + "\n", "index 1 stands in line 3 and again in line 8"),
        (HEADER + "0" + ",0" * 9 + "\n", "line 2: 11 columns are needed, got 10"),
        (HEADER + "0,x" + ",0" * 9 + "\n", "line 2: the score for class 0 must be a number, got x"),
        (HEADER + "0," + ",0" * 9 + "\n", "the score for class 0 must be a number, got nothing"),
        (lines(at(2, 3, np.nan)), "the score of image 2 for class 3 is nan"),
        (lines(np.where(np.arange(6)[:, None] == 5, -np.inf, SCORES)), "image 5 for class 0 is -inf, and 9 more"),
        ("index;0;1;2;3;4;5;6;7;8;9\n0;0\n", "the first line must name the columns"),
    ],
)
def test_a_fault_of_a_csv_file_is_named(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "test.csv"
    path.write_text(text)
    with pytest.raises(DataFileError, match=told) as caught:
        read_scores(path, 6, DIGEST)
    assert str(path) in str(caught.value)


def test_a_csv_file_of_another_encoding_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "test.csv"
    path.write_bytes(lines().encode("utf-16"))
    with pytest.raises(DataFileError, match=r"test\.csv"):
        read_scores(path, 6, DIGEST)


class Hostile:
    """Would make a file if it were unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def test_what_is_pickled_in_a_file_is_not_executed(tmp_path: Path) -> None:
    array = np.empty((6, 10), object)
    array[:] = Hostile(tmp_path / "executed")
    path = saved(tmp_path / "test.npz", scores=array, digest=DIGEST)
    with pytest.raises(DataFileError, match="Python objects"):
        read_scores(path, 6, DIGEST)
    assert not (tmp_path / "executed").exists()


def test_a_header_that_promises_more_than_there_is_allocates_nothing(tmp_path: Path) -> None:
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f8", "fortran_order": False, "shape": (2**50, 10)})
    path = saved(tmp_path / "test.npz", digest=DIGEST)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("scores.npy", header.getvalue())
    with pytest.raises(DataFileError, match="numbers, one row an image"):
        read_scores(path, 6, DIGEST)


def with_header(path: Path, name: str, header: bytes, *, version: int = 1, length: int | None = None) -> Path:
    """A file whose array has any header at all."""
    arrays = {"scores": SCORES, "digest": np.array(DIGEST)}
    del arrays[name]
    saved(path, **arrays)
    size = (len(header) if length is None else length).to_bytes(2 if version == 1 else 4, "little")
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"{name}.npy", b"\x93NUMPY" + bytes([version, 0]) + size + header)
    return path


@pytest.mark.parametrize("name", ["scores", "digest"])
@pytest.mark.parametrize(
    "header",
    [
        *(
            b"{",
            b"{[]: 1}",
            b"(",
            b"",
            b"\xff",
            b"1",
            b"[" * 5000,
            b"{'descr': (), 'fortran_order': False, 'shape': ()}",
        ),
        b"{'descr': '" + b"-" * 9000 + b"1', 'fortran_order': False, 'shape': (6, 10)}",
        b"{'descr': " + b"-" * 9000 + b"1, 'fortran_order': False, 'shape': (6, 10)}",
        b"{'descr': '<f4', 'fortran_order': False, 'shape': (" + str(2**70).encode() + b",)}",
        b"{'descr': '<f4', 'fortran_order': False, 'shape': (-6, -10)}",
        b"{'descr': '<U" + str(2**31 - 1).encode() + b"', 'fortran_order': False, 'shape': ()}",
        b"{'descr': [('a', '<f4', (2, 2))], 'fortran_order': False, 'shape': (6, 10)}",
    ],
)
def test_a_header_that_makes_no_sense_is_refused(tmp_path: Path, name: str, header: bytes) -> None:
    path = with_header(tmp_path / "test.npz", name, header)
    with pytest.raises(DataFileError, match=r"test\.npz") as caught:
        read_scores(path, 6, DIGEST)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 1000


@pytest.mark.parametrize("version", [1, 2, 3])
def test_a_long_header_is_refused_before_it_is_read(
    tmp_path: Path, version: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = with_header(tmp_path / "test.npz", "scores", b" " * 60_000, version=version)
    asked, read = [], zipfile.ZipExtFile.read

    def noted(stream: Any, size: int = -1) -> bytes:
        asked.append(size)
        return read(stream, size)

    monkeypatch.setattr(zipfile.ZipExtFile, "read", noted)
    with pytest.raises(DataFileError, match="the header of scores has 60,000 bytes; 10,000 are read at most"):
        read_scores(path, 6, DIGEST)
    assert asked and 0 < max(asked) <= 10_000 and min(asked) >= 0


@pytest.mark.parametrize("method", [zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2])
def test_arrays_that_numpy_did_not_pack_are_refused(tmp_path: Path, method: int) -> None:
    with zipfile.ZipFile(saved(tmp_path / "one.npz", scores=SCORES, digest=DIGEST)) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    path = tmp_path / "test.npz"
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    with pytest.raises(DataFileError, match="digest is packed by method"):
        read_scores(path, 6, DIGEST)


@pytest.mark.parametrize("cut", [0, 1, 30, 200, -1, -40])
def test_a_file_that_is_cut_is_refused(tmp_path: Path, cut: int) -> None:
    path = saved(tmp_path / "test.npz", scores=SCORES, digest=DIGEST)
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(DataFileError, match=r"test\.npz cannot be read"):
        read_scores(path, 6, DIGEST)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_a_file_with_a_changed_byte_is_refused_or_read_as_it_was(tmp_path: Path, save: Any) -> None:
    path = tmp_path / "test.npz"
    save(path, scores=SCORES, digest=np.array(DIGEST))
    content = path.read_bytes()
    refused = 0
    for place in range(len(content)):
        path.unlink()  # a file that is overwritten may wait for the disk
        path.write_bytes(content[:place] + bytes([content[place] ^ 0x55]) + content[place + 1 :])
        try:
            assert np.array_equal(read_scores(path, 6, DIGEST), SCORES)
        except DataFileError:
            refused += 1
    assert refused > 20


def test_of_two_files_with_scores_none_is_chosen(tmp_path: Path) -> None:
    assert scores_file(tmp_path, "test") is None
    saved(tmp_path / "test.npz", scores=SCORES, digest=DIGEST)
    assert scores_file(tmp_path, "test") == tmp_path / "test.npz"
    (tmp_path / "test.csv").write_text(lines())
    with pytest.raises(DataFileError, match="keep one of the two"):
        scores_file(tmp_path, "test")
    (tmp_path / "other.csv").mkdir()
    with pytest.raises(DataFileError, match="is not a file"):
        scores_file(tmp_path, "other")


@pytest.mark.parametrize("kind", [np.float32, np.uint8])
def test_drawings_are_read_part_by_part(tmp_path: Path, kind: Any) -> None:
    every = (np.random.default_rng(1).random((6, 10, 4, 5)) * (255 if kind is np.uint8 else 1)).astype(kind)
    path = tmp_path / "test.npz"
    np.savez_compressed(path, scores=SCORES, digest=DIGEST, reconstructions=every)
    assert has_drawings(path) and not has_drawings(tmp_path / "test.csv")
    found = Drawings(path, 6, (4, 5))(np.array([2, 3]), np.array([[0, 9, 4], [7, 7, 1]]))
    expected = every[np.array([2, 3])[:, None], np.array([[0, 9, 4], [7, 7, 1]])] / (255 if kind is np.uint8 else 1)
    assert found == pytest.approx(expected)


@pytest.mark.parametrize(
    ("every", "told"),
    [
        (np.zeros((6, 2, 4, 5), np.float32), r"must be \[6, 10, 4, 5\], float or uint8, .*got \[6, 2, 4, 5\]"),
        (np.zeros((6, 10, 4, 5), np.int32), "float or uint8"),
        (np.asfortranarray(np.zeros((6, 10, 4, 5))), "in Fortran order"),
        (np.full((6, 10, 4, 5), 200.0), r"must be numbers 0..1, or uint8 0..255; of images 0 to 0 they are 200 to 200"),
        (np.full((6, 10, 4, 5), 1.002), "of images 0 to 0 they are 1.002 to 1.002"),
        (np.full((6, 10, 4, 5), -0.5), "they are -0.5 to -0.5"),
        (np.full((6, 10, 4, 5), np.nan), "must be numbers 0..1"),
    ],
)
def test_a_fault_of_drawings_is_named(tmp_path: Path, every: Any, told: str) -> None:
    path = saved(tmp_path / "test.npz", scores=SCORES, digest=DIGEST, reconstructions=every)
    with pytest.raises(DataFileError, match=told):
        Drawings(path, 6, (4, 5))(np.array([0]), np.array([[0]]))
