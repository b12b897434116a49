"""The network of a result with its weights, and its weights as a file for others."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from capsbench import registry
from capsbench.bench.cells import WEIGHTS, Work, works
from capsbench.bench.pretrained import pretrained, pretrained_file
from capsbench.building import build, name_of
from capsbench.contracts import CLASSES
from capsbench.errors import DataFileError, UnknownNameError, UsageError
from capsbench.parameters import check_choice, construct
from capsbench.paths import user_path
from capsbench.results.result import PRETRAINED, Result, load_result
from capsbench.sources.hosting import hosted
from capsbench.sources.identity import identity_of_code
from capsbench.system.disk import is_regular, kind_of
from capsbench.training.checkpoints import fits
from capsbench.training.config import State
from capsbench.training.kept import load_kept
from capsbench.training.weights import check_suffix, fitted, largest_file, read_weights, write_weights

if TYPE_CHECKING:
    from torch import nn


def load_network(
    result: Result | str | Path,
    *,
    checkpoint: str = "best",
    training: str = "",
    network: Callable[..., Any] | None = None,
    pretrained: str = "",
    suites: str | Sequence[str] = (),
) -> "nn.Module":
    """The network of a finished cell with its weights, on the CPU and in evaluation mode.

    ``load_network("capsnet (shared=True)", pretrained="affine-small")`` is a network that ships with its weights.

    Args:
        result: A result, or its file; with ``pretrained`` the network's name in tables.
        checkpoint: ``"best"``, ``"target"`` or ``"last"``: which of the selected weights.
        training: Which network, of a suite that trains several: in ``reconstruction`` ``"single"`` or ``"pairs"``.
        network: The class or function, where it was given in Python instead of a name.
        pretrained: Suite and preset of a training whose weights ship, such as ``"affine-small"``.
        suites: A suite of a user's own that the result is of, as `capsbench.load_results` takes it.

    Raises:
        UsageError: There is no such checkpoint, or the network is another one than was measured.
        DataFileError: The weights are missing or damaged.
    """
    registry.load_named(suites)
    given = pretrained_file(str(result), pretrained) if pretrained else None
    found = _result(given.with_suffix(".json") if given else result)
    work = _works(found)
    if not training and "" not in work:
        several = " or ".join(map(repr, work))
        raise UsageError(
            f"The suite {found.suite!r} trains several networks in a cell. Choose one: training={several}."
        )
    check_choice("network that the suite trains (training=)", training, work)
    model = _built(found, work[training], network)
    own = dict(model.state_dict())
    if given:
        _only_best(found, checkpoint)
        state = fitted(
            given, read_weights(given, largest=2 * largest_file(own))[0], own, network=found.label, part=training
        )
    elif found.origin == "weights":
        _only_best(found, checkpoint)
        state = _given(found, own, training)
    else:
        state = _kept(found, training, checkpoint)
        if not fits(state, own):
            raise DataFileError(f"The weights of {found.label} do not fit the network as it is now.")
    model.load_state_dict(state)
    return model.eval()


def export(
    result: Result | str | Path,
    out: str | Path,
    *,
    checkpoint: str = "best",
    force: bool = False,
    suites: str | Sequence[str] = (),
) -> Path:
    """Writes the selected weights of a finished cell, as ``run --weights`` and ``torch.load`` take them.

    Where a suite trains several networks, their weights stand in one file, with the name of the network before theirs.

    Args:
        result: A result, or its file.
        out: The file: ``.pt`` or ``.safetensors``.
        checkpoint: ``"best"``, ``"target"`` or ``"last"``: which of the selected weights.
        force: Replace a file that is there.
        suites: A suite of a user's own that the result is of, as `capsbench.load_results` takes it.

    Returns:
        The file's path.

    Raises:
        UsageError: There is no such checkpoint, or something stands in the file's place.
        DataFileError: The weights are missing or damaged.
        StorageError: The file could not be written.
    """
    registry.load_named(suites)
    found, path = _result(result), user_path(out, "out")
    check_suffix(path)
    if kind_of(path) == "folder" or (kind_of(path) and not force):
        raise UsageError(f"{path} is there already. Choose another name, or add --force to replace a file.")
    if found.origin != "trained":
        of = f"its weights are those in {found.training['file']}" if "file" in found.training else "it has no weights"
        if found.training.get("file") == PRETRAINED:
            of = f"it ships: capsbench.load_network({found.label!r}, pretrained={_protocol(found)!r})"
        raise UsageError(f"{found.label} was not trained here: {of}. There is nothing to export.")
    state: State = {}
    if force and kind_of(path) and load_kept(path):
        raise UsageError(f"{path} has the weights that a run keeps of a training. Choose another name.")
    for part in _works(found):
        before = f"{part}." if part else ""
        state |= {f"{before}{name}": value for name, value in _kept(found, part, checkpoint).items()}
    write_weights(path, state)
    return path


def _result(result: Result | str | Path) -> Result:
    """A result, given or read.

    Raises:
        UsageError: It is the name of a network, or the log of a training.
        DataFileError: Its file is missing, damaged, or not a result's.
    """
    if isinstance(result, Result):
        return result
    path = user_path(result, "result")
    if str(result) in registry.catalog("model") and not is_regular(path):
        ships = [protocol for protocol, networks in pretrained().items() if str(result) in networks]
        way_out = (
            f" Its weights ship, in Python: load_network({str(result)!r}, pretrained={ships[0]!r})." if ships else ""
        )
        raise UsageError(f"A result or its file is needed, got the name of a network, {result}.{way_out}")
    if path.suffix == ".jsonl" and is_regular(path.with_suffix(".json")):
        raise UsageError(f"{path} is the log of a training. Its result is {path.with_suffix('.json')}.")
    return load_result(path)


def _works(result: Result) -> dict[str, Work]:
    """What the suite trains in a cell, by name."""
    kind = registry.load_stated("suite", result.suite)
    preset = result.preset.partition(" ")[0]
    if preset not in kind.presets:
        raise UnknownNameError(f"preset of suite {result.suite!r}", preset, kind.presets)
    owner = f"suite {result.suite!r}"
    settings = construct(type(kind.presets[preset].settings), result.settings, owner=owner)
    found = {work.name: work for work in works(kind, settings)}
    if not found:
        raise UsageError(f"The suite {result.suite!r} trains no network.")
    return found


def _built(result: Result, work: Work, given: Callable[..., Any] | None) -> "nn.Module":
    """The network, if it is what was measured."""
    if result.origin == "scores":
        raise UsageError(f"{result.label} is known by its scores alone.")
    of_a_file = ":" in result.model or result.model.endswith(".py")
    if given is None and not of_a_file and result.model not in registry.catalog("model"):
        raise UsageError(f"{result.model} was given as a class or a function. Give it again: network={result.model}.")
    if given is not None and of_a_file:
        raise UsageError(
            f"This cell's network was named by its file, {result.model}, and not given in Python. Call load_network "
            "without network= in the folder where it was run, or export the weights and load them into your class."
        )
    thing = given or result.model

    def built() -> "nn.Module":
        with hosted(result.seed):
            return build(thing, classes=CLASSES, **work.images, **result.parameters)

    model = built()
    if given is not None:
        source = identity_of_code(name_of(given), given).hash
    else:
        source = registry.identify("model", result.model, parameters=result.parameters, trial=built).hash
    if source != result.source:
        raise UsageError(
            f"{result.model} is no longer what was measured: it, or a file that it brings in, has changed."
        )
    return model


def _only_best(result: Result, checkpoint: str) -> None:
    if checkpoint != "best":
        raise UsageError(
            f"Of {result.label} there are the best weights alone, so that it has no checkpoint {checkpoint!r}."
        )


def _given(result: Result, own: State, part: str) -> State:
    """The weights that were trained elsewhere, if their file is still the same."""
    file = result.training.get("file", "")
    path = pretrained_file(result.label, _protocol(result)) if file == PRETRAINED else user_path(file, "weights")
    found, sha256 = read_weights(path, largest=2 * largest_file(own))
    if sha256 != result.training.get("sha256"):
        raise DataFileError(f"{path} is no longer the file that was measured.")
    return fitted(path, found, own, network=result.label, part=part)


def _protocol(result: Result) -> str:
    """Suite and preset, as those of the networks that ship are called."""
    return f"{result.suite}-{result.preset.partition(' ')[0]}"


def _kept(result: Result, part: str, checkpoint: str) -> State:
    """The weights that the training of a result left."""
    again = "Run the cell again with --force to train it once more."
    files: Any = result.training.get("weights")
    stated: Any = files.get(part) if isinstance(files, Mapping) else None
    name = stated.get("file") if isinstance(stated, Mapping) else None
    if not isinstance(name, str) or name != Path(name).name or result.path is None:
        raise DataFileError(f"The result of {result.label}, seed {result.seed}, names no kept weights. {again}")
    path = result.path.absolute().parent.parent / WEIGHTS / name
    kept = load_kept(path)
    if kept is None:
        raise DataFileError(f"The weights {path} are missing or damaged. {again}")
    selected = kept.trained.selected
    if checkpoint == "target" and "target" not in selected:
        raise UsageError(
            f"{result.label}, seed {result.seed}, never reached the target of {result.settings['target']:.2%}; it has "
            f"the checkpoints {' and '.join(selected)}."
        )
    check_choice("checkpoint of this cell", checkpoint, selected)
    return selected[checkpoint].state
