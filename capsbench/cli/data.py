"""Commands on source images: data fetch, data status."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import click

from capsbench.cli.options import Group, json_option
from capsbench.data.sets import SETS
from capsbench.parameters import check_choice


@click.group(cls=Group)
def data() -> None:
    """Fetch the source digits, or show which are here.

    \b
    Example:
      capsbench data fetch
    """


@data.command()
@click.argument("images", metavar="[mnist|fashion|kmnist|qmnist|cifar10]", default="mnist")
def fetch(images: str) -> None:
    """Put full MNIST, or another set of images, into the user's cache: checked files.

    \b
    Example:
      capsbench data fetch
      capsbench data fetch fashion
      capsbench data fetch cifar10
    """
    from capsbench.data.cifar10_fetching import fetch_cifar10
    from capsbench.data.fetching import fetch as fetch_digits
    from capsbench.data.set_fetching import fetch_set

    known = SETS.items()
    sources: dict[str, tuple[Callable[..., Path], str]] = {
        **{name: (partial(fetch_set, name), f"{one.title}, four files with the right MD5.") for name, one in known},
        "mnist": (fetch_digits, "full MNIST, four files with the right MD5."),
        "cifar10": (fetch_cifar10, "CIFAR-10, six files with the right MD5."),
    }
    get, told = sources[check_choice("set of images", images, sources)]
    folder = get(report=lambda line: click.echo(line, err=True))
    click.echo(f"{folder}: {told}")


@data.command()
@json_option
def status(as_json: bool) -> None:
    """Show which source images are here; of MNIST in the order in which `--digits auto` tries them.

    \b
    Example:
      capsbench data status
    """
    from tabulate import tabulate

    from capsbench.data import cifar10, places

    rows = [vars(row) for row in (*places.status(), cifar10.status())]
    if as_json:
        click.echo(json.dumps(rows, indent=2, default=str))
    else:
        click.echo(tabulate([row.values() for row in rows], list(rows[0]), tablefmt="simple"))
