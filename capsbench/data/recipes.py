"""From a user's request to a spec, and from a spec to its samples."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, is_dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from capsbench import registry
from capsbench.contracts import Digits, Generator, Sampler
from capsbench.data.columns import EXTRAS
from capsbench.data.digits import digits_of_spec, load_digits, origin_of
from capsbench.data.naming import named_digits
from capsbench.errors import DataFileError, ParameterError, UsageError, shown
from capsbench.parameters import check_choice, check_number, check_seed, check_truth, construct, convert
from capsbench.paths import resolved
from capsbench.spec import IMPORT, IMPORTED, MNIST, SPLITS, DataSpec

LARGEST_COUNT = 2**40


@dataclass(frozen=True)
class Recipe:
    """A spec with everything that is needed to draw its samples.

    Attributes:
        spec: Everything that determines them.
        generator: The data set with its parameters.
        digits: The source digits.
        name: The data set's name in the registry; for a user's own file with its absolute path.
    """

    spec: DataSpec
    generator: Generator
    digits: Digits
    name: str

    def __reduce__(self) -> tuple[Any, ...]:
        # Another process cannot import a user's own file as a module; and tables are made where they are used.
        return _remade, (self.name, self.spec, self.digits)

    @cached_property
    def sampler(self) -> Sampler:
        """Draws the samples; made on first use, because it prepares tables of all digits."""
        return self.generator.sampler(self.digits, self.spec.seed)


def make_recipe(
    name: str,
    *,
    split: str,
    seed: int = 0,
    count: int | None = None,
    variants: int | None = None,
    preset: str | None = None,
    parameters: Mapping[str, Any] | None = None,
    layers: bool = False,
    digits: str | Path = "auto",
) -> Recipe:
    """The recipe of a data set.

    Args:
        name: A name in the registry, ``package.module:attribute`` or ``file.py:attribute``.
        split: One of `capsbench.spec.SPLITS`.
        seed: 0..2**64-1.
        count: Number of samples; by default the digits of the split times ``variants``.
        variants: Samples a digit; by default 1, or what the preset says.
        preset: A named set of parameters; ``paper`` never falls back to the embedded digits.
        parameters: Parameters that differ from the preset, as text or typed.
        layers: Whether its file also keeps each digit alone.
        digits: ``auto``, ``embedded`` or a folder of IDX files.

    Raises:
        UsageError: A name, a key or a value is not valid.
        DigitsError: The digits are missing or damaged.
    """
    check_truth("layers", layers)
    digits = named_digits(digits)
    check_choice("split", split, SPLITS)
    if name == IMPORTED:
        raise UsageError(f"{IMPORTED!r} cannot be generated: it is the real affNIST. Import it: {IMPORT}")
    owner = f"data set {name!r}"
    dataset = _load(name)
    settings = dict(_preset(owner, dataset, preset))
    settings_variants = settings.pop("variants", 1)
    generator = construct(dataset, settings | dict(parameters or {}), owner=owner)
    check_seed(seed)
    source = load_digits(split, digits, full=preset == "paper")
    count = _count(count, variants, settings_variants, len(source))
    spec = DataSpec(
        generator=name if "/" not in name else Path(name).name,  # a spec holds no path of a user's file
        version=dataset.version,
        split=split,
        seed=seed,
        count=count,
        parameters=_written(asdict(generator), getattr(dataset, "unwritten", {})),
        layers=layers,
        digits=source.sha256,
        digits_name="" if source.origin in MNIST else source.origin,
    )
    return Recipe(spec, generator, source, _absolute(name))


def _count(count: int | None, variants: int | None, preset: int, digits: int) -> int:
    """The number of samples: the count, or the digits times the variants of the user or of the preset."""
    if count is None:
        variants = preset if variants is None else convert("variants", variants, int)
        check_number("variants", variants, 1, LARGEST_COUNT // digits)
        return digits * variants
    if variants is not None:
        raise ParameterError(f"Give count or variants, not both; got {shown(count)} and {shown(variants)}.")
    count = convert("count", count, int)
    check_number("count", count, 1, LARGEST_COUNT)
    return count


def recipe_of(spec: DataSpec, digits: str = "auto") -> Recipe:
    """The recipe of a spec that was read from a file.

    Args:
        spec: The spec.
        digits: Where the digits are whose hash the spec names: ``auto``, ``embedded`` or a folder.

    Raises:
        DataFileError: The generator is not installed, is of another version, or refuses the parameters.
        DigitsError: The digits were not found.
    """
    if spec.imported:
        raise DataFileError(
            f"Imported samples cannot be drawn from their spec. Import the file of affNIST again: {IMPORT}\n"
            f"Its SHA-256 was {str(spec.parameters.get('mat'))[:64]}."
        )
    if spec.chosen:
        raise DataFileError(
            "The file holds some samples of a data set, which a suite chose; they cannot be drawn from the spec alone. "
            "Make them again: capsbench tests --suite S --out DIR"
        )
    if ":" in spec.generator:  # a file from elsewhere must not choose the code that checks it
        raise DataFileError(
            f"The file was drawn by {spec.generator!r}, which is not an installed data set; "
            "we do not run code that a file names."
        )
    try:
        dataset = _load(spec.generator)
        generator = construct(dataset, spec.parameters, owner=f"data set {spec.generator!r}")
    except ValueError as error:
        raise DataFileError(f"The spec of the file cannot be drawn with this installation. {error}") from None
    if dataset.version != spec.version:
        raise DataFileError(
            f"The file was made by version {spec.version} of {spec.generator!r}; "
            f"version {dataset.version} is installed, which draws other samples."
        )
    return Recipe(spec, generator, digits_of_spec(spec, digits), spec.generator)


def spec_difference(asked: DataSpec, found: DataSpec) -> str:
    """The differences between two specs in words, such as ``seed: asked 1, found 0``."""
    ours, theirs = _flat(asked), _flat(found)
    keys = [key for key in ours | theirs if ours.get(key) != theirs.get(key)]
    return "; ".join(f"{key}: asked {ours.get(key, 'nothing')}, found {theirs.get(key, 'nothing')}" for key in keys)


def _remade(name: str, spec: DataSpec, digits: Digits) -> Recipe:
    return Recipe(spec, construct(_load(name), spec.parameters, owner=f"data set {name!r}"), digits, name)


def _absolute(name: str) -> str:
    """A name that is valid in another working folder, too."""
    place, _, attribute = name.rpartition(":")
    return f"{resolved(place)}:{attribute}" if place.endswith(".py") else name


def _load(name: str) -> Any:
    """The class of a data set."""
    dataset = registry.load("data set", name)
    missing = [
        part for part in ("version", "number", "presets", "pairs", "motion", "sampler") if not hasattr(dataset, part)
    ]
    if missing or not is_dataclass(dataset):
        lacks = f"it lacks {', '.join(missing)}" if missing else "it is not a dataclass"
        raise UsageError(f"{name!r} is not a data set: {lacks}.")
    extras = getattr(dataset, "extras", ())
    if not isinstance(extras, tuple | list) or not set(extras) <= set(EXTRAS):
        raise UsageError(f"{name!r} is not a data set: its extras must be some of {EXTRAS}, got {shown(extras)}.")
    return dataset


def _preset(owner: str, dataset: Any, preset: str | None) -> Mapping[str, Any]:
    if preset is None:
        return {}
    check_choice(f"preset of {owner}", preset, dataset.presets)
    settings: Mapping[str, Any] = dataset.presets[preset]
    return settings


def _flat(spec: DataSpec) -> dict[str, Any]:
    content = spec.to_dict()
    content.pop("digits_name", None)
    content["digits"] = f"{origin_of(spec) or 'others'} ({spec.digits[:12]})"
    parameters: dict[str, Any] = content.pop("parameters")
    return content | parameters


def _written(parameters: Mapping[str, Any], unwritten: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters as a spec states them: those are left out that have the value that goes without saying."""
    plain = {key: list(value) if isinstance(value, tuple) else value for key, value in parameters.items()}
    return {key: value for key, value in plain.items() if key not in unwritten or value != unwritten[key]}
