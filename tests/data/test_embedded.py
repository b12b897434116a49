"""The digits that ship in the package."""

from pathlib import Path

import pytest

from capsbench.data import embedded
from capsbench.data.digits import load_digits
from capsbench.data.places import status
from capsbench.errors import DigitsError

pytestmark = pytest.mark.usefixtures("nowhere")


def test_damaged_package_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = bytearray(embedded.FILE.read_bytes())
    content[1000] ^= 1
    damaged = tmp_path / "digits.npz"
    damaged.write_bytes(content)
    monkeypatch.setattr(embedded, "FILE", damaged)
    with pytest.raises(DigitsError, match=r"digits\.npz is damaged(.|\n)*Reinstall capsbench"):
        load_digits("test", "embedded")
    assert {one.name: one.state for one in status()}["embedded"] == "damaged"
    damaged.unlink()
    with pytest.raises(DigitsError, match="cannot be read"):
        load_digits("test", "embedded")


def test_the_first_embedded_digits_are_those_everyone_knows() -> None:
    assert load_digits("trainval", "embedded").labels[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert load_digits("test", "embedded").labels[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
