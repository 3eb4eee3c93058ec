"""The command line: parse, call the library, print."""

from __future__ import annotations

import functools
import signal
import sys
from typing import Annotated, Any

import typer

from retune import __version__
from retune.cli import (
    audit,
    cache,
    check,
    data,
    embed,
    explain,
    export,
    further,
    leaderboard,
    listing,
    new,
    predict,
    prompts,
    report,
    run,
    show,
    submit,
    suite,
)
from retune.errors import RetuneError, printable

app = typer.Typer(
    name="retune",
    help="Continual learning of chest X-ray vision-language models.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"retune {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """Continual learning of chest X-ray vision-language models."""


app.command("run")(run.run)
app.command("suite")(suite.suite)
app.command("explain")(explain.explain)
app.command("list")(listing.list_)
app.command("show")(show.show)
app.command("embed")(embed.embed)
app.command("check")(check.check)
app.command("report")(report.report)
app.command("audit")(audit.audit)
app.command("continue")(further.further)
app.command("export")(export.export)
app.command("predict")(predict.predict)
app.command("submit")(submit.submit)
app.add_typer(cache.app, name="cache")
app.add_typer(data.app, name="data")
app.add_typer(prompts.app, name="prompts")
app.add_typer(new.app, name="new")
app.add_typer(leaderboard.app, name="leaderboard")


def invoke(arguments: list[str] | None) -> int:
    """Run a command; returns its exit code, and tells in one line what the user can mend."""
    try:
        code = _command().main(args=arguments, prog_name="retune", standalone_mode=False)
    except RetuneError as error:
        return _complain(str(error), error.exit_code)
    except typer.Abort:
        raise KeyboardInterrupt from None
    except Exception as error:
        # Usage errors come as exceptions of the library beneath typer: they carry their own exit code.
        if hasattr(error, "format_message") and hasattr(error, "exit_code"):
            context = getattr(error, "ctx", None)
            path = context.command_path if context else "retune"
            if not error.format_message():  # A bare command has printed its help.
                return int(error.exit_code)
            return _complain(f"{error.format_message().rstrip('.')}; see '{path} --help'", 2)
        raise
    if code == 128 + signal.SIGINT:
        raise KeyboardInterrupt
    return code if isinstance(code, int) else 0


@functools.cache
def _command() -> Any:
    """All commands: a program that runs several puts them together once."""
    return typer.main.get_command(app)


def _complain(message: str, code: int) -> int:
    print("error: " + " ".join(printable(message).split()), file=sys.stderr)
    return code
