"""Files that are measured and shown: of any data set, without their digits, with samples changed."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from capsbench.data.columns import columns_of
from capsbench.data.recipes import Recipe, make_recipe
from capsbench.files.datafile import DataFile, open_dataset
from capsbench.files.generation import generate_file
from capsbench.files.header import create_header

FULL = "c3f9adf9c66efb572b1f9326c3a511b45910c7173b97be66ceceeeeaef6b802b"
"""The digits of full MNIST's test split, which no test has."""


def recipe(name: str, **options: Any) -> Recipe:
    defaults: dict[str, Any] = {"split": "test", "digits": "embedded", "count": 100}
    return make_recipe(name, **(defaults | options))


def made(name: str, **options: Any) -> DataFile:
    return open_dataset(generate_file(recipe(name, **options), Path(f"{name}.h5")).path)


def without_digits(name: str) -> DataFile:
    """A file whose digits are not here: full MNIST's, by its spec."""
    one = recipe(name)
    spec = replace(one.spec, digits=FULL)
    create_header(Path("full.h5"), spec.to_json(), columns_of(one.generator, spec), 100)
    path = Path("full.h5")
    place = DataFile(path).extents["images"]
    with path.open("r+b") as file:
        file.seek(place.offset)
        file.write(made(name).images.tobytes())
    return DataFile(path)


def overwrite(file: DataFile, key: str, sample: int, content: bytes) -> None:
    place = file.extents[key]
    with file.path.open("r+b") as raw:
        raw.seek(place.offset + sample * place.sample_bytes)
        raw.write(content)
