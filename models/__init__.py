"""The networks that ship; `build` makes any network by name."""

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
