"""The subcommand files: what own files seem to be, what only a person can know, and the data set made of them."""

import argparse
import shlex
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from . import sources
from ._cli_text import Progress, note, percent, print_json, strong, table
from ._cli_work import waited
from .errors import FusionError


def own_files(args: argparse.Namespace) -> int:
    """Look at files, take answers, and make a data set of them once nothing is open."""
    if args.ask and (args.json or not sys.stdin.isatty()):
        args.usage("--ask wants a terminal and no --json: give answers with --answer KEY=VALUE")
    local: Any = sources.get("local")
    with Progress("Looking") as bar:
        proposal = waited(lambda: local.look(args.files[0] if len(args.files) == 1 else args.files), bar)
    for text in args.answer:
        key, sign, value = text.rpartition("=")
        if not sign or not key:
            raise FusionError(f"An answer wants KEY=VALUE, got {text!r}: for example --answer size=30.")
        proposal = proposal.answer({key: value})
    if args.accept:
        proposal = proposal.accept()
    if not args.json:
        _show(proposal)
    if args.ask:
        proposal = _ask(proposal)
    key = None
    if proposal.complete:
        with Progress("Adding") as bar:
            key = waited(lambda: local.add(proposal), bar)
    if args.json:
        print_json(_facts(proposal, key))
    elif key is None:
        _show_open(args, proposal)
    else:
        _show_added(args, local.describe(key), key)
    return 0 if key is not None else 1


def _show(proposal: Any) -> None:
    """The files as a table, and what was decided without asking."""
    rows = [_row(file) for file in proposal.files]
    header = ("file", "use", "day", "sensor", "bands", "pixels", "pixel", "unit", "1-99 %", "missing")
    print(table(header, rows, right=(5, 6, 9)))
    for file in proposal.files:
        if file.use == "aside":
            note(f"Left out: {file.name}: {'; '.join(file.why)}")
    for remark in proposal.notes:
        note(f"Note: {remark}")


def _row(file: Any) -> tuple[str, ...]:
    days = [day or "?" for day in file.days]
    when = "-" if not days else days[0] if len(days) == 1 else f"{days[0]} to {days[-1]} ({len(days)})"
    height, width = file.shape
    seen = height > 0 and file.missing < 1
    return (
        file.name, file.use or "?", when, file.sensor or "-", ",".join(file.bands) or "-",
        f"{height} x {width}" if height else "-", f"{file.pixel:g} m" if file.pixel else "-", file.unit or "-",
        f"{file.low:g} to {file.high:g}" if seen else "-", percent(file.missing if height else None),
    )  # fmt: skip


def _show_open(args: argparse.Namespace, proposal: Any) -> None:
    """Problems and questions, and how to answer them."""
    for problem in proposal.problems:
        print(f"\n{strong('Problem')} {problem}")
    for question in proposal.questions:
        print(f"\n{_asked(question)}")
    if not proposal.questions:
        note("\nNo data set can be made of these files before the problems are solved.")
        return
    wanted = [f"{one.id}={one.suggestion or 'VALUE'}" for one in proposal.questions]
    line = [args.prog, "files", *(shlex.quote(path) for path in args.files)]
    line += [f"--answer {shlex.quote(text)}" for text in (*args.answer, *wanted)]
    note(f"\n{len(proposal.questions)} questions are open. Answer them:\n  {' '.join(line)}")
    if all(one.suggestion is not None for one in proposal.questions):
        note("or take what is suggested with --accept.")


def _asked(question: Any) -> str:
    """A question with its reason and choices."""
    lines = [strong(question.text), f"  asked because: {question.why}"]
    for value, words in question.choices:
        mark = " (suggested)" if value == question.suggestion else ""
        lines.append(f"  {value}{f'  {words}' if words != value else ''}{mark}")
    if question.suggestion is not None and question.suggestion not in dict(question.choices):
        lines.append(f"  {question.suggestion} (suggested)")
    answer = f"{question.id}={question.suggestion or 'VALUE'}"
    return "\n".join([*lines, f"  --answer {shlex.quote(answer)}"])


def _ask(proposal: Any) -> Any:
    """Put every question on the terminal until none is open; an empty line takes the suggestion."""
    while proposal.questions:
        question = proposal.questions[0]
        note(f"\n{_asked(question)}")
        usual = f" [{question.suggestion}]" if question.suggestion is not None else ""
        print(f"{question.id}{usual}: ", end="", file=sys.stderr, flush=True)
        given = sys.stdin.readline()
        if not given:
            raise FusionError("An answer was wanted and the input ended: answer with --answer KEY=VALUE.")
        value = given.strip() or question.suggestion
        try:
            proposal = proposal.answer({question.id: value}) if value is not None else proposal
        except FusionError as error:
            note(str(error))
    return proposal


def _show_added(args: argparse.Namespace, facts: dict[str, Any], key: str) -> None:
    print(f"\n{strong('Data set')} {key}")
    for name, unit in (("title", ""), ("bands", ""), ("days", ""), ("ratio", ""), ("size", " m")):
        print(f"{name.capitalize():<7} {_words(facts[name])}{unit}")
    note(f"\nNext: {args.prog} search local --option dataset={key} --save recipe.json")


def _words(value: Any) -> str:
    if isinstance(value, dict):
        return "; ".join(f"{name} {_words(part)}" for name, part in value.items())
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _facts(proposal: Any, key: str | None) -> dict[str, Any]:
    """What was found, for JSON; with an error in words where answers are missing."""
    facts = {
        "key": key,
        "files": [asdict(file) for file in proposal.files],
        "notes": list(proposal.notes),
        "problems": list(proposal.problems),
        "questions": [asdict(question) for question in proposal.questions],
        "answers": dict(proposal.answers),
    }
    try:
        proposal.check_complete()
    except FusionError as error:
        return {"error": str(error), **facts}
    return facts
