"""A result and its file."""

import json
import os
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from capsbench.errors import DataFileError
from capsbench.results.result import Result, load_all_results, load_result, load_results, now, save_result


def result(**changes: Any) -> Result:
    content: dict[str, Any] = {
        "suite": "affine",
        "preset": "smoke",
        "version": 1,
        "model": "capsnet",
        "label": "capsnet",
        "source": "",
        "seed": 0,
        "cell": "0123456789ab",
        "settings": {"epochs": 1},
        "parameters": {},
        "digits": "embedded",
        "data": {},
        "metrics": {"parameters": 3},
        "seconds": 1.5,
        "environment": {"device": "cpu"},
        "date": "2026-01-01T00:00:00+00:00",
    }
    return Result(**(content | changes))


def test_a_result_is_read_as_it_was_written(tmp_path: Path) -> None:
    save_result(result(), tmp_path / "a.json")
    assert load_result(tmp_path / "a.json") == result()
    assert json.loads((tmp_path / "a.json").read_text()) == {
        "schema_version": 1,
        "protocol": result().protocol,
        **{key: value for key, value in asdict(result()).items() if key not in ("path", "writers")},
    }
    written = result(writers={"0f": {"shape": [4, 1], "zlib": ""}})
    save_result(written, tmp_path / "a.json")
    assert load_result(tmp_path / "a.json") == written
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_a_result_in_a_folder_is_never_passed_over(tmp_path: Path) -> None:
    save_result(result(environment={"device": "cpu", "about": "x" * 300}), tmp_path / "a.json")
    content = json.loads((tmp_path / "a.json").read_text())
    (tmp_path / "a.json").write_text(json.dumps(content, sort_keys=True))  # its version now stands at its end
    assert len(load_results(tmp_path)) == 1
    for name, damage in (
        ("cnn-seed0-0123456789ab.json", b""),
        ("cnn-seed0-0123456789ab.json", b"\xff"),
        ("b.json", (tmp_path / "a.json").read_bytes()[:-9]),  # its version stands before that
        ("b.json", b'{"schema_version'),
    ):
        (tmp_path / name).write_bytes(damage)
        if name == "b.json" and b'"schema_version"' not in damage:
            with pytest.warns(UserWarning, match=r"b\.json is damaged, or is not JSON.* It was passed over"):
                assert len(load_results(tmp_path)) == 1
        else:
            with pytest.raises(DataFileError, match=rf"{name} is damaged, or is not JSON"):
                load_results(tmp_path)
        (tmp_path / name).unlink()


def test_what_is_none_of_ours_is_passed_over(tmp_path: Path) -> None:
    save_result(result(), tmp_path / "a.json")
    (tmp_path / ".vscode").mkdir()
    (tmp_path / ".vscode" / "settings.json").write_text("// no JSON")
    (tmp_path / ".a.json").write_text("")
    (tmp_path / "b.json").write_text(json.dumps({"about": {"schema_version": 1}}))
    assert len(load_results(tmp_path)) == 1


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"share": 5.0}, "metrics, best, clean is 5.0, with 3 of 4 right"),
        ({"share": 0.7500000001}, "is 0.7500000001"),
        ({"share": None}, "is None"),
        ({"correct": 4}, "is 0.75, with 4 of 4 right"),
        ({"total": 0}, "with 3 of 0 right"),
    ],
)
def test_an_accuracy_that_is_not_that_of_its_counts_is_damaged(
    tmp_path: Path, change: dict[str, Any], said: str
) -> None:
    point = {"share": 0.75, "correct": 3, "total": 4, "answers": "4A==", "digits": 4}
    save_result(result(metrics={"best": {"clean": point}}), tmp_path / "a.json")
    content = json.loads((tmp_path / "a.json").read_text())
    content["metrics"]["best"]["clean"] |= change
    (tmp_path / "b.json").write_text(json.dumps(content))
    with pytest.raises(DataFileError, match=f"is damaged: .*{said}"):
        load_result(tmp_path / "b.json")
    with pytest.raises(DataFileError, match=f"is damaged: .*{said}"):
        save_result(result(metrics={"best": {"clean": point | change}}), tmp_path / "c.json")
    assert not (tmp_path / "c.json").exists()


@pytest.mark.parametrize(
    "mine", [{"answers": 3, "share": 0.5}, {"answers": "x", "share": 0.5}, {"correct": 1, "total": 0}]
)
def test_what_a_suite_of_ones_own_calls_by_our_names_is_its_own(tmp_path: Path, mine: dict[str, Any]) -> None:
    save_result(result(metrics={"mine": {"share": 0.5, **mine}}), tmp_path / "a.json")
    assert load_result(tmp_path / "a.json").metrics == {"mine": {"share": 0.5, **mine}}


@pytest.mark.parametrize("place", ["metrics", "settings", "identity", "writers"])
def test_a_result_that_is_nested_too_deeply_is_refused(tmp_path: Path, place: str) -> None:
    deep: Any = 1
    for level in range(150):
        deep = {"x": deep} if level % 2 else [deep]
    save_result(result(), tmp_path / "a.json")
    content = json.loads((tmp_path / "a.json").read_text()) | {place: {"x": [deep]}}
    (tmp_path / "a.json").write_text(json.dumps(content))
    with pytest.raises(DataFileError, match=f"its {place} has 60 levels"):
        load_result(tmp_path / "a.json")
    with pytest.raises(DataFileError, match=f"its {place} has 60 levels"):
        save_result(result(**{place: {"x": [deep]}}), tmp_path / "b.json")


def test_a_folder_that_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_result(result(), tmp_path / "a.json")
    (tmp_path / "closed").mkdir()
    scandir = os.scandir

    def refuse(path: Any) -> Any:
        if str(path).endswith("closed"):  # root may read anything
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(DataFileError, match="closed cannot be read: Permission denied"):
        load_results(tmp_path)


TEST = {"spec": {"split": "test", "count": 10}}


@pytest.mark.parametrize(
    "change",
    [
        {"suite": "mnist"},
        {"version": 2},
        {"preset": "small"},
        {"settings": {"epochs": 2}},
        {"digits": "mnist"},
        {"data": {"test": {"spec": {"split": "test", "count": 20}}}},
        {"data": {}},
    ],
    ids=str,
)
def test_what_changes_a_figure_for_every_network_is_another_protocol(change: dict[str, Any]) -> None:
    assert result(**({"data": {"test": TEST}} | change)).protocol != result(data={"test": TEST}).protocol


def test_networks_seeds_machines_and_training_data_do_not_change_the_protocol() -> None:
    trained = {"test": TEST, "training": {"spec": {"split": "train", "count": 10}}}
    for change in (
        {"seed": 1, "model": "cnn", "label": "cnn", "cell": "ba9876543210", "origin": "scores"},
        {"environment": {"device": "Some GPU", "threads": 4}},
        {"data": trained},  # scores from elsewhere come without any
    ):
        assert result(**({"data": {"test": TEST}} | change)).protocol == result(data={"test": TEST}).protocol


def test_where_speed_is_measured_another_device_is_another_protocol() -> None:
    here, there = (result(digits="none", environment={"device": device}) for device in ("cpu", "Some GPU"))
    assert here.protocol != there.protocol


def test_a_file_to_test_on_is_the_same_in_any_folder() -> None:
    def tested(path: str, content: str) -> str:
        return result(settings={"test": path}, identity={"settings": {f"test={path}": content}}).protocol

    assert tested("here/one.h5", "aa") == tested("there/one.h5", "aa") != tested("here/one.h5", "bb")


def test_an_origin_that_there_is_not_is_refused(tmp_path: Path) -> None:
    save_result(result(origin="stars"), tmp_path / "a.json")
    with pytest.raises(DataFileError, match="its origin is stars"):
        load_result(tmp_path / "a.json")


def test_a_number_that_json_does_not_have_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        save_result(result(seconds=float("nan")), tmp_path / "a.json")
    assert not list(tmp_path.iterdir())


def test_a_folder_is_read_whole_and_other_json_passed_over(tmp_path: Path) -> None:
    for seed in (1, 0):
        save_result(result(seed=seed), tmp_path / "deep" / f"seed{seed}.json")
    (tmp_path / "sidecar.json").write_text('{"spec": {}}')
    (tmp_path / "folder.json").mkdir()
    assert [one.seed for one in load_results(tmp_path)] == [0, 1]
    assert [one.seed for one in load_results(tmp_path / "deep" / "seed1.json")] == [1]


def test_a_result_that_lies_in_two_of_the_folders_counts_once(tmp_path: Path) -> None:
    for seed in (0, 1):
        save_result(result(seed=seed, cell=f"{seed:012d}"), tmp_path / "runs" / "affine" / f"seed{seed}.json")
    save_result(result(seed=0, cell=f"{0:012d}"), tmp_path / "copy" / "a.json")
    places = [tmp_path / "runs", tmp_path / "runs" / "affine", tmp_path / "copy", tmp_path / "copy" / "a.json"]
    assert [one.seed for one in load_all_results(places)] == [0, 1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[1]", "not a result"),
        ('{"schema_version": 9}', "schema version 9; this capsbench reads version 1"),
        ('{"schema_version": 1, "suite": "affine"}', "not a result of capsbench"),
        (json.dumps({"schema_version": 1, **asdict(result()), "metrics": []}), "its metrics is of a wrong type"),
    ],
)
def test_what_is_no_result_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "bad.json").write_text(text)
    with pytest.raises(DataFileError, match=message):
        load_result(tmp_path / "bad.json")


def test_no_results_is_an_error_with_a_way_out(tmp_path: Path) -> None:
    with pytest.raises(DataFileError, match="capsbench run"):
        load_results(tmp_path)
    with pytest.raises(DataFileError, match="no folder"):
        load_results(tmp_path / "missing")
    with pytest.raises(DataFileError, match="cannot be read"):
        load_result(tmp_path / "missing.json")


def test_dates_are_of_universal_time() -> None:
    assert now().endswith("+00:00")


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_what_is_no_file_is_never_read_as_a_result(make: Callable[[Path], None], tmp_path: Path) -> None:
    make(tmp_path / "odd.json")
    with pytest.raises(DataFileError, match="is not a file"):
        load_result(tmp_path / "odd.json")
    with pytest.raises(DataFileError, match="There are no results"):
        load_results(tmp_path)


def test_a_file_larger_than_any_result_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "large.json").open("wb") as file:
        file.truncate(2**40)  # a hole: it takes no room
    with pytest.raises(DataFileError, match="which no result of capsbench has"):
        load_result(tmp_path / "large.json")


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
@pytest.mark.parametrize("place", ["settings", "metrics"])
def test_a_number_that_is_not_finite_is_a_damaged_file(place: str, number: str, tmp_path: Path) -> None:
    save_result(result(**{place: {"epochs": 12345}}), tmp_path / "one.json")
    text = (tmp_path / "one.json").read_text()
    (tmp_path / "one.json").write_text(text.replace("12345", number))
    with pytest.raises(DataFileError, match=f"one.json is damaged.*{number} is no finite number"):
        load_result(tmp_path / "one.json")


@pytest.mark.parametrize(("zeros", "damaged"), [(300, False), (309, True), (5000, True)])
@pytest.mark.parametrize("sign", ["", "-"])
def test_a_whole_number_that_no_float_holds_is_a_damaged_file(
    sign: str, zeros: int, damaged: bool, tmp_path: Path
) -> None:
    save_result(result(settings={"epochs": 12345}), tmp_path / "one.json")
    text = (tmp_path / "one.json").read_text()
    (tmp_path / "one.json").write_text(text.replace("12345", f"{sign}1{'0' * zeros}"))
    with pytest.raises(DataFileError, match=r"one\.json is damaged") if damaged else nullcontext():
        assert load_result(tmp_path / "one.json").settings == {"epochs": int(f"{sign}1") * 10**300}
