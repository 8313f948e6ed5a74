"""The command line: puts the verbs together and turns errors into messages and exit codes.

Exit codes: 0 done; 1 a bug in smelt, or nobody reads its output (`smelt … | head`); 2 something the user can
mend; 3 another run holds the work folder; 4 a stage failed; 75 stopped by a signal with everything saved (run
the same command to go on); 130 Ctrl-C while no stage ran. typer itself sees to 130 and to closed pipes.
"""

from __future__ import annotations

import errno
import os
import stat
import sys
from typing import Annotated

import typer

from smelt import __version__
from smelt.errors import SmeltError, printable, short
from smelt.verbs import audit, explain, fuse_files, inspect, look, run, usage

# errors of a file system that are no bug of smelt's and that its user can see to
OF_THE_MACHINE = (
    errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.EMFILE, errno.ENFILE,
    errno.ENOMEM, errno.ESTALE, errno.ETIMEDOUT, errno.ELOOP, errno.ENAMETOOLONG, errno.ENOTDIR,
)  # fmt: skip

app = typer.Typer(
    name="smelt",
    cls=usage.Commands,
    help="Learn, mine, fuse: from a large, noisy collection of web images to a strong classifier.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
run.register(app)
look.register(app)
fuse_files.register(app)
inspect.register(app)
audit.register(app)
explain.register(app)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"smelt {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    pass


def _open_streams() -> None:
    """Put the null device where a standard stream was closed (`2>&-`, some daemons): the next file to be
    opened, a lock for one, would take its number, and what is printed would land in that file."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the lowest free number: this one
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115 open as long as the process lives
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115


def _its_output() -> str:
    """`: standard output …` where that is what cannot be written."""
    try:
        full = stat.S_ISREG(os.fstat(1).st_mode) and os.fstatvfs(1).f_bavail == 0
        os.write(1, b"\n")
    except OSError:
        full = True
    return ": standard output, where it leads to (the file behind >)" if full else ""


def main() -> None:
    """Entry point of the `smelt` command."""
    _open_streams()
    try:
        app()
    except SmeltError as error:
        print(printable(f"smelt: {error}"), file=sys.stderr)
        sys.exit(error.exit_code)
    except OSError as error:
        if error.errno not in OF_THE_MACHINE:
            raise
        where = f": {short(str(error.filename))}" if error.filename else _its_output()
        print(printable(f"smelt: {error.strerror}{where}"), file=sys.stderr)
        sys.exit(2)
    except RuntimeError as error:  # how pathlib tells of links that go round in a circle
        if not str(error).startswith("Symlink loop"):
            raise
        print(printable(f"smelt: {short(str(error))}"), file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
