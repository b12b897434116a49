"""Whatever is typed: a command ends with 0, 2, 3 or 4, and where that is not 0, with a line or two that say why."""

import io
import shutil
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capsbench.cli import main
from capsbench.data.recipes import make_recipe
from capsbench.files.generation import generate_file
from capsbench.files.packing import pack_file
from capsbench.spec import SPLITS

EXAMPLES = settings().max_examples
FILES = [
    "good.h5",
    "other.h5",
    "packed.h5",
    "pairs.h5",
    "damaged.h5",
    "cut.h5",
    "text.h5",
    "empty.h5",
    "shard.h5",
    "rest.h5",
]
PLACES = ["folder", "folder/new.h5", "new.h5", "new/a/b", "new.png", "NEW.H5", "é ü.h5", "\udcff.h5", "-", "."]
NO_PLACES = ["text.h5/below.h5", "", "new.hdf5", "new.h5.partial", "/dev/null", "/proc/none/x.h5", "missing.h5"]
STRANGE = ["loop.h5", "x" * 300]

NUMBERS = ["1", "3", "60", "20"]
NO_NUMBERS = ["0", "-1", "1.5", "nan", "1e3", "", "x", "٣", str(2**40 + 1), str(2**64), "9" * 300]
WORDS = ["", "x", "é", "--", "-1", "%s", "a=b", "\x1b[2J", "none", "x" * 300]
SETS = {
    "padded": ["size=28", "shift=0", "size=64"],
    "affnist": ["rotation=-45,45", "shear=0", "scale=0.5,2"],
    "multimnist": ["margin=2", "reuse=yes", "shift=0"],
    "cluttered": ["size=28", "scraps=0,32", "scrap_size=28"],
    "crowded": ["spacing=20", "flankers=none", "jitter=0"],
}
PRESETS = {"padded": ["centered"], "multimnist": ["release"], "cluttered": ["clean"], "crowded": ["alone"]}
NO_SETS = [
    "size=29",
    "shift=99",
    "size",
    "rotation=45,-45",
    "scale=1,nan",
    "scale=1,2,3",
    "=1",
    "sise=28",
    "size=",
    "é=1",
]
NO_NAMES = ["paded", "os:getpid", "none.py:Data", "a:b:c", ":", *WORDS]

Words = st.SearchStrategy[list[str]]


def mostly(good: list[str], bad: list[str]) -> st.SearchStrategy[str]:
    """One that makes sense, and in one of ten cases one that does not."""
    good = good or bad
    return st.integers(0, 9).flatmap(lambda number: st.sampled_from(good if number else bad))


def option(name: str, good: list[str], bad: list[str], least: int = 0, most: int = 1) -> Words:
    """An option, so many times."""
    one = mostly(good, bad).map(lambda value: [name, value])
    return st.lists(one, min_size=least, max_size=most).map(lambda parts: [word for part in parts for word in part])


def places(good: list[str], number: int, *, strange: bool = True) -> Words:
    """As many places as a command takes; in one of ten cases more or fewer."""
    place = mostly(good, [*FILES, *NO_PLACES, *(STRANGE if strange else [])])
    usual = st.lists(place, min_size=number, max_size=number)
    return st.integers(0, 9).flatmap(lambda chosen: usual if chosen else st.lists(place, max_size=number + 1))


def flags(*names: str) -> Words:
    """Some of the flags that a command has, and in one of ten cases one that it has not."""
    known = st.lists(st.sampled_from(names), max_size=2, unique=True) if names else st.just([])
    return st.integers(0, 9).flatmap(lambda number: known if number else st.just(["--bogus"]))


def words(*parts: Words) -> Words:
    return st.tuples(*parts).map(lambda chosen: [word for part in chosen for word in part])


DIGITS = option("--digits", ["embedded", "auto"], ["folder", "nowhere", "text.h5", ""])
OUT = option("--out", PLACES, [*NO_PLACES, *STRANGE])


def generated(name: str) -> Words:
    """What can be asked of a data set."""
    return words(
        st.just([name]),
        option("--split", list(SPLITS), ["", "tests"], 0, 2),
        option("--set", SETS.get(name, ["size=28"]), NO_SETS),
        option("--preset", PRESETS.get(name, ["centered"]), ["paper", "", "x"]),
        option("--seed", NUMBERS, [*NO_NUMBERS, "0"]),
        option("--count", NUMBERS, NO_NUMBERS, 1),  # always, or most of the time would go into whole data sets
        OUT,
        option("--shard", ["0/1", "0/2", "1/2"], ["2/2", "-1/2", "0/999999999", "a/b", ""]),
        option("--workers", ["1"], ["0", "-1", "x", "9999999", "1.5"]),
        DIGITS,
        flags("--layers", "--force", "--json"),
    )


COMMANDS = {
    "generate": mostly(list(SETS), NO_NAMES).flatmap(generated),
    "verify": words(places(FILES, 1), option("--sample", NUMBERS, NO_NUMBERS), DIGITS, flags("--repair")),
    "info": words(places(FILES, 1), DIGITS, flags("--json")),
    "preview": words(places(FILES, 1), option("--out", PLACES, NO_PLACES[:1]), DIGITS, flags()),
    "merge": words(
        places(PLACES, 1, strange=False), places(["shard.h5", "rest.h5"], 2, strange=False), flags("--force")
    ),
    "pack": words(places(FILES, 1), places(PLACES, 1), flags("--undo", "--force")),
    "import": words(
        st.sampled_from([["affnist"], ["affnist"], ["mnist"], []]), places(FILES, 1), OUT, flags("--force")
    ),
    "data": words(st.sampled_from([["status"], ["stat"], []]), flags("--json")),
    "report": words(
        places(PLACES, 1, strange=False),
        option("--format", ["simple", "csv"], ["x"]),
        option("--html", PLACES, NO_PLACES),
    ),
    "compare": words(places([*FILES, *PLACES], 2, strange=False), flags()),
    "run": words(
        st.just(["--dry-run", "--json"]),  # what is planned; to train would take long
        option(
            "--suite",
            ["affine", "mnist", "crowding", "clutter"],
            ["afine", "", "os:getpid", "none.py:Suite", "x" * 300],
            1,
        ),
        option("--preset", ["smoke"], ["small", "smok", "", "paper"], 1),
        option("--model", ["cnn-pool", "cnn", "capsnet"], NO_NAMES, 0, 2),
        option("--set", ["epochs=2", "learning_rate=0.1", "batch_size=1"], [*NO_SETS, "epochs=0", "cnn.x=1"]),
        option("--seeds", ["0", "0,1", "7,3"], [*NO_NUMBERS, "0,0", "0,,1", ",", "1-3"]),
        option("--device", ["cpu", "auto"], ["gpu", "", "cuda:99", "x"]),
        option("--jobs", ["1", "2"], NO_NUMBERS),
        option("--retries", ["0", "3"], NO_NUMBERS),
        option("--timeout", ["1", "0.5"], [*NO_NUMBERS, "inf"]),
        option("--shard", ["0/1", "1/2", "7/8"], ["2/2", "-1/2", "1/0", "0/9999999999", "a/b", "", "/"]),
        option("--cell", [], ["", "x", "0" * 12]),
        OUT,
        DIGITS,
        flags("--isolate", "--force", "--collect", "--tensorboard"),
    ),
    "lisst": words(st.sampled_from(WORDS).map(lambda word: [word])),
}

OFTEN = [*COMMANDS, *[name for name in COMMANDS if name != "preview"] * 3, "generate", "generate"]
"""A preview takes long."""


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a file of every kind that a command may be given."""
    folder = tmp_path_factory.mktemp("kept")

    def made(name: str, generator: str = "padded", *, shard: range | None = None, **options: Any) -> bytes:
        recipe = make_recipe(generator, split="test", count=60, digits="embedded", **options)
        return generate_file(recipe, folder / name, shard=shard).path.read_bytes()

    good = made("good.h5")
    made("other.h5", seed=1)
    made("pairs.h5", "multimnist")
    made("shard.h5", shard=range(20))
    made("rest.h5", shard=range(20, 60))
    pack_file(folder / "good.h5", folder / "packed.h5")
    for name, content in {
        "damaged": good[:-100] + bytes(100),
        "cut": good[:5000],
        "text": b"no data\n",
        "empty": b"",
    }.items():
        (folder / f"{name}.h5").write_bytes(content)
    return folder


def put(kept: Path) -> None:
    """The same files for every example, which may write over them."""
    for path in sorted(Path().rglob("*"), key=lambda path: -len(path.parts)):
        path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
    for name in FILES:
        shutil.copyfile(kept / name, name)
    Path("folder").mkdir()
    Path("loop.h5").symlink_to("loop.h5")


def run(command: list[str]) -> tuple[Any, str, str]:
    """What a command ends with, and says on either stream."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as stop:
        main(command)
    return stop.value.code, out.getvalue(), err.getvalue()


@settings(max_examples=EXAMPLES // 2)
@given(command=st.sampled_from(OFTEN).flatmap(lambda name: COMMANDS[name].map(lambda rest: [name, *rest])))
def any_command(command: list[str], kept: Path) -> None:
    """One ends with a code and a line."""
    put(kept)
    code, out, err = run(command)
    assert code in (0, 2, 3, 4), err
    assert "Traceback" not in out + err
    if code == 0:
        assert "Error" not in err
    elif not err.startswith("Usage: "):  # what a command without any word says: its help
        error = err[err.index("Error: ") :]
        assert error.count("\n") <= 3, error
        assert len(error) < 2000, error
    assert not [path for path in Path().rglob("*") if path.name.endswith((".new", ".lock"))]


def test_any_command_ends_with_a_code_and_a_line(kept: Path, survived: Callable[[str, int], None]) -> None:
    any_command(kept=kept)
    survived("A command line is made at random", EXAMPLES // 2)


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (["info", "good.h5"], 0),
        (["info"], 2),
        (["info", "cut.h5"], 3),
        (["generate", "padded", "--out", "text.h5/x"], 4),
    ],
)
def test_what_is_typed_can_end_in_each_code(command: list[str], code: int, kept: Path) -> None:
    put(kept)
    assert run(command)[0] == code


@pytest.mark.parametrize(
    "command",
    [
        ["info", "loop.h5"],
        ["merge", "new.h5", "loop.h5", "shard.h5"],
        ["merge", "loop.h5", "shard.h5", "rest.h5"],
        ["pack", "good.h5", "loop.h5"],
        ["compare", "loop.h5", "good.h5"],
        ["compare", "x" * 300, "good.h5"],
        ["report", "x" * 300],
        ["preview", "good.h5", "--out", ""],
    ],
    ids=lambda command: " ".join(command)[:40],
)
def test_a_path_that_leads_nowhere_is_told(command: list[str], kept: Path) -> None:
    put(kept)
    code, _, err = run(command)
    if code == 0:  # a link that leads nowhere can be written over
        assert not Path("loop.h5").is_symlink()
        return
    assert code in (2, 3, 4)
    assert "output could not be written" not in err
    assert "--out" in err or "loop.h5" in err or "x" * 300 in err
