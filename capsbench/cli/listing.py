"""The command list: what there is."""

import json
from typing import Any

import click

from capsbench.cli.options import json_option
from capsbench.errors import UsageError

FITTED = ("image_size", "classes", "pairs")
"""What a network is built with is the suite's to say."""

INDENT = " " * 17


@click.command("list")
@json_option
def list_command(as_json: bool) -> None:
    """List data sets, models and suites with their presets and parameters, plug-ins included.

    What a suite may set depends on its preset: `capsbench run --suite S --dry-run` tells.

    \b
    Example:
      capsbench list
    """
    from capsbench import registry
    from capsbench.parameters import as_text

    entries = {
        family: [_entry(family, name) for name in sorted(registry.catalog(family))] for family in registry.FAMILIES
    }
    if as_json:
        click.echo(json.dumps(entries, indent=2))
        return
    for family, members in entries.items():
        click.echo(f"{family}s")
        for member in members:
            presets = f"  [presets: {', '.join(member['presets'])}]" if member["presets"] else ""
            click.echo(f"  {member['name']:<14} {member['summary']}{presets}")
            if member.get("parameters"):
                settings = " ".join(f"{key}={as_text(value)}" for key, value in member["parameters"].items())
                click.echo(click.wrap_text(settings, 100, INDENT, INDENT))


def _entry(family: str, name: str) -> dict[str, Any]:
    from capsbench import registry
    from capsbench.parameters import defaults

    try:
        thing = registry.load(family, name)
    except UsageError as error:  # a plug-in that fails must not hide the others
        return {"name": name, "summary": f"cannot be loaded: {error}", "presets": []}
    entry = {"name": name, "summary": summary(thing), "presets": sorted(getattr(thing, "presets", {}))}
    if family == "suite":
        return entry
    return entry | {"parameters": {key: value for key, value in defaults(thing).items() if key not in FITTED}}


def summary(thing: Any) -> str:
    """The first line of an object's docstring, without its full stop."""
    return (thing.__doc__ or "").strip().partition("\n")[0].rstrip(".")
