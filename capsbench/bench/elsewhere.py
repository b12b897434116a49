"""Weights that were trained elsewhere: which network of a run each file is for, and whether it fits."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from capsbench.bench.cells import Elsewhere, Work
from capsbench.bench.networks import Network
from capsbench.bench.pretrained import pretrained, pretrained_file
from capsbench.building import build
from capsbench.contracts import CLASSES
from capsbench.errors import UnknownNameError, UsageError
from capsbench.paths import user_path
from capsbench.results.result import PRETRAINED
from capsbench.sources.hosting import hosted
from capsbench.system.disk import kind_of
from capsbench.training.config import State
from capsbench.training.weights import fitted, largest_file, read_weights

GivenWeights = str | Path | Sequence[str] | Mapping[str, str | Path]
"""Files of weights: one for the only network, ``NAME=FILE`` each, or in Python a mapping of names to files."""


def weights_of(
    given: GivenWeights,
    networks: Sequence[Network],
    trained: Sequence[Work],
    *,
    suite: str,
    preset: str,
    seeds: Sequence[int],
) -> dict[str, Elsewhere]:
    """The files of weights of a run by the labels of its networks; each is read, and fitted to its network.

    Args:
        given: The files. A name is that of a network, or its label where the network is measured in several forms.
            `PRETRAINED` in place of a file stands for the weights that ship, without a name for those of all networks.
        networks: Every network of the run.
        trained: What a cell of the suite trains.
        suite: The suite's name.
        preset: The preset's name.
        seeds: The seeds of the run.

    Raises:
        UsageError: A name stands for none or for several of the networks, or the run has nothing to measure so.
        DataFileError: A file is missing or damaged, or does not fit its network.
    """
    texts = [str(given)] if isinstance(given, str | Path) else given
    if list(texts) == [PRETRAINED]:
        ships = pretrained().get(f"{suite}-{preset}", {})
        without = [network.label for network in networks if network.form not in ships]
        if 0 < len(without) < len(networks):
            those = " ".join(f"--weights {one.title or one.name}={PRETRAINED}" for one in networks if one.form in ships)
            raise UsageError(f"No weights ship of {', '.join(without)}. To train the others, name what ships: {those}")
        texts = {network.label: PRETRAINED for network in networks}
    pairs, protocol = _named(texts, networks), f"{suite}-{preset}"
    if any(path == PRETRAINED for _, path in pairs) and protocol not in pretrained():
        raise UsageError(
            f"No network ships with weights for the preset {preset!r} of the suite {suite!r}. There are some for: "
            f"{', '.join(pretrained())}; the part behind the dash is the preset."
        )
    by_label = {network.label: network for network in networks}
    named = {
        label: pretrained_file(by_label[label].form, protocol) if path == PRETRAINED else user_path(path, "weights")
        for label, path in pairs
    }
    if not named:
        return {}
    if not trained:
        raise UsageError(f"The suite {suite!r} trains no network, so that it has no use for weights.")
    if len(seeds) > 1:
        raise UsageError(
            "Weights are those of one training, got several seeds. Give one seed, and run once for each file."
        )
    return {label: _checked(path, by_label[label], trained) for label, path in named.items()}


def _named(given: Sequence[str] | Mapping[str, str | Path], networks: Sequence[Network]) -> list[tuple[str, str]]:
    """Labels and paths, as they were given."""
    if isinstance(given, Mapping):
        pairs = [(_label(name, networks), str(path)) for name, path in given.items()]
    else:
        pairs = [_split(str(text), networks) for text in given]
    labels = [label for label, _ in pairs]
    doubled = [label for label in labels if labels.count(label) > 1]
    if doubled:
        raise UsageError(f"There are several files of weights for {doubled[0]}. Run once for each.")
    return pairs


def _split(text: str, networks: Sequence[Network]) -> tuple[str, str]:
    """The label of a network and the path, from ``NAME=FILE`` or ``FILE``; names and paths may hold a ``=``."""
    names = {name for network in networks for name in _names(network)}
    for name in sorted(names, key=len, reverse=True):
        if text.startswith(f"{name}="):
            return _label(name, networks), text[len(name) + 1 :]
    before, sign, _ = text.partition("=")
    if sign and kind_of(user_path(text, "weights")) is None:
        raise UnknownNameError("network of this run (--weights NAME=FILE)", before, names)
    if len(networks) > 1:
        labels = ", ".join(repr(network.label) for network in networks)
        raise UsageError(f"Which network are the weights {text!r} of? Name it: --weights NAME=FILE; here are {labels}.")
    return networks[0].label, text


def _names(network: Network) -> tuple[str, ...]:
    """What a file of weights may call a network."""
    return (network.name, network.label, *([network.title] if network.title else []))


def _label(name: str, networks: Sequence[Network]) -> str:
    found = [network.label for network in networks if name in _names(network)]
    if not found:
        names = {name for network in networks for name in _names(network)}
        raise UnknownNameError("network of this run (weights)", name, names)
    if len(found) > 1:
        raise UsageError(
            f"{name} is measured in {len(found)} forms. Name the one that the weights are of: "
            f"{', '.join(f'{label!r}' for label in found)}; or set its parameters with --set."
        )
    return found[0]


def _checked(path: Path, network: Network, trained: Sequence[Work]) -> Elsewhere:
    states = [(work.name, own) for work in trained if (own := _own_state(network, work)) is not None]
    largest = sum(largest_file(own) for _, own in states) if states else 2**40  # its cell will say what fails
    found, sha256 = read_weights(path, largest=largest)
    for part, own in states:
        fitted(path, found, own, network=network.label, part=part)
    return Elsewhere(path, sha256)


def _own_state(network: Network, work: Work) -> State | None:
    """The names, shapes and types of a network's weights; None where it cannot be built."""
    import torch

    for device in ("meta", "cpu"):  # of shapes alone, where it needs no numbers
        try:
            with hosted(0), torch.device(device):
                built = build(
                    network.given or network.name,
                    classes=CLASSES,
                    **work.images,
                    **network.parameters,
                )
                return dict(built.state_dict())
        except Exception:  # of anyone's network
            continue
    return None
