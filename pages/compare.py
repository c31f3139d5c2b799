"""Compare: swipe and side by side, differences, the spectrum of a pixel and why it was predicted so."""

from collections.abc import Mapping

import streamlit as st

from fusion import viz
from pages._shared import frame, maps, runs, views, why
from pages._shared.forms import bound, remembered
from pages._shared.views import Shown


def proposed(layers: Mapping[str, Shown]) -> list[str]:
    """The last result beside the truth, as far as there are such."""
    order = {"result": 0, "truth": 1, "coarse": 2, "fine": 3}
    ranked = sorted(reversed(layers), key=lambda name: order[layers[name].kind])
    results = [name for name in ranked if layers[name].kind == "result"]
    return (results[:1] + [name for name in ranked if name not in results] + results[1:])[:2]


def choose_layers(layers: Mapping[str, Shown], mode: str) -> list[str]:
    """Which layers, remembered while they exist."""
    kept = [name for name in st.session_state.get("layers", proposed(layers)) if name in layers]
    if mode == "side by side":
        bound(
            st.multiselect, "Layers side by side (2 to 4)", key="side-layers", value=kept[:4], options=list(layers),
            apply=remember, max_selections=4,
        )  # fmt: skip
        return kept[:4]
    kept = st.session_state["layers"] = (kept + [name for name in proposed(layers) if name not in kept])[:2]
    for column, label, index in zip(frame.halves("sides"), ("Left", "Right"), (0, 1), strict=True):
        with column:
            bound(
                st.selectbox, f"{label} of the swipe", key=f"side-{index}", value=kept[index], options=list(layers),
                apply=lambda name, index=index: replace_layer(index, name),
            )  # fmt: skip
    return kept


def replace_layer(index: int, name: str) -> None:
    """Put a layer on one side of the swipe; looks at what is chosen now, for edits may follow each other fast."""
    st.session_state["layers"][index] = name


def remember(names: list[str]) -> None:
    """Keep the chosen layers."""
    st.session_state["layers"] = names


def show_difference(layers: Mapping[str, Shown]) -> None:
    """Map of A - B in one band."""
    names = [name for name in layers if layers[name].kind != "coarse"]
    first, last = [name for name in proposed(layers) if name in names][:1] or names[:1], names[-1]
    one, two, three = st.columns(3)
    with one:
        a = remembered(st.selectbox, "Difference of", names, name="difference-a", default=first[0])
    with two:
        b = remembered(st.selectbox, "minus", names, name="difference-b", default=last if last != a else names[0])
    with three:
        bands = layers[a].scene.bands
        band = remembered(st.selectbox, "in band", bands, name="difference-band", default=bands[-1])
    if a == b:
        st.info("Choose two different layers: a layer minus itself is zero.")
        return
    st.plotly_chart(viz.error_map(layers[a].scene, layers[b].scene, band, name=a, other=b), key="difference")


def show_spectrum(layers: Mapping[str, Shown]) -> None:
    """Spectra at the clicked pixel."""
    where = st.session_state.get("clicked")
    if where is None:
        st.info("Click a pixel on a map to see its spectrum in all layers.")
        return
    values = views.spectra({name: shown.scene for name, shown in layers.items()}, where)
    if not values:
        st.info(f"The place {where[0]:.5f} E, {where[1]:.5f} N is outside the images: click inside them.")
        return
    bands = next(iter(layers.values())).scene.bands
    st.plotly_chart(viz.spectrum(values, bands, at=where), key="spectrum")


with frame.page(
    "Compare", "The same stretch on every layer. Drag the handle, or zoom and pan all maps together.", images=True
) as work:
    fused = views.results(work)
    if not fused:
        st.info("Nothing is fused yet with the chosen methods, so there are only inputs and, where known, the truth.")
        st.page_link("pages/fuse.py", label="Go to Fuse", icon=":material/merge:")
    recipe, truth = views.inputs(work)
    there, rows = views.readable(recipe, [] if work.remote else truth)
    if there and work.remote and not rows:
        views.offer(recipe, truth)
    layers = views.layers(work, images=there)
    if layers:
        modes = ("swipe", "side by side") if len(layers) > 1 else ("side by side",)
        mode = remembered(st.radio, "Show as", modes, name="mode", default=modes[0], horizontal=True)
        chosen = choose_layers(layers, mode) if len(layers) > 1 else list(layers)
        bands, percent = views.controls(work, "compare")
        limits = viz.limits([shown.scene for shown in layers.values()], bands, percent=percent)
        if len(chosen) < min(2, len(layers)):
            st.info("Choose at least two layers.")
        else:
            click = maps.compare_maps(
                "compare",
                layers=[views.layer(name, layers[name].scene, bands, limits) for name in chosen],
                mode="swipe" if mode == "swipe" else "side",
                marker=st.session_state.get("clicked"),
                height=520,
            )
            if click is not None:
                st.session_state["clicked"] = click
            st.html(viz.legend(bands, limits))
        st.subheader("Spectrum of a pixel")
        show_spectrum(layers)
        if fused and there:
            st.subheader("Why this pixel?")
            why.show(work)
        if len(layers) > 1:
            st.subheader("Difference map")
            show_difference(layers)
    runs.wait(rows)
