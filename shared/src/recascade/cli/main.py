"""The command ``recascade``: finds the subcommand, and turns every error that a user can mend into one sentence."""

from __future__ import annotations

import importlib
import os
import signal
import sys
from collections.abc import Sequence

import click

from recascade import __version__
from recascade.contracts.method import Method
from recascade.errors import RecascadeError, did_you_mean

COMMANDS = (
    "methods",
    "data",
    "tokenize",
    "run",
    "bench",
    "ablate",
    "compare",
    "report",
    "serve",
    "new-method",
    "doctor",
)

USER_ERROR = 2
INTERRUPTED = 130


class LazyGroup(click.Group):
    """Subcommand NAME is the attribute ``command`` of the module ``recascade.cli.NAME``, imported when needed; a hyphen
    in the name is an underscore in the module's.

    An installed method that has commands of its own adds a group of its name.
    """

    def list_commands(self, context: click.Context) -> list[str]:
        """In the order of work, not of the alphabet; then the methods."""
        return [*COMMANDS, *_methods_with_commands()]

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        """Import the module of the command; None when there is none of that name."""
        if name in COMMANDS:
            command: click.Command = importlib.import_module(f"recascade.cli.{name.replace('-', '_')}").command
            return command
        methods = _methods_with_commands()
        return methods[name].command_group() if name in methods else None

    def resolve_command(
        self, context: click.Context, arguments: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Add the nearest name to the message about an unknown one."""
        known = self.list_commands(context)
        if arguments and not arguments[0].startswith("-") and arguments[0] not in known:
            context.fail(f"There is no command {arguments[0]!r}.{did_you_mean(arguments[0], known)}")
        return super().resolve_command(context, arguments)


@click.command(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]}, no_args_is_help=True)
@click.version_option(__version__, prog_name="recascade")
@click.option("--debug", is_flag=True, help="Show the traceback of an error; may stand anywhere on the line.")
def command(debug: bool) -> None:
    """Events in, a fair leaderboard out.

    Import a log (data), see what can run (methods), run one method (run), a suite of them (bench) or an ablation
    (ablate), test the differences (compare), make a page of it (report), and put a trained method to work (serve).
    """


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of the console script.

    Exit status: 0; 1 when a run failed or something unforeseen happened; 2 for an error the user can mend; 130 after
    Ctrl-C.
    """
    line = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in line
    # `timeout`, service managers and container engines stop a program by SIGTERM, which deserves the care of Ctrl-C.
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        status = command.main(
            [word for word in line if word != "--debug"], prog_name="recascade", standalone_mode=False
        )
        sys.exit(status if isinstance(status, int) else 0)
    except click.ClickException as error:
        if debug:
            raise
        error.show()
        sys.exit(USER_ERROR)
    except (KeyboardInterrupt, click.Abort):
        if debug:
            raise
        sys.exit(INTERRUPTED)
    except RecascadeError as error:
        if debug:
            raise
        _say(f"Error: {error}")
        sys.exit(USER_ERROR)
    except BrokenPipeError:
        # The reader of a pipe (`recascade … | head`) went away; pointing stdout elsewhere keeps the exit silent.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        if debug:
            raise
        what = "Reading or writing failed" if error.filename is None else f"{error.filename} cannot be used"
        _say(f"Error: {what}: {error.strerror or error}.")
        sys.exit(USER_ERROR)
    except Exception as error:
        if debug:
            raise
        _say(f"Error: something unforeseen happened ({type(error).__name__}: {error}). Add --debug to see where.")
        sys.exit(1)


def _methods_with_commands() -> dict[str, Method]:
    from recascade.bench.registry import installed_methods

    return {name: method for name, method in installed_methods().items() if method.commands}


def _say(message: str) -> None:
    click.echo(message, err=True)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    main()
