"""The subcommand checkpoints: weights of networks are listed, shown, taken in, converted, written out and removed."""

import argparse
import shlex
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from . import checkpoints
from ._cli_files import check_folder
from ._cli_text import note, print_json, strong, table
from .checkpoints import ENDING, MAX_BYTES, Checkpoint
from .errors import FusionError


def manage_checkpoints(args: argparse.Namespace) -> int:
    """Do the one thing asked for; without any, show one checkpoint or list all."""
    changes = {"take_in": _take_in, "convert": _convert, "export": _export, "remove": _remove}
    for name, change in changes.items():
        if getattr(args, name) is not None:
            if args.name is not None:
                args.usage(f"--{name.replace('_', '-')} wants no other NAME: leave out {args.name}")
            return change(args)
    if args.name is None:
        return _list(args)
    found = checkpoints.read(args.name)
    if args.json:
        print_json(facts(found))
    else:
        _show(found)
    return 0


def facts(found: Checkpoint) -> dict[str, Any]:
    """What is known of a checkpoint, for JSON."""
    path = checkpoints.path_of(found.name)
    return {
        **asdict(found),
        "bundled": checkpoints.is_bundled(found.name),
        "path": str(path),
        "bytes": path.stat().st_size,
    }


def check_file(path: str) -> None:
    """Find out before the work, not after it, whether a checkpoint can be written there."""
    if Path(path).suffix.lower() != ENDING:
        raise FusionError(f"A checkpoint's file ends in {ENDING}, got {path}: name it so.")
    if Path(path).is_dir():
        raise FusionError(f"{path} is a folder, wanted a file: add a file name.")
    check_folder(Path(path).parent)


def copy(name: str, path: str) -> None:
    """Write a checkpoint's file to another place."""
    try:
        shutil.copyfile(checkpoints.path_of(name), path)
    except OSError as error:
        raise FusionError(f"Cannot write {path}: {error.strerror}. Free some space or give another name.") from error


def _list(args: argparse.Namespace) -> int:
    rows = checkpoints.every()
    if args.json:
        print_json([facts(row) for row in rows])
        _list_damaged(args, note)
        return 0
    if not rows:
        note(f"There is no checkpoint yet. Train one: {args.prog} train --help")
        _list_damaged(args, print)
        return 0
    cells = [(row.name, row.method, ",".join(row.bands), ratios(row), score(row), _origin(row)) for row in rows]
    print(table(("name", "method", "bands", "ratio", "RMSE on hidden date", "origin"), cells))
    note(f"\nMore of one checkpoint: {args.prog} checkpoints {rows[0].name}")
    _list_damaged(args, print)
    return 0


def _list_damaged(args: argparse.Namespace, say: Callable[[str], None]) -> None:
    """Name the files among the checkpoints that cannot be used, and why; of JSON they are no part."""
    if found := checkpoints.damaged():
        say("\nCannot be used:\n" + "\n".join(f"{name}\n  {why}" for name, why in found.items()))
        note(f"\nDelete one: {args.prog} checkpoints --remove {shlex.quote(next(iter(found)))}")


def ratios(row: Checkpoint) -> str:
    """Ratios that weights are for."""
    low, high = row.ratios
    return f"{low}" if low == high else f"{low} to {high}"


def score(row: Checkpoint) -> str:
    """RMSE on the hidden date beside the best of the floors; "-" where it is not known."""
    own, floors = row.metrics.get("RMSE"), row.metrics.get("floors")
    if not isinstance(own, int | float):
        return "-"
    return f"{own:.4f} (floor {min(floors.values()):.4f})" if isinstance(floors, Mapping) and floors else f"{own:.4f}"


def _origin(row: Checkpoint) -> str:
    return "bundled" if checkpoints.is_bundled(row.name) else "own"


def _show(row: Checkpoint) -> None:
    path = checkpoints.path_of(row.name)
    print(strong(row.name))
    print(row.title)
    parameters = ", ".join(f"{name}={value}" for name, value in row.parameters.items() if value != "")
    for name, words in (
        ("Method", f"{row.method} ({parameters})"),
        ("Bands", ", ".join(row.bands)),
        ("Ratio", ratios(row)),
        ("File", f"{path} ({path.stat().st_size / 2**20:.1f} MB, {_origin(row)})"),
        *((f"{name}", f"{value}") for name, value in _flat({"Metrics": row.metrics, "From": row.provenance})),
    ):
        print(f"{name:<24} {words}")


def _flat(body: Mapping[str, Any], above: str = "") -> list[tuple[str, str]]:
    """Nested facts as lines; a list of plain values is one line, and a recipe is left to --json."""
    lines: list[tuple[str, str]] = []
    for key, value in body.items():
        name = f"{above} {key}".strip()
        if isinstance(value, Mapping):
            lines += [] if key == "recipe" else _flat(value, name)
        elif isinstance(value, list | tuple) and any(isinstance(part, Mapping) for part in value):
            for part in value:
                lines += _flat(part, name) if isinstance(part, Mapping) else [(name, _words(part))]
        else:
            lines.append((name, _words(value)))
    return lines


def _words(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(_words, value))
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _take_in(args: argparse.Namespace) -> int:
    path = Path(args.take_in)
    try:
        if path.stat().st_size > MAX_BYTES:
            raise FusionError(f"{path.name} has {path.stat().st_size / 2**20:.0f} MB: that is no checkpoint of ours.")
        data = path.read_bytes()
    except OSError as error:
        raise FusionError(f"Cannot read {path}: {error.strerror}. Give a file that ends in {ENDING}.") from error
    return _new(args, checkpoints.take_in(data, path.name))


def _convert(args: argparse.Namespace) -> int:
    from .convert import dcstfn  # reads HDF5, which nothing else here needs

    return _new(args, checkpoints.read(dcstfn(_files(args.convert)).stem))


def _files(given: Sequence[str]) -> dict[str, Path]:
    out: dict[str, Path] = {}
    for text in given:
        band, sign, file = text.partition("=")
        if not sign or not band or not file:
            raise FusionError(f"A file to convert wants BAND=FILE, got {text!r}: for example red=dcstfn_red.hdf5.")
        if band in out:
            raise FusionError(f"The band {band} is given twice: give one file for each band.")
        out[band] = Path(file)
    return out


def _new(args: argparse.Namespace, found: Checkpoint) -> int:
    if args.json:
        print_json(facts(found))
        return 0
    print(found.name)
    note(f"{found.title or found.method}\nUse it: --method {found.method} --set checkpoint={found.name}")
    return 0


def _export(args: argparse.Namespace) -> int:
    name, path = args.export
    found = checkpoints.read(name)
    check_file(path)
    copy(found.name, path)
    if args.json:
        print_json({**facts(found), "saved": path})
    else:
        print(path)
    return 0


def _remove(args: argparse.Namespace) -> int:
    name = args.remove if args.remove in checkpoints.damaged() else checkpoints.path_of(args.remove).stem
    checkpoints.remove(name)
    if args.json:
        print_json({"removed": name})
    else:
        note(f"Removed {name}.")
    return 0
