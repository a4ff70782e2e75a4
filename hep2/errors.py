"""The one kind of error that is the user's to mend, and its commonest cause."""

import math
from typing import Any


class HEp2Error(Exception):
    """Something outside the program is wrong: an input, a setting, a file.

    The message names what is wrong (file, row, key) and the remedy. The entry points print it as
    `error: <message>` and exit with code 1; any other exception is a bug and keeps its traceback.
    """


def check_number(key: str, value: Any, below: float = math.inf) -> None:
    """Raise HEp2Error where a setting is no number from 0 up to (and without) a bound."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < below:
        bound = f"below {below:g}" if below < math.inf else "0 or more"
        raise HEp2Error(f"{key}={value} must be a number, {bound}")
