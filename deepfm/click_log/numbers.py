"""Text -> numbers: which text is an integer or a decimal number, the same alone as in any batch."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

#: A decimal number, with or without an exponent; as of an integer, a sign in front is a minus.
_DECIMAL = r"\A-?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?\z"


def parse_integers(strings: pa.Array) -> tuple[pa.Array, np.ndarray]:
    """(n,) strings -> (n,) int64, null where missing, and (n,) bool: False where the text is no int64."""
    # Arrow's conversion also reads 0x1f; whether a count is accepted must not depend on its batch.
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
    digits = (
        digits.lstrip("0") or "0"
    )  # Python reads no number of thousands of digits, Arrow any number of zeros
    if len(digits) > len(str(2**63)):
        return False
    number = -int(digits) if text.startswith("-") else int(digits)
    return number if -(2**63) <= number < 2**63 else False


def parse_decimals(strings: pa.Array) -> tuple[pa.Array, np.ndarray]:
    """(n,) strings -> (n,) float64, null where missing, and (n,) bool: False where it is no finite decimal.

    A number beyond float64 is not finite, one that is too small for it is 0.
    """
    is_decimal = pc.match_substring_regex(strings, _DECIMAL)
    texts = pc.if_else(is_decimal, strings, pa.scalar(None, pa.string()))
    try:
        numbers = texts.cast(pa.float64())
    except pa.ArrowInvalid:
        # Arrow refuses what is too large or too small; Python makes them infinite and 0.
        numbers = pa.array(
            [None if text is None else float(text) for text in texts.to_pylist()], pa.float64()
        )
    is_finite = pc.and_(is_decimal, pc.fill_null(pc.is_finite(numbers), False))
    numbers = pc.if_else(is_finite, numbers, pa.scalar(None, pa.float64()))
    return numbers, np.asarray(pc.fill_null(is_finite, True))
