"""Text cleaning: declared in the recipe, recorded in the assets, the same code in training and serving."""

from __future__ import annotations

import html
import re
import unicodedata
from dataclasses import dataclass

_TAG = re.compile(r"</?[A-Za-z][^<>]*>|<!--.*?(?:-->|\Z)", re.DOTALL)
_WHITESPACE = re.compile(r"\s+")
# Zero-width joiners carry meaning in emoji and in Indic and Arabic scripts: they stay.
_KEPT_FORMATS = frozenset("\u200c\u200d")


@dataclass(frozen=True)
class Cleaning:
    """What is done to a text before it is tokenized, in the order of the fields.

    The defaults are what is harmless to a pretrained model; the others remove signal that it has learned to use.
    """

    html: bool = False
    control: bool = True
    unicode: str = "NFC"
    lowercase: bool = False
    punctuation: bool = False
    whitespace: bool = True

    def __call__(self, text: str) -> str:
        if self.html:
            text = html.unescape(_TAG.sub(" ", text))
        # The Unicode scan costs microseconds per text; plain printable text needs none.
        if self.control and not text.isprintable():
            text = "".join(filter(_is_kept, text))
        if self.unicode != "none":
            text = unicodedata.normalize(self.unicode, text)  # type: ignore[arg-type]
        if self.lowercase:
            text = text.lower()
        if self.punctuation:
            text = "".join(" " if unicodedata.category(c).startswith("P") else c for c in text)
        if self.whitespace:
            text = _WHITESPACE.sub(" ", text).strip()
        return text


def _is_kept(character: str) -> bool:
    category = unicodedata.category(character)
    if category == "Cc":
        return character.isspace()  # what separates words goes on separating them
    return category != "Cf" or character in _KEPT_FORMATS
