"""The command list: data sets, networks and suites, with a line each."""

import ast
import json
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click

from capsbench.cli.options import Command, json_option
from capsbench.errors import CapsbenchError, plain
from capsbench.errors import first_line as cause

FITTED = ("image_size", "classes", "pairs")
"""Parameters of a network that the suite sets."""

INDENT = " " * 17


@click.command("list", cls=Command)
@click.option(
    "--models", "library", metavar="LIBRARY", help="List the networks of a library instead, such as torchvision."
)
@json_option
def list_command(library: str | None, as_json: bool) -> None:
    """List data sets, models and suites with their presets and parameters, plug-ins included.

    The settings of a suite are in its page under docs/. With --models torchvision, list its networks, and on which
    images each works: as they are (x1), enlarged 2 or 4 times (x2, x4), or not at all (-).

    \b
    Example:
      capsbench list
      capsbench list --models torchvision
    """
    from capsbench import registry
    from capsbench.parameters import as_text

    if library is not None:
        measured = registry.library_table(library)
        click.echo(json.dumps(measured, indent=2) if as_json else library_text(library, measured))
        return

    forms = pretrained_forms()
    entries = {
        family: [_entry(family, name, place, forms) for name, place in sorted(registry.catalog(family).items())]
        for family in registry.FAMILIES
    }
    if as_json:
        click.echo(json.dumps(entries, indent=2, default=str))
        return
    for family, members in entries.items():
        click.echo(f"{family}s")
        for member in members:
            presets = f"  [presets: {', '.join(member['presets'])}]" if member["presets"] else ""
            click.echo(plain(f"  {member['name']:<14} {member['summary']}{presets}"))
            for trained in member.get("pretrained", []):
                click.echo(f"{INDENT}pretrained: {trained['network']!r} of {trained['pretrained']}")
            if member.get("parameters"):
                settings = " ".join(f"{key}={as_text(value)}" for key, value in member["parameters"].items())
                click.echo(click.wrap_text(settings, 100, INDENT, INDENT))


def library_text(library: str, measured: Mapping[str, Any]) -> str:
    """The networks of a library as a table, and where it comes from."""
    from tabulate import tabulate

    header, *rows = library_rows(measured)
    table = tabulate(rows, header, tablefmt="simple", disable_numparse=True)
    return (
        f"{table}\n\nx1: images as they are; x2, x4: enlarged 2 or 4 times, bilinear; -: it does not work on such "
        f"images. Measured with {library} {measured['version']}. Name one as --model {library}:NAME."
    )


def library_rows(measured: Mapping[str, Any]) -> list[list[str]]:
    """The header and a row for each network of a library."""
    networks = measured["networks"]
    sizes = [key for key in next(iter(networks.values())) if key != "parameters"]
    rows = [["network", "parameters", *sizes]]
    for name, facts in networks.items():
        parameters = f"{facts['parameters']:,}" if facts["parameters"] else "-"
        rows.append([name, parameters, *(f"x{facts[size]}" if facts[size] else "-" for size in sizes)])
    return rows


def _entry(family: str, name: str, reference: str, forms: Mapping[str, list[dict[str, str]]]) -> dict[str, Any]:
    """An entry of the list: name, summary, presets; of a data set or a network its parameters, and pretrained forms."""
    from capsbench import registry
    from capsbench.parameters import defaults

    if reference == registry.shipped(family).get(name):  # what ships is read, not imported: torch alone takes seconds
        summary, presets, parameters = read_class(reference)
    else:
        try:
            thing = registry.load(family, name)
            summary, presets = first_line(thing.__doc__), sorted(getattr(thing, "presets", {}))
            parameters = defaults(thing) if family != "suite" else {}
        except Exception as error:  # a plug-in can fail in any way, and must not hide the others
            reason = str(error) if isinstance(error, CapsbenchError) else f"{reference}: {cause(error)}"
            return {"name": name, "summary": f"cannot be loaded: {reason}", "presets": []}
    entry: dict[str, Any] = {"name": name, "summary": summary, "presets": presets}
    if family == "suite":
        return entry
    if family == "model" and name in forms:
        entry["pretrained"] = forms[name]
    return entry | {"parameters": {key: value for key, value in parameters.items() if key not in FITTED}}


def pretrained_forms() -> dict[str, list[dict[str, str]]]:
    """By a network's name its forms that ship with their weights, as `capsbench.load_network` takes them."""
    from capsbench.bench.pretrained import pretrained

    forms: dict[str, list[dict[str, str]]] = {}
    for protocol, labels in pretrained().items():
        for label in labels:
            forms.setdefault(label.partition(" (")[0], []).append({"network": label, "pretrained": protocol})
    return forms


def first_line(docstring: str | None) -> str:
    """The first line of a docstring, without its full stop."""
    return (docstring or "").strip().partition("\n")[0].rstrip(".")


def read_class(reference: str) -> tuple[str, list[str], dict[str, Any]]:
    """The summary, the presets' names and the parameters' defaults of a class, from its source.

    Args:
        reference: ``module:Class``. Its presets have literal names, and its parameters literal defaults: keywords of
            its constructor, or the fields of a dataclass.
    """
    module, _, name = reference.partition(":")
    found = find_spec(module)
    assert found is not None and found.origin is not None
    tree = ast.parse(Path(found.origin).read_bytes())
    (node,) = (one for one in tree.body if isinstance(one, ast.ClassDef) and one.name == name)
    fields = [one for one in node.body if isinstance(one, ast.AnnAssign)]
    (presets,) = (one.value for one in fields if ast.unparse(one.target) == "presets")
    assert isinstance(presets, ast.Dict)
    own = [one.args for one in node.body if isinstance(one, ast.FunctionDef) and one.name == "__init__"]
    defaults = {one.arg: value for given in own for one, value in zip(given.kwonlyargs, given.kw_defaults, strict=True)}
    if not own:  # a dataclass
        parameters = [one for one in fields if not ast.unparse(one.annotation).startswith("ClassVar")]
        defaults = {ast.unparse(one.target): one.value for one in parameters}
    return (
        first_line(ast.get_docstring(node)),
        sorted(ast.literal_eval(key) for key in presets.keys if key),
        {key: ast.literal_eval(value) for key, value in defaults.items() if value},
    )
