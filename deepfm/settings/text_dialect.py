"""Settings of delimited text: delimiters as people write them, and how the other characters are read."""

import codecs
import re
from typing import Annotated

from pydantic import AfterValidator
from pydantic import Field as Setting

_NAMED = {"tab": "\t", "comma": ",", "semicolon": ";", "pipe": "|", "space": " "}
_ESCAPE = re.compile(r"\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|([0-7]{3})|([tabfvnr\\]))")
_SIMPLE = {"t": "\t", "a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "v": "\v", "\\": "\\"}


def _unescape(match: re.Match) -> str:
    hexadecimal, unicode, octal, letter = match.groups()
    return _SIMPLE[letter] if letter else chr(int(hexadecimal or unicode, 16) if not octal else int(octal, 8))


def read_delimiter(text: str) -> str:
    r"""Characters between two columns: as given, or as `tab`, `\t`, `\001`, `\x01` or `^A`."""
    if text.lower() in _NAMED:
        return _NAMED[text.lower()]
    if re.fullmatch(r"\^[A-Z]", text):
        return chr(ord(text[1]) - ord("A") + 1)
    delimiter = _ESCAPE.sub(_unescape, text)
    if "\n" in delimiter or "\r" in delimiter:
        raise ValueError("a line break ends a row and cannot also separate its columns")
    return delimiter


def _require_ascii_based(name: str) -> str:
    try:
        name = codecs.lookup(name).name
        # The end of a line must be one byte that occurs in no other character.
        is_safe = "\n\r\t,|".encode(name) == b"\n\r\t,|"
    except (LookupError, UnicodeError, TypeError) as error:
        raise ValueError(f"expected the name of a text encoding, such as gbk, found {name!r}") from error
    if not is_safe or name == "utf-7":
        raise ValueError(f"{name} is not supported; convert the files to UTF-8, for example with iconv")
    return name


Delimiter = Annotated[str, Setting(min_length=1, max_length=12), AfterValidator(read_delimiter)]
Char = Annotated[str, Setting(min_length=1, max_length=1)]
Encoding = Annotated[str, AfterValidator(_require_ascii_based)]
