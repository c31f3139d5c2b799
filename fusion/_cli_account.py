"""The subcommand account: who asks Earth Engine, or what to do so that somebody can."""

import argparse
import re
from dataclasses import asdict
from typing import Any

from . import sources
from ._cli_text import Progress, note, print_json, table
from ._cli_work import waited
from .errors import FusionError


def show_account(args: argparse.Namespace) -> int:
    """Sign in to Earth Engine and show identity and project; nothing secret is shown.

    Raises
    ------
    FusionError
        If there is no sign-in, no project, or Earth Engine does not accept them.
    """
    earthengine: Any = sources.get("earthengine")
    try:
        with Progress("Signing in") as bar:
            who = waited(earthengine.sign_in, bar)
    except FusionError:
        if not args.json:
            note(f"{plain(earthengine.HELP)}\n")
        raise
    if args.json:
        print_json(asdict(who))
        return 0
    print(table(("", "Earth Engine"), [("signed in with", who.kind), ("as", who.account), ("project", who.project)]))
    note(f"\nNext: {args.prog} search earthengine --bounds W S E N --from DAY --to DAY")
    return 0


def plain(text: str) -> str:
    """Take the marks of Markdown out of a text for the terminal.

    Examples
    --------
    >>> plain("**Sign in** at <https://example.org>, or set `KEY`.")
    'Sign in at https://example.org, or set KEY.'
    """
    text = re.sub(r"<(https?://[^>]+)>", r"\1", text)
    return re.sub(r"\*\*|`|(?<![\w*])\*(?=\w)|(?<=[\w)])\*(?![\w*])", "", text).strip()
