"""Conversion of text to integers and decimal numbers, independent of the other rows of a batch."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

#: A decimal number, optionally with an exponent. Like an integer, it may have a minus sign but no plus sign.
_DECIMAL = r"\A-?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?\z"


def parse_integers(strings: pa.Array) -> tuple[pa.Array, np.ndarray]:
    """(n,) strings -> (n,) int64, null where missing, and (n,) bool: False where the text is not an int64."""
    # Arrow's cast also accepts 0x1f. Fall back then, so that the result does not depend on the batch.
    hexadecimal = pc.fill_null(pc.or_(pc.starts_with(strings, "0x"), pc.starts_with(strings, "0X")), False)
    if not pc.any(hexadecimal).as_py():
        try:
            return strings.cast(pa.int64()), np.ones(len(strings), bool)
        except pa.ArrowInvalid:
            pass
    values = [None if text is None else _integer(text) for text in strings.to_pylist()]
    is_number = np.array([value is not False for value in values], bool)
    return pa.array([None if value is False else value for value in values], pa.int64()), is_number


def _integer(text: str) -> int | bool:
    digits = text.removeprefix("-")
    if not (digits.isascii() and digits.isdigit()):
        return False
    digits = digits.lstrip("0") or "0"  # Python limits the digits of int(), Arrow accepts any leading zeros
    if len(digits) > len(str(2**63)):
        return False
    number = -int(digits) if text.startswith("-") else int(digits)
    return number if -(2**63) <= number < 2**63 else False


def parse_decimals(strings: pa.Array) -> tuple[pa.Array, np.ndarray]:
    """(n,) strings -> (n,) float64, null where missing, and (n,) bool: False if not a finite decimal.

    A number too large for float64 counts as not finite; one too small becomes 0.
    """
    is_decimal = pc.match_substring_regex(strings, _DECIMAL)
    texts = pc.if_else(is_decimal, strings, pa.scalar(None, pa.string()))
    try:
        numbers = texts.cast(pa.float64())
    except pa.ArrowInvalid:
        # Arrow raises on overflow and underflow; Python returns infinity and 0.
        numbers = pa.array(
            [None if text is None else float(text) for text in texts.to_pylist()], pa.float64()
        )
    is_finite = pc.and_(is_decimal, pc.fill_null(pc.is_finite(numbers), False))
    numbers = pc.if_else(is_finite, numbers, pa.scalar(None, pa.float64()))
    return numbers, np.asarray(pc.fill_null(is_finite, True))
