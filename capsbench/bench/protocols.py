"""How a suite measures, without a network: a preset with its changes, and what identifies it; it loads no torch."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from capsbench import registry
from capsbench.bench.cells import Preset
from capsbench.bench.networks import labelled
from capsbench.contracts import Digits, Suite
from capsbench.data.digits import load_digits, sums_of
from capsbench.errors import ParameterError, UsageError, shown
from capsbench.parameters import check_choice, check_seed, construct
from capsbench.paths import user_path
from capsbench.report.gaps import gaps_of
from capsbench.report.headlines import headlines_of
from capsbench.sources.identity import Identity
from capsbench.sources.places import digest

FULL = ("medium", "paper")
"""Presets that never fall back to the embedded digits."""


@dataclass(frozen=True)
class Protocol:
    """How a suite measures: its settings, without a network.

    Attributes:
        preset: The preset's name.
        label: The preset's name with the settings that were changed.
        settings: An instance of the suite's settings.
        suite_identity: What the suite is made of.
        files: For each setting that names a file, the SHA-256 of its content.
        shows_digits: Whether the suite shows digits.
        kind: The suite.
    """

    preset: str
    label: str
    settings: Any
    suite_identity: Identity
    files: Mapping[str, str]
    shows_digits: bool
    kind: type[Suite]

    @classmethod
    def of(cls, suite: str, preset: str, changes: Mapping[str, str]) -> "Protocol":
        """The protocol of a suite's preset with some changes.

        Raises:
            UsageError: A name, a key or a value makes no sense.
        """
        kind = load_suite(suite, preset)
        stated = kind.presets[preset].settings
        settings = construct(type(stated), {**vars(stated), **changes}, owner=f"suite {suite!r}")
        changed = {key: value for key, value in vars(settings).items() if value != getattr(stated, key)}
        identity = registry.identify("suite", suite)
        named = {key: getattr(settings, key) for key in getattr(settings, "files", ())}
        files = {key: digest(user_path(path, key)) for key, path in named.items() if path}
        return cls(
            preset, labelled(preset, changed), settings, identity, files, getattr(kind, "needs_digits", True), kind
        )

    def origin(self, digits: str) -> str:
        """The name of the digits that are shown, such as ``"mnist"``; ``"none"`` where the suite shows no images.

        Of a suite with images of its own their origin.

        Raises:
            DataError: The digits or images are missing or damaged.
        """
        load = loader(self.kind)
        return load("test", digits, full=self.preset in full_presets(self.kind)).origin if load else "none"

    def sums(self, digits: str) -> dict[str, str]:
        """Which images are shown, where their name alone does not say; see `capsbench.data.digits.sums_of`.

        Raises:
            DataError: The digits or images are missing or damaged.
        """
        own: Callable[[str], dict[str, str]] | None = getattr(self.kind, "sums", None)
        if own:
            return own(digits)
        return sums_of(digits) if self.shows_digits else {}


def loader(kind: Any) -> Callable[..., Digits] | None:
    """What loads a split of the images that a suite shows: digits, or images of its own; None where it shows none."""
    own: Callable[..., Digits] | None = getattr(kind, "load", None)
    return own or (load_digits if getattr(kind, "needs_digits", True) else None)


def full_presets(kind: Any) -> Sequence[str]:
    """The presets of a suite that need the full set of its images."""
    presets: Sequence[str] = getattr(kind, "full", FULL)
    return presets


def load_suite(name: str, preset: str) -> type[Suite]:
    """A suite that has a preset.

    Raises:
        UsageError: There is no such suite, it lacks a part, or it has no such preset.
    """
    kind: type[Suite] = registry.load("suite", name)
    parts = ("version", "models", "image_size", "presets", "run", "table")
    missing = [part for part in parts if not hasattr(kind, part)]
    if missing:
        raise UsageError(f"{name!r} is not a suite: it lacks {', '.join(missing)}.")
    presets: Any = kind.presets
    if not isinstance(presets, Mapping) or not all(isinstance(one, Preset) for one in presets.values()):
        raise UsageError(f"The presets of suite {name!r} should map names to capsbench.bench.Preset(...).")
    for attribute, wanted in {"version": int, "models": Sequence, "image_size": int | tuple}.items():
        value = getattr(kind, attribute)
        if not isinstance(value, wanted):
            raise UsageError(f"The {attribute} of suite {name!r} is {shown(value)} ({type(value).__name__}).")
    headlines_of(name)  # what its boards and comparisons need is said before anything is trained
    gaps_of(name)
    check_choice(f"preset of suite {name!r}", preset, kind.presets)
    return kind


def check_seeds(seeds: Sequence[int]) -> None:
    """Refuses what are not different seeds.

    Raises:
        ParameterError: There are none, one comes twice, or one is out of range.
    """
    if isinstance(seeds, str) or not isinstance(seeds, Collection):
        raise ParameterError(f"seeds must be a sequence of whole numbers, such as (0, 1, 2), got {shown(seeds)}.")
    if len(seeds) == 0 or len(set(seeds)) < len(seeds):
        raise ParameterError(f"seeds must be different numbers, got {','.join(map(str, seeds)) or 'none'}.")
    for seed in seeds:
        check_seed(seed)
