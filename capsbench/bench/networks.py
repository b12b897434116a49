"""The networks of a run: from the names, classes and functions that were given to networks that can be measured."""

import importlib
import json
import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from capsbench import registry
from capsbench.bench.cells import Preset
from capsbench.building import OFFERED, build, name_of, parameter_names, presets_of
from capsbench.contracts import CLASSES, checked_output
from capsbench.errors import ModelError, ParameterError, UnknownNameError, UsageError, meant, shown
from capsbench.parameters import image_shape, literal
from capsbench.scoring import trial_images
from capsbench.sources.hosting import hosted
from capsbench.sources.identity import Identity, identity_of_code

if TYPE_CHECKING:
    from torch import nn

Given = str | Callable[..., Any]
"""A network as a user gives it: its name, with a label before it if he likes; or in Python the class or function."""

Several = Given | Sequence[Given] | Mapping[str, Given]
"""One network or several, or a mapping of labels to networks."""

LONGEST_TITLE = 60  # characters of a label: tables have a column for it


@dataclass(frozen=True)
class Network:
    """One network to measure.

    Attributes:
        name: As the user gave it; of a class or a function its name.
        label: The name with the parameters that were changed.
        parameters: All parameters.
        given: The class or function that was given instead of a name.
        title: The label that the user chose; empty where he chose none.
        changes: The parameters that the user changed, as text.
        form: What its label would be without a title; weights that ship are called so.
    """

    name: str
    label: str
    parameters: dict[str, Any]
    given: Callable[..., Any] | None = None
    title: str = ""
    changes: Mapping[str, str] = field(default_factory=dict)
    form: str = ""

    @property
    def factory(self) -> Any:
        """The class or the function that builds it."""
        return self.given or registry.load("model", self.name)

    def identified(self, images: Mapping[str, Any]) -> Identity:
        """What the network is made of; it is built once for that, from shapes alone.

        Args:
            images: What `capsbench.building.build` must know of the images.

        Raises:
            UsageError: It cannot be imported, or `capsbench.building.build` rejects the parameters.
        """
        trial = partial(self.try_to_build, images)
        if self.given is not None:
            trial()
            return identity_of_code(self.name, self.given)
        return registry.identify("model", self.name, parameters=self.parameters, trial=trial)

    def try_to_build(self, images: Mapping[str, Any]) -> None:
        """Finds unknown parameters, bad values and scores of a wrong shape before the first cell is trained.

        Args:
            images: As for `identified`.

        Raises:
            UsageError: `capsbench.building.build` rejects the parameters, or the network's answer.
        """
        import torch

        network = self.given or self.name
        made = partial(build, network, classes=CLASSES, **images, **self.parameters)
        with hosted(0):
            warnings.simplefilter("ignore")  # initial weights that are read from a file do not reach the first device
            for device in ("meta", "cpu"):  # shapes alone, no numbers; a user's model may need numbers, too
                try:
                    with torch.device(device):
                        shape = images["channels_in"], *image_shape(images["image_size"])
                        _check_answer(_name(network), made(), shape)
                    return
                except (UsageError, KeyboardInterrupt):
                    raise
                except BaseException:  # also what ends the process: its cell will show it
                    continue


@dataclass(frozen=True)
class _Named:
    """A network that the user named: its label, if it has one, and what it is."""

    title: str
    name: str
    thing: Given

    @property
    def key(self) -> str:
        """By which its parameters are set: its label, else its name."""
        return self.title or self.name


def networks(
    given: Several, protocol: Preset, changes: dict[str, str], settings: Collection[str] = ()
) -> list[Network]:
    """Every network of a run, with its parameters; a model that the protocol has variants of makes several.

    Args:
        given: Names, classes and functions, or one of them; a label may stand before a name (``Ours=mine.py:Net``), or
            be the key of a mapping.
        protocol: Says which parameters differ from the defaults.
        changes: All changes of the run; those of networks are taken out: ``MODEL.KEY``, and ``KEY`` where one network
            alone has such a parameter.
        settings: The keys that are settings of the suite, whatever networks have.

    Raises:
        UsageError: Something is no network, or a key or a value makes no sense.
    """
    importlib.import_module("torch")  # before any network's file, so that its generator is seeded for each of them
    named = _named(given)
    own = _changes_of_models(changes, named, settings)
    found = []
    for one in named:
        for variant in protocol.variants.get(one.name, [{}]):
            told = {key: literal(value) for key, value in own[one.key].items()}
            changed = {**variant, **told}
            parameters = _spelled_out(one.name, one.thing, {**_protocols(protocol, one), **changed})
            form = labelled(one.name, changed)
            label = labelled(one.title, variant) if one.title else form
            code = None if isinstance(one.thing, str) else one.thing
            found.append(Network(one.name, label, parameters, code, one.title, own[one.key], form))
    return found


def _protocols(protocol: Preset, one: _Named) -> Mapping[str, Any]:
    """The protocol's parameters of a network; where it names small ones, of another that ships its small form."""
    named = protocol.models.get(one.name)
    if named is not None or one.name not in registry.shipped("model"):
        return named or {}
    beside = any(parameters.get("preset") == "small" for parameters in protocol.models.values())
    has = beside and "small" in presets_of(one.name, registry.load("model", one.name))
    return {"preset": "small"} if has else {}


def _named(given: Several) -> list[_Named]:
    """The networks that the user named, each once.

    Raises:
        UsageError: Something is no network, or a label is no label, or is there twice.
    """
    if isinstance(given, Mapping):
        things = [(str(title), thing) for title, thing in given.items()]
    else:
        several = [given] if isinstance(given, str) or callable(given) else list(given)
        things = [_split(one) if isinstance(one, str) else ("", one) for one in several]
    once = {(title, _key(thing)): _Named(title, _name(thing), thing) for title, thing in things}
    titles = [one.title for one in once.values() if one.title]
    for title in titles:
        _check_title(title, next(one.name for one in once.values() if one.title == title))
        if titles.count(title) > 1:
            raise UsageError(f"Two networks of this run have the label {title!r}. Give each another one.")
    return list(once.values())


def _split(text: str) -> tuple[str, str]:
    """A label and a name: ``Ours=mine.py:Net``. A sign in the path of a file is no label's."""
    title, equals, name = text.partition("=")
    if not equals or ":" in title or "/" in title or Path(text.rpartition(":")[0] or text).is_file():
        return "", text
    return title.strip(), name.strip()


def _check_title(title: str, name: str) -> None:
    """Refuses a label that a table cannot show, or that takes the name of a network that ships.

    Raises:
        UsageError: It is one.
    """
    if not title.isprintable() or len(title) > LONGEST_TITLE:
        raise UsageError(f"A label has at most {LONGEST_TITLE} characters, all of them visible, got {shown(title)!r}.")
    for known in registry.catalog("model"):
        if name != known and (title == known or title.startswith(f"{known} (")):
            raise UsageError(f"The label {title!r} is the name of another network. Choose one that is not.")


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


def _changes_of_models(
    changes: dict[str, str], named: Sequence[_Named], settings: Collection[str]
) -> dict[str, dict[str, str]]:
    """Takes the changes of networks out of all changes, and gives each network its own."""
    own: dict[str, dict[str, str]] = {one.key: {} for one in named}
    for change in list(changes):
        model, dot, key = change.rpartition(".")
        if not dot:
            if change in settings:
                continue
            owners = [one for one in named if change in _parameters(one)]
            if not owners:
                every = {name for one in named for name in _parameters(one)}
                if settings and meant(change, sorted(every)) and not meant(change, sorted(settings)):
                    raise UnknownNameError("parameter of the networks of this run", change, every)
                continue
            if len(owners) > 1:
                several = " or ".join(f"--set {one.key}.{key}=..." for one in owners)
                raise UsageError(f"Several networks of this run have a parameter {key}. Name one: {several}")
            owner = owners[0]
        else:
            owner = _owner(change, model, named)
        if key in OFFERED:
            raise ParameterError(f"--set {change} cannot be set: the suite chooses {key}.")
        own[owner.key][key] = changes.pop(change)
    return own


def _owner(change: str, model: str, named: Sequence[_Named]) -> _Named:
    """The network that a change names: by its label, its name, or the last part of its name."""
    for names in (
        [one.key for one in named],
        [one.name for one in named],
        [one.name.rpartition(":")[2] for one in named],
    ):
        found = [one for one, name in zip(named, names, strict=True) if name == model]
        if len(found) == 1:
            return found[0]
        if found:
            several = " or ".join(one.key for one in found)
            raise UsageError(f"--set {change}: several networks of this run are called {model}. Name one: {several}")
    raise UnknownNameError(f"model in this run (--set {change})", model, [one.key for one in named])


def _parameters(one: _Named) -> Collection[str]:
    """The names of a network's parameters."""
    factory = registry.load("model", one.thing) if isinstance(one.thing, str) else one.thing
    return parameter_names(one.name, factory)


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


def _check_answer(name: str, model: "nn.Module", shape: tuple[int, int, int]) -> None:
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
