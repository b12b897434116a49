"""The command check: does a capsule layer do what the paper says."""

import json

import click

from capsbench.cli.completion import names
from capsbench.cli.options import Command, json_option, set_option
from capsbench.parameters import split_assignments


@click.command(cls=Command)
@click.argument("model", shell_complete=names("model"))
@set_option
@json_option
def check(model: str, sets: tuple[str, ...], as_json: bool) -> None:
    """Check a capsule layer against the paper, or a network with its capsules.

    MODEL is a name, package.module:attr or file.py:attr: a network, or a function routing(u, weight, iterations). It is
    code that is run; use only code that you trust. See docs/conformance.md.

    \b
    Example:
      capsbench check capsnet --set gradient=detached
      capsbench check layer.py:routing
    """
    from capsbench.conformance.check import check as check_model
    from capsbench.conformance.check import findings_text
    from capsbench.errors import ChecksFailedError
    from capsbench.parameters import literal

    findings = check_model(model, **{key: literal(value) for key, value in split_assignments(sets).items()})
    click.echo(json.dumps([vars(one) for one in findings], indent=2) if as_json else findings_text(findings))
    failed = [one.check for one in findings if one.passed is False]
    if failed:
        raise ChecksFailedError(f"{model} fails {len(failed)} of {len(findings)} checks: {', '.join(failed)}.")
