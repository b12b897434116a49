"""Commands on data sets of other people: import affnist."""

import json
from pathlib import Path
from typing import Any

import click

from capsbench.cli.options import PATH, Group, force_option, json_option


@click.group("import", cls=Group)
def import_group() -> None:
    """Convert data sets of other people to data files.

    \b
    Example:
      capsbench import affnist test.mat --out affnist-real-test.h5
    """


@import_group.command()
@click.argument("files", type=PATH, metavar="FILE.mat...", nargs=-1, required=True)
@click.option("--out", type=PATH, required=True, metavar="FILE.h5", help="The file to write.")
@click.option("--split", metavar="SPLIT", help="The split, where its labels do not show it; by default test.")
@force_option
@json_option
def affnist(files: tuple[Path, ...], out: Path, as_json: bool, **options: Any) -> None:
    """Import the real affNIST (Tieleman 2013): one of its files, or several batches as one.

    A child process with limited memory and time reads it. `capsbench info` then compares it with our affnist.

    \b
    Example:
      capsbench import affnist test.mat --out affnist-real-test.h5
      capsbench info affnist-real-test.h5
      capsbench import affnist test_batches/*.mat --out affnist-real-test.h5
    """
    from capsbench.cli.describing import file_facts, generated_text
    from capsbench.cli.progress import progress
    from capsbench.files.datafile import DataFile
    from capsbench.importing.affnist import import_affnist
    from capsbench.spec import UNKNOWN

    with progress(f"importing {out.name}") as report:
        made = import_affnist(files, out, report=report, **options)
    facts = file_facts(DataFile(made.path), measured=False)
    if facts["digits"] == UNKNOWN:
        by_ids = "source" in facts["spec"]["parameters"]
        sources = "come from original_id" if by_ids else "are -1"
        click.echo(
            f"Note: the labels match no split of known digits; split {facts['spec']['split']} is "
            f"{'what --split says' if options['split'] else 'the default'}. Sources {sources}.",
            err=True,
        )
    text = generated_text(made, facts, done="imported")
    told = facts | {"seconds": made.seconds, "drawn": made.written}
    click.echo(json.dumps(told, indent=2) if as_json else text)
