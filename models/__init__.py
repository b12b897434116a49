"""The networks that ship; `build` makes any network by name."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from capsbench.building import build

__all__ = ["CATALOG", "build"]

CATALOG = {
    "capsnet": "capsbench.models.capsnet:CapsNet",
    "cnn": "capsbench.models.cnn:CNN",
    "cnn-pair": "capsbench.models.cnn_pair:PairCNN",
    "cnn-pool": "capsbench.models.cnn_pool:PoolCNN",
    "efficient-capsnet": "capsbench.models.efficient_capsnet:EfficientCapsNet",
    "gcnn": "capsbench.models.gcnn:GCNN",
    "resnet-gap": "capsbench.models.resnet_gap:ResNetGAP",
    "stn": "capsbench.models.stn:STN",
}


def __getattr__(name: str) -> Any:
    if name == "build":  # needs NumPy, which takes longer to import than `capsbench list` takes without it
        from capsbench.building import build

        return build
    raise AttributeError(f"module 'capsbench.models' has no attribute {name!r}")
