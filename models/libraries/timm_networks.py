"""The networks of timm by their names: ``timm:convnext_atto``."""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, ClassVar

from torch import nn

from capsbench.errors import UsageError, first_line
from capsbench.models.libraries.fitting import last_map
from capsbench.models.libraries.library import LibraryNetwork

try:
    import timm
except ImportError as error:
    raise UsageError(
        f"The networks of timm need the package timm: pip install 'capsbench[timm]' ({first_line(error)})"
    ) from None

PATCH = 4


class TimmNetwork(LibraryNetwork):
    """A network of timm, untrained."""

    library: ClassVar[str] = "timm"

    def __init__(self, name: str) -> None:
        architecture, _, tag = name.partition(".")
        if tag and architecture in self.names():
            raise UsageError(
                f"timm:{name} names pretrained weights ({tag}), and capsbench downloads none. The untrained network is "
                f"timm:{architecture}."
            )
        super().__init__(name)

    @classmethod
    @cache
    def names(cls) -> Sequence[str]:
        """Every architecture."""
        found: list[str] = timm.list_models()
        return found

    @classmethod
    def where(cls) -> str:
        """A sentence: where the names stand."""
        return "All are listed by: python -c 'import timm; print(timm.list_models())'"

    def create(
        self, channels_in: int, shape: tuple[int, int], classes: int, patch: int | None, settings: Mapping[str, Any]
    ) -> tuple[nn.Module, list[str]]:
        """The network for images of this shape, and what was changed in it."""
        if patch is not None:
            return self._created(channels_in, shape, classes, {"img_size": shape, "patch_size": patch}, settings)
        for fitted in ({"img_size": shape, "patch_size": PATCH}, {"img_size": shape}):
            try:
                made, changed = self._created(channels_in, shape, classes, fitted, settings)
                last_map(made, shape, channels_in)
                return made, changed
            except Exception:  # this network does not take a size, or not this one
                continue
        return self._created(channels_in, shape, classes, {}, settings)

    def _created(
        self,
        channels_in: int,
        shape: tuple[int, int],
        classes: int,
        fitted: Mapping[str, Any],
        settings: Mapping[str, Any],
    ) -> tuple[nn.Module, list[str]]:
        arguments = {**fitted, **settings}
        arguments |= {"in_chans": channels_in, "num_classes": classes}
        model: nn.Module = timm.create_model(self.name, pretrained=False, **arguments)
        side = fitted.get("patch_size")
        return model, [f"patches of {side}x{side}"] if side else []
