"""Measures which networks of torchvision work on which images, and writes the table that `capsbench list` reads.

Every classifier is built for every size, of shapes alone; the table says by how much images must be enlarged for it.

    python tools/torchvision_fits.py [NAME...]
"""

import json
import sys
from pathlib import Path
from typing import Any

import torchvision

from capsbench.errors import UsageError
from capsbench.models.libraries import SIZES
from capsbench.models.libraries.fitting import Enlarge, ShapesAlone
from capsbench.models.libraries.torchvision_networks import TorchvisionNetwork

TABLE = Path(__file__).resolve().parent.parent / "models" / "libraries" / "torchvision.json"


def measured(name: str) -> dict[str, Any]:
    """What the table says of a network: its parameters, and for each size the factor; None where it does not work."""
    network = TorchvisionNetwork(name)
    factors: dict[str, int | None] = {}
    parameters = None
    for title, size in SIZES.items():
        try:
            with ShapesAlone():
                model = network(image_size=size)
        except UsageError:
            factors[title] = None
            continue
        hooks = [hook for hook in model._forward_pre_hooks.values() if isinstance(hook, Enlarge)]
        factors[title] = hooks[0].factor if hooks else 1
        parameters = parameters or sum(one.numel() for one in model.parameters())
    return {"parameters": parameters, **factors}


def main(names: list[str]) -> None:
    """Measures the networks that are named, or all, and writes the table."""
    known = json.loads(TABLE.read_text())["networks"] if names else {}
    for name in names or TorchvisionNetwork.names():
        known[name] = measured(name)
        print(name, known[name], flush=True)
    content = {"version": torchvision.__version__.partition("+")[0], "networks": dict(sorted(known.items()))}
    rows = (
        json.dumps(content).replace('}, "', '},\n"').replace('"networks": {', '"networks": {\n').replace("}}}", "}\n}}")
    )
    TABLE.write_text(rows + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
