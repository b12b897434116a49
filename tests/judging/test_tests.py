"""The files that a suite tests on, and their manifest."""

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from capsbench.data.streaming import stream
from capsbench.errors import DataFileError, LockedError, SpecMismatchError, UsageError
from capsbench.files.datafile import open_dataset
from capsbench.files.generation import generate
from capsbench.files.packing import pack_file
from capsbench.files.writing import write_file
from capsbench.judging import tests as module
from capsbench.judging.manifest import load_manifest
from capsbench.judging.tests import file_stems
from capsbench.judging.tests import tests as write_tests

EVERY = {
    "mnist": ["test"],
    "overlap": ["test"],
    "affine": ["clean", "centered", "affine", "neutral", "rotation=40", "shear=0.5", "scale=0.7", "translation"],
    "crowding": ["alone", "digits-at-14-px", "digits-at-28-px", "shuffled-at-14-px", "shuffled-at-28-px"],
    "clutter": ["clean", "2-scraps", "8-scraps"],
}
SHAPES = {"mnist": [28, 28], "overlap": [36, 36], "affine": [40, 40], "crowding": [28, 84], "clutter": [32, 32]}


@pytest.mark.parametrize("suite", EVERY)
def test_every_file_of_the_manifest_is_there_with_its_digest(suite: str, tmp_path: Path) -> None:
    write_tests(suite, out=tmp_path, preset="smoke", digits="embedded")
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert list(manifest) == ["suite", "preset", "files", "digits"] and manifest["digits"] == "embedded"
    assert (manifest["suite"], manifest["preset"]) == (suite, "smoke")
    assert [one["name"] for one in manifest["files"]] == EVERY[suite]
    for one in manifest["files"]:
        assert list(one) == ["name", "file", "digest", "count", "image_shape"]
        file = open_dataset(tmp_path / one["file"])
        assert (file.digest, len(file), list(file.images.shape[1:])) == (
            one["digest"],
            one["count"],
            one["image_shape"],
        )
        assert one["image_shape"] == SHAPES[suite] and one["count"] <= 1000


def test_a_whole_set_is_the_file_that_generate_makes(tmp_path: Path) -> None:
    write_tests("mnist", out=tmp_path, preset="smoke", digits="embedded")
    drawn = stream("padded", split="test", size=28, shift=0, digits="embedded")
    file = open_dataset(tmp_path / "test.h5")
    assert file.digest == drawn.digest
    assert (file.images == drawn.batch(np.arange(len(drawn))).images).all()


def test_some_samples_of_a_set_do_not_pass_for_all_of_it(tmp_path: Path) -> None:
    write_tests(
        "affine",
        out=tmp_path,
        preset="smoke",
        digits="embedded",
        changes={"rotation": "40", "shear": "0", "scale": "1"},
    )
    file = open_dataset(tmp_path / "rotation=40.h5")
    assert file.spec.count == len(file) < 1000 and file.spec.parameters["of"] == 8000
    assert file.transform is not None and np.abs(file.transform[:, 4:]).max() <= 6
    assert set(file.transform[:, 0].tolist()) == {40}
    with pytest.raises(DataFileError, match="Make them again: capsbench tests"):
        file.recipe()
    with h5py.File(tmp_path / "rotation=40.h5") as plain:
        assert (plain["images"][:] == file.images).all()


def test_a_file_that_is_given_is_copied_with_its_layers_and_its_digest(tmp_path: Path) -> None:
    turned: dict[str, Any] = {"rotation": 60, "layers": True, "count": 300}
    (given,) = generate("affnist", out=tmp_path / "turned.h5", split="test", digits="embedded", **turned)
    pack_file(given, tmp_path / "packed.h5")
    changes = {"rotation": "0", "shear": "0", "scale": "1", "test": str(tmp_path / "packed.h5")}
    write_tests("affine", out=tmp_path / "made", preset="smoke", digits="embedded", changes=changes)
    copy = open_dataset(tmp_path / "made" / "file.h5")
    assert copy.digest == open_dataset(given).digest and copy.spec.layers and len(copy) == 300


def test_changed_settings_stand_in_the_manifest(tmp_path: Path) -> None:
    write_tests("crowding", out=tmp_path, preset="smoke", digits="embedded", changes={"spacings": "20"})
    assert json.loads((tmp_path / "manifest.json").read_text())["set"] == {"spacings": "20"}
    assert [one.name for one in load_manifest(tmp_path).files] == ["alone", "digits-at-20-px", "shuffled-at-20-px"]


def test_what_is_there_is_left_and_other_tests_are_not_written_over(tmp_path: Path) -> None:
    write_tests("mnist", out=tmp_path, preset="smoke", digits="embedded")
    before = (tmp_path / "test.h5").stat().st_mtime_ns
    write_tests("mnist", out=tmp_path, preset="smoke", digits="embedded")
    assert (tmp_path / "test.h5").stat().st_mtime_ns == before
    with pytest.raises(UsageError, match=r"manifest\.json is of suite mnist, preset smoke. Add --force"):
        write_tests("overlap", out=tmp_path, preset="smoke", digits="embedded")
    (tmp_path / "manifest.json").unlink()
    with pytest.raises(SpecMismatchError, match="Add --force"):
        write_tests("overlap", out=tmp_path, preset="smoke", digits="embedded")
    write_tests("overlap", out=tmp_path, preset="smoke", digits="embedded", force=True)
    assert open_dataset(tmp_path / "test.h5").spec.generator == "multimnist"


def test_no_manifest_stands_beside_files_of_tests_that_were_stopped_midway(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted: dict[str, Any] = {"out": tmp_path, "preset": "smoke", "digits": "embedded"}
    write_tests("crowding", changes={"spacings": "20"}, **wanted)
    written: list[Path] = []

    def stopped(path: Path, *rest: Any, **options: Any) -> Any:
        if written:
            raise KeyboardInterrupt
        assert not (tmp_path / "manifest.json").exists()
        with pytest.raises(LockedError, match=r"manifest\.json"):
            write_tests("crowding", changes={"spacings": "20"}, **wanted)
        written.append(path)
        return write_file(path, *rest, **options)

    monkeypatch.setattr(module, "write_file", stopped)
    with pytest.raises(KeyboardInterrupt):
        write_tests("crowding", changes={"spacings": "24"}, force=True, **wanted)
    assert not (tmp_path / "manifest.json").exists() and not list(tmp_path.glob("*.lock"))
    monkeypatch.undo()
    write_tests("crowding", changes={"spacings": "24"}, force=True, **wanted)
    assert load_manifest(tmp_path).changes == {"spacings": "24"}


def test_scores_for_images_that_change_are_put_aside(tmp_path: Path) -> None:
    wanted: dict[str, Any] = {"out": tmp_path, "preset": "smoke", "digits": "embedded", "force": True}
    write_tests("crowding", changes={"spacings": "20"}, **wanted)
    names = ("alone.csv", "digits-at-20-px.npz", "other.csv")
    for name in names:
        (tmp_path / name).write_text("scores")
    write_tests("crowding", changes={"spacings": "20"}, **wanted)
    assert all((tmp_path / name).exists() for name in names)
    with pytest.warns(UserWarning, match=r"test\.csv has scores for other images; it is now called test\.csv\.aside"):
        for content in ("first", "second"):
            (tmp_path / "test.csv").write_text(content)
            write_tests("mnist" if content == "first" else "overlap", **wanted)
    assert (tmp_path / "test.csv.aside").read_text() == "first" and not (tmp_path / "test.csv").exists()
    assert (tmp_path / "test.csv.aside1").read_text() == "second"


def test_what_is_refused_leaves_the_manifest(tmp_path: Path) -> None:
    write_tests("mnist", out=tmp_path, preset="smoke", digits="embedded")
    before = (tmp_path / "manifest.json").read_bytes()
    (tmp_path / "test.h5").unlink()
    generate("padded", out=tmp_path / "test.h5", split="test", digits="embedded", size=40)
    with pytest.raises(SpecMismatchError):
        write_tests("mnist", out=tmp_path, preset="smoke", digits="embedded")
    assert (tmp_path / "manifest.json").read_bytes() == before


@pytest.mark.parametrize(
    ("suite", "asked", "told"),
    [
        ("throughput", {}, "needs the network itself.* These can: affine, clutter, crowding, mnist, overlap"),
        ("reconstruction", {}, "needs the network itself"),
        ("afine", {}, "Did you mean 'affine'"),
        ("affine", {"preset": "smal"}, "Did you mean 'small'"),
        ("affine", {"changes": {"rotate": "3"}}, "No parameter of suite 'affine'"),
    ],
)
def test_what_cannot_be_tested_is_told(suite: str, asked: dict[str, str], told: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=told):
        write_tests(suite, out=tmp_path / "new", digits="embedded", **asked)  # type: ignore[arg-type]
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    "content",
    [
        *("", "[]", "null", "{}", "[" * 100_000, "\udcff"),
        *('{"suite": 1, "preset": "a", "files": []}', '{"suite": "a", "preset": "b", "files": 3}'),
        '{"suite": "a", "preset": "b", "files": [{"name": "x"}]}',
    ],
)
def test_a_manifest_that_is_none_is_named(content: str, tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(DataFileError, match=r"manifest\.json is not"):
        load_manifest(tmp_path)


def test_names_become_names_of_files_and_stay_apart() -> None:
    stems = file_stems(["digits at 14 px", "a/b", "a b", "../..", "rotation=-60", "manifest", "é"])
    assert list(stems.values()) == ["digits-at-14-px", "a-b", "a-b-", "test", "rotation=-60", "manifest-", "é"]
