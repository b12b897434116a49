"""Shards into one file: the bytes of a file that was never cut, or a word on which shard is wrong."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from capsbench.data.recipes import Recipe, make_recipe
from capsbench.errors import DataFileError, SpecMismatchError, UsageError
from capsbench.files.datafile import open_dataset
from capsbench.files.generation import generate_file, repair_file, wrong_samples
from capsbench.files.merging import merge_files
from capsbench.files.shards import shard_range

COUNT = 9001  # two blocks and a part of one; no number of shards but 1 divides it


def recipe(name: str = "padded", **options: Any) -> Recipe:
    defaults: dict[str, Any] = {"split": "test", "digits": "embedded", "count": COUNT}
    if name == "padded":
        defaults["parameters"] = {"size": 28, "shift": 2}
    return make_recipe(name, **(defaults | options))


def cut(one: Recipe, shards: int, chosen: Sequence[int] | None = None) -> list[Path]:
    """The shards of a recipe."""
    return [
        generate_file(one, Path(f"shards/{index}of{shards}.h5"), shard=shard_range(index, shards, one.spec.count)).path
        for index in (range(shards) if chosen is None else chosen)
    ]


@pytest.mark.parametrize("shards", [1, 2, 3, 7, 20])
def test_shards_of_any_number_give_the_file_that_was_never_cut(shards: int) -> None:
    one = recipe()
    whole = generate_file(one, Path("whole/x.h5")).path
    parts = cut(one, shards)
    merged = merge_files(Path("merged/x.h5"), parts[::-1])
    assert (merged.written, merged.digest) == (COUNT, open_dataset(whole).digest)
    assert Path("merged/x.h5").read_bytes() == whole.read_bytes()
    assert sorted(path.name for path in Path("merged").iterdir()) == ["x.h5", "x.json"]


@pytest.mark.parametrize("name", ["affnist", "multimnist", "crowded", "cluttered"])
def test_every_data_set_can_be_cut_with_its_layers(name: str) -> None:
    one = recipe(name, count=300, layers=True)
    whole = generate_file(one, Path("whole.h5")).path.read_bytes()
    merge_files(Path("x.h5"), cut(one, 3))
    assert Path("x.h5").read_bytes() == whole


def test_a_shard_holds_its_samples_of_the_whole() -> None:
    one = recipe("multimnist", count=5000)
    whole = open_dataset(generate_file(one, Path("whole.h5")).path)
    (path,) = cut(one, 7, [3])
    shard = open_dataset(path, digits="embedded")
    assert shard.span == range(2142, 2857) and len(shard) == 715 and shard.spec == whole.spec
    np.testing.assert_array_equal(shard.images, whole.images[2142:2857])
    np.testing.assert_array_equal(shard.layers([0, 714]), whole.layers([2142, 2856]))
    assert wrong_samples(shard, 715) == []
    assert shard.digest != whole.digest


def test_a_damaged_shard_is_healed_from_its_own_spec() -> None:
    (path,) = cut(recipe(), 2, [1])
    before = path.read_bytes()
    place = open_dataset(path).extents["images"]
    damaged = bytearray(before)
    damaged[place.offset + 100] ^= 1
    path.write_bytes(damaged)
    assert repair_file(path, digits="embedded").written == 4096
    assert path.read_bytes() == before


def test_equal_digests_under_another_extent_are_another_root() -> None:
    one = recipe(count=2000)  # two variants of 1,000 digits, all of them in the middle
    still = recipe(count=2000, parameters={"size": 28, "shift": 0})
    first, second = (open_dataset(path) for path in cut(still, 2))
    np.testing.assert_array_equal(first.images, second.images)
    assert first.digest != second.digest
    assert one.spec != still.spec


def test_a_merge_that_was_stopped_goes_on() -> None:
    parts = cut(recipe(), 2)

    def stop(done: int, total: int) -> None:
        if done >= 4096:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        merge_files(Path("x.h5"), parts, report=stop)
    assert merge_files(Path("x.h5"), parts).reused == 4096


def damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[open_dataset(path).extents["images"].offset + 100] ^= 1
    path.write_bytes(content)


def wrong_sets() -> dict[str, tuple[Callable[[], list[Path]], str]]:
    one, other = recipe(), recipe(seed=1)

    def damaged() -> list[Path]:
        parts = cut(one, 3)
        damage(parts[1])
        return parts

    def foreign() -> list[Path]:
        (stranger,) = cut(other, 3, [1])
        stranger = stranger.rename("shards/stranger.h5")
        return [*cut(one, 3, [0, 2]), stranger]

    def text() -> list[Path]:
        Path("text.h5").write_text("text")
        return [*cut(one, 3, [0, 1]), Path("text.h5")]

    return {
        "the first is missing": (lambda: cut(one, 3, [1, 2]), r"the 2 files .* shard 0/3 \(samples 0 to 2,999\)"),
        "one in the middle is missing": (lambda: cut(one, 3, [0, 2]), r"shard 1/3 \(samples 3,000 to 5,999\)"),
        "two are missing": (lambda: cut(one, 5, [0, 3, 4]), r"shards 1/5, 2/5 \(samples 1,800 to 5,399\)"),
        "the last is missing": (lambda: cut(one, 3, [0, 1]), r"shard 2/3 \(samples 6,000 to 9,000\)"),
        "one of many is missing": (lambda: cut(one, 20, [*range(9), *range(10, 20)]), r"shard 9/20 \(samples 4,"),
        "all but one are missing": (lambda: cut(one, 3, [0]), r"the file given: shards 1/3, 2/3 \("),
        "one comes twice": (
            lambda: cut(one, 3) + cut(one, 3, [1]),
            r"shards/1of3\.h5 and shards/1of3\.h5 both hold shard 1/3",
        ),
        "of two cuttings": (
            lambda: cut(one, 3) + cut(one, 2, [1]),
            r"1of3\.h5 and shards/1of2\.h5 both hold samples 4,500 to 5,999",
        ),
        "foreign": (
            foreign,
            r"stranger\.h5 is not a shard of the same spec as shards/0of3\.h5 \(seed: there 0, here 1\)",
        ),
        "damaged": (damaged, r"shards/1of3\.h5 is damaged in block 0"),
        "no data file": (text, r"text\.h5 is not an HDF5 file"),
        "not there": (lambda: [*cut(one, 3, [0, 1]), Path("shards/gone.h5")], r"There is no file shards/gone\.h5"),
    }


@pytest.mark.parametrize("case", sorted(wrong_sets()))
def test_what_is_missing_doubled_damaged_or_foreign_is_named(case: str) -> None:
    make, message = wrong_sets()[case]
    parts = make()
    with pytest.raises(DataFileError, match=message) as told:
        merge_files(Path("x.h5"), parts)
    assert str(told.value).count("\n") <= 1
    assert not list(Path().glob("x*"))


def test_nothing_is_merged_from_nothing_or_from_itself() -> None:
    with pytest.raises(UsageError, match=r"Name the shards of x\.h5"):
        merge_files(Path("x.h5"), [])
    parts = cut(recipe(), 2)
    with pytest.raises(UsageError, match="cannot be made from itself"):
        merge_files(Path("shards/../shards/1of2.h5"), parts)
    parts[0].rename("y.h5.new")
    with pytest.raises(UsageError, match=r"y\.h5\.new has a name that is needed while y\.h5 is made"):
        merge_files(Path("y.h5"), [Path("y.h5.new"), parts[1]])
    open_dataset("y.h5.new")
    assert open_dataset(parts[1]).span.start == 4500


def test_another_file_is_not_written_over_unless_forced() -> None:
    parts = cut(recipe(), 2)
    generate_file(recipe(seed=1), Path("x.h5"))
    with pytest.raises(SpecMismatchError, match="seed: asked 0, found 1"):
        merge_files(Path("x.h5"), parts)
    assert merge_files(Path("x.h5"), parts, force=True).written == COUNT


def test_a_whole_file_where_a_shard_is_to_go_is_refused() -> None:
    generate_file(recipe(), Path("shards/0of2.h5"))
    with pytest.raises(SpecMismatchError, match="samples: asked 0 to 4,499, found all"):
        cut(recipe(), 2, [0])


def test_a_shard_where_the_file_to_make_is_named_is_not_written_over() -> None:
    first, *others = cut(recipe(), 3)
    before = first.read_bytes()
    with pytest.raises(UsageError, match=r"0of3\.h5 is a shard itself\. Name the file to make first"):
        merge_files(first, others, force=True)
    assert first.read_bytes() == before


def test_an_unfinished_shard_is_said_to_be_unfinished() -> None:
    first, second, third = cut(recipe(), 3)
    second.rename("shards/1of3.h5.partial")
    with pytest.raises(DataFileError, match=r"1of3\.h5\.partial is unfinished"):
        merge_files(Path("x.h5"), [first, Path("shards/1of3.h5.partial")])
    assert third.exists()


def test_the_command_that_makes_a_missing_shard_is_told() -> None:
    with pytest.raises(DataFileError) as told:
        merge_files(Path("x.h5"), cut(recipe(), 3, [0, 2]))
    assert str(told.value).endswith(
        "make it with: capsbench generate padded --split test --seed 0 --count 9001 --set shift=2 --set size=28 "
        "--shard 1/3 --digits embedded"
    )
