"""Commands on data of others: import affnist."""

import json
from pathlib import Path
from typing import Any

import click

from capsbench.cli.options import force_option, json_option


@click.group("import")
def import_group() -> None:
    """Make a file of ours of a data set of others.

    \b
    Example:
      capsbench import affnist test.mat --out affnist-real-test.h5
    """


@import_group.command()
@click.argument("file", type=click.Path(path_type=Path), metavar="FILE.mat")
@click.option("--out", type=click.Path(path_type=Path), required=True, metavar="FILE.h5", help="The file to make.")
@click.option("--split", metavar="SPLIT", help="Which split it shows, if its labels do not say; test by default.")
@force_option
@json_option
def affnist(file: Path, out: Path, as_json: bool, **options: Any) -> None:
    """Import a file of the real affNIST (Tieleman 2013).

    It is read by a child process of limited memory and time. `capsbench info` then holds it against our affnist.

    \b
    Example:
      capsbench import affnist test.mat --out affnist-real-test.h5
      capsbench info affnist-real-test.h5
    """
    from capsbench.cli.describing import file_facts, generated_text
    from capsbench.cli.progress import progress
    from capsbench.files.datafile import DataFile
    from capsbench.importing.affnist import import_affnist
    from capsbench.spec import UNKNOWN

    with progress(f"importing {out.name}") as report:
        made = import_affnist(file, out, report=report, **options)
    facts = file_facts(DataFile(made.path), measured=False)
    if facts["digits"] == UNKNOWN:
        click.echo(
            f"Note: the labels are in the order of no split of known digits; split {facts['spec']['split']} is what "
            f"{'--split says' if options['split'] else 'is taken without --split'}. Sources are -1.",
            err=True,
        )
    text = generated_text(made, facts, done="imported")
    told = facts | {"seconds": made.seconds, "drawn": made.written}
    click.echo(json.dumps(told, indent=2) if as_json else text)
