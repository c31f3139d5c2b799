"""Meantime: the start page. Run with ``streamlit run app.py``."""

import streamlit as st

from fusion import sources
from pages._shared import frame, state

OWN = (
    (
        "stac",
        "Satellite images, no account",
        "Landsat, Sentinel-2, HLS and MODIS from public catalogues, read over the internet.",
    ),
    ("earthengine", "Google Earth Engine", "The same and daily MODIS. It needs a Google account with a Cloud project."),
    ("local", "Own files", "GeoTIFF, ENVI or NetCDF from your disk. Nothing leaves this machine."),
)

with frame.page("Meantime", "Sharp satellite images on days when only blurred ones exist.") as work:
    st.markdown(
        "Satellites force a choice: **sharp images rarely** (Landsat, Sentinel-2, clouded half the time) or **blurred "
        "images daily** (MODIS, Sentinel-3). *Spatiotemporal fusion* predicts the sharp image of a day on which only "
        "the blurred one exists, from pairs of other days. Here you choose an area, fuse it with several methods, "
        "look at the result beside its inputs, measure how far to trust it, and take it home as a file that says how "
        "it was made."
    )
    st.subheader("Try it now")
    st.markdown("Both need no account and no internet. Everything is filled in; change what you like.")
    for column, name in zip(st.columns(2), ("sample", "lab"), strict=True):
        with column, st.container(border=True):
            module = sources.get(name)
            st.markdown(f"**{module.TITLE}**")
            st.markdown(module.DESCRIPTION)
            if st.button("Open this", key=f"open-{name}", type="primary" if name == "sample" else "secondary"):
                state.choose_source(name)
                st.switch_page("pages/fuse.py" if name == "sample" else "pages/area.py")
    st.subheader("Your own area")
    st.markdown("Draw it and choose the days: images are searched, cleaned of clouds and laid on one grid for you.")
    for column, (name, title, words) in zip(st.columns(len(OWN)), OWN, strict=True):
        with column, st.container(border=True, height="stretch"):
            st.markdown(f"**{title}**")
            st.markdown(words)
            if st.button("Use this", key=f"open-{name}"):
                state.choose_source(name)
                missing = bool(state.work().missing)
                st.switch_page("pages/files.py" if missing else "pages/area.py")
    st.subheader("Your own network")
    st.markdown(
        "Networks are among the methods. **Train** teaches one on your own days, or adapts trained weights to them, "
        "and shows on a hidden day whether that was worth it; no account, no internet and no GPU is needed."
    )
    st.page_link("pages/train.py", label="Train a network", icon=":material/model_training:")
    st.subheader("The steps")
    st.markdown(
        "1. **Area**: draw where, choose the day to predict and the pairs to predict it from.\n"
        "2. **Check**: see whether the coarse images lie on the fine ones, and put it right where they do not.\n"
        "3. **Fuse**: choose methods and run them; download the result.\n"
        "4. **Compare**: swipe between inputs, results and, where known, the truth; click a pixel for its spectrum.\n"
        "5. **Evaluate**: hide a day that has a sharp image, predict it, and see the errors in numbers and maps.\n\n"
        "**Own files** brings your own images in. **Train** teaches networks, which then run on Fuse like any other "
        "method. **Methods** explains every method with its paper and parameters."
    )
