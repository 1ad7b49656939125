"""Trusted inline SVG: what matplotlib draws, made fit to stand inside a page."""

from __future__ import annotations

import hashlib
import re
from typing import NewType
from xml.etree import ElementTree

Svg = NewType("Svg", str)
"""Markup drawn by ``reporting.charts``; the only markup that a page takes unescaped."""

INK = "#010203"
"""A colour to draw with that becomes the page's own text colour, so one drawing suits light and dark."""

_REFERENCE = re.compile(r"(?<=#)[A-Za-z][\w.-]*")
_XLINK = "{http://www.w3.org/1999/xlink}href"


def inline(drawing: str, label: str) -> Svg:
    """A standalone SVG document as an element of an HTML page; ``label`` is read out by screen readers.

    Sizes, fonts and ``INK`` come from the page instead. Identifiers begin with a digest of the drawing:
    two different drawings never share one, and the same drawing is the same text on every run.
    """
    root = ElementTree.fromstring(drawing)  # noqa: S314 - our own drawing
    digest = "c" + hashlib.sha256(drawing.encode()).hexdigest()[:10] + "-"
    referred = {name for element in root.iter() for name in _references(element)}
    for element in root.iter():
        # An HTML parser knows SVG by its tag, and takes "svg:path" or "ns0:path" for something else.
        element.tag = element.tag.rpartition("}")[2]
        for child in list(element):
            # The style sheet of an inline SVG would apply to the whole page.
            if child.tag.rpartition("}")[2] in {"style", "metadata"}:
                element.remove(child)
        _adapt(element, digest, referred)
    for size in ("width", "height", "version"):
        root.attrib.pop(size, None)
    root.attrib.update({"role": "img", "aria-label": label, "stroke-linejoin": "round"})
    return Svg(ElementTree.tostring(root, encoding="unicode"))


def _references(element: ElementTree.Element) -> list[str]:
    target = element.get(_XLINK, "")
    places = [element.get("clip-path", ""), element.get("style", ""), target if target.startswith("#") else ""]
    return [name for place in places for name in _REFERENCE.findall(place)]


def _adapt(element: ElementTree.Element, digest: str, referred: set[str]) -> None:
    if (name := element.attrib.pop("id", "")) in referred:
        element.set("id", digest + name)
    if target := element.attrib.pop(_XLINK, ""):
        element.set("href", f"#{digest}{target[1:]}" if target.startswith("#") else target)
    if clip := element.get("clip-path"):
        element.set("clip-path", clip.replace("#", "#" + digest))
    if style := element.get("style"):
        style = re.sub(r"font-family:[^;]*;?\s*", "", style).replace("url(#", "url(#" + digest)
        element.set("style", style.replace(INK, "currentColor"))
