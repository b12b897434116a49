"""What a file of affNIST must hold, and the child that reads it: every fault is said, and no limit is passed."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.io import savemat

from capsbench.importing.matfile import SAMPLE_BYTES, RefusedError, header_fault, samples

COUNT = 7
GIB = 2**30


def fields(**changes: Any) -> dict[str, Any]:
    """The fields of a file, as MATLAB has them: columns are samples; None takes one away."""
    draw = np.random.default_rng(0)
    labels = np.array([[3, 1, 4, 1, 5, 9, 0]])
    whole = {
        "affine_transformation_matrix": np.zeros((3, 3)),
        "image": draw.integers(0, 256, (1600, COUNT), np.uint8),
        "label_one_of_n": (np.arange(10)[:, None] == labels).astype(np.uint8),
        "label_int": labels.astype(np.uint8),
        "human_readable_transform": draw.normal(size=(6, COUNT)),
        "original_id": np.array([[7.0, 1, 2, 3, 60000, 5, 6]]),
    }
    return {name: value for name, value in (whole | changes).items() if value is not None}


def struct(content: dict[str, Any]) -> dict[str, Any]:
    """What scipy makes of a struct of 1x1 with these fields."""
    data = np.empty((1, 1), [(name, object) for name in content])
    for name, value in content.items():
        data[name][0, 0] = value
    return {"affNISTdata": data}


def child(path: Path, memory: int = 4 * GIB, seconds: int = 60) -> tuple[dict[str, Any], bytes]:
    """What the child says of a file, and what it hands over."""
    with path.open("rb") as file, tempfile.TemporaryFile() as handed:
        ended = subprocess.run(
            [
                sys.executable,
                "-c",
                "from capsbench.importing.matfile import main; main()",
                *map(str, (file.fileno(), handed.fileno(), memory, seconds)),
            ],
            pass_fds=[file.fileno(), handed.fileno()],
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "OPENBLAS_NUM_THREADS": "1"},
            capture_output=True,
            check=True,
        )
        handed.seek(0)
        said: dict[str, Any] = json.loads(ended.stdout)
        return said, handed.read()


def test_time_that_runs_out_is_told_by_its_own_signal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "scipy").mkdir()
    (tmp_path / "scipy" / "__init__.py").touch()
    (tmp_path / "scipy" / "io.py").write_text("def loadmat(file, variable_names):\n    while True: pass\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    savemat(tmp_path / "x.mat", struct(fields()))
    with pytest.raises(subprocess.CalledProcessError) as ended:
        child(tmp_path / "x.mat", seconds=1)
    assert ended.value.returncode == -signal.SIGXCPU


def test_samples_come_one_a_row_in_the_order_of_the_file() -> None:
    content = fields()
    images, labels, transform, ids = samples(struct(content))
    assert labels.tolist() == [3, 1, 4, 1, 5, 9, 0] and labels.dtype == np.uint8
    for index in range(COUNT):
        np.testing.assert_array_equal(images[index], content["image"][:, index])
        np.testing.assert_array_equal(transform[index], content["human_readable_transform"][:, index])
    assert images.dtype == np.uint8 and transform.dtype == np.float64
    assert ids.tolist() == [7, 1, 2, 3, 60000, 5, 6] and ids.dtype == np.int32


@pytest.mark.parametrize("kind", ["u1", "i2", "<f8", ">f8", "<f4"])
def test_numbers_may_be_of_any_real_type(kind: str) -> None:
    whole = fields()
    content = fields(
        label_int=whole["label_int"].astype(kind),
        label_one_of_n=whole["label_one_of_n"].astype(kind),
        human_readable_transform=np.arange(6 * COUNT).reshape(6, COUNT).astype(kind),
        original_id=np.arange(1, COUNT + 1)[None].astype(kind),
    )
    _, labels, transform, ids = samples(struct(content))
    assert labels.tolist() == [3, 1, 4, 1, 5, 9, 0]
    assert ids.tolist() == [1, 2, 3, 4, 5, 6, 7]
    assert transform[1].tolist() == [1, 8, 15, 22, 29, 36]


def test_labels_need_not_come_a_second_time() -> None:
    assert samples(struct(fields(label_one_of_n=None)))[1].tolist() == [3, 1, 4, 1, 5, 9, 0]


def test_a_file_need_not_have_ids() -> None:
    assert samples(struct(fields(original_id=None)))[3].tolist() == [-1] * COUNT


def changed(name: str, place: tuple[int, int], value: float, kind: str = "f8") -> dict[str, Any]:
    array = fields()[name].astype(kind)
    array[place] = value
    return {name: array}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image": None}, "has no field image"),
        ({"label_int": None}, "has no field label_int"),
        ({"human_readable_transform": None}, "has no field human_readable_transform"),
        ({"image": np.zeros((1600, COUNT))}, "image must be uint8, got float64"),
        ({"image": np.zeros((1600, COUNT), np.int8)}, "image must be uint8, got int8"),
        ({"image": np.zeros((784, COUNT), np.uint8)}, "image must be 1600xN, got 784x7"),
        ({"image": np.zeros((1600, 0), np.uint8)}, "got 1600x0"),
        ({"image": np.zeros((1600, COUNT, 1), np.uint8)}, "got 1600x7x1"),
        ({"image": "words"}, "image is not an array of real numbers"),
        ({"image": np.array(["words"])}, "image is not an array of real numbers"),
        ({"label_int": np.zeros((1, COUNT - 1))}, "label_int must be 1x7, got 1x6"),
        ({"label_int": np.zeros((COUNT, 1))}, "label_int must be 1x7, got 7x1"),
        ({"label_int": np.zeros((1, COUNT), complex)}, "label_int is not an array of real numbers"),
        ({"label_int": np.empty((1, COUNT), object)}, "label_int is not an array of real numbers"),
        (changed("label_int", (0, 2), 10), "label_int has other values than 0 to 9"),
        (changed("label_int", (0, 2), -1), "label_int has other values"),
        (changed("label_int", (0, 2), 4.5), "label_int has other values"),
        (changed("label_int", (0, 2), np.nan), "label_int has other values"),
        (changed("label_one_of_n", (4, 2), 0), "contradicts"),
        (changed("label_one_of_n", (5, 2), 1), "contradicts"),
        (changed("label_one_of_n", (4, 2), 2), "contradicts"),
        ({"label_one_of_n": np.zeros((9, COUNT))}, "label_one_of_n must be 10x7, got 9x7"),
        (changed("human_readable_transform", (5, 6), np.nan), "not finite in float32"),
        (changed("human_readable_transform", (0, 0), -np.inf), "not finite in float32"),
        (changed("human_readable_transform", (0, 0), 1e39), "not finite in float32"),
        ({"human_readable_transform": np.zeros((5, COUNT))}, "must be 6x7, got 5x7"),
        (changed("original_id", (0, 2), -1), "original_id has values that are not whole numbers from 0"),
        (changed("original_id", (0, 2), 1.5), "original_id has values that are not whole"),
        (changed("original_id", (0, 2), np.nan), "original_id has values that are not whole"),
        (changed("original_id", (0, 2), 2.0**31), "original_id has values that are not whole"),
        ({"original_id": np.zeros((1, COUNT + 1))}, "original_id must be 1x7, got 1x8"),
        ({"original_id": "words"}, "original_id is not an array of real numbers"),
    ],
)
def test_what_is_wrong_with_a_field_is_said(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(RefusedError, match=message):
        samples(struct(fields(**changes)))


@pytest.mark.parametrize(
    "variables",
    [
        {"affNISTdata": np.zeros((1, 1))},
        {"affNISTdata": "words"},
        {"affNISTdata": np.empty((1, 2), [("image", object)])},
        {"affNISTdata": np.empty((0, 0), [("image", object)])},
    ],
)
def test_what_is_no_struct_is_refused(variables: dict[str, Any]) -> None:
    with pytest.raises(RefusedError, match="is not a struct of 1x1"):
        samples(variables)


def test_a_file_of_others_is_refused() -> None:
    with pytest.raises(RefusedError, match="has no variable affNISTdata"):
        samples({"digits": np.zeros((3, 3))})


def test_a_header_tells_what_wrote_it() -> None:
    savemat("five.mat", {"x": 1})
    savemat("four.mat", {"x": 1}, format="4")
    assert header_fault(Path("five.mat").read_bytes()[:128]) is None
    assert header_fault(b"MATLAB 5.0 MAT-file".ljust(124) + b"\x01\x00MI") is None
    assert "not of MATLAB 5" in str(header_fault(Path("four.mat").read_bytes()[:128]))
    assert "7.3" in str(header_fault(b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM"))
    assert "7.3" in str(header_fault(b"\x89HDF\r\n\x1a\n"))
    assert "empty" in str(header_fault(b""))


@pytest.mark.parametrize("compressed", [True, False])
def test_the_child_hands_over_transforms_images_and_labels(compressed: bool) -> None:
    content = fields()
    savemat("x.mat", {"affNISTdata": content, "another": np.ones(3)}, do_compression=compressed)
    said, handed = child(Path("x.mat"))
    assert said == {"samples": COUNT}
    assert len(handed) == COUNT * SAMPLE_BYTES
    expected = [
        content["human_readable_transform"].T, content["original_id"].astype("<i4"),
        content["image"].T, content["label_int"].T,
    ]  # fmt: skip
    assert handed == b"".join(part.tobytes() for part in expected)


def test_the_child_says_what_is_wrong() -> None:
    savemat("x.mat", {"affNISTdata": fields(image=None)})
    said, handed = child(Path("x.mat"))
    assert said == {"wrong": "its affNISTdata has no field image"} and not handed
    savemat("y.mat", {"affNISTdata": fields()}, do_compression=True)
    Path("y.mat").write_bytes(Path("y.mat").read_bytes()[:-20])
    said, handed = child(Path("y.mat"))
    assert said["wrong"].startswith("it is damaged (") and not handed


def test_a_file_that_inflates_beyond_the_limit_is_not_read() -> None:
    count = 30_000
    blank = fields(
        image=np.zeros((1600, count), np.uint8),
        label_int=np.zeros((1, count), np.uint8),
        label_one_of_n=None,
        original_id=None,
        human_readable_transform=np.zeros((6, count)),
    )
    savemat("bomb.mat", {"affNISTdata": blank}, do_compression=True)
    assert Path("bomb.mat").stat().st_size < 200_000  # of 48 MB
    said, handed = child(Path("bomb.mat"), memory=GIB // 6)
    assert "more memory than an import may take" in said["wrong"] and not handed
    assert child(Path("bomb.mat"), memory=2 * GIB)[0] == {"samples": count}
