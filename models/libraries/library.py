"""What builds a network of a library: created at the size and the channels that suit the images."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from importlib.metadata import version
from typing import Any, ClassVar

import torch
from torch import nn

from capsbench.errors import UsageError, first_line, shown
from capsbench.models.libraries.fitting import FACTORS, Enlarge, ShapesAlone, last_map, small_stem
from capsbench.parameters import ImageSize, check_choice, check_number, image_shape
from capsbench.sources.seeding import seeded

STEMS = ("small", "imagenet")
NEAREST = 3  # names that a message lists
WEIGHTS = ("weights", "weights_backbone", "pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "checkpoint_path")
CHOSEN = ("num_classes", "in_chans", "in_channels", "img_size", "input_size", "aux_logits", "features_only", "pairs")


@dataclass(frozen=True)
class Fit:
    """How a network is fitted to images of a size.

    Attributes:
        factor: By how much the images are enlarged.
        why: Why they are, in words; empty where they are not.
    """

    factor: int
    why: str = ""


Create = Callable[[tuple[int, int]], tuple[nn.Module, list[str]]]
"""From height and width to a network, and what was changed in it, in words."""

_FITS: dict[tuple[Any, ...], Fit] = {}  # by all that determines them: finding one takes seconds


class LibraryNetwork(ABC):
    """Builds one network of a library.

    Args:
        name: The library's own name of the network.

    Raises:
        UsageError: There is no such network in the library, or the name leads to weights.
    """

    library: ClassVar[str]

    def __init__(self, name: str) -> None:
        known = self.names()
        if name not in known:
            near = get_close_matches(name, known, n=NEAREST) or get_close_matches(name, known, n=NEAREST, cutoff=0.3)
            raise UsageError(
                f"No network of {self.library} is called {shown(name)!r}. The nearest: {', '.join(near) or 'none'}. "
                f"{self.where()}"
            )
        self.name = name

    @property
    def place(self) -> str:
        """Its name with the library's."""
        return f"{self.library}:{self.name}"

    @classmethod
    @abstractmethod
    def names(cls) -> Sequence[str]:
        """The networks of the library."""

    @classmethod
    @abstractmethod
    def where(cls) -> str:
        """A sentence: where the names stand."""

    @abstractmethod
    def create(
        self, channels_in: int, shape: tuple[int, int], classes: int, patch: int | None, settings: Mapping[str, Any]
    ) -> tuple[nn.Module, list[str]]:
        """The network for images ``[B, channels_in, *shape]``, and what was changed in it, in words.

        Args:
            channels_in: Channels of an image.
            shape: Height and width in pixels.
            classes: Number of classes.
            patch: Side of a transformer's patches in pixels; None takes 4 where the library lets it be chosen.
            settings: Passed on to the library.

        Raises:
            Exception: Whatever the library raises, where the network does not exist in this size.
        """

    def __call__(
        self,
        *,
        image_size: ImageSize = 28,
        classes: int = 10,
        channels_in: int = 1,
        stem: str | None = None,
        patch: int | None = None,
        upsample: str | int = "auto",
        **settings: Any,
    ) -> nn.Module:
        """The network, with fresh weights.

        Args:
            image_size: Height and width in pixels; one number is a square.
            classes: Number of classes.
            channels_in: Channels of an image: 1 of grey images, 3 of colours.
            stem: Of a residual network, ``"small"`` (the default: 3x3, stride 1, no pooling) or ``"imagenet"``.
            patch: Side of a transformer's patches in pixels; by default 4.
            upsample: By how much images are enlarged: 1, 2, 4, or ``"auto"``: as little as the network needs to work,
                with a last map of more than one place.
            **settings: Parameters of the library's own.

        Raises:
            UsageError: It does not work on images of this size, or a setting is capsbench's to choose.
        """
        settings.pop("pairs", None)  # the loss alone depends on it
        shape = image_shape(image_size)
        self._check(stem, patch, upsample, settings)

        def create(shape: tuple[int, int]) -> tuple[nn.Module, list[str]]:
            model, changed = self.create(channels_in, shape, classes, patch, settings)
            return model, [*changed, *small_stem(self.name, model, channels_in, stem)]

        key = (
            type(self),
            self.name,
            channels_in,
            shape,
            classes,
            stem,
            patch,
            upsample,
            repr(sorted(settings.items())),
        )
        if key not in _FITS:
            _FITS[key] = _fit(self.place, create, (channels_in, *shape), upsample)
        found = _FITS[key]
        model, changed = create((shape[0] * found.factor, shape[1] * found.factor))
        words = ", ".join(["not pretrained", told_channels(channels_in), *changed])
        remarks = [f"{self.library} {version(self.library)}: {words}."]
        if found.factor > 1:
            model.register_forward_pre_hook(Enlarge(found.factor))
            remarks.append(f"images of {shape[0]}x{shape[1]} are enlarged {found.factor} times (bilinear){found.why}.")
        vars(model).update(remarks=tuple(remarks), channels_last=True)
        return model

    def _check(self, stem: str | None, patch: int | None, upsample: str | int, settings: Mapping[str, Any]) -> None:
        place = self.place
        for key in settings:
            if key in WEIGHTS:
                raise UsageError(
                    f"--set {place}.{key} cannot be set: capsbench downloads no weights. Measure weights of your own "
                    "with --weights FILE."
                )
            if key in CHOSEN:
                raise UsageError(f"--set {place}.{key} cannot be set: capsbench chooses it.")
        if stem is not None:
            check_choice(f"stem of {place}", stem, STEMS)
        if patch is not None:
            check_number("patch", patch, 1, 64)
        if upsample != "auto":
            check_choice(f"upsample of {place}", str(upsample), ["auto", *map(str, FACTORS)])


def told_channels(number: int) -> str:
    """Channels that come in, in words."""
    return "one input channel" if number == 1 else f"{number} input channels"


def _fit(place: str, create: Create, images: tuple[int, int, int], upsample: str | int) -> Fit:
    """By how much images, of channels, height and width, must be enlarged for a network.

    Raises:
        UsageError: The network works with none of the factors.
    """
    channels_in, *shape = images
    reasons: dict[str, None] = {}
    lonely: Fit | None = None
    for factor in FACTORS if upsample == "auto" else (int(upsample),):
        size = shape[0] * factor, shape[1] * factor
        try:
            places = _tried(create, size, channels_in)
        except UsageError:
            raise
        except Exception as error:  # a library refuses a size in many ways
            reasons[first_line(error)] = None
            continue
        why = "" if upsample != "auto" else ", because it fails on them as they are"
        if lonely is not None:
            why = ", because its last map would be 1x1"
        if places != (1, 1) or upsample != "auto":
            return Fit(factor, why)
        lonely = lonely or Fit(factor, why)
    if lonely is not None:  # better than not at all
        return lonely
    tried = "" if upsample != "auto" else ", nor on images that are enlarged 2 or 4 times"
    raise UsageError(f"{place} does not work on images of {shape[0]}x{shape[1]}{tried}: {'; '.join(reasons)}")


def _tried(create: Create, size: tuple[int, int], channels_in: int) -> tuple[int, int] | None:
    """The last map of a network that is created for a try, of shapes alone where the library can do so."""
    with seeded(0), torch.device("cpu"):
        try:
            with ShapesAlone():
                model, _ = create(size)
        except UsageError:
            raise
        except Exception:  # it needs numbers while it is built
            model, _ = create(size)
        return last_map(model, size, channels_in)
