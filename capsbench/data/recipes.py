"""From what a user asks for to a spec, and from a spec to the samples it stands for."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, is_dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from capsbench import registry
from capsbench.contracts import Digits, Generator, Sampler
from capsbench.data.digits import digits_by_hash, load_digits, name_of
from capsbench.errors import DataFileError, ParameterError, UnknownNameError, UsageError, shown
from capsbench.parameters import check_number, check_truth, construct, convert
from capsbench.randomness import check_seed
from capsbench.spec import IMPORT, IMPORTED, SPLITS, DataSpec

LARGEST_COUNT = 2**40


@dataclass(frozen=True)
class Recipe:
    """A spec with everything at hand to draw its samples.

    Attributes:
        spec: Everything that determines them.
        generator: The data set with its parameters.
        digits: The source digits.
        name: What the registry knows the data set by; of a user's own file with its whole path.
    """

    spec: DataSpec
    generator: Generator
    digits: Digits
    name: str

    def __reduce__(self) -> tuple[Any, ...]:
        # A user's own file is no module that another process could import; and tables are made where they are used.
        return _remade, (self.name, self.spec, self.digits)

    @cached_property
    def sampler(self) -> Sampler:
        """Draws the samples; made on first use, for it prepares tables of all digits."""
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
        name: What the registry knows it by, ``package.module:attribute`` or ``file.py:attribute``.
        split: One of `capsbench.spec.SPLITS`.
        seed: 0..2**64-1.
        count: Number of samples; the digits of the split times ``variants`` where it is not given.
        variants: Samples a digit; 1, or what the preset says.
        preset: A named set of parameters; ``paper`` never falls back to the embedded digits.
        parameters: What differs from the preset, as text or typed.
        layers: Whether a file of it keeps each digit alone.
        digits: ``auto``, ``embedded`` or a folder of IDX files.

    Raises:
        UsageError: A name, a key or a value makes no sense.
        DigitsError: The digits are missing or damaged.
    """
    check_truth("layers", layers)
    if not isinstance(digits, str | Path):
        raise ParameterError(f"digits={shown(digits)} was asked for; it takes auto, embedded or a folder.")
    if split not in SPLITS:
        raise UnknownNameError("split", split, SPLITS)
    if name == IMPORTED:
        raise UsageError(f"{IMPORTED!r} cannot be drawn: it is the real affNIST, imported with: {IMPORT}")
    owner = f"data set {name!r}"
    kind = _load(name)
    settings = dict(_preset(owner, kind, preset))
    settings_variants = settings.pop("variants", 1)
    generator = construct(kind, settings | dict(parameters or {}), owner=owner)
    check_seed(seed)
    source = load_digits(split, digits, full=preset == "paper")
    count = _count(count, variants, settings_variants, len(source))
    spec = DataSpec(
        generator=name if "/" not in name else Path(name).name,  # of a user's file no path stands in a spec
        version=kind.version,
        split=split,
        seed=seed,
        count=count,
        parameters=_plain(asdict(generator)),
        layers=layers,
        digits=source.sha256,
    )
    return Recipe(spec, generator, source, _absolute(name))


def _count(count: int | None, variants: int | None, preset: int, digits: int) -> int:
    """How many samples: as many as are asked for, else each digit as many times as is, or as the preset says."""
    if count is None:
        variants = preset if variants is None else convert("variants", variants, int)
        check_number("variants", variants, 1, LARGEST_COUNT // digits)
        return digits * variants
    if variants is not None:
        asked = f"A count of {shown(count)} and {shown(variants)} variants a digit"
        raise ParameterError(f"{asked} were asked for; give one of them.")
    count = convert("count", count, int)
    check_number("count", count, 1, LARGEST_COUNT)
    return count


def recipe_of(spec: DataSpec, digits: str = "auto") -> Recipe:
    """The recipe of a spec that was read from a file.

    Args:
        spec: What to draw.
        digits: Where to look for the digits whose hash the spec names: ``auto``, ``embedded`` or a folder.

    Raises:
        DataFileError: The generator is not here, is of another version, or refuses the parameters.
        DigitsError: The digits are not here.
    """
    if spec.imported:
        raise DataFileError(
            f"The samples were imported from a file of affNIST and cannot be drawn anew. Import it again: {IMPORT}\n"
            f"Its SHA-256 was {str(spec.parameters.get('mat'))[:64]}."
        )
    if ":" in spec.generator:  # a file from elsewhere must not name the code that is run to check it
        raise DataFileError(
            f"The file was drawn by {spec.generator!r}, which is no data set that is installed here; "
            "code that a file names is not run."
        )
    try:
        kind = _load(spec.generator)
        generator = construct(kind, spec.parameters, owner=f"data set {spec.generator!r}")
    except ValueError as error:
        raise DataFileError(f"The file's spec cannot be drawn here. {error}") from None
    if kind.version != spec.version:
        raise DataFileError(
            f"The file was made by version {spec.version} of {spec.generator!r}; "
            f"here is version {kind.version}, which draws other samples."
        )
    return Recipe(spec, generator, digits_by_hash(spec.digits, spec.split, digits), spec.generator)


def spec_difference(asked: DataSpec, found: DataSpec) -> str:
    """What differs between two specs, in words: ``seed: asked 1, found 0``."""
    ours, theirs = _flat(asked), _flat(found)
    keys = [key for key in ours | theirs if ours.get(key) != theirs.get(key)]
    return "; ".join(f"{key}: asked {ours.get(key, 'nothing')}, found {theirs.get(key, 'nothing')}" for key in keys)


def _remade(name: str, spec: DataSpec, digits: Digits) -> Recipe:
    return Recipe(spec, construct(_load(name), spec.parameters, owner=f"data set {name!r}"), digits, name)


def _absolute(name: str) -> str:
    """A name that holds in another working folder, too."""
    place, _, attribute = name.rpartition(":")
    return f"{Path(place).expanduser().resolve()}:{attribute}" if place.endswith(".py") else name


def _load(name: str) -> Any:
    """The class of a data set."""
    kind = registry.load("data set", name)
    missing = [
        part for part in ("version", "number", "presets", "pairs", "motion", "sampler") if not hasattr(kind, part)
    ]
    if missing or not is_dataclass(kind):
        lacks = f"it lacks {', '.join(missing)}" if missing else "it is no dataclass"
        raise UsageError(f"The data set {name!r} was asked for, but that is none: {lacks}.")
    return kind


def _preset(owner: str, kind: Any, preset: str | None) -> Mapping[str, Any]:
    if preset is None:
        return {}
    if preset not in kind.presets:
        raise UnknownNameError(f"preset of {owner}", preset, kind.presets)
    settings: Mapping[str, Any] = kind.presets[preset]
    return settings


def _flat(spec: DataSpec) -> dict[str, Any]:
    content = spec.to_dict()
    content["digits"] = f"{name_of(spec.digits) or 'others'} ({spec.digits[:12]})"
    parameters: dict[str, Any] = content.pop("parameters")
    return content | parameters


def _plain(parameters: Mapping[str, Any]) -> dict[str, Any]:
    return {key: list(value) if isinstance(value, tuple) else value for key, value in parameters.items()}
