"""The site: built without a warning, and whatever has a name is on it."""

from __future__ import annotations

import html
import re
import shutil
import subprocess
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from places import DATA, ROOT

import xsaveschema
from xsaveschema import Catalog
from xsaveschema.artefacts.sigreturn import FRAME_RULES
from xsaveschema.cli.program import COMMANDS, program
from xsaveschema.export import render
from xsaveschema.language import grammar
from xsaveschema.qemu import KNOWN_DIFFERENCES
from xsaveschema.restore_rules import RULES

MODULES = [*sorted(xsaveschema._MODULES), "cpuid.lines"]
EXTRAS = {name: home for name, (home, _) in xsaveschema._EXTRAS.items()}
DOCS = ROOT / "docs"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site."""
    for name in ("sphinx", "furo", "myst_parser", "pyarrow", "distributed"):
        if find_spec(name) is None:
            pytest.skip(f"{name} is not installed: the extra docs has it")
    folder = tmp_path_factory.mktemp("site")
    words = ["-q", "-W", "--keep-going", "-d", str(folder / "doctrees")]
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", *words, str(DOCS), str(folder / "html")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    return folder / "html"


@pytest.fixture(scope="module")
def ids(site: Path) -> dict[str, set[str]]:
    """Where links to each page may lead."""
    return {
        path.stem: set(re.findall(r'\bid="([^"]+)"', path.read_text()))
        for path in site.glob("*.html")
    }


def words(site: Path, name: str) -> str:
    """The text of a page."""
    return html.unescape(re.sub(r"<[^>]+>", "", (site / f"{name}.html").read_text()))


def public(module: ModuleType) -> list[str]:
    """What a module offers: as ``__all__`` says, else what is defined in it."""
    own = [
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and getattr(value, "__module__", None) == module.__name__
    ]
    return list(getattr(module, "__all__", own))


def members(owner: str, value: object) -> list[str]:
    """A class with what it defines itself: whatever is no name of Python's own is public."""
    if not isinstance(value, type):
        return [owner]
    own = [name for name in vars(value) if not name.startswith("_")]
    return [owner, *(f"{owner}.{name}" for name in own)]


def test_every_public_name_is_on_it(ids: dict[str, set[str]]) -> None:
    wanted: list[str] = []
    for name in xsaveschema._HOMES:
        wanted += members(f"xsaveschema.{name}", getattr(xsaveschema, name))
    for name in [*MODULES, *EXTRAS.values()]:
        home = f"xsaveschema.{name}"
        module = import_module(home)
        wanted.append(f"module-{home}")
        for each in public(module):
            value = getattr(module, each)
            if isinstance(value, ModuleType):
                assert f"module-{home}.{each}" in ids["api"]
            else:
                wanted += members(f"{home}.{each}", value)
    assert len(wanted) > 350
    assert [name for name in wanted if name not in ids["api"]] == []


def test_every_command_and_option_is_on_it(site: Path, ids: dict[str, set[str]]) -> None:
    text = words(site, "commands")
    top = program.make_context("xsaveschema", ["models"])
    for name in COMMANDS:
        assert name in ids["commands"]
        command = program.get_command(top, name)
        assert command is not None
        for parameter in command.params:
            if not getattr(parameter, "hidden", False):
                shown = parameter.opts if parameter.param_type_name == "option" else [name]
                assert any(word in text for word in shown), (name, parameter.opts)


def test_every_model_component_and_rule_is_on_it(ids: dict[str, set[str]]) -> None:
    catalog = Catalog()
    assert {*catalog} <= ids["models"]
    # Sphinx has hyphens where names have lines below.
    named = {name.replace("_", "-") for name in catalog.component_names()}
    assert named <= ids["components"]
    assert {*RULES, *FRAME_RULES} <= ids["rules"]
    assert {each.id for each in KNOWN_DIFFERENCES} <= ids["rules"]


def test_every_component_page_has_its_fields(site: Path) -> None:
    text = words(site, "components")
    catalog = Catalog()
    for name in catalog.component_names():
        for field in catalog.component_fields(name):
            assert field.name in text
            assert all(bits.name in text for bits in field.bits)


def keys_of(schema: Any) -> set[str]:
    """Every key that a JSON Schema names."""
    found: set[str] = set()
    if isinstance(schema, dict):
        found |= {*schema.get("properties", {})}
        schema = list(schema.values())
    if isinstance(schema, list):
        for each in schema:
            found |= keys_of(each)
    return found


def test_every_key_of_the_language_is_on_it(site: Path) -> None:
    text = words(site, "keys")
    keys = set().union(*(keys_of(grammar.json_schema(kind)) for kind in grammar.KINDS))
    assert len(keys) > 40
    assert [key for key in sorted(keys) if not re.search(rf"\b{key}\b", text)] == []


def test_every_fault_of_a_schema_file_is_on_it(site: Path) -> None:
    text = words(site, "language")
    bad = {path.stem for path in (DATA / "bad").iterdir()}
    rules = {*re.findall(r"^\| `([a-z-]+)` \|", (ROOT / "schemas/README.md").read_text(), re.M)}
    assert len(rules & bad) > 30
    assert [rule for rule in sorted(rules) if rule not in text] == []


def test_every_page_is_in_a_menu_and_every_role_is_named(site: Path) -> None:
    front = (site / "index.html").read_text()
    pages = [path.relative_to(DOCS).with_suffix("") for path in DOCS.rglob("*.md")]
    assert len(pages) > 20
    assert [
        page for page in pages if str(page) != "index" and f'href="{page}.html"' not in front
    ] == []


def test_nothing_is_fetched_from_elsewhere(site: Path) -> None:
    """Links lead elsewhere; scripts, styles, fonts and pictures do not."""
    for path in site.rglob("*.html"):
        text = path.read_text()
        assert re.findall(r"<(?:script|img|iframe|source)[^>]*src=\"(?:https?:)?//", text) == []
        assert (
            re.findall(r"<link[^>]*rel=\"(?:stylesheet|preload)\"[^>]*href=\"(?:https?:)?//", text)
            == []
        )


def test_stubs_say_what_stands_in_their_place() -> None:
    pytest.importorskip("sphinx", reason="the extra docs is not installed")
    sys.path.insert(0, str(ROOT))
    pages = import_module("docs.pages")
    for name, file in pages.TAKEN.items():
        assert f"(../{file})" in (DOCS / f"{name}.md").read_text()
        assert (ROOT / file).is_file()
    for name in pages.GENERATED:
        assert (DOCS / f"{name}.md").read_text().count(pages.MARK) == 1


def test_the_atlas_is_on_it(site: Path) -> None:
    assert (site / "xsave.html").read_text() == render("html", "all")["xsave.html"]
    assert 'href="xsave.html"' in (site / "index.html").read_text()


def test_the_search_finds_whatever_has_a_name(site: Path) -> None:
    """In a browser, as a reader would: the page that has it is among what is found."""
    pytest.importorskip("selenium", reason="the extra test has selenium")
    from selenium import webdriver

    browser, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if browser is None or driver is None:
        pytest.skip("there is no chromium with its chromedriver")
    catalog = Catalog()
    keys = set().union(*(keys_of(grammar.json_schema(kind)) for kind in grammar.KINDS))
    wanted: dict[str, list[str]] = {
        "api": [*xsaveschema._HOMES, *(m for m in MODULES if "." not in m), *EXTRAS],
        "commands": [*COMMANDS],
        "models": [*catalog],
        "components": [*catalog.component_names()],
        "rules": [*RULES, *(each.id for each in KNOWN_DIFFERENCES)],
        "keys": sorted(keys - COMMON),
    }
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for word in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(word)
    code = """return arguments[0].map(text =>
        Search._performSearch(...Search._parseQuery(text)).map(found => found[0]))"""
    with webdriver.Chrome(options, webdriver.ChromeService(driver)) as page:
        page.get((site / "search.html").as_uri())
        for home, names in wanted.items():
            found = page.execute_script(code, names)
            lost = [name for name, pages in zip(names, found, strict=True) if home not in pages]
            assert lost == [], home


COMMON = {"at", "with"}
"""Keys that are words of every sentence, which no search of Sphinx's looks for."""
