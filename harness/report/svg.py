"""Figures as SVG for a page: colours and letters of the page's own, and ids that no other figure on it has."""

from __future__ import annotations

import io
import re
import xml.etree.ElementTree as ElementTree

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from harness.report.drawing import INK, style

NOTHING = {"Creator": None, "Date": None, "Format": None, "Type": None}
"""Metadata: the same data give the same file."""
POINTS_TO_PIXELS = 1.32
"""The size at which a figure's letters are those of the page's small print."""


def svg(figure: Figure) -> str:
    """The figure as a file of its own. The same figure gives the same text."""
    text = io.StringIO()
    with style():
        # Once, for it takes most of the time, and both files are to look the same.
        figure.draw_without_rendering()
        figure.set_layout_engine("none")
        figure.savefig(text, format="svg", metadata=NOTHING)
    return text.getvalue()


def png(figure: Figure) -> bytes:
    """On white, for what cannot show SVG."""
    data = io.BytesIO()
    with style():
        FigureCanvasAgg(figure)
        figure.savefig(data, format="png", dpi=180, facecolor="white", metadata={"Software": None})
    return data.getvalue()


def inline(text: str, prefix: str, alt: str) -> str:
    """An SVG file as an element of a page: ids begin with `prefix`, ink is the page's `currentColor`, letters are the
    page's, and the whole is one image called `alt`."""
    root = ElementTree.fromstring(text)  # noqa: S314 - our own, a moment ago
    width, height = (float(part) for part in root.attrib["viewBox"].split()[2:])
    for parent in list(root.iter()):
        for child in list(parent):
            # The style sheet in it would hold for all of the page.
            if _local(child.tag) in ("metadata", "style"):
                parent.remove(child)
    given: set[str] = set()
    for element in root.iter():
        element.tag = _local(element.tag)
        name = element.attrib.get("id")
        if name in given:
            del element.attrib["id"]  # matplotlib names pictures by their content: two that are equal have one id
        elif name:
            given.add(name)
        for name, value in list(element.attrib.items()):
            del element.attrib[name]
            element.attrib[_local(name)] = _moved(_local(name), value, prefix)
    for name in ("width", "height", "version"):
        root.attrib.pop(name, None)
    root.attrib.update(
        {
            "role": "img", "aria-label": alt, "focusable": "false",
            "style": f"min-width:{0.95 * width:.0f}px;max-width:{POINTS_TO_PIXELS * width:.0f}px;"
            f"aspect-ratio:{width:.4g}/{height:.4g}",
        }
    )  # fmt: skip
    return ElementTree.tostring(root, encoding="unicode")


def _moved(name: str, value: str, prefix: str) -> str:
    if name == "id":
        return prefix + value
    if name == "href" and value.startswith("#"):
        return f"#{prefix}{value[1:]}"
    value = value.replace("url(#", f"url(#{prefix}")
    if name == "style":
        value = value.replace(INK, "currentColor")
        value = re.sub(r"font-family:[^;]*;?", "", value)
        return re.sub(r"(font:[^;]*?\d(?:\.\d+)?px)[^;]*", r"\1 var(--sans)", value)
    return value.replace(INK, "currentColor") if name in ("fill", "stroke") else value


def _local(name: str) -> str:
    return name.rpartition("}")[2]
