"""Networks that ship with their weights, each with the result of the training that made it.

They are files of the package: ``pretrained/SUITE-PRESET/NETWORK.pt`` holds the best weights by validation of seed 0, as
`capsbench.export` writes them, and ``NETWORK.json`` is the result, which is also among the committed ones.
"""

from pathlib import Path

from capsbench.errors import DataFileError
from capsbench.parameters import check_choice
from capsbench.results.result import load_result

FOLDER = Path(__file__).resolve().parent.parent / "pretrained"


def pretrained(folder: Path = FOLDER) -> dict[str, dict[str, Path]]:
    """For each protocol, such as ``affine-small``, the label of each network that ships and the file of its weights.

    Raises:
        DataFileError: A result there is damaged.
    """
    found: dict[str, dict[str, Path]] = {}
    for path in sorted(folder.glob("*/*.json")):
        found.setdefault(path.parent.name, {})[load_result(path).label] = path.with_suffix(".pt")
    return found


def pretrained_file(network: str, protocol: str, folder: Path = FOLDER) -> Path:
    """The file of a network's weights.

    Args:
        network: Its label, such as ``"capsnet (shared=True)"``.
        protocol: Suite and preset, such as ``"affine-small"``.
        folder: Where they are.

    Raises:
        UnknownNameError: None ships for the protocol, or not for this network.
        DataFileError: The installation lacks them.
    """
    every = pretrained(folder)
    if not every:
        raise DataFileError(f"This installation has no pretrained networks: {folder} is empty. Install it again.")
    check_choice("protocol of pretrained networks", protocol, every)
    check_choice(f"pretrained network of {protocol}", network, every[protocol])
    return every[protocol][network]
