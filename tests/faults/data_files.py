"""Data files to be damaged, and how a reader sees them."""

import hashlib
import os
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from capsbench.cli import main as command
from capsbench.data.columns import BLOCK, DIGEST_BYTES, DTYPES
from capsbench.data.recipes import make_recipe
from capsbench.errors import CapsbenchError, DataError, DataFileError
from capsbench.files.datafile import DataFile, open_dataset
from capsbench.files.generation import generate_file, repair_file
from capsbench.files.layout import Extent
from capsbench.files.packed import CHUNK
from capsbench.files.packing import pack_file, unpack_file

from .mutation import Damage, Draw, bits, extremes

PATH = Path("mutated.h5")
FEW, TWO_BLOCKS = 60, BLOCK + 40
TWO = ((TWO_BLOCKS, 0, None), (TWO_BLOCKS, 1, None))


def seen(file: DataFile) -> str:
    """The SHA-256 of all that a file shows."""
    whole = hashlib.sha256(file.spec.to_json().encode() + file.digest.encode())
    for name in ("images", "labels", "source", "shift", "transform", "scraps"):
        array: Any = getattr(file, name)
        whole.update(b"none" if array is None else array.tobytes())
    return whole.hexdigest()


class Contiguous:
    """The files that `generate` makes: one block and two, each with two seeds."""

    header = 3072
    refusal: type[CapsbenchError] = DataFileError

    def __init__(self) -> None:
        self.goods: Sequence[bytes] = []
        self.contents: set[str] = set()
        self.extents: Mapping[str, Extent] = {}
        self.damages: Sequence[Damage] = (
            self._blocks_swapped,
            self._data_of_another,
            self._digest_forged,
        )
        goods: list[bytes] = []
        for count, seed, shard in ((FEW, 0, None), (FEW, 1, None), (FEW, 0, range(20, 50)), *TWO):
            recipe = make_recipe(
                "padded", split="test", digits="embedded", count=count, seed=seed, parameters={"size": 28, "shift": 2}
            )
            path = self.made(generate_file(recipe, Path(f"{len(goods)}.h5"), shard=shard).path)
            goods.append(path.read_bytes())
            file = open_dataset(path)
            self.contents.add(seen(file))
            self.extents = file.extents  # of the last, which has two blocks
        self.goods = goods

    def made(self, path: Path) -> Path:
        """A file of this kind, from a contiguous one."""
        return path

    def read(self, content: bytes, draw: Draw) -> str:
        """As `open_dataset` sees it; now and then as the commands do, and as it is after a repair."""
        PATH.write_bytes(content)
        way = draw.randrange(8)
        if way == 0:
            return self._repaired()
        try:
            found = seen(open_dataset(PATH))
        except DataFileError:
            if way in (1, 2):
                self._told(["verify", "info"][way - 1])
            raise
        return found

    def _repaired(self) -> str:
        """A file that can be mended is, from what its own spec says; one whose spec is gone is refused."""
        try:
            repair_file(PATH)
        except DataError as error:
            raise DataFileError(str(error)) from None
        return seen(open_dataset(PATH))

    def _told(self, name: str) -> None:
        """A command says the same in a line or two."""
        saved = os.dup(2)
        with Path("err").open("wb") as file:
            os.dup2(file.fileno(), 2)
        try:
            command([name, str(PATH)])
        except SystemExit as stop:
            assert stop.code == 3, stop.code
        finally:
            os.dup2(saved, 2)
        text = Path("err").read_text()
        assert text.startswith("Error: ") and text.count("\n") <= 2 and "Traceback" not in text, text

    def _blocks_swapped(self, content: bytes, draw: Draw) -> bytes:
        """The first samples of two blocks stand in each other's place, and perhaps their digests, too."""
        data = bytearray(draw.choice(self.goods[-2:]))
        rows = draw.choice((1, 40))
        for name in [*(name for name in DTYPES if name in self.extents), "digests"]:
            place = self.extents[name]
            width = DIGEST_BYTES if name == "digests" else rows * place.sample_bytes
            second = place.offset + (DIGEST_BYTES if name == "digests" else BLOCK * place.sample_bytes)
            if name == "digests" and draw.random() < 0.5:
                continue
            first = slice(place.offset, place.offset + width)
            other = slice(second, second + width)
            data[first], data[other] = data[other], data[first]
        return bytes(data)

    def _data_of_another(self, content: bytes, draw: Draw) -> bytes:
        """Some data sets are those of the file of another seed, whole, and perhaps all but the header is."""
        one, other = draw.sample(self.goods[-2:], 2)
        data = bytearray(one)
        for name in draw.sample(sorted(self.extents), draw.randint(1, len(self.extents))):
            place = self.extents[name]
            size = place.shape[0] * place.sample_bytes
            data[place.offset : place.offset + size] = other[place.offset : place.offset + size]
        return bytes(data)

    def _digest_forged(self, content: bytes, draw: Draw) -> bytes:
        """A sample is another's, and the digest of its block is made to fit: the root digest is not."""
        data = bytearray(self.goods[-1])
        labels = self.extents["labels"]
        data[labels.offset] ^= 1
        whole = hashlib.sha256()
        for name in DTYPES:
            if name in self.extents:
                place = self.extents[name]
                whole.update(data[place.offset : place.offset + BLOCK * place.sample_bytes])
        start = self.extents["digests"].offset
        data[start : start + DIGEST_BYTES] = whole.digest()
        return bytes(data)


class Packed(Contiguous):
    """The same files, as `pack` makes them; the index of their chunks lies behind these."""

    def __init__(self) -> None:
        super().__init__()
        self.damages = (self._chunk_replaced, self._chunk_deflated_anew, self._index_hit)
        self.ends = [
            max(
                offset + length
                for place in DataFile(Path(f"{k}-packed.h5")).extents.values()
                for offset, length in place.chunks
            )
            for k in range(len(self.goods))
        ]

    def made(self, path: Path) -> Path:
        """A file of this kind, from a contiguous one."""
        return pack_file(path, path.with_name(f"{path.stem}-packed.h5")).path

    def _repaired(self) -> str:
        """A packed file cannot be mended, but unpacked."""
        for path in Path().glob("unpacked.*"):
            path.unlink()
        try:
            return seen(open_dataset(unpack_file(PATH, Path("unpacked.h5")).path))
        except DataError as error:
            assert not Path("unpacked.h5").exists()
            raise DataFileError(str(error)) from None

    def _chunk_replaced(self, content: bytes, draw: Draw) -> bytes:
        """A chunk that inflates well, to other samples, or too many or too few bytes."""
        data = bytearray(self.goods[-1])
        place = self.extents[draw.choice(("images", "labels", "source", "shift"))]
        offset, length = draw.choice(place.chunks)
        size = CHUNK * place.sample_bytes
        value = draw.randrange(4)
        chunk = zlib.compress(bytes([value]) * draw.choice((size, size, size - 1, size + 1, 50_000_000)), 9)
        data[offset : offset + length] = chunk[:length].ljust(length, draw.choice((b"\0", b"\1")))
        return bytes(data)

    def _chunk_deflated_anew(self, content: bytes, draw: Draw) -> bytes:
        """A chunk with another pixel, deflated to the same length: nothing is wrong with it but the digest."""
        data = bytearray(self.goods[-1])
        while True:
            offset, length = draw.choice(self.extents["images"].chunks)
            pixels = bytearray(zlib.decompress(data[offset : offset + length]))
            pixels[draw.randrange(4 * 784)] ^= draw.randrange(1, 256)
            deflate = zlib.compressobj(6, zlib.DEFLATED, zlib.MAX_WBITS, 9, zlib.Z_RLE)
            chunk = deflate.compress(pixels) + deflate.flush()
            if len(chunk) == length:
                data[offset : offset + length] = chunk
                return bytes(data)

    def _index_hit(self, content: bytes, draw: Draw) -> bytes:
        """Bits or bytes of what comes behind the chunks."""
        number = draw.randrange(len(self.goods))
        good, end = self.goods[number], self.ends[number]
        behind = good[end:] or good[-64:]
        return good[: len(good) - len(behind)] + draw.choice((bits, extremes))(behind, draw)


def forged(file: DataFile) -> bool:
    """Whether each block has its digest, but these have not the root digest that was set."""
    return not file.bad_blocks() and not file.root_holds() and bytes.fromhex(file.digest) != bytes(DIGEST_BYTES)
