"""One thing under two spellings, and texts that say nothing."""

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from difflib import SequenceMatcher
from pathlib import PurePosixPath
from unicodedata import is_normalized

# What spreadsheets, pandas, R, databases and people write into a cell that has no value.
_NOTHING = re.compile(
    r"|[+-]?(1\.#q)?nan|n[./]?a\.?|#n/?a|<na>|nat|null|none|nil|void|missing"
    r"|not (available|applicable)"
    r"|[-\u2013\u2014]+|\?+|\.+|/+|#(value|ref|name|null|div/0|num|n/a)[!?]?|\((null|none|blank)\)"
)
POOLS = ("train", "val", "test")
_POOL_WORDS = {
    **dict.fromkeys(("train", "training", "tra", "trn"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing", "tes", "tst", "holdout", "heldout"), "test"),
}
_SEPARATORS = r"[\s_\u2010-\u2015-]+"
_LONG, _NEAR = 6, 0.9  # letters of a word; share of them that two have in common
_NO_PLURALS = ("ss", "us", "is")


def nothing(text: str) -> bool:
    """Whether a text is what stands for "no value": empty, nan, #N/A, NULL, None, -, ? ..."""
    return _NOTHING.fullmatch(text.strip().casefold()) is not None


def said(text: str) -> str:
    """A text, or "" where it stands for no value."""
    return "" if nothing(text) else text


def normal(text: str) -> str:
    """A text as it is compared: Unicode's composed form, small letters, nothing invisible."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    seen = (letter for letter in folded if unicodedata.category(letter) != "Cf")
    return unicodedata.normalize("NFC", "".join(seen)).strip()


def spelling_key(text: str) -> str:
    """Equal for two spellings of one name: capitals, blanks, hyphens, zeros in front, plurals.

    "S01", "s-1" and "S 1" are one; "AC-1", "AC-11" and "AC-1-1", or "+" and "++", are not.
    """
    text = re.sub(r"^(\d+)\.0+$", r"\1", normal(text))  # a number that pandas took for a fraction
    text = re.sub(r"[^\W\d_]{4,}", lambda word: _singular(word[0]), text)
    text = re.sub(rf"(?<=\d){_SEPARATORS}(?=\d)", "-", text)
    text = re.sub(rf"(?<=[^\W_]){_SEPARATORS}(?=[^\W\d_])", "", text)
    text = re.sub(rf"(?<=[^\W\d_]){_SEPARATORS}(?=\d)", "", text).strip("_").rstrip(".,;:")
    return re.sub(r"(?<![\d.])0+(?=\d)", "", text)


def pool_meant(text: str) -> str:
    """Which of POOLS a text means, or the text where it means none."""
    return _POOL_WORDS.get(normal(text), text)


def label_key(label: str) -> str:
    """The spelling key of a pattern: "Nucleolar pattern" is "nucleolar"."""
    shorter = re.sub(rf"{_SEPARATORS}(pattern|staining)s?$", "", normal(label))
    return spelling_key(shorter)


def id_key(identity: str) -> str:
    """Equal for spellings of one image ID: 1, 1.0, 00001, 00001.png, cells/00001.png."""
    name = PurePosixPath(normal(identity).replace("\\", "/")).name
    name = re.sub(r"\.(png|tiff?|jpe?g|bmp)$", "", name)
    number = re.fullmatch(r"0*(\d+)(\.0*)?", name)
    return number[1] if number else name


def _singular(word: str) -> str:
    if word.endswith("ies"):
        return f"{word[:-3]}y"
    if word.endswith(("sses", "xes", "ches", "shes")):
        return word[:-2]
    return word[:-1] if word.endswith("s") and not word.endswith(_NO_PLURALS) else word


def nearly(one: str, two: str) -> bool:
    """Whether two names differ by a letter or two of a long word: "homogenous", "homogeneous"."""
    words = [re.split(_SEPARATORS, normal(name)) for name in (one, two)]
    if len(words[0]) != len(words[1]):
        return False
    other = [pair for pair in zip(*words, strict=True) if pair[0] != pair[1]]
    return bool(other) and all(
        min(map(len, pair)) >= _LONG
        and not re.search(r"\d", "".join(pair))
        and SequenceMatcher(None, pair[0], pair[1], autojunk=False).ratio() >= _NEAR
        for pair in other
    )


def spellings(names: Sequence[str], key: Callable[[str], str]) -> list[list[str]]:
    """Names of which there are several spellings, the commonest first.

    Of equally common ones the first is that in Unicode's composed form, and then the smaller one.
    """
    groups: dict[str, Counter[str]] = defaultdict(Counter)
    for name, count in Counter(names).items():
        if name:
            groups[key(name)][name] = count
    several = (forms for _, forms in sorted(groups.items()) if len(forms) > 1)
    return [
        sorted(forms, key=lambda name: (-forms[name], not is_normalized("NFC", name), name))
        for forms in several
    ]


def shown(name: str, others: Sequence[str]) -> str:
    """A name in quotes; with its letters' codes where another looks the same."""
    seen = [unicodedata.normalize("NFKC", other) for other in others]
    same = seen.count(unicodedata.normalize("NFKC", name)) > 1
    return f"'{name}' = {name!a}" if same else f"'{name}'"
