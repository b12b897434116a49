"""The experiments that ship: one file each."""

CATALOG = {
    "affine": "capsbench.suites.affine:Affine",
    "cifar10": "capsbench.suites.cifar10:CIFAR10",
    "clutter": "capsbench.suites.clutter:Clutter",
    "crowding": "capsbench.suites.crowding:Crowding",
    "mnist": "capsbench.suites.mnist:MNIST",
    "overlap": "capsbench.suites.overlap:Overlap",
    "reconstruction": "capsbench.suites.reconstruction:Reconstruction",
    "throughput": "capsbench.suites.throughput:Throughput",
}
