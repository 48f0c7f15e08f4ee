"""Conversion of text to integers and decimal numbers, independent of the other rows of a batch.

Numbers may have a sign, blanks around them, and an exponent: 3, +3, 3.0 and 3e0 are the same integer.
"""

import re
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

#: A decimal number that Arrow casts to float64.
_DECIMAL = r"\A-?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?\z"
#: The same with a plus sign, for Python.
_SIGNED = re.compile(r"([-+]?)0*(?:([0-9]+)\.?([0-9]*)|\.([0-9]+))(?:[eE]([-+]?[0-9]{1,6}))?")
_BLANKS = " \t"


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
    text = text.strip(_BLANKS)
    if not (text.isascii() and _SIGNED.fullmatch(text)):
        return False
    number = Decimal(text)
    # Far from zero, to_integral_value would write out all digits.
    if number.adjusted() >= len(str(2**63)):
        return 0 if number.is_zero() else False
    integral = number.to_integral_value() if number.adjusted() >= 0 else Decimal(0)
    if integral != number:
        return False
    return int(integral) if -(2**63) <= integral < 2**63 else False


def parse_decimals(strings: pa.Array) -> tuple[pa.Array, np.ndarray]:
    """(n,) strings -> (n,) float64, null where missing, and (n,) bool: False if not a finite decimal.

    A number too large for float64 counts as not finite; one too small becomes 0.
    """
    is_decimal = pc.match_substring_regex(strings, _DECIMAL)
    if not pc.all(is_decimal).as_py():
        strings = pc.replace_substring_regex(pc.utf8_trim(strings, _BLANKS), r"\A\+([0-9.])", r"\1")
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
