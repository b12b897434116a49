"""Pickles that hold plain values are read as Python reads them; all others are refused, and nothing in them runs."""

import collections
import os
import pickle
import pickletools
import struct
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from capsbench.data.plain_pickle import read_plain
from capsbench.errors import DataFileError

from .cifar_batches import python_batch

IMAGES = np.arange(4 * 3072, dtype=np.uint32).astype(np.uint8).reshape(4, 3072)
LABELS = np.array([3, 1, 4, 1], np.uint8)
plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.text() | st.binary(), inner),
    max_leaves=8,
)


class Calls:
    """Pickles as a call of anything."""

    def __init__(self, function: Any, *arguments: Any, state: Any = None) -> None:
        self.reduced = (function, arguments) if state is None else (function, arguments, state)

    def __reduce__(self) -> Any:
        return self.reduced


def touching(path: Path) -> str:
    return f"touch '{path}'"


def test_a_batch_of_python_2_is_read_as_python_reads_it() -> None:
    content = python_batch(IMAGES, LABELS)
    expected = pickle.loads(content, encoding="bytes")
    found = read_plain(content, "batch")
    assert set(found) == set(expected) == {b"batch_label", b"data", b"labels", b"filenames"}
    assert found[b"data"].dtype == np.uint8 and np.array_equal(found[b"data"], expected[b"data"])
    assert np.array_equal(expected[b"data"], IMAGES) and found[b"labels"] == expected[b"labels"] == [3, 1, 4, 1]
    assert found[b"filenames"] == expected[b"filenames"] == [b"00000", b"00001", b"00002"]


@given(plain, st.integers(2, 5))
def test_plain_values_come_back(value: Any, protocol: int) -> None:
    content = pickle.dumps(value, protocol)
    names = {code.name for code, _, _ in pickletools.genops(content)}
    if names & {"GLOBAL", "BINUNICODE8", "BINBYTES8", "LONG4"}:  # bytes before protocol 3 are a call of _codecs.encode
        with pytest.raises(DataFileError, match=r"_codecs\.encode|__builtin__\.bytes|instruction"):
            read_plain(content, "x")
    else:
        assert read_plain(content, "x") == value


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("protocol", [3, 4])
def test_arrays_of_this_numpy_are_read_in_both_orders(protocol: int, order: Any) -> None:
    array = np.asarray(IMAGES, order=order)
    found = read_plain(pickle.dumps({"data": array}, protocol), "x")["data"]
    assert np.array_equal(found, IMAGES)


def hostile(path: Path) -> dict[str, tuple[bytes, str]]:
    """Pickles that run something where Python reads them, and what is said of each."""
    system = f"{os.system.__module__}.system"
    command = touching(path)
    text = f"open({str(path)!r}, 'w').close()"
    short = b"\x8c" + bytes([len(command)]) + command.encode()
    objects = np.empty(1, object)
    objects[0] = Calls(os.system, command)
    batch = {b"data": IMAGES, b"labels": [Calls(os.system, command)]}
    return {
        "os.system": (pickle.dumps(Calls(os.system, command)), rf"names {system}"),
        "os.system, protocol 0": (f"cos\nsystem\n(S'{command}'\ntR.".encode(), r"names os\.system"),
        "its name put together": (
            b"\x80\x04\x8c\x02os\x94\x8c\x06system\x94\x93\x94" + short + b"\x85\x94R\x94.", r"names os\.system"
        ),
        "builtins.eval": (pickle.dumps(Calls(eval, text)), r"names builtins\.(eval|open)"),
        "builtins.exec": (pickle.dumps(Calls(exec, text), 2), r"names (__builtin__|builtins)\.exec"),
        "in a batch": (pickle.dumps(batch, 4), rf"names {system}"),
        "in an array of objects": (pickle.dumps({"data": objects}, 4), r"array of other numbers than bytes"),
        "getattr": (b"cbuiltins\ngetattr\n(cos\nsystem\nU\x08__call__tR.", r"names builtins\.getattr"),
        "copyreg": (
            b"\x80\x02ccopy_reg\n_reconstructor\ncsubprocess\nPopen\nc__builtin__\nobject\nN\x87R.", r"names copy_reg"
        ),
        "copyreg's tables": (
            b"\x80\x02ccopyreg\nadd_extension\nU\x02osU\x06systemK\x01\x87R.", r"names copyreg\.add_extension"
        ),
        "an extension": (b"\x80\x02\x82\x01.", r"instruction EXT1"),
        "a new object": (b"\x80\x02cfractions\nFraction\n)\x81.", r"names fractions\.Fraction"),
        "an instance": (f"(S'{command}'\nios\nsystem\n.".encode(), r"has the instruction (INST|STRING)"),
        "an object": (b"(cos\nsystem\nX\x01\x00\x00\x00xo.", r"names os\.system"),
        "a persistent id": (b"\x80\x02U\x01xQ.", r"instruction BINPERSID"),
        "numpy's loader": (b"\x80\x02cnumpy\nload\nU\x01x\x85R.", r"names numpy\.load"),
        "a submodule": (b"\x80\x04\x8c\x05numpy\x8c\x0dndarray.dumps\x93.", r"names numpy\.ndarray\.dumps"),
        "a call of a type": (b"\x80\x02cnumpy\nndarray\nK\x05\x85R.", r"calls something"),
        "a call of a call": (
            b"\x80\x02cnumpy.core.multiarray\n_reconstruct\ncnumpy\ndtype\nK\x00\x85U\x01b\x87R.", r"calls something"
        ),
        "a call of a list": (b"\x80\x02]]R.", r"calls something"),
        "the state of a list": (b"\x80\x02]}b.", r"sets the state of something"),
        "the state of a name": (b"\x80\x02cnumpy\nndarray\n}U\x01xK\x01sb.", r"sets the state of something"),
        "a set": (pickle.dumps({1, 2}, 4), r"instruction (EMPTY_SET|ADDITEMS)"),
        "an ordered dictionary": (pickle.dumps(collections.OrderedDict(a=1)), r"names collections\.OrderedDict"),
        "numbers of eight bytes": (pickle.dumps(np.arange(3), 4), r"array of other numbers than bytes"),
        "control characters": (b"\x80\x02cos\x1b[2J\nsystem\n.", r"names os\\x1b\[2J\.system"),
    }  # fmt: skip


@pytest.mark.parametrize("name", hostile(Path("x")))
def test_what_would_run_is_refused_and_does_not(name: str, tmp_path: Path) -> None:
    content, why = hostile(tmp_path / "ran")[name]
    before = set(sys.modules)
    with pytest.raises(DataFileError, match=f"^batch is refused: it .*{why}") as refused:
        read_plain(content, "batch")
    assert "nothing in it was run" in str(refused.value) and len(str(refused.value).splitlines()) == 1
    assert not (tmp_path / "ran").exists() and not set(sys.modules) - before


def test_such_a_pickle_would_have_run(tmp_path: Path) -> None:
    for name in ("os.system", "its name put together", "in a batch"):
        pickle.loads(hostile(tmp_path / name)[name][0])
        assert (tmp_path / name).exists(), name


LISTS_OF_LISTS = b"".join(
    (b"\x80\x02(]q\x00", *(b"]q" + bytes([n]) + b"(" + 2 * (b"h" + bytes([n - 1])) + b"e" for n in range(1, 99)), b"t.")
)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"\x80\x02Nr\xff\xff\xff\xff.", None),  # a memory of 4 billion places, of which Python would reserve 32 GB
        (LISTS_OF_LISTS, None),  # lists of two of the list before: 2**98 in all
        (b"\x80\x02]q\x00h\x00a.", None),  # a list that holds itself
        (b"\x80\x02" + 200_000 * b"]" + 199_999 * b"a" + b".", None),  # as deep as a file can be made
        (b"\x80\x02" + 1_000_001 * b"N", "more than 1,000,000 instructions"),
        (b"\x80\x02T\xff\xff\xff\x7fabc.", "damaged"),  # 2 GB that are not there
        (b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x7fabc.", "damaged"),
        (b"\x80\x02I" + 5000 * b"9" + b"\n.", "damaged"),
        (b"", "damaged"), (b"\x80", "damaged"), (b"\xff", "damaged"), (b"\x80\x02.", "0 values"),
        (b"\x80\x02e.", "mark"), (b"\x80\x02(e.", "list"), (b"\x80\x02a.", "values"), (b"\x80\x02h\x05.", "before"),
        (b"\x80\x02}(Ku.", "3 values"), (b"\x80\x02}(K\x01u.", "no value"), (b"\x80\x02}]Ns.", "key of type list"),
        (b"\x80\x02(q\x00.", "values"), (b"\x80\x02NN.", "2 values"), (b"\x80\x02N", "damaged|no end"),
        (b"PK\x03\x04", "damaged|instruction"), (b"<html>", "damaged|instruction"),
    ],
)  # fmt: skip
def test_a_bomb_costs_no_more_than_its_file_and_damage_is_said(content: bytes, why: str | None) -> None:
    if why is None:
        read_plain(content, "batch")
    else:
        with pytest.raises(DataFileError, match=f"^batch is refused: .*({why})"):
            read_plain(content, "batch")


@given(st.data())
def test_any_damage_is_refused_or_harmless(data: st.DataObject) -> None:
    content = bytearray(python_batch(IMAGES[:1], LABELS[:1]))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, 300))] = data.draw(st.integers(0, 255))
    try:
        read_plain(bytes(content), "batch")
    except DataFileError as error:
        assert len(str(error).splitlines()) == 1


def test_an_unknown_escape_in_a_text_is_damage_and_no_warning() -> None:
    with pytest.raises(DataFileError, match="it is damaged"):
        read_plain(b"S'\\u'\n.", "batch")


@pytest.mark.parametrize(
    ("shape", "pixels"), [((2, 2), b"abc"), ((3, 2), b"abcd"), ((-2, -2), b"abcd"), ((4,), b"abc"), ((), b"a")]
)
def test_an_array_has_the_bytes_of_its_shape(shape: tuple[int, ...], pixels: bytes) -> None:
    start = b"\x80\x02cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R(K\x01"
    sides = b"(" + b"".join(b"J" + struct.pack("<i", side) for side in shape) + b"t"
    content = start + sides + b"cnumpy\ndtype\nU\x02u1\x85R\x89U" + bytes([len(pixels)]) + pixels + b"tb."
    with pytest.raises(DataFileError, match="shape"):
        read_plain(content, "batch")
