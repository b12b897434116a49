"""Commands on the source digits: data fetch, data status."""

import json

import click

from capsbench.cli.options import Group, json_option


@click.group(cls=Group)
def data() -> None:
    """Fetch the source digits, or show which are here.

    \b
    Example:
      capsbench data fetch
    """


@data.command()
def fetch() -> None:
    """Put full MNIST into the user's cache: four files, checked.

    \b
    Example:
      capsbench data fetch
    """
    from capsbench.data.fetching import fetch as fetch_digits

    folder = fetch_digits(report=lambda line: click.echo(line, err=True))
    click.echo(f"{folder}: full MNIST, four files with the right MD5.")


@data.command()
@json_option
def status(as_json: bool) -> None:
    """Show which source digits are here, in the order in which `--digits auto` tries them.

    \b
    Example:
      capsbench data status
    """
    from tabulate import tabulate

    from capsbench.data.places import status as digits_status

    rows = [vars(row) for row in digits_status()]
    if as_json:
        click.echo(json.dumps(rows, indent=2, default=str))
    else:
        click.echo(tabulate([row.values() for row in rows], list(rows[0]), tablefmt="simple"))
