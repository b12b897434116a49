"""The one door through which any network is built: from a name and parameters to a network that is checked."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from capsbench.errors import CapsbenchError, ParameterError, UnknownNameError, UsageError
from capsbench.registry import load

if TYPE_CHECKING:  # torch takes seconds to import, and `capsbench list` needs only the names
    from torch import nn


def build(
    name: str,
    *,
    image_size: int | Sequence[int] = 28,
    classes: int = 10,
    pairs: bool = False,
    preset: str | None = None,
    **parameters: Any,
) -> "nn.Module":
    """Builds a network by name, with fresh weights from torch's default generator.

    The name stands for a class or a function. It is called with those of ``image_size``, ``classes`` and ``pairs`` that
    its signature takes. It may offer presets, named sets of parameters, in an attribute ``presets``: shipped networks
    have ``"paper"`` (the defaults) and ``"small"``, and ``capsnet`` also ``"large"`` and ``"released"``.

    Example:
        ``build("capsnet", image_size=40, preset="small", iterations=1)``

    Args:
        name: A name from `capsbench.registry.catalog`, ``package.module:attribute`` or ``file.py:attribute``.
        image_size: Height and width in pixels; one number is a square.
        classes: Number of classes.
        pairs: Whether an image shows two digits.
        preset: One of the network's presets.
        **parameters: Parameters of the network; they win over the preset's.

    Raises:
        UnknownNameError: No such network, preset or parameter.
        ParameterError: The network refuses a value, or needs a parameter that was not given.
        UsageError: The name stands for something that does not build a network.
    """
    factory = load("model", name)
    if not callable(factory):
        raise UsageError(f"The model {name!r} should be a class or a function, but it is a {type(factory).__name__}.")
    chosen = {**_preset(name, factory, preset), **parameters}
    offered = {"image_size": image_size, "classes": classes, "pairs": pairs}
    model = _call(name, factory, _arguments(name, factory, chosen, offered))
    return _checked(name, model)


def _preset(name: str, factory: Callable[..., Any], preset: str | None) -> Mapping[str, Any]:
    if preset is None:
        return {}
    presets: Mapping[str, Mapping[str, Any]] = getattr(factory, "presets", {})
    if preset not in presets:
        raise UnknownNameError(f"preset of model {name!r}", preset, presets)
    return presets[preset]


def _arguments(
    name: str, factory: Callable[..., Any], chosen: Mapping[str, Any], offered: Mapping[str, Any]
) -> dict[str, Any]:
    """All of ``chosen`` and what the signature takes of ``offered``."""
    signature = _signature(factory)
    named = {p.name: p for p in signature if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    takes_all = any(p.kind is p.VAR_KEYWORD for p in signature)
    for key in chosen:
        if key not in named and not takes_all:
            raise UnknownNameError(f"parameter of model {name!r}", key, named)
    arguments = {key: value for key, value in offered.items() if key in named or takes_all} | dict(chosen)
    missing = [key for key, p in named.items() if p.default is p.empty and key not in arguments]
    if missing:
        raise ParameterError(f"The model {name!r} needs {', '.join(missing)}, which nothing sets.")
    return arguments


def _signature(factory: Callable[..., Any]) -> Sequence[inspect.Parameter]:
    from torch import nn

    if inspect.isclass(factory) and factory.__init__ is nn.Module.__init__:
        return []  # without a constructor of its own: Module's says (*args, **kwargs) and refuses them all
    return list(inspect.signature(factory).parameters.values())


def _call(name: str, factory: Callable[..., Any], arguments: Mapping[str, Any]) -> Any:
    try:
        return factory(**arguments)
    except CapsbenchError:
        raise
    except ValueError as error:  # how constructors that know nothing of capsbench refuse a value
        raise ParameterError(f"The model {name!r} refuses its parameters: {error}") from error


def _checked(name: str, model: Any) -> "nn.Module":
    from torch import nn

    if not isinstance(model, nn.Module):
        raise UsageError(f"The model {name!r} should be a torch.nn.Module, but it is a {type(model).__name__}.")
    if not callable(getattr(model, "loss", None)):
        raise UsageError(f"The model {name!r} has no method loss(output, batch), which training calls.")
    return model
