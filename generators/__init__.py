"""The data sets that ship: each a frozen dataclass of its parameters in its own file."""

CATALOG = {
    "affnist": "capsbench.generators.affnist:AffNIST",
    "cluttered": "capsbench.generators.cluttered:Cluttered",
    "crowded": "capsbench.generators.crowded:Crowded",
    "multimnist": "capsbench.generators.multimnist:MultiMNIST",
    "padded": "capsbench.generators.padded:Padded",
}
