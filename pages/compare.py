"""Compare: swipe and side by side, differences, and the spectrum of a pixel."""

import streamlit as st

from fusion import viz
from fusion.scene import Scene
from pages._shared import frame, maps, views
from pages._shared.forms import bound, remembered


def choose_layers(names: list[str], mode: str) -> list[str]:
    """Which layers, remembered while they exist."""
    most = 2 if mode == "swipe" else 4
    kept = [name for name in st.session_state.get("layers", []) if name in names][:most]
    if len(kept) < 2:
        results = [name for name in names if not name.startswith(("Fine", "Coarse", "Truth"))]
        others = [name for name in reversed(names) if name not in results]
        kept = (results[-1:] + others + names)[:2]
    if mode == "swipe":
        left, right = st.columns(2)
        sides = ((left, "Left", 0), (right, "Right", 1))
        for column, label, index in sides:
            with column:
                bound(
                    st.selectbox, f"{label} of the swipe", key=f"side-{index}", value=kept[index], options=names,
                    apply=lambda name, index=index: remember([name if i == index else k for i, k in enumerate(kept)]),
                )  # fmt: skip
        return kept
    bound(
        st.multiselect, "Layers side by side (2 to 4)", key="side-layers", value=kept, options=names,
        apply=remember, max_selections=4,
    )  # fmt: skip
    return kept


def remember(names: list[str]) -> None:
    """Keep the chosen layers."""
    st.session_state["layers"] = names


def show_difference(layers: dict[str, Scene]) -> None:
    """Map of A - B in one band."""
    names = [name for name in layers if not name.startswith("Coarse")]
    results = [name for name in names if not name.startswith(("Fine", "Truth"))]
    first, last = (results or names)[-1], names[-1] if names[-1] not in results else names[0]
    one, two, three = st.columns(3)
    with one:
        a = remembered(st.selectbox, "Difference of", names, name="difference-a", default=first)
    with two:
        b = remembered(st.selectbox, "minus", names, name="difference-b", default=last)
    with three:
        bands = layers[a].bands
        band = remembered(st.selectbox, "in band", bands, name="difference-band", default=bands[-1])
    if a == b:
        st.info("Choose two different layers: a layer minus itself is zero.")
        return
    st.plotly_chart(viz.error_map(layers[a], layers[b], band, name=a, other=b), key="difference")


def show_spectrum(layers: dict[str, Scene]) -> None:
    """Spectra at the clicked pixel."""
    where = st.session_state.get("clicked")
    if where is None:
        st.info("Click a pixel on a map to see its spectrum in all layers.")
        return
    values = views.spectra(layers, where)
    if not values:
        st.info(f"The place {where[0]:.5f} E, {where[1]:.5f} N is outside the images: click inside them.")
        return
    bands = next(iter(layers.values())).bands
    st.plotly_chart(viz.spectrum(values, bands, at=where), key="spectrum")


with frame.page(
    "Compare", "The same stretch on every layer. Drag the handle, or zoom and pan all maps together."
) as work:
    if not views.results(work):
        st.info("Nothing is fused yet with the chosen methods, so there are only inputs and, where known, the truth.")
        st.page_link("pages/fuse.py", label="Go to Fuse", icon=":material/merge:")
        if st.button("Show the inputs"):  # a link alone reads nothing
            st.session_state["inputs"] = True
    seen = views.results(work) or st.session_state.get("inputs")
    layers = views.scenes(work) if seen else {}
    if layers:
        mode = remembered(st.radio, "Show as", ("swipe", "side by side"), name="mode", default="swipe", horizontal=True)
        chosen = choose_layers(list(layers), mode)
        bands, percent = views.controls(work, "compare")
        limits = viz.limits(list(layers.values()), bands, percent=percent)
        if len(chosen) < 2:
            st.info("Choose at least two layers.")
        else:
            click = maps.compare_maps(
                "compare",
                layers=[views.layer(name, layers[name], bands, limits) for name in chosen],
                mode="swipe" if mode == "swipe" else "side",
                marker=st.session_state.get("clicked"),
                height=520,
            )
            if click is not None:
                st.session_state["clicked"] = click
            st.html(viz.legend(bands, limits))
        st.subheader("Spectrum of a pixel")
        show_spectrum(layers)
        st.subheader("Difference map")
        show_difference(layers)
