"""Why a request is not answered as asked."""

import math


class Refusal(ValueError):
    """A request is refused; the message goes into its answer, and says what to do."""


def check_number(field: str, value: float, highest: float = math.inf) -> float:
    """A request's number; Refusal where it is not from 0 to the highest."""
    if math.isfinite(value) and 0 <= value <= highest:
        return value
    expected = "0 or more" if math.isinf(highest) else f"0 to {highest:g}"
    raise Refusal(f"{field} {value:g}: {expected} is expected")
