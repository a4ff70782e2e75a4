"""What ends a run without being a bug: an error that is the user's to mend, a request to end."""

import inspect
import math
import signal
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

TERMINATED = 128 + signal.SIGTERM  # exit code: what shells and schedulers know
T = TypeVar("T")


class HEp2Error(Exception):
    """Something outside the program is wrong: an input, a setting, a file.

    The message names what is wrong (file, row, key) and the remedy. The entry points print it as
    `error: <message>` and exit with code 1; any other exception is a bug and keeps its traceback.
    """


class Terminated(SystemExit):
    """Somebody asked this process to end: a scheduler, a container, `timeout`, an OOM guard."""

    def __init__(self) -> None:
        super().__init__(TERMINATED)


def asked_to_end(error: BaseException) -> bool:
    """Whether an exception is `Terminated`, or was raised on its way out."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, Terminated):
            return True
        seen = seen.__cause__ or seen.__context__
    return False


def one_of(key: str, name: Any, table: Mapping[str, T]) -> T:
    """What a table has under the name that a setting gives; HEp2Error where it has none."""
    if name not in list(table):  # a name that cannot be hashed is unknown as well
        raise HEp2Error(f"{key}={name} is unknown: choose one of {', '.join(table)}")
    return table[name]


def whole(value: Any, least: float, most: float = math.inf) -> bool:
    """Whether a setting is a whole number in these bounds; Python takes True for one as well."""
    return type(value) is int and least <= value <= most


def check_number(key: str, value: Any, below: float = math.inf) -> None:
    """Raise HEp2Error where a setting is not a number from 0 up to, but without, a bound."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < below:
        bound = f"from 0, below {below:g}" if below < math.inf else "0 or more"
        raise HEp2Error(f"{key}={value} must be a number, {bound}")


def check_types(
    where: str, makes: Callable[..., Any], settings: Mapping[str, Any], least: float = -math.inf
) -> None:
    """Raise HEp2Error where a setting is not of the type that its constructor's hint names.

    Python would take the word "no" for true. Hints other than these are left to the constructor.

    Args:
        where: the beginning of the message, before the setting's name.
        makes: what the settings are for.
        settings: by their names.
        least: whole numbers must be this or more.
    """
    takes = inspect.signature(makes, eval_str=True).parameters
    bound = f", {least:g} or more" if least > -math.inf else ""
    for name, value in settings.items():
        kinds: dict[Any, tuple[bool, str]] = {
            bool: (isinstance(value, bool), "true or false"),
            int: (whole(value, least), f"a whole number{bound}"),
            float: (
                isinstance(value, int | float) and not isinstance(value, bool),
                "a number",
            ),
            Sequence[int]: (
                isinstance(value, list | tuple) and all(whole(one, least) for one in value),
                f"a list of whole numbers{bound}",
            ),
        }
        good, words = kinds.get(takes[name].annotation, (True, ""))
        if not good:
            raise HEp2Error(f"{where}{name}={value} must be {words}")
