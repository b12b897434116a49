"""Whether a capsule layer does what the paper says; docs/conformance.md describes each check."""

import copy
import inspect
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from tabulate import tabulate
from torch import nn

from capsbench import registry
from capsbench.building import build
from capsbench.conformance import network as network_checks
from capsbench.conformance import routing as routing_checks
from capsbench.conformance.layer import CapsuleLayer
from capsbench.conformance.network import Network
from capsbench.conformance.routing import FaultError, Layer
from capsbench.contracts import Routing
from capsbench.errors import CapsbenchError, UnknownNameError, UsageError, first_line
from capsbench.parameters import image_shape
from capsbench.sources.hosting import hosted

CHECKS: dict[str, tuple[Callable[[Layer], str] | None, Callable[[Network], str | None] | None]] = {
    "couplings": (routing_checks.couplings, None),
    "batch": (routing_checks.batch, network_checks.batch),
    "permutation": (routing_checks.permutation, None),
    "iterations": (routing_checks.iterations, network_checks.iterations),
    "gradients": (routing_checks.gradients, network_checks.gradients),
    "zeros": (routing_checks.zeros, network_checks.zeros),
    "margin loss": (None, network_checks.margin_loss),
}
"""The check of a routing function and that of a network, where there is one."""

LINE = 90  # characters of a finding in one line of the table


@dataclass(frozen=True)
class Finding:
    """What one check found.

    Attributes:
        check: Its name, a key of `CHECKS`.
        passed: None where the check does not apply.
        detail: One line: what was found, and of a fault also what was expected.
    """

    check: str
    passed: bool | None
    detail: str


def check(
    model: str | nn.Module | Routing, /, *, image_size: int | Sequence[int] = 28, pairs: bool = False, **parameters: Any
) -> list[Finding]:
    """Checks a routing function, or a network with the routing that it may offer, on the CPU.

    A routing function takes ``(u, weight, iterations)`` as `capsbench.contracts.Routing` says. A network is what
    `capsbench.models.build` builds; with an attribute ``routing``, that is checked as well. An attribute or an argument
    ``leaky`` that is true says that routing has an orphan category (docs/routing.md). Weights and inputs are the same
    in every call, and the random states of torch, NumPy and Python are left as they were.

    Example:
        ``check("capsnet", preset="small")``

    Args:
        model: A routing function, a built network, or a name, ``package.module:attribute`` or ``file.py:attribute`` of
            a routing function or of what builds a network.
        image_size: Height and width in pixels of a network's images; one number is a square.
        pairs: Whether an image of a network shows two digits.
        **parameters: Parameters of the network that is built, or keyword arguments of the routing function.

    Returns:
        A finding for each of `CHECKS`, in that order. Whatever a layer raises or returns becomes a finding.

    Raises:
        UsageError: ``model`` is neither, or the network cannot be built.
    """
    room = registry.room("model", model) if isinstance(model, str) else None
    with room or nullcontext(), hosted(0), torch.enable_grad():
        layer, network = _subject(model, image_size, pairs, parameters)
        return [_finding(name, layer, network) for name in CHECKS]


def findings_text(findings: Sequence[Finding]) -> str:
    """The findings as a table."""
    verdicts = {True: "pass", False: "FAIL", None: "n.a."}
    rows = [(finding.check, verdicts[finding.passed], finding.detail) for finding in findings]
    widths = [None, None, LINE]
    return tabulate(rows, ["check", "result", "found"], tablefmt="simple", disable_numparse=True, maxcolwidths=widths)


def _finding(name: str, layer: Layer | None, network: Network | None) -> Finding:
    of_routing, of_network = CHECKS[name]
    parts: dict[str, Callable[[], str | None]] = {}
    if of_routing and layer:
        parts["routing: "] = partial(of_routing, layer)
    if of_network and network:
        parts["network: "] = partial(of_network, network)
    details = []
    for whose, part in parts.items():
        prefix = whose if network else ""  # a routing function needs no prefix
        try:
            found = part()
        except FaultError as fault:
            return Finding(name, False, f"{prefix}{fault}")
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # a user's code can fail in any way, and may even end the process
            return Finding(name, False, f"{prefix}it raises {first_line(error)}")
        details += [f"{prefix}{found}"] if found else []
    if details:
        return Finding(name, True, "; ".join(details))
    why = "no routing is offered" if network else "no loss is offered"
    if network and name == "margin loss":
        why += ", and no margin_loss = True says that it is the loss"
    return Finding(name, None, f"does not apply: {why}")


def _subject(
    model: Any, image_size: Any, pairs: bool, parameters: Mapping[str, Any]
) -> tuple[Layer | None, Network | None]:
    """The subject of the checks: a layer, a network, or a network with its layer."""
    thing = registry.load("model", model) if isinstance(model, str) else model
    name = model if isinstance(model, str) else getattr(model, "__name__", type(model).__name__)
    if _is_routing(thing):
        return _bound(name, thing, parameters), None
    layer = _layer(name, thing, parameters)
    if layer is not None:
        return Layer(layer, _is_leaky(thing, parameters)), None
    sides = image_shape(image_size)
    rebuilt = None
    if isinstance(thing, nn.Module) and callable(getattr(thing, "loss", None)):
        if parameters:
            raise UsageError(f"The model {name!r} is built already and takes no {', '.join(parameters)}.")
        module = _built(name, partial(copy.deepcopy, thing))
    elif isinstance(model, str) and not isinstance(thing, nn.Module):
        module, rebuilt = _named_network(name, thing, {"image_size": image_size, "pairs": pairs, **parameters})
    else:
        raise UsageError(
            f"The model {name!r} should be a name, a network with a method loss(output, batch), "
            f"or a function of (u, weight, iterations), but it is a {type(thing).__name__}."
        )
    try:
        routing: Any = getattr(module, "routing", None)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a property of a user's can fail in any way
        raise UsageError(f"The routing of model {name!r} cannot be read: {first_line(error)}") from error
    offered = None
    if _is_routing(routing):  # an attribute of this name may be something else
        offered = Layer(routing, _is_leaky(module, {}))
    return offered, Network(module, sides, pairs, rebuilt, offered)


def _layer(name: str, thing: Any, parameters: Mapping[str, Any]) -> CapsuleLayer | None:
    """A capsule layer that keeps its own weights; None if it is something else."""
    kind = type(thing) if isinstance(thing, nn.Module) else thing
    if not (inspect.isclass(kind) and issubclass(kind, nn.Module)) or hasattr(kind, "loss"):
        return None
    try:
        return CapsuleLayer(name, kind, parameters)
    except UsageError:
        return None


def _is_routing(thing: Any) -> bool:
    """Whether something takes ``(u, weight, iterations)`` by position and does not build a network instead."""
    if inspect.isclass(thing) or not callable(thing):
        return False
    try:
        signature = inspect.signature(_called(thing))
    except (TypeError, ValueError):  # not written in Python
        return False
    given = signature.parameters.values()
    first = [one for one in given if one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD)][:3]
    needed = {one.name for one in first[:2] if one.default is one.empty}
    return len(first) == 3 and len(needed) == 2 and not needed & {"image_size", "classes", "pairs"}


def _called(thing: Any) -> Any:
    return thing.forward if isinstance(thing, nn.Module) else thing  # a module's own signature says nothing


def _is_leaky(thing: Any, arguments: Mapping[str, Any]) -> bool:
    """Whether an argument of a layer or of a network's constructor, or an attribute, says that there is a leak."""
    return arguments.get("leaky") is True or getattr(thing, "leaky", False) is True


def _bound(name: str, routing: Routing, parameters: Mapping[str, Any]) -> Layer:
    try:
        bound = inspect.signature(_called(routing)).bind(None, None, 1, **parameters)
    except TypeError as error:
        raise UsageError(f"The routing function {name!r} cannot be called like this: {error}.") from None
    bound.apply_defaults()
    return Layer(partial(routing, **parameters), _is_leaky(routing, bound.arguments))


def _named_network(
    name: str, factory: Any, options: Mapping[str, Any]
) -> tuple[nn.Module, Callable[[int], nn.Module] | None]:
    """The network, and a function that builds it with another number of iterations, if it has such a parameter."""
    try:
        module = _built(name, partial(build, name, **options))
    except UnknownNameError:
        raise
    except UsageError as error:
        if ":" not in name:  # names without a place are networks
            raise
        way_out = (
            "A capsule layer is checked as a function of (u, weight, iterations), or as it is where four arguments of "
            "its constructor are its sizes: docs/conformance.md."
        )
        raise UsageError(f"{error}\n{way_out}") from None

    def rebuilt(iterations: int) -> nn.Module:
        other = _built(name, partial(build, name, **{**options, "iterations": iterations}))
        other.load_state_dict(module.state_dict())
        return other

    return module, rebuilt if "iterations" in inspect.signature(factory).parameters else None


def _built(name: str, build: Callable[[], nn.Module]) -> nn.Module:
    try:
        return build().cpu().eval()
    except (CapsbenchError, KeyboardInterrupt):
        raise
    except BaseException as error:  # a user's constructor can fail in any way
        raise UsageError(f"The model {name!r} cannot be built: {first_line(error)}") from error
