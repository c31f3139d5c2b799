"""Command line: ``python -m fusion``, or ``meantime`` where the package is installed."""

import argparse
import json
import os
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from ._cli_parser import parser_of


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments without the program's name; default is the process's own.
    """
    parser = parser_of("meantime" if Path(sys.argv[0]).stem == "meantime" else "python -m fusion")
    try:
        args = parser.parse_args(argv)
        if args.command is None:
            parser.print_help(sys.stderr)
            return 2
        code = _run(args)
        sys.stdout.flush()
    except SystemExit as stop:  # argparse: 0 after --help, 2 after wrong usage
        return int(stop.code or 0)
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr, flush=True)
        if argv is None and threading.active_count() > 1:
            _leave(130)
        return 130
    except BrokenPipeError:  # the reader, such as head, had enough; keep the interpreter from flushing again
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return code


def _run(args: argparse.Namespace) -> int:
    """Run the subcommand; imported here because that takes longer than showing help."""
    from ._cli_account import show_account
    from ._cli_align import align
    from ._cli_checkpoints import manage_checkpoints
    from ._cli_commands import list_methods, run_recipe
    from ._cli_evaluate import evaluate_files
    from ._cli_own import own_files
    from ._cli_search import search
    from ._cli_train import train_network
    from .errors import FusionError

    commands: dict[str, Callable[[argparse.Namespace], int]] = {
        "methods": list_methods,
        "search": search,
        "files": own_files,
        "account": show_account,
        "align": align,
        "run": run_recipe,
        "evaluate": evaluate_files,
        "train": train_network,
        "checkpoints": manage_checkpoints,
    }
    try:
        return commands[args.command](args)
    except FusionError as error:
        print(f"{args.prog} {args.command}: {error}", file=sys.stderr)
        if args.json:
            print(json.dumps({"error": str(error)}, ensure_ascii=False))
        return 1


def _leave(code: int) -> NoReturn:
    """End the process without waiting for threads, which may wait half a minute for a silent server."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    sys.exit(main())
