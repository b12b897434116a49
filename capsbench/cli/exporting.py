"""The command export: the weights of a finished cell as a file."""

from pathlib import Path

import click

from capsbench.cli.options import PATH, Command, suites_option


@click.command(cls=Command)
@click.argument("result", type=PATH)
@click.option("--out", type=PATH, required=True, metavar="FILE", help="The file: .pt or .safetensors.")
@click.option(
    "--checkpoint", default="best", show_default=True, metavar="best|target|last", help="Which of the selected weights."
)
@suites_option
@click.option("--force", is_flag=True, help="Replace a file that is there.")
def export(result: Path, out: Path, checkpoint: str, force: bool) -> None:
    """Write the weights of a finished cell, for torch.load and for `run --weights`.

    \b
    Example:
      capsbench export runs/affine/capsnet-seed0-0123456789ab.json --out net.pt
      capsbench run --suite affine --model capsnet --weights net.pt --out elsewhere
    """
    from capsbench.bench.exporting import export as write

    click.echo(write(result, out, checkpoint=checkpoint, force=force))
