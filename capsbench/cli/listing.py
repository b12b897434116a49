"""The command list: what there is."""

import json
from typing import Any

import click

from capsbench.cli.options import json_option
from capsbench.errors import UsageError


@click.command("list")
@json_option
def list_command(as_json: bool) -> None:
    """List data sets, models and suites with their presets, plug-ins included.

    \b
    Example:
      capsbench list
    """
    from capsbench import registry

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
            click.echo(f"  {member['name']:<12} {member['summary']}{presets}")


def _entry(family: str, name: str) -> dict[str, Any]:
    from capsbench import registry

    try:
        thing = registry.load(family, name)
    except UsageError as error:  # a plug-in that fails must not hide the others
        return {"name": name, "summary": f"cannot be loaded: {error}", "presets": []}
    return {"name": name, "summary": registry.summary(thing), "presets": sorted(getattr(thing, "presets", {}))}
