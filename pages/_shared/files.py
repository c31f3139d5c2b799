"""Own files in the app: what came in, what it seems to be, what the person corrects, and the data sets of a session."""

import os
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

import streamlit as st

from fusion.errors import FusionError
from fusion.sources import local
from fusion.sources.local import Proposal, Received, clean_name

from . import messages, runs, state
from .jobs import Progress
from .pulse import followed

MOST_UPLOADS = 300  # files in one go
MOST_FOLDERS, DEPTH = 400, 3  # offered on the server, and levels below an allowed folder
HERE = ("localhost", "127.0.0.1", "::1")


class Upload(Protocol):
    """What Streamlit hands over for an uploaded file."""

    name: str
    size: int

    def read(self, size: int = -1, /) -> bytes:
        """Return at most so many bytes."""


# What the session holds


def proposal() -> Proposal | None:
    """What the session's files seem to be, once they were looked at."""
    found: Proposal | None = st.session_state.get("own-proposal")
    return found


def keep(new: Proposal | None) -> None:
    """Remember a proposal; widgets that showed the old one are drawn anew."""
    st.session_state["own-proposal"] = new
    st.session_state["own-turn"] = turn() + 1


def turn() -> int:
    """Number that is part of the keys of widgets which must forget what they held."""
    return int(st.session_state.get("own-turn", 0))


def start_over() -> None:
    """Take all answers back."""
    current = proposal()
    keep(replace(current, answers={}) if current else None)


def received() -> tuple[Received, ...]:
    """Uploads of this session."""
    found: tuple[Received, ...] = st.session_state.get("own-received", ())
    return found


def refused() -> tuple[tuple[str, str], ...]:
    """Names of uploads that were not taken, with the reason."""
    found: tuple[tuple[str, str], ...] = st.session_state.get("own-refused", ())
    return found


def forget() -> None:
    """Start with no files at all; data sets made before stay."""
    for name in ("own-received", "own-refused"):
        st.session_state.pop(name, None)
    keep(None)


def answer(answers: Mapping[str, Any]) -> None:
    """Take answers into the session's proposal; one that cannot be is named and the others are taken."""
    current = proposal()
    if current is None:
        return
    for name, value in answers.items():
        if value is None or value == "":
            continue
        try:
            current = current.answer({name: value})
        except FusionError as error:
            messages.complain(str(error))
    keep(current)


def complaint(name: str, why: str) -> str:
    """Why a file was not taken, with its name and folders in front, once."""
    last = PurePosixPath(name).name
    return f"{name}{why.removeprefix(last)}" if why.startswith(last) else f"{name}: {why}"


def datasets() -> dict[str, str]:
    """Keys and titles of the data sets made in this session, the newest first."""
    found: dict[str, str] = st.session_state.get("own-sets", {})
    return dict(reversed(found.items()))


# What comes in


def take(uploads: Sequence[Upload]) -> None:
    """Take uploads one by one; what is refused is named with its reason, and nothing else is lost."""
    taken, not_taken = {one.name: one for one in received()}, dict(refused())
    for number, upload in enumerate(uploads):
        shown = whole_name(upload.name)
        if number >= MOST_UPLOADS:
            not_taken[shown] = f"At most {MOST_UPLOADS} files are taken in one go: pack them in a .zip."
            continue
        try:
            parts = local.receive(upload.name, upload, upload.size)
        except FusionError as error:
            not_taken[shown] = str(error)
            continue
        not_taken.pop(shown, None)
        for part in parts:
            name = _full(part.name, shown)
            if name in taken and taken[name].path != part.path and name != shown:  # of another zip
                name = f"{PurePosixPath(shown).stem}/{name}"
            taken[name] = replace(part, name=name)
    st.session_state["own-received"] = tuple(taken.values())
    st.session_state["own-refused"] = tuple(not_taken.items())


def _full(name: str, shown: str) -> str:
    """A single file keeps the folders that it was uploaded with; what came out of a zip has its own."""
    return shown if PurePosixPath(shown).name == name else name


def most_megabytes() -> int:
    """The largest file that is taken.

    Raises
    ------
    FusionError
        If the server's owner named no number.
    """
    return local.upload_limit() // 2**20


def whole_name(name: str) -> str:
    """Name of an upload with its last folders, each cleaned: only to be shown and searched for days and sensors."""
    parts = [part for part in PurePosixPath(name.replace("\\", "/")).parts if part not in ("/", "..", ".")]
    return "/".join(clean_name(part) for part in parts[-4:]) or "unnamed"


def usable(uploads: Sequence[Received]) -> tuple[list[Received], list[str]]:
    """Uploads that can be looked at, and the names of those that wait for their other half (ENVI)."""
    stems = {kind: {_stem(one.name) for one in uploads if one.kind == kind} for kind in ("header", "pixels")}
    names = {one.name.lower() for one in uploads}
    good, waiting = [], []
    for one in uploads:
        half = (
            one.kind == "pixels" and _stem(one.name) not in stems["header"] and f"{one.name.lower()}.hdr" not in names
        )
        lone = one.kind == "header" and not {_stem(one.name), _stem(_stem(one.name))} & stems["pixels"]
        if half or lone:
            waiting.append(one.name)
        else:
            good.append(one)
    return good, waiting


def _stem(name: str) -> str:
    return str(PurePosixPath(name.lower()).with_suffix(""))


def roots() -> tuple[Path, ...]:
    """Folders of this server that may be read: those that its owner names in ``FUSION_FOLDERS``."""
    named = os.environ.get("FUSION_FOLDERS", "").strip()
    if named in ("", "any"):
        return ()
    found = [Path(part).expanduser() for part in named.split(os.pathsep) if part.strip()]
    return tuple(path.resolve() for path in found if path.is_absolute() and path.is_dir())


def any_folder() -> bool:
    """Whether any folder may be read: ``FUSION_FOLDERS=any``, and only the server's own machine sees the app."""
    return os.environ.get("FUSION_FOLDERS", "").strip() == "any" and st.get_option("server.address") in HERE


@st.cache_data(ttl=20, max_entries=8, show_spinner=False)
def folders(allowed: tuple[Path, ...]) -> dict[str, Path]:
    """Folders that are offered, by the name shown; no link is followed, so that none leads out."""
    out: dict[str, Path] = {}
    for root in allowed:
        for folder, inner, _ in os.walk(root):
            here = Path(folder)
            depth = len(here.relative_to(root).parts)
            inner[:] = sorted(name for name in inner if not name.startswith(".")) if depth < DEPTH else []
            label = (PurePosixPath(root.name or "/") / here.relative_to(root)).as_posix()
            out[label if label not in out else f"{label} ({len(out)})"] = here
            if len(out) >= MOST_FOLDERS:
                return out
    return out


def named_folder(text: str) -> Path:
    """Folder of a typed path, only where any folder may be read.

    Raises
    ------
    FusionError
        If that is not allowed, or there is no such folder.
    """
    if not any_folder():
        raise FusionError("This server reads no folder by its path: choose one of those offered, or upload files.")
    path = Path(text.strip()).expanduser()
    if "\0" in text or not path.is_absolute() or not path.is_dir():
        raise FusionError("There is no such folder on this machine: give its whole path, such as /home/me/images.")
    return path


# Looking and adding are jobs: they read files


def start_look(where: Path | Sequence[Received]) -> None:
    """Queue the look at a folder or at uploads; :func:`arrived` takes what it proposes."""
    shelf, ticket = runs.shelf(), f"look:{secrets.token_hex(16)}"

    def work(progress: Progress) -> None:
        found = followed(lambda: local.look(where), lambda done: progress(done, "looking at the files"))
        shelf.put(ticket, found, 4000 * (1 + len(found.headers)))

    st.session_state["own-look"] = ticket
    runs.submit(ticket, "Own files", work)


def start_add(chosen: Proposal) -> None:
    """Queue the making of the data set; :func:`arrived` takes its key."""
    shelf, ticket = runs.shelf(), f"add:{secrets.token_hex(16)}"

    def work(progress: Progress) -> None:
        key = followed(lambda: local.add(chosen), lambda done: progress(done, "adding up the files' bytes"))
        shelf.put(ticket, key, 100)

    st.session_state["own-add"] = ticket
    runs.submit(ticket, "Own files", work)


def tickets() -> list[str]:
    """Names of the session's jobs on own files."""
    return [st.session_state[name] for name in ("own-look", "own-add") if name in st.session_state]


def arrived() -> str | None:
    """Take what finished jobs have left; the key of a data set that was made, else None."""
    looked = runs.shelf().get(st.session_state.get("own-look", ""))
    if looked is not None:
        del st.session_state["own-look"]
        keep(_answered(looked, proposal()))
    key: str | None = runs.shelf().get(st.session_state.get("own-add", ""))
    if key is not None:
        del st.session_state["own-add"]
    return key


def _answered(new: Proposal, old: Proposal | None) -> Proposal:
    """Answers that were given before are given again where they still make sense."""
    for name, value in (old.answers if old else {}).items():
        try:
            new = new.answer({name: value})
        except FusionError:  # about a file that is gone
            continue
    return new


def use(key: str) -> None:
    """Make a data set the source of the work, and remember it for this session."""
    st.session_state["own-sets"] = {**st.session_state.get("own-sets", {}), key: str(local.describe(key)["title"])}
    state.change(
        source="local", options=(("dataset", key),), area=None, target=None, pairs=(), fine_name="", coarse_name=""
    )
