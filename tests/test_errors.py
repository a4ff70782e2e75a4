"""Settings that are checked before anything is made of them."""

from collections.abc import Sequence
from typing import Any

import pytest

from hep2.errors import HEp2Error, check_types, one_of


def made(
    whether: bool, many: int, sizes: Sequence[int] = (1,), much: float = 1.0, name: str = ""
) -> None: ...


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"whether": "no"}, "here: whether=no must be true or false"),
        ({"whether": 0}, "here: whether=0 must be true or false"),
        ({"many": 2.0}, "here: many=2.0 must be a whole number"),
        ({"many": True}, "here: many=True must be a whole number"),
        ({"many": None}, "here: many=None must be a whole number"),
        ({"many": 0}, "here: many=0 must be a whole number"),
        ({"sizes": 3}, "here: sizes=3 must be a list of whole numbers"),
        ({"sizes": [1, 0]}, r"here: sizes=\[1, 0\] must be a list of whole numbers"),
        ({"much": "1"}, "here: much=1 must be a number"),
        ({"much": True}, "here: much=True must be a number"),
    ],
)
def test_a_setting_has_the_type_of_its_hint(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(HEp2Error, match=f"^{said}(, 1 or more)?$"):
        check_types("here: ", made, {"whether": True, "many": 1, **settings}, least=1)


def test_whole_numbers_are_numbers_and_other_hints_are_the_constructor_s() -> None:
    check_types("", made, {"whether": False, "many": -3, "much": 2, "name": 3, "sizes": []})


@pytest.mark.parametrize("name", ["b", None, ["a"], {"a": 1}, 1])
def test_what_no_table_can_hold_is_unknown_as_well(name: Any) -> None:
    with pytest.raises(HEp2Error, match="is unknown: choose one of a, c"):
        one_of("key", name, {"a": 1, "c": 2})
