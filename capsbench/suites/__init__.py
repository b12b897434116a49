"""The experiments that ship: one file each."""

CATALOG = {
    "affine": "capsbench.suites.affine:Affine",
    "overlap": "capsbench.suites.overlap:Overlap",
    "throughput": "capsbench.suites.throughput:Throughput",
}
