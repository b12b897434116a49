"""Options that several commands take, and a note that several give."""

import click

digits_option = click.option(
    "--digits",
    default="auto",
    metavar="auto|embedded|DIR",
    show_default=True,
    help="Where the source digits come from.",
)
force_option = click.option("--force", is_flag=True, help="Start anew where another file stands.")
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead.")
set_option = click.option("--set", "sets", multiple=True, metavar="K=V", help="Set one parameter; may be repeated.")


def say_embedded(asked: str) -> None:
    """Says where full MNIST can be had, unless the embedded digits are what was asked for."""
    if asked != "embedded":
        click.echo("Note: made from the 5,000 embedded digits. Full MNIST: capsbench data fetch", err=True)
