"""What is installed is what was locked, is not known to be harmful, and may be used."""

import re

from dependencies import PARTS_OF_TORCH, ROOT, installed, licence, requirements
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

# Versions that must never be installed: why.
KNOWN_BAD = {
    "lightning": ("==2.6.2", "==2.6.3", "malicious uploads"),
    "pytorch-lightning": ("==2.6.2", "==2.6.3", "malicious uploads"),
    "torch": ("<2.6", "CVE-2025-32434: weights_only=True could run code"),
    "pillow": ("<10.2", "CVE-2023-4863 and CVE-2023-50447: images could run code"),
    "opencv-python-headless": ("<4.8.1.78", "CVE-2023-4863: images could run code"),
    "skops": ("<0.13", "CVE-2025-54412, -54413 and -54886: reading could run code"),
    "numpy": ("<1.22", "CVE-2021-41496: array descriptions could overflow"),
}

# As SPDX or as packages write it in their metadata. None forbids any use or asks for our source.
ALLOWED = {
    "0BSD", "3-Clause BSD License", "Apache 2.0", "Apache License, Version 2.0",
    "Apache Software License", "Apache-2.0", "Apache-2.0 WITH LLVM-exception", "BSD",
    "BSD License", "BSD-2-Clause", "BSD-3-Clause", "BSL-1.0", "CC0-1.0", "HPND", "ISC", "MIT",
    "MIT License", "MIT-0", "MIT-CMU", "MPL-2.0", "Mozilla Public License 2.0 (MPL 2.0)", "PSF-2.0",
    "Python Software Foundation License", "The Unlicense (Unlicense)", "Zlib",
}  # fmt: skip


def locked() -> dict[str, set[str]]:
    """Versions by package; more than one where they differ between platforms or Pythons."""
    pins = re.findall(r"^([\w.-]+)==([^\s;]+)", (ROOT / "requirements.lock").read_text(), re.M)
    torch = re.findall(r"^TORCH \?= (torch)==(\S+)$", (ROOT / "Makefile").read_text(), re.M)
    assert len(torch) == 1
    versions: dict[str, set[str]] = {}
    for name, version in pins + torch:
        versions.setdefault(name, set()).add(version)
    return versions


def harmful(name: str, version: str) -> bool:
    *bad, _ = KNOWN_BAD.get(name, ("",))
    return any(SpecifierSet(specifier).contains(version) for specifier in bad)


def allowed(text: str) -> bool:
    """Whether an SPDX expression leaves a choice in which all is allowed."""
    if text in ALLOWED:
        return True
    parts = [part.strip() for part in re.split(r"([()]| AND | OR )", text)]
    words = [part.lower() if part in ("AND", "OR") else part for part in parts if part]
    known = [word if word in ("and", "or", "(", ")") else str(word in ALLOWED) for word in words]
    return bool(eval(" ".join(known)))


def test_every_requirement_is_locked() -> None:
    versions = locked()
    for wanted in requirements():
        pins = versions.get(canonicalize_name(wanted.name), set())
        assert pins, f"{wanted}: not in requirements.lock; `make lock`"
        assert all(wanted.specifier.contains(pin) for pin in pins), f"{wanted}: locked is {pins}"


def test_everything_installed_is_locked_at_its_version() -> None:
    versions = locked()
    strays = {
        f"{name}=={package.version}"
        for package in installed()
        if (name := canonicalize_name(package.name)) == "torch"
        or not PARTS_OF_TORCH.fullmatch(name)
        if package.version.partition("+")[0] not in versions.get(name, set())
    }
    assert not strays, "not in requirements.lock: `make lock`, then `make install`"


def test_every_pin_has_a_hash_and_names_no_place() -> None:
    text = (ROOT / "requirements.lock").read_text()
    entries = re.split(r"^(?=\w)", text, flags=re.M)[1:]
    assert len(entries) == sum(map(len, locked().values())) - 1  # all but torch
    pin = re.compile(
        r"[\w.-]+==[^\s;]+( ; [^\\/@]+)?( \\\n    --hash=sha256:[0-9a-f]{64})+\n(#.*\n)*"
    )
    assert [entry for entry in entries if not pin.fullmatch(entry)] == []


def test_nothing_locked_is_known_to_be_harmful() -> None:
    assert harmful("lightning", "2.6.3")
    assert harmful("torch", "2.5.1")
    assert not harmful("lightning", "2.6.6")
    for name, versions in locked().items():
        found = [version for version in versions if harmful(name, version)]
        assert not found, f"{name} {found}: {KNOWN_BAD[name][-1]}"


def test_every_licence_is_allowed() -> None:
    assert allowed("GPL-3.0-only OR MIT")
    assert not allowed("GPL-3.0-only")
    assert not allowed("MIT AND GPL-3.0-only")
    assert allowed("MPL-2.0 AND (GPL-3.0-only OR MIT)")
    assert not allowed("GPL-3.0-only AND (Apache-2.0 OR MIT)")
    others = {
        package.name: licence(package)
        for package in installed()
        if not PARTS_OF_TORCH.fullmatch(canonicalize_name(package.name))
        if not allowed(licence(package))
    }
    assert not others
