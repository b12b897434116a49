"""What a shell completes: names of data sets, networks, suites and presets, plug-ins included."""

from collections.abc import Callable, Sequence

import click

Completion = Callable[[click.Context, click.Parameter, str], list[str]]


def names(family: str) -> Completion:
    """Completes the names of a family: ``data set``, ``model`` or ``suite``."""

    def complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
        from capsbench import registry

        return [name for name in sorted(registry.catalog(family)) if name.startswith(incomplete)]

    return complete


def presets(family: str, of: str) -> Completion:
    """Completes the presets of the member that another parameter names; of every member where it names none.

    Args:
        family: ``data set`` or ``suite``.
        of: The name of that parameter.
    """

    def complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
        from capsbench import registry
        from capsbench.cli.listing import read_class

        shipped = {name: place for name, place in registry.catalog(family).items() if place.startswith("capsbench.")}
        asked = ctx.params.get(of)
        some = [shipped[asked]] if asked in shipped else list(shipped.values())
        found = dict.fromkeys(preset for place in some for preset in read_class(place)[1])
        return [preset for preset in found if preset.startswith(incomplete)]

    return complete


def words(choices: Sequence[str]) -> Completion:
    """Completes some words."""

    def complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
        return [word for word in choices if word.startswith(incomplete)]

    return complete
