"""Own files: bring images along, see what they seem to be, answer what only a person can know, and use them."""

import streamlit as st

from fusion.errors import FusionError
from fusion.sources.local import Proposal
from pages._shared import file_views, files, frame, messages, runs, state
from pages._shared.forms import remembered

MOST_LINES = 6  # of refused files shown at once
KINDS = ("Files, or a .zip of a folder", "A whole folder")


def bring_along() -> None:
    """Uploads and, where the server's owner allows it, folders of the server."""
    kind = remembered(st.radio, "Upload", KINDS, name="own-kind", default=KINDS[0], horizontal=True)
    most = files.most_megabytes()
    uploads = st.file_uploader(
        f"GeoTIFF (also COG), NetCDF, or ENVI with its .hdr; at most {most} MB a file",
        accept_multiple_files=True if kind == KINDS[0] else "directory", key=f"own-upload-{files.turn()}-{kind}",
        max_upload_size=most,
    )  # fmt: skip
    if uploads:
        with st.spinner(f"Checking {len(uploads)} files"):
            files.take(uploads)
        look_again()
        st.rerun()
    allowed = files.folders(files.roots())
    if allowed:
        folder = st.selectbox("Or a folder on the server", list(allowed), index=None, key="own-folder")
        if st.button("Look at this folder", disabled=folder is None):
            files.start_look(allowed[str(folder)])
    elif files.any_folder():
        path = st.text_input("Or a folder on this machine", placeholder="/home/me/images", key="own-path")
        if st.button("Look at this folder", disabled=not path):
            files.start_look(files.named_folder(path))


def look_again() -> None:
    """Look at all uploads of the session; the uploader is emptied, so that their bytes are held once."""
    st.session_state["own-turn"] = files.turn() + 1
    good, _ = files.usable(files.received())
    if any(one.kind != "header" for one in good):
        files.start_look(good)


def what_came() -> None:
    """Uploads that are here, and each that is not, with the reason."""
    if refused := files.refused():
        lines = [f"- {messages.plain(files.complaint(name, why))}" for name, why in refused]
        st.error("Not taken:\n" + "\n".join(lines[:MOST_LINES]), icon=":material/error:")
        if len(lines) > MOST_LINES:
            with st.expander(f"{len(lines) - MOST_LINES} more that were not taken"):
                st.markdown("\n".join(lines[MOST_LINES:]))
    good, waiting = files.usable(files.received())
    for name in waiting:
        st.warning(
            f"**{messages.plain(name)}** waits for its other half: ENVI images are a file of pixels and a .hdr of the "
            "same name. Upload both.", icon=":material/hourglass_empty:",
        )  # fmt: skip
    if good or waiting or refused or files.proposal():
        st.button("Remove all files", on_click=files.forget, icon=":material/delete:")


def decide(shown: Proposal) -> None:
    """Notes, problems, and the way on."""
    for text in shown.problems:
        messages.error(text)
    if shown.notes:
        st.markdown("**Decided without asking**\n" + "\n".join(f"- {messages.plain(note)}" for note in shown.notes))
    if shown.complete:
        plan = shown.plan
        sides = [{image.day for image in plan.images if image.role == role} for role in ("fine", "coarse")]
        st.success(
            f"Ready: pairs {len(sides[0] & sides[1])}, coarse days without a fine image {len(sides[1] - sides[0])}; "
            f"bands {', '.join(plan.bands)}; fine pixels of {plan.size:.4g} m, {plan.ratio} to a coarse one.",
            icon=":material/check_circle:",
        )
    with st.container(horizontal=True, vertical_alignment="center"):
        if st.button("Use these files", type="primary", disabled=not shown.complete, icon=":material/arrow_forward:"):
            files.start_add(shown)
            st.rerun()
        if shown.answers:
            st.button("Forget my answers", on_click=files.start_over, icon=":material/undo:")
        if not shown.complete:
            st.caption("Answer the questions above first." if shown.questions else "The files are no data set yet.")


def used_before(work: state.Work) -> None:
    """Data sets of this session, to be chosen again."""
    known = files.datasets()
    if not known:
        return
    st.subheader("Data sets of this session")
    for key, title in known.items():
        with st.container(horizontal=True, vertical_alignment="center"):
            current = work.source == "local" and dict(work.options).get("dataset") == key
            st.markdown(f"{messages.plain(title)} (key {key[:8]})" + (", **in use**" if current else ""))
            if not current and st.button("Use again", key=f"own-again-{key}"):
                files.use(key)
                st.switch_page("pages/area.py")


LEAD = "Bring your own images. They are looked at, and you are asked only what they do not say themselves."

with frame.page("Own files", LEAD) as work:
    if key := files.arrived():
        files.use(key)
        st.switch_page("pages/area.py")
    try:
        bring_along()
    except FusionError as error:
        messages.error(str(error))
    rows = runs.show(files.tickets())
    what_came()
    if shown := files.proposal():
        st.subheader("What the files seem to be")
        file_views.table(shown)
        file_views.questions(shown)
        file_views.looks(shown)
        decide(shown)
    used_before(work)
    runs.wait(rows)
