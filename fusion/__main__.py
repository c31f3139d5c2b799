"""Command line: ``python -m fusion``, or ``meantime`` where the package is installed."""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

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
        print("Interrupted.", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader, such as head, had enough; keep the interpreter from flushing again
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return code


def _run(args: argparse.Namespace) -> int:
    """Run the subcommand; imported here because that takes longer than showing help."""
    from ._cli_commands import list_methods, run_recipe, search
    from ._cli_evaluate import evaluate_files
    from .errors import FusionError

    commands = {"methods": list_methods, "search": search, "run": run_recipe, "evaluate": evaluate_files}
    try:
        return commands[args.command](args)
    except FusionError as error:
        print(f"{args.prog} {args.command}: {error}", file=sys.stderr)
        if args.json:
            print(json.dumps({"error": str(error)}, ensure_ascii=False))
        return 1


if __name__ == "__main__":
    sys.exit(main())
