"""Results from elsewhere: whatever is in them, a command reads them right or names the file, and shows no traceback."""

import copy
import io
import json
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capsbench.cli import main
from capsbench.results.writers import key_of_writers, packed_writers

EXAMPLES = settings().max_examples
COMMITTED = Path(__file__).resolve().parents[2] / "results"
ODD: list[Any] = [
    None,
    True,
    -1,
    0,
    10**400,
    1e308,
    "",
    "x",
    "\x1b[2J",
    "<script>",
    "é" * 300,
    [],
    {},
    [1, "x"],
    {"x": {}},
    [[[]]],
]
NAN = "a number that JSON does not have"
COMMANDS = [
    ["report", "mutated"],
    ["report", "mutated", "--format", "csv"],
    ["compare", "mutated/one.json", "good.json"],
]


def smallest(suite: str) -> Path:
    return min(COMMITTED.joinpath(suite).rglob("*.json"), key=lambda path: path.stat().st_size)


def places(tree: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The way to every value of a tree; of long lists to the first few alone."""
    inner = tree.items() if isinstance(tree, dict) else enumerate(tree[:3]) if isinstance(tree, list) else ()
    return [*([path] if path else []), *(way for key, value in inner for way in places(value, (*path, key)))]


def mutated(tree: Any, way: tuple[Any, ...], value: Any) -> str:
    """The tree as JSON, with another value in a place; without it, if the value is the word ``gone``."""
    tree = copy.deepcopy(tree)
    parent = tree
    for key in way[:-1]:
        parent = parent[key]
    if value == "gone":
        del parent[way[-1]]
    else:
        parent[way[-1]] = value
    return json.dumps(tree).replace(json.dumps(NAN), "NaN")


def run(command: list[str]) -> tuple[Any, str, str]:
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as stop:
        main(command)
    return stop.value.code, out.getvalue(), err.getvalue()


def each_point(tree: Any) -> list[Any]:
    inner = [point for value in tree.values() for point in each_point(value)] if isinstance(tree, dict) else []
    return [tree, *inner] if isinstance(tree, dict) and "answers" in tree else inner


def with_writers(tree: Any) -> Any:
    """A result as of digits whose labels say who wrote them, ten by each."""
    points = each_point(tree["metrics"])
    writers = np.arange(max(point["digits"] for point in points), dtype=np.int32) // 10
    key = key_of_writers(writers)
    for point in points:
        point["writers"] = key
    identity = {**tree.get("identity", {}), "digits": {"Written, writers": key}}
    return {**tree, "digits": "Written", "identity": identity, "writers": {key: packed_writers(writers)}}


@pytest.mark.parametrize("named", [False, True], ids=["", "writers"])
@pytest.mark.parametrize("suite", ["affine", "mnist", "overlap", "crowding", "clutter"])
def test_a_mutated_result_is_named_or_read(suite: str, named: bool, survived: Callable[[str, int], None]) -> None:
    good = smallest(suite)
    tree = json.loads(good.read_text())
    if named:
        tree = with_writers(tree)
        good = Path("named.json")
        good.write_text(json.dumps(tree))
    ways = [way for way in places(tree) if not named or any("writers" in str(key) for key in way)]
    tries = max(EXAMPLES // 16, 5)

    @settings(max_examples=tries)
    @given(way=st.sampled_from(ways), value=st.sampled_from([*ODD, NAN, "gone"]), command=st.sampled_from(COMMANDS))
    def check(way: tuple[Any, ...], value: Any, command: list[str]) -> None:
        Path("mutated").mkdir(exist_ok=True)
        Path("mutated/one.json").write_text(mutated(tree, way, value))
        Path("good.json").write_bytes(good.read_bytes())
        code, out, err = run(command)
        assert code in (0, 2, 3), err
        assert "Traceback" not in out + err and "\x1b[2J" not in out + err
        if code:
            assert err.startswith("Error: ") and err.count("\n") <= 3, err

    check()
    survived("A result from elsewhere is mutated", tries)
