"""The catalogue as people look into it: by name, alias, title, vendor and component."""

from __future__ import annotations

import json
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


def test_json() -> None:
    models = {facts["name"]: facts for facts in tell("models")}
    assert len(models) == len(xs.Catalog())
    zen4 = models["zen4"]
    assert list(zen4) == [
        "name",
        "aliases",
        "title",
        "vendor",
        "signatures",
        "xcr0",
        "xss",
        "standard_size",
        "compacted_size",
        "instructions",
        "components",
        "confirmed",
        "confirmed_by",
        "source",
    ]
    assert zen4["vendor"] == "AuthenticAMD"
    assert (zen4["xcr0"], zen4["xss"]) == ("0x2e7", "0x1800")
    assert (zen4["standard_size"], zen4["compacted_size"]) == (2440, 2480)
    assert zen4["instructions"] == ["xgetbv1", "xsavec", "xsaveopt", "xsaves"]
    assert zen4["confirmed"] is True
    assert zen4["confirmed_by"]
    assert {"vendor": "AuthenticAMD", "family": 0x19, "models": [0x18], "steppings": None} in (
        zen4["signatures"]
    )
    assert zen4["components"][4] == {
        "number": 6,
        "name": "zmm_hi256",
        "size": 512,
        "offset": 896,
        "supervisor": False,
        "align64": False,
        "xfd": False,
        "optional": None,
    }
    assert models["cascade-lake"]["signatures"][0]["steppings"] == [5, 6, 7]
    tiledata = models["sapphire-rapids"]["components"][-1]
    assert (tiledata["name"], tiledata["align64"], tiledata["xfd"]) == ("tiledata", True, True)
    cet = next(c for c in zen4["components"] if c["name"] == "cet_u")
    assert (cet["offset"], cet["supervisor"]) == (None, True)
    # No XSAVEC, no XSAVES: nothing there ever writes the compacted format.
    assert models["haswell"]["compacted_size"] is None


def test_text_for_programs_has_every_column_in_one_line() -> None:
    lines = run("models").stdout.splitlines()
    zen4 = next(line.split() for line in lines if line.startswith("zen4 "))
    assert zen4[:6] == ["zen4", "0x2E7", "0x1800", "2440", "2480", "yes"]
    assert any("06: 55/5-7" in line for line in lines)
    assert lines[-1] == f"{len(xs.Catalog())} models"


def test_a_file_of_the_users_own(tmp_path: Path) -> None:
    (tmp_path / "my-zen.yaml").write_text(
        "model: my-zen\ntitle: Mine\nextends: zen\n"
        "signatures: [{family: 0x17, models: [0xEE]}]\nconfirmed: false\nsource: me\n"
    )
    for args in (
        ["--schemas", str(tmp_path), "models"],
        ["models", "--schemas", str(tmp_path)],
    ):
        assert "my-zen" in run(*args).stdout
    shown = tell("models", XSAVESCHEMA_PATH=str(tmp_path))
    mine = next(facts for facts in shown if facts["name"] == "my-zen")
    assert (mine["confirmed"], mine["source"]) == (False, "me")
    assert tell("layout", "my-zen", "--schemas", str(tmp_path))["size"] == 832
    fails("layout", "my-zen")


def test_replacing_a_shipped_model_is_noted(tmp_path: Path) -> None:
    path = tmp_path / "zen.yaml"
    path.write_text(
        "model: zen\ntitle: Mine\nvendor: AuthenticAMD\ncomponents:\n"
        "  avx: {size: 256, offset: 576}\nsignatures: [{family: 0x17, models: [0xEE]}]\n"
        "confirmed: false\nsource: me\n"
    )
    result = run("layout", "zen", "--json", "--schemas", str(path))
    assert result.stderr.startswith("xsaveschema: note: zen")
    assert str(path) in result.stderr
    json.loads(result.stdout)


def test_faults_of_schema_files(tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text("model: bad\ntitle: 3\nnope: 1\n")
    said = fails("models", "--schemas", str(path))
    assert f"{path}:2:" in said
    assert f"{path}:3:" in said
    assert "no" in fails("models", "--schemas", str(tmp_path / "missing"))
