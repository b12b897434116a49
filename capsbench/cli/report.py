"""Commands on results: report, compare."""

import os
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

import click

from capsbench.cli.completion import names, words
from capsbench.cli.options import PATH, Command, found_digits_option, json_option, suites_option
from capsbench.errors import UsageError, escaped, plain

STYLES = ("simple", "github", "latex_booktabs", "csv", "json")


@click.command(cls=Command)
@click.argument("folders", nargs=-1, required=True, type=PATH, metavar="DIR...")
@click.option(
    "--format",
    "style",
    default="simple",
    show_default=True,
    shell_complete=words(STYLES),
    help="simple, github, latex_booktabs, csv or json.",
)
@click.option("--wide", is_flag=True, help="Show every column, and in other formats the suites' tables.")
@click.option("--charts", "pictures", type=PATH, metavar="DIR", help="Also write charts there.")
@click.option(
    "--markdown",
    type=PATH,
    metavar="FILE.md",
    help="Also write a page; with --charts it shows them.",
)
@click.option("--html", type=PATH, metavar="FILE.html", help="Also write one page with boards and everything else.")
@click.option("--json", "document", type=PATH, metavar="FILE.json", help="Also write the boards as data.")
@click.option("--samples", type=PATH, metavar="FILE.csv", help="Also write every answer, a line for each image.")
@found_digits_option
@suites_option
@click.option("--force", is_flag=True, help="Write a page over a file that is no page of capsbench.")
def report(
    folders: Sequence[Path],
    style: str,
    wide: bool,
    pictures: Path | None,
    markdown: Path | None,
    html: Path | None,
    document: Path | None,
    samples: Path | None,
    digits: str,
    force: bool,
) -> None:
    """Print tables of results; with --charts also write charts and pictures, with their data as CSV.

    A terminal shows what fits into 100 columns, and a board: the networks of each protocol in order. github,
    latex_booktabs and csv are boards for papers: figures with intervals, the best in bold, ties with a dagger. --wide
    shows the suites' tables whole, in any format.

    A page (--markdown, --html) has the paper's values with ours beside them, every table, and the charts. That of
    --html begins with boards: the networks of each protocol in order, with intervals, paired differences to the best,
    and what it takes to measure each again. It needs nothing beside it. See docs/report.md.

    \b
    Example:
      capsbench report runs --format github
      capsbench report runs --html results.html
    """
    from capsbench.parameters import check_choice
    from capsbench.report.board import board_document, boards
    from capsbench.report.boardtables import render_boards
    from capsbench.report.groups import charts, current
    from capsbench.report.pages import CSV, HTML, JSON, MARKDOWN, check_page, markdown_page, render, save_page
    from capsbench.report.tables import FORMATS
    from capsbench.results.failures import failed_cells
    from capsbench.results.result import load_all_results

    check_choice("format", style, FORMATS)
    for page, endings in ((markdown, MARKDOWN), (html, HTML), (document, JSON), (samples, CSV)):
        if page is not None:
            check_page(page, endings, read=folders, force=force)
    found = load_all_results(folders)
    results, outdated = current(found)
    for note in outdated:
        click.echo(plain(f"Note: {note}"), err=True)
    click.echo(escaped(render(results, style, wide=wide)))
    if style == "simple":
        shown = render_boards(boards(results), style)
        click.echo(escaped(f"\n{shown}" if shown else ""))
    failed = failed_cells(folders, found)
    for name, why in failed:
        click.echo(plain(f"Note: no result of {name}: {why}"), err=True)
    if pictures:
        drawn = charts(results)
        for chart in drawn:
            click.echo(f"chart: {chart.save(pictures)[0]}", err=True)
        if not drawn:
            click.echo("Note: no charts; the suites of these results draw none.", err=True)
    if markdown:
        link = quote(os.fsencode(os.path.relpath(pictures, markdown.parent))) if pictures else ""
        save_page(markdown_page(results, link), markdown)
    if html:
        from capsbench.report.webpage import html_page  # takes a tenth of a second

        save_page(html_page(results, outdated=outdated, failed=failed), html)
    if document:
        save_page(board_document(results), document)
    if samples:
        from capsbench.bench.samples import save_samples  # which draws the images' factors

        save_samples(results, samples, digits, say=lambda line: click.echo(plain(f"Note: {line}"), err=True))
    for page in (markdown, html, document, samples):
        if page:
            click.echo(f"page: {page}", err=True)


@click.command(cls=Command)
@click.argument("places", nargs=-1, required=True, metavar="A [B]", type=PATH)
@click.option(
    "--model",
    "models",
    multiple=True,
    shell_complete=names("model"),
    help="A network of folder A; give two instead of B.",
)
@click.option(
    "--format",
    "style",
    default="simple",
    show_default=True,
    shell_complete=words(STYLES),
    help="simple, github, latex_booktabs, csv or json.",
)
@suites_option
@json_option
def compare(places: Sequence[Path], models: tuple[str, ...], style: str, as_json: bool) -> None:
    """Compare results of one suite on the same images: how B differs from A, with paired tests.

    A and B are result files, or folders of them. In folders, results of the same suite, preset, digits and seed are
    partners; where there are several, those of the same network. Two networks of one folder are named by --model. First
    come what differs in settings and figures, and one test over all seeds; then each seed.

    \b
    Example:
      capsbench compare before after
      capsbench compare runs --model cnn-pool --model capsnet
      capsbench compare runs/affine/cnn-pool-seed0-*.json runs/affine/capsnet-seed0-*.json
    """
    from capsbench.report.comparison import compare as compare_places
    from capsbench.report.comparison import compare_networks
    from capsbench.report.comparisontables import render_comparisons

    if len(places) > 2:
        raise UsageError(
            f"Two places are compared, got {len(places)}. If a shell made them from a name with *, name their folder "
            "and two of its networks with --model."
        )
    if len(places) == 2 and models:
        raise UsageError("Name two places, or one place and two networks with --model.")
    found = compare_networks(places[0], models) if len(places) == 1 else compare_places(*places)
    click.echo(escaped(render_comparisons(found, "json" if as_json else style)))
    for name in found.alone:
        click.echo(plain(f"Note: no partner for {name}"), err=True)
