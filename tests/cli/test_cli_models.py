"""The catalogue as people look into it: by name, alias, title, vendor and component."""

from __future__ import annotations

from pathlib import Path

import pytest
from command import fails, run, tell
from terminal import on_terminal, unstyled

import xsaveschema as xs


def names(*args: str) -> set[str]:
    return {facts["name"] for facts in tell("models", *args)}


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (["spr"], {"sapphire-rapids"}),
        (["milan"], {"zen3"}),
        (["EPYC"], {"zen", "zen2", "zen3", "zen4", "zen5"}),
        (["zen[34]"], {"zen3", "zen4"}),
        (["gn?"], {"granite-rapids"}),  # a glob is held against the whole of an alias
        (["hygon"], {"dhyana", "hygon-c86-4g"}),
        (["--vendor", "hygon"], {"dhyana", "hygon-c86-4g"}),
        (["--vendor", "HygonGenuine", "c86"], {"hygon-c86-4g"}),
        (["--with", "lwp"], {"bulldozer", "excavator", "piledriver", "steamroller", "zen2"}),
        (["--with", "62", "*driver"], {"piledriver"}),
        (["lake", "--with", "AVX-512,mpx", "--with", "pt"], {"cannon-lake", "cascade-lake"}),
    ],
)
def test_what_is_looked_for(args: list[str], expected: set[str]) -> None:
    found = names(*args)
    if args[:2] == ["lake", "--with"]:
        assert expected <= found
        for name in found:
            assert {"opmask", "zmm_hi256", "bndcsr", "pt"} <= set(xs.load_model(name).components)
    else:
        assert found == expected


def test_a_vendor_is_asked_for_by_any_of_its_names() -> None:
    assert names("--vendor", "intel") == names("--vendor", "GenuineIntel")
    assert "zhaoxin-zx-c" in names("--vendor", "zhaoxin")
    assert names("--vendor", "via") == names("--vendor", "centaurhauls") - {"zhaoxin-zx-c"}


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        (["millan"], 1, "no model of the catalogue is like that; did you mean milan?\n"),
        (["zen", "--vendor", "intel"], 1, "no model of the catalogue is like that\n"),
        (["--vendor", "amb"], 2, "--vendor: there is no 'amb'; amd, authenticamd, "),
        (["--with", "pkr"], 2, "--with: there is no state component 'pkr'; did you mean pkru"),
    ],
)
def test_nothing_found(args: list[str], code: int, said: str) -> None:
    assert fails("models", *args, code=code).startswith(said)


def test_text_names_vendors_as_people_do() -> None:
    lines = run("models").stdout.splitlines()
    assert lines[1] == "Intel"
    assert {"AMD", "Hygon", "Centaur, VIA and Zhaoxin"} <= set(lines)
    assert {facts["vendor"] for facts in tell("models", "zen4")} == {"AuthenticAMD"}
    assert run("models", "zen4").stdout.splitlines()[-1] == "1 model"


@pytest.mark.parametrize("columns", [80, 60, 250])
def test_no_word_is_broken_and_no_line_too_long(columns: int) -> None:
    text = unstyled(on_terminal("models", columns=columns))
    assert max(map(len, text.splitlines())) <= max(columns, 80)
    words = " ".join(text.split())
    for model in xs.Catalog().models():
        assert model.title in words
        for alias in model.aliases:
            assert alias in words.replace(",", "").split()


def test_a_hostile_title_stays_text(tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text(
        'model: bad\ntitle: "a \\u202E title"\nvendor: GenuineIntel\n'
        "confirmed: false\nsource: made up\n"
    )
    text = run("models", "bad", "--schemas", str(tmp_path)).stdout
    assert "\\u202e" in text
