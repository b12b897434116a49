"""The experiments that ship: one file each."""

CATALOG = {
    "affine": "capsbench.suites.affine:Affine",
}
