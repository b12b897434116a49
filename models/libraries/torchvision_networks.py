"""The classifiers of torchvision by their names: ``torchvision:resnet18``."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torchvision
from torch import nn

from capsbench.models.libraries.fitting import COLOURS, convolution_like, first_convolution
from capsbench.models.libraries.library import LibraryNetwork

PATCH = 4  # pixels: 49 patches of an image of 28x28, where ImageNet's have 196
AUXILIARY = ("googlenet", "inception_v3")  # these have further heads, whose losses training would have to add


class TorchvisionNetwork(LibraryNetwork):
    """A classifier of torchvision, untrained."""

    library: ClassVar[str] = "torchvision"

    @classmethod
    def names(cls) -> Sequence[str]:
        """Every classifier, without segmentation, detection, video and quantised copies."""
        found: list[str] = torchvision.models.list_models(module=torchvision.models)
        return found

    @classmethod
    def where(cls) -> str:
        """A sentence: where the names stand."""
        return "Those that work are listed by: capsbench list --models torchvision"

    def create(
        self, channels_in: int, shape: tuple[int, int], classes: int, patch: int | None, settings: Mapping[str, Any]
    ) -> tuple[nn.Module, list[str]]:
        """The network for images of this shape, and what was changed in it."""
        arguments, changed = dict(settings), []
        side = patch or PATCH
        transformer = self.name.startswith("vit_")
        if patch is not None and not transformer:
            raise TypeError("its patches cannot be chosen")
        if transformer:
            if shape[0] != shape[1] or shape[0] % side:
                raise ValueError(f"it takes squares of a multiple of {side} pixels")
            # As many patches as these images have, at the size for which the network is named.
            arguments["image_size"] = int(self.name.rpartition("_")[2]) * (shape[0] // side)
            changed.append(f"patches of {side}x{side}")
        elif self.name.startswith("maxvit"):
            arguments["input_size"] = shape
        elif self.name in AUXILIARY:
            arguments |= {"aux_logits": False, "init_weights": True}
            changed.append("no auxiliary heads")
        model: nn.Module = torchvision.models.get_model(self.name, weights=None, num_classes=classes, **arguments)
        if transformer:
            given: Any = model
            given.image_size, given.patch_size = shape[0], side
            given.conv_proj = convolution_like(given.conv_proj, channels_in, kernel_size=side, stride=side)
        elif channels_in != COLOURS:
            first_convolution(model, channels_in)
        return model, changed
