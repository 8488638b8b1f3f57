# SPDX-License-Identifier: MIT
"""The group of commands: loads the one that is asked for, and ends with its exit code.

A command's module, and with it the library, rich and the readers of YAML, is imported when the
command is run: ``--help`` imports click alone.
"""

from __future__ import annotations

import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from importlib import import_module
from time import sleep
from typing import Any, Final

import click
from click.shell_completion import CompletionItem

import xsaveschema
from xsaveschema.errors import SchemaError, XsaveError, meant, plain

COMMANDS: Final = {
    "models": "List the CPU models of the catalogue.",
    "layout": "Show where each state component of a CPU model sits.",
    "areas": "List the areas of a file: threads, virtual CPUs, what they have in use.",
    "decode": "Show the header, components and registers of every area in a file.",
    "convert": "Convert an area to another format, or another CPU's layout.",
    "check": "Tell whether a restore takes an area, and by which rule it does not.",
    "diff": "Show what differs in meaning between two areas.",
    "compare": "Tell whether hosts can take a guest's state: its areas, or all that its CPU has.",
    "sigstack": "Tell how much stack a signal takes under Linux, by its parts.",
    "baseline": "Tell what a guest may have that shall run on any host of a fleet.",
    "identify": "Tell which CPU models fit an area, a CPUID dump or this machine.",
    "lint": "Report every fault in schema files.",
    "normalise": "Put areas into canonical form: equal state gives equal bytes.",
    "patch": "Set registers or fields in an area of a file, or in a live thread.",
    "add-layout": "Add NT_X86_XSAVE_LAYOUT to an ELF core that lacks it.",
    "debugger": "Write commands for GDB or LLDB: registers of cores and processes, whatever CPU.",
    "export": "Write tables of layouts for C, Rust, Go, Kaitai, GDB; test vectors; the atlas.",
    "new": "Write a model file from a CPUID dump or this machine.",
}
"""Every command with its one-line help; the module of a command has its name."""

_COMPLETE: Final = "_XSAVESCHEMA_COMPLETE"
"""The variable by which a shell asks what completes a line."""

_INTERRUPTED: Final = 130  # as shells count SIGINT


class Program(click.Group):
    """The group of commands; no expected error leaves it with a traceback."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names of the commands, in the order of the help text."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of this name, its module imported now; None where there is none."""
        if cmd_name not in COMMANDS:
            return None
        command = import_module(f"xsaveschema.cli.{cmd_name.replace('-', '_')}").command
        assert isinstance(command, click.Command)  # noqa: S101 - what a command's module defines
        if _COMPLETE in os.environ:
            from xsaveschema.cli.completion import attach

            attach(command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that the arguments name; an unknown one is told what it may mean."""
        if args[0] not in COMMANDS and not (args[0].startswith("-") or ctx.resilient_parsing):
            hint = meant(args[0], COMMANDS, 1) or f"commands: {', '.join(COMMANDS)}"
            ctx.fail(f"there is no command {args[0]!r}; {hint}")
        return super().resolve_command(ctx, args)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """The commands, and their help, without importing them."""
        options = click.Command.shell_complete(self, ctx, incomplete)
        fitting = (item for item in COMMANDS.items() if item[0].startswith(incomplete))
        return [*(CompletionItem(name, help=text) for name, text in fitting), *options]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands by what is known without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; what it wrote is out, or has failed, when this returns."""
        with _plugins_told():
            result = super().invoke(ctx)
        if sys.stdout is not None:  # None where the caller has closed it
            sys.stdout.flush()
        return result

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        """Run and exit, as click has it; commands return their exit code or None."""
        prog_name = "xsaveschema"  # python -m xsaveschema says the same
        if _COMPLETE in os.environ:
            from xsaveschema.cli.completion import install

            install()
        if not standalone_mode:
            return super().main(args, prog_name, complete_var, standalone_mode, **extra)
        # The default would leave half-written files; what was ignored stays so.
        before = signal.getsignal(signal.SIGTERM)
        unraisable = sys.unraisablehook
        sys.unraisablehook = partial(_again, unraisable)
        if before is signal.SIG_DFL:
            with suppress(ValueError):  # not in the main thread
                signal.signal(signal.SIGTERM, _terminate)
        try:
            result = super().main(args, prog_name, complete_var, False, **extra)
            code = result if isinstance(result, int) else 0
        except click.ClickException as error:
            _complain(error.format_message())
            if isinstance(error, click.UsageError) and error.ctx is not None:
                click.echo(f"Try '{error.ctx.command_path} --help'.", err=True)
            code = error.exit_code
        except (click.Abort, KeyboardInterrupt):
            code = _INTERRUPTED
        except OSError as error:
            _complain(_said(error))
            _abandon_output()
            code = 1
        except XsaveError as error:
            text = str(error)
            if isinstance(error, SchemaError):
                text = f"the schema files have faults\n{text}"
            # Notes are added from the inside out: the file is the last of them.
            _complain(": ".join([*reversed(getattr(error, "__notes__", ())), text]))
            code = 1
        finally:
            sys.unraisablehook = unraisable
            if before is signal.SIG_DFL:
                with suppress(ValueError):
                    signal.signal(signal.SIGTERM, before)
        sys.exit(code)


@contextmanager
def _plugins_told() -> Iterator[None]:
    """A plug-in that is left out is noted, once: nobody asks where in the code that is from.

    Whatever is to become of warnings: it is about the user's files.
    """
    from xsaveschema.plugins import PluginWarning

    with warnings.catch_warnings():
        show = warnings.showwarning

        def told(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
            if not issubclass(category, PluginWarning):
                show(message, category, *place, **more)
                return
            from xsaveschema.cli.output import note

            note(str(message))

        warnings.showwarning = told
        warnings.simplefilter("default", PluginWarning)
        yield


def _terminate(number: int, _frame: object) -> None:
    from xsaveschema.plugins import Terminated

    raise Terminated(128 + number)


def _again(before: Callable[[Any], Any], dropped: Any) -> None:
    """Tell this thread again of a signal whose exception Python drops.

    That is so in callbacks of weakref (importlib and threading have some) and in ``__del__``: the
    command would go on as if nobody had told it to end. Another thread tells it, behind the drop.
    """
    from xsaveschema.plugins import Terminated

    if isinstance(dropped.exc_value, KeyboardInterrupt):
        number = signal.SIGINT
    elif isinstance(dropped.exc_value, Terminated):
        number = signal.SIGTERM
    else:
        before(dropped)
        return
    from _thread import get_ident, start_new_thread

    start_new_thread(_tell, (get_ident(), number))


def _tell(thread: int, number: int) -> None:
    sleep(0.001)
    signal.pthread_kill(thread, number)


def _said(error: OSError) -> str:
    why = error.strerror or str(error)
    return why if error.filename is None else f"{plain(os.fsdecode(error.filename))}: {why}"


def _complain(text: str) -> None:
    from xsaveschema.cli.output import complain

    with suppress(OSError):
        complain(text)


def _abandon_output() -> None:
    """What could not be written must not fail a second time when the interpreter ends."""
    with suppress(OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)


@click.group(
    cls=Program,
    invoke_without_command=True,
    subcommand_metavar="COMMAND [ARGS]...",
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 fine; 1 the input is at fault or a check found something; 2 wrong usage.",
)
@click.option(
    "--schemas",
    metavar="PATH",
    multiple=True,
    help="Schema files of your own, a folder or a file; may be repeated. They win over shipped "
    "ones of the same name. XSAVESCHEMA_PATH names more.",
)
@click.version_option(
    xsaveschema.__version__, prog_name="xsaveschema", message="%(prog)s %(version)s"
)
@click.pass_context
def program(ctx: click.Context, schemas: tuple[str, ...]) -> None:
    """The XSAVE state of x86 CPUs: layouts, areas and their registers, conversions."""
    ctx.obj = schemas
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help(), err=True)
        ctx.exit(2)
