"""The digits that ship are those that the tool cuts; needs full MNIST, for instance in $CAPSBENCH_DIGITS."""

import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from capsbench.data import embedded
from capsbench.data.places import auto_source

TOOL = Path(__file__).parents[2] / "tools" / "cut_digits.py"
FULL_MNIST = auto_source()


@pytest.mark.skipif(FULL_MNIST is None, reason="full MNIST is not on this machine")
def test_tool_cuts_what_ships(tmp_path: Path) -> None:
    outs = [tmp_path / "one.npz", tmp_path / "two.npz"]
    for out in outs:  # the exit code is 1 where another zlib packs the same arrays into other bytes
        subprocess.run([sys.executable, TOOL, str(FULL_MNIST), out], check=False, capture_output=True, text=True)
    assert len({hashlib.sha256(out.read_bytes()).hexdigest() for out in outs}) == 1
    with np.load(outs[0]) as cut, np.load(embedded.FILE) as shipped:
        assert cut.files == shipped.files
        for name in cut.files:
            np.testing.assert_array_equal(cut[name], shipped[name])


def test_places_in_mnist_are_kept_in_file_order() -> None:
    with np.load(embedded.FILE) as shipped:
        assert (np.diff(shipped["train_index"]) > 0).all()
        assert (np.diff(shipped["test_index"]) > 0).all()
