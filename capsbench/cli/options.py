"""Options of several commands, and a note that several commands print."""

import click

digits_option = click.option(
    "--digits",
    default="auto",
    metavar="auto|embedded|DIR",
    show_default=True,
    help="The source digits.",
)
force_option = click.option("--force", is_flag=True, help="Replace a file of another spec.")
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead.")
set_option = click.option("--set", "sets", multiple=True, metavar="K=V", help="Set a parameter; may be repeated.")


def say_embedded(asked: str) -> None:
    """Prints how to get full MNIST, unless the user chose the embedded digits."""
    if asked != "embedded":
        click.echo("Note: made from the 5,000 embedded digits. Full MNIST: capsbench data fetch", err=True)
