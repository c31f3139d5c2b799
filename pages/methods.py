"""Methods: the catalogue, made from the registry."""

import streamlit as st

from fusion import methods
from pages._shared import frame

with frame.page("Methods", "What each method does, what it needs, and where it comes from.") as work:
    for name in methods.names():
        method = methods.get(name)
        with st.container(border=True):
            st.subheader(method.title, anchor=name)
            st.markdown(f"*{method.summary()}*")
            st.markdown(method.explanation())
            if method.notes():
                with st.expander("Equations and choices"):
                    st.markdown(method.notes().replace("::\n", ":\n"))
            st.markdown(f"**Paper** {frame.paper(method.paper)}")
            st.markdown(
                f"**Needs** at least {method.pairs} pair{'s' if method.pairs > 1 else ''}. "
                + ("Tiled and whole results are equal." if method.exact else "Tiles are feathered into each other.")
            )
            for law, why in method.departs.items():
                st.caption(f"Departs from a general law. {methods.LAWS[law]} not here, {why}.")
            rows = [
                {
                    "parameter": item.name,
                    "meaning": item.doc,
                    "unit": item.unit or "none",
                    "default": str(item.default),
                    "allowed": item.allowed(),
                }
                for item in methods.params(method)
            ]
            if rows:
                st.table(rows)
