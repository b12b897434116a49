"""The networks of a run: from the names, classes and functions that were given to networks that can be measured."""

import importlib
import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from capsbench import registry
from capsbench.bench.cells import Preset
from capsbench.building import OFFERED, build, name_of, presets_of
from capsbench.contracts import CLASSES, Suite, checked_output
from capsbench.errors import ModelError, ParameterError, UnknownNameError, UsageError, shown
from capsbench.parameters import check_choice, image_shape, literal
from capsbench.scoring import trial_images
from capsbench.sources.identity import Identity, identity_of_code
from capsbench.sources.seeding import seeded

if TYPE_CHECKING:
    from torch import nn

Given = str | Callable[..., Any]
"""A network as a user gives it: its name, or in Python the class or function itself."""


@dataclass(frozen=True)
class Network:
    """One network to measure.

    Attributes:
        name: As the user gave it; of a class or a function its name.
        label: The name with the parameters that were changed.
        parameters: All parameters.
        given: The class or function that was given instead of a name.
    """

    name: str
    label: str
    parameters: dict[str, Any]
    given: Callable[..., Any] | None = None

    @property
    def factory(self) -> Any:
        """The class or the function that builds it."""
        return self.given or registry.load("model", self.name)

    def identified(self, kind: type[Suite]) -> Identity:
        """What the network is made of; it is built once for that, from shapes alone.

        Raises:
            UsageError: It cannot be imported, or `capsbench.building.build` rejects the parameters.
        """
        trial = partial(_try_to_build, self.given or self.name, kind, self.parameters)
        if self.given is not None:
            trial()
            return identity_of_code(self.name, self.given)
        return registry.identify("model", self.name, parameters=self.parameters, trial=trial)


def networks(given: Given | Sequence[Given], protocol: Preset, changes: dict[str, str]) -> list[Network]:
    """Every network of a run, with its parameters; a model that the protocol has variants of makes several.

    Args:
        given: Names, classes and functions, or one of them.
        protocol: Says which parameters differ from the defaults.
        changes: All changes of the run; those of networks, ``MODEL.KEY``, are taken out.

    Raises:
        UsageError: Something is no network, or a key or a value makes no sense.
    """
    importlib.import_module("torch")  # before any network's file, so that its generator is seeded for each of them
    things = [given] if isinstance(given, str) or callable(given) else list(given)
    named = [(_name(thing), thing) for thing in {_key(thing): thing for thing in things}.values()]
    own = _changes_of_models(changes, [name for name, _ in named])
    found = []
    for name, thing in named:
        for variant in protocol.variants.get(name, [{}]):
            changed = {**variant, **own[name]}
            parameters = _spelled_out(name, thing, {**protocol.models.get(name, {}), **changed})
            found.append(Network(name, labelled(name, changed), parameters, None if isinstance(thing, str) else thing))
    return found


def labelled(name: str, changes: Mapping[str, Any]) -> str:
    """A name with its changes: ``small (epochs=5)``."""
    changed = ", ".join(f"{key}={value}" for key, value in changes.items())
    return f"{name} ({changed})" if changed else name


def _key(thing: Given) -> object:
    return thing if isinstance(thing, str) else id(thing)


def _name(thing: Given) -> str:
    if isinstance(thing, str):
        return thing
    if not callable(thing):
        raise UsageError(f"A model is a name, a class or a function, got {shown(thing)} ({type(thing).__name__}).")
    name = name_of(thing)
    return f"{thing.__module__}:{name}" if name in registry.catalog("model") else name


def _changes_of_models(changes: dict[str, str], names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Takes the changes ``MODEL.KEY`` out of all changes, and gives each model its own."""
    own: dict[str, dict[str, Any]] = {name: {} for name in names}
    for change in [change for change in changes if "." in change]:
        model, _, key = change.rpartition(".")
        check_choice(f"model in this run (--set {change})", model, own)
        if key in OFFERED:
            raise ParameterError(f"--set {change} cannot be set: the suite chooses {key}.")
        own[model][key] = literal(changes.pop(change))
    return own


def _spelled_out(name: str, thing: Given, stated: Mapping[str, Any]) -> dict[str, Any]:
    """A model's parameters with its preset spelled out, so that a cell's identity and its result have them."""
    presets = presets_of(name, registry.load("model", thing) if isinstance(thing, str) else thing)
    preset = stated.get("preset")
    if preset is not None and preset not in presets:
        raise UnknownNameError(f"preset of model {name!r}", preset, presets)
    chosen = {} if preset is None else presets[preset]
    parameters = {**chosen, **{key: value for key, value in stated.items() if key != "preset"}}
    for key, value in parameters.items():
        try:
            json.dumps(value, allow_nan=False)
        except (TypeError, ValueError, RecursionError):
            raise UsageError(
                f"The parameter {key!r} of model {name!r} should be a number, a text, or lists and mappings of them, "
                f"which a result can state, but it is {shown(value)} ({type(value).__name__})."
            ) from None
    return parameters


def _try_to_build(network: Given, kind: type[Suite], parameters: Mapping[str, Any]) -> None:
    """Finds unknown parameters, bad values and scores of a wrong shape before the first cell is trained.

    Raises:
        UsageError: `capsbench.building.build` rejects the parameters, or the network's answer.
    """
    import torch

    made = partial(
        build, network, image_size=kind.image_size, classes=CLASSES, pairs=getattr(kind, "pairs", False), **parameters
    )
    with seeded(0), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # initial weights that are read from a file do not reach the first device
        for device in ("meta", "cpu"):  # shapes alone, no numbers; a user's model may need numbers, too
            try:
                with torch.device(device):
                    _check_answer(_name(network), made(), image_shape(kind.image_size))
                return
            except UsageError:
                raise
            except Exception:  # its cell will show it
                continue


def _check_answer(name: str, model: "nn.Module", shape: tuple[int, int]) -> None:
    """Refuses a user's network whose scores are of a wrong shape.

    Raises:
        UsageError: They are.
        Exception: Whatever the network raises.
    """
    if type(model).__module__.partition(".")[0] == "capsbench":
        return
    images = trial_images(model, shape)
    try:
        checked_output(model.eval()(images), len(images))
    except ModelError as error:
        raise UsageError(f"{name}: {error}") from None
