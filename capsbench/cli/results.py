"""Commands on results: report."""

from collections.abc import Sequence
from pathlib import Path

import click


@click.command()
@click.argument("folders", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="DIR...")
@click.option(
    "--format", "style", default="simple", show_default=True, help="simple, github, latex_booktabs, csv or json."
)
@click.option("--charts", "pictures", type=click.Path(path_type=Path), metavar="DIR", help="Also draw charts there.")
def report(folders: Sequence[Path], style: str, pictures: Path | None) -> None:
    """Make tables, and with --charts pictures with their numbers as CSV, from results.

    \b
    Example:
      capsbench report runs --format github
    """
    from capsbench.charts import save_chart
    from capsbench.errors import UnknownNameError
    from capsbench.report import FORMATS, charts, render
    from capsbench.results import load_results

    if style not in FORMATS:
        raise UnknownNameError("format", style, FORMATS)
    results = [result for folder in folders for result in load_results(folder)]
    click.echo(render(results, style))
    if pictures:
        for chart in charts(results):
            click.echo(f"chart: {save_chart(chart, pictures)[0]}", err=True)
