"""Source digits to be damaged: IDX files, plain and gzipped, of MNIST's names and of few digits."""

import gzip
import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from capsbench.data.digits import load_digits
from capsbench.data.idx import FILES, IdxFile
from capsbench.errors import CapsbenchError, DigitsError

from .mutation import EXTREMES, Damage, Draw

COUNT = 50
FOLDER = Path("digits")
IMAGES, LABELS = "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"


def idx_file(*shape: int) -> bytes:
    """An IDX file of unsigned bytes."""
    values = np.random.default_rng(0).integers(0, 256 if len(shape) > 1 else 10, shape, np.uint8)
    return bytes([0, 0, 8, len(shape)]) + np.array(shape, ">u4").tobytes() + values.tobytes()


class Idx:
    """Plain files, of which every bit is vouched for by the MD5."""

    header = 16
    damages: Sequence[Damage] = ()
    refusal: type[CapsbenchError] = DigitsError
    ending = ""

    def __init__(self) -> None:
        FOLDER.mkdir(exist_ok=True)
        for name, file in FILES.items():
            content = idx_file(COUNT, *file.shape[1:])
            FILES[name] = IdxFile(self.md5(content), (COUNT, *file.shape[1:]))
            (FOLDER / name).write_bytes(content)
        self.plain = {name: (FOLDER / name).read_bytes() for name in (IMAGES, LABELS)}
        self.goods: Sequence[bytes] = [self.packed(content) for content in self.plain.values()]
        self.contents = {self.seen()}

    @staticmethod
    def md5(content: bytes) -> str:
        """As the table of files has it."""
        return hashlib.md5(content, usedforsecurity=False).hexdigest()

    @staticmethod
    def packed(content: bytes) -> bytes:
        """As it lies in the folder."""
        return content

    @staticmethod
    def seen() -> str:
        """The SHA-256 of the digits of the folder."""
        return load_digits("test", FOLDER).sha256

    def read(self, content: bytes, draw: Draw) -> str:
        """The digits with one of the two files replaced."""
        self.put(self.named(content, draw), content)
        return self.seen()

    def named(self, content: bytes, draw: Draw) -> str:
        """Which of the two files a content is to be: that which it was made from, and sometimes the other."""
        names = (LABELS, IMAGES) if len(content) < 1000 else (IMAGES, LABELS)
        return names[content not in self.goods and draw.random() < 0.1]

    def put(self, name: str, content: bytes) -> None:
        """Replaces one of the two files; the other is whole."""
        for other, plain in self.plain.items():
            (FOLDER / f"{other}.gz").unlink(missing_ok=True)
            (FOLDER / other).write_bytes(plain)
        (FOLDER / name).unlink()
        (FOLDER / f"{name}{self.ending}").write_bytes(content)


class Gz(Idx):
    """Gzipped files."""

    header = 24
    ending = ".gz"

    def __init__(self) -> None:
        super().__init__()
        self.damages = (self._bomb, self._members, self._deflated_anew)

    @staticmethod
    def packed(content: bytes) -> bytes:
        """As it lies in the folder."""
        return gzip.compress(content, 6, mtime=0)

    def _bomb(self, content: bytes, draw: Draw) -> bytes:
        """A gigabyte of nothing, some of it after the digits."""
        member = gzip.compress(bytes(1_000_000), 9, mtime=0)
        return draw.choice((b"", content)) + member * 1000

    def _members(self, content: bytes, draw: Draw) -> bytes:
        """A file of several members, in any order, one of which may be cut."""
        raw = gzip.decompress(content)
        middle = draw.randrange(len(raw))
        members = [gzip.compress(part, mtime=0) for part in (raw[:middle], raw[middle:])]
        draw.shuffle(members)
        return members[0] + members[1][: draw.choice((None, -1, -9, 12))]

    def _deflated_anew(self, content: bytes, draw: Draw) -> bytes:
        """Something else, well packed: nothing is wrong with it but the MD5."""
        raw = bytearray(gzip.decompress(content))
        raw[draw.randrange(len(raw))] ^= 1 << draw.randrange(8)
        return self.packed(bytes(raw))


class Vouched(Idx):
    """Plain files whose MD5 is always right: what is left is the reader itself.

    It reads no number of the header, for the MD5 vouches for it, so that what it gives is the bytes after it, or an
    error if they are too few or too many.
    """

    def __init__(self) -> None:
        super().__init__()
        self.damages = (self._header_replaced,)

    def read(self, content: bytes, draw: Draw) -> str:
        """The digits with one of the two files replaced, whose MD5 is what the table asks for."""
        name = self.named(content, Draw(0))
        self.put(name, content)
        FILES[name] = IdxFile(self.md5(content), FILES[name].shape)
        body = {key: plain[FILES[key].header_size :] for key, plain in (self.plain | {name: content}).items()}
        found = self.seen()
        if found == hashlib.sha256(body[IMAGES] + body[LABELS]).hexdigest():
            return next(iter(self.contents))  # as good as the same: all of its bytes, each in its place
        return found

    def _header_replaced(self, content: bytes, draw: Draw) -> bytes:
        """Another magic number, and sizes that are huge, negative, zero or swapped."""
        rank = content[3]
        fields = [draw.choice((0, 1, 28, COUNT, 2**31, 2**32 - 1, draw.choice(EXTREMES))) for _ in range(rank)]
        magic = bytes([draw.choice(EXTREMES), 0, draw.choice((8, 9, 13, 255)), draw.choice((rank, 0, 255))])
        return magic + np.array(fields, ">u4").tobytes() + content[4 + 4 * rank :]
