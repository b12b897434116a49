"""The experiments that ship: one file each."""

CATALOG = {
    "affine": "capsbench.suites.affine:Affine",
    "throughput": "capsbench.suites.throughput:Throughput",
}
