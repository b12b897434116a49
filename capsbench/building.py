"""The one door through which any network is built: from a name and parameters to a network that is checked."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any

from capsbench.errors import CapsbenchError, ParameterError, UnknownNameError, UsageError, first_line, shown
from capsbench.parameters import image_shape
from capsbench.registry import load, room
from capsbench.scoring import fit_loss

if TYPE_CHECKING:  # torch takes seconds to import, and `capsbench list` needs only the names
    from torch import nn

OFFERED = ("image_size", "classes", "pairs", "channels_in")

GREY = 1  # channel of an image: what every network takes, so that one of **options need not know the word


def build(
    network: "str | Callable[..., Any]",
    /,
    *,
    image_size: int | Sequence[int] = 28,
    classes: int = 10,
    pairs: bool = False,
    channels_in: int = GREY,
    preset: str | None = None,
    **parameters: Any,
) -> "nn.Module":
    """Builds a network, with fresh weights from torch's default generator.

    A name stands for a class or a function, which can also be given itself. It is called with those of ``image_size``,
    ``classes``, ``pairs`` and ``channels_in`` that its signature takes. It may offer presets, named sets of parameters,
    in an attribute ``presets``: shipped networks have ``"paper"`` (the defaults) and ``"small"``, and ``capsnet`` also
    ``"large"`` and ``"released"``.

    A network without a loss gets a `capsbench.scoring.ScoreLoss`; for that it is tried on two images.

    Example:
        ``build("capsnet", image_size=40, preset="small", iterations=1)``

    Args:
        network: A name from `capsbench.registry.catalog`, ``package.module:attribute`` or ``file.py:attribute``; or a
            class or a function.
        image_size: Height and width in pixels; one number is a square.
        classes: Number of classes.
        pairs: Whether an image shows two digits.
        channels_in: Channels of an image: 1 of grey images, 3 of colours.
        preset: One of the network's presets.
        **parameters: Parameters of the network; they win over the preset's.

    Raises:
        UnknownNameError: No such network, preset or parameter.
        ParameterError: The network refuses a value, or needs a parameter that was not given.
        UsageError: The name stands for something that does not build a network.
    """
    name = network if isinstance(network, str) else name_of(network)
    with (room("model", network) if isinstance(network, str) else None) or nullcontext():
        factory = load("model", network) if isinstance(network, str) else network
        chosen = {**_preset(name, factory, preset), **parameters}
        offered = {"image_size": image_size, "classes": classes, "pairs": pairs, "channels_in": channels_in}
        model = _call(name, factory, _arguments(name, factory, chosen, offered))
        return _checked(name, model, offered)


def name_of(thing: Any) -> str:
    """What a class or a function is called, without the functions that it is defined in."""
    while isinstance(thing, partial):
        thing = thing.func
    name: str = getattr(thing, "__qualname__", type(thing).__qualname__)
    return name.rpartition("<locals>.")[2]


def presets_of(name: str, factory: Any) -> Mapping[str, Mapping[str, Any]]:
    """The presets that a class or a function of a network offers.

    Raises:
        UsageError: They are no mapping of names to parameters, or it is no class or function.
    """
    from torch import nn

    if not callable(factory) or isinstance(factory, nn.Module):
        kind = type(factory).__name__
        way_out = f" Write def build(): return {kind}(...), so that each seed begins with weights of its own."
        raise UsageError(
            f"The model {name!r} should be a class or a function, but it is of class {kind}."
            f"{way_out if isinstance(factory, nn.Module) else ''}"
        )
    presets: Any = getattr(factory, "presets", {})
    if not isinstance(presets, Mapping):
        raise UsageError(_should_be(name, "presets", "a mapping of names to parameters", presets))
    for key, parameters in presets.items():
        if not isinstance(key, str) or not _names_parameters(parameters):
            raise UsageError(
                f"The preset {shown(key)!r} of model {name!r} should be a mapping of names to values, such as "
                f"{{'width': 8}}, but it is {shown(parameters)} ({type(parameters).__name__})."
            )
        for offered in OFFERED:
            if offered in parameters:
                raise UsageError(f"The preset {key!r} of model {name!r} sets {offered}, which the caller chooses.")
    return presets


def parameter_names(name: str, factory: Callable[..., Any]) -> list[str]:
    """The parameters of a class or a function of a network that are given by name, without those of the suite.

    Raises:
        UsageError: Its signature cannot be read.
    """
    named = [p for p in _signature(name, factory) if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    return [p.name for p in named if p.name not in OFFERED]


def _names_parameters(parameters: Any) -> bool:
    return isinstance(parameters, Mapping) and all(isinstance(key, str) for key in parameters)


def _preset(name: str, factory: Callable[..., Any], preset: str | None) -> Mapping[str, Any]:
    presets = presets_of(name, factory)
    if preset is None:
        return {}
    if preset not in presets:
        raise UnknownNameError(f"preset of model {name!r}", preset, presets)
    return presets[preset]


def _arguments(
    name: str, factory: Callable[..., Any], chosen: Mapping[str, Any], offered: Mapping[str, Any]
) -> dict[str, Any]:
    """All of ``chosen`` and what the signature takes of ``offered``."""
    signature = _signature(name, factory)
    by_position = [p.name for p in signature if p.kind is p.POSITIONAL_ONLY and p.default is p.empty]
    if by_position:
        raise UsageError(
            f"The model {name!r} takes {', '.join(by_position)} by position alone (before a / in its signature), but "
            "parameters are given by name. Take the / away."
        )
    named = {p.name: p for p in signature if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    takes_all = any(p.kind is p.VAR_KEYWORD for p in signature)
    for key in chosen:
        if key not in named and not takes_all:
            raise UnknownNameError(f"parameter of model {name!r}", key, named)
    taken = {key for key in offered if key in named or (takes_all and (key, offered[key]) != ("channels_in", GREY))}
    arguments = {key: offered[key] for key in offered if key in taken} | dict(chosen)
    missing = [key for key, p in named.items() if p.default is p.empty and key not in arguments]
    if missing:
        raise ParameterError(f"The model {name!r} needs {', '.join(missing)}, which nothing sets.")
    return arguments


def _signature(name: str, factory: Callable[..., Any]) -> Sequence[inspect.Parameter]:
    from torch import nn

    if inspect.isclass(factory) and factory.__init__ is nn.Module.__init__:
        return []  # without a constructor of its own: Module's says (*args, **kwargs) and refuses them all
    try:
        return list(inspect.signature(factory).parameters.values())
    except (ValueError, TypeError):  # of some classes that are written in C, and of a wrong __signature__
        raise UsageError(
            f"The signature of model {name!r} cannot be read. Name a function that takes its parameters by name."
        ) from None


def _call(name: str, factory: Callable[..., Any], arguments: Mapping[str, Any]) -> Any:
    try:
        return factory(**arguments)
    except CapsbenchError:
        raise
    except (TypeError, LookupError, ValueError) as error:
        kinds = {p.kind for p in _signature(name, factory)}
        if inspect.Parameter.VAR_POSITIONAL in kinds and inspect.Parameter.VAR_KEYWORD not in kinds:
            raise UsageError(
                f"The model {name!r} takes *args, but parameters are given by name. Name those that it needs, such as "
                f"image_size and classes. ({first_line(error)})"
            ) from error
        size = arguments.get("image_size")
        if isinstance(error, TypeError) and isinstance(size, Sequence):
            raise UsageError(
                f"The model {name!r} fails where image_size is a pair, height and width, as of this suite's images, "
                f"{tuple(size)}. ({first_line(error)})"
            ) from error
        if not isinstance(error, ValueError):
            _tell_how(error, arguments)
            raise
        # how constructors that know nothing of capsbench refuse a value
        raise ParameterError(f"The model {name!r} refuses its parameters: {error}") from error
    except Exception as error:
        _tell_how(error, arguments)
        raise


def _tell_how(error: Exception, arguments: Mapping[str, Any]) -> None:
    """Notes what a constructor was given where it failed."""
    given = ", ".join(f"{key}={shown(value)}" for key, value in arguments.items())
    error.add_note(f"built with {given}" if given else "in its constructor")


def _checked(name: str, model: Any, offered: Mapping[str, Any]) -> "nn.Module":
    from torch import nn
    from torch.nn.modules.loss import _Loss

    if not isinstance(model, nn.Module):
        raise UsageError(f"The model {name!r} should be a torch.nn.Module, but it is a {type(model).__name__}.")
    forward = getattr(model, "forward", None)
    if not callable(forward) or getattr(forward, "__func__", forward) is nn.Module.forward:
        raise UsageError(f"The model {name!r} has no method forward(images), which gives the scores.")
    loss = getattr(model, "loss", None)
    if (loss is not None and not callable(loss)) or isinstance(loss, _Loss):
        raise UsageError(_should_be(name, "loss", "a method loss(output, batch), or not there", loss))
    needs_layers = getattr(model, "needs_layers", False)
    if not isinstance(needs_layers, bool):
        raise UsageError(_should_be(name, "needs_layers", "True or False", needs_layers))
    if loss is None:
        shape = (offered["channels_in"], *image_shape(offered["image_size"]))
        fit_loss(name, model, shape=shape, classes=offered["classes"], pairs=offered["pairs"])
    return model


def _should_be(name: str, attribute: str, what: str, found: object) -> str:
    is_one = f"{shown(found)} ({type(found).__name__})"
    return f"The attribute {attribute} of model {name!r} should be {what}, but it is {is_one}."
