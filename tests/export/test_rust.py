"""The Rust crate: compiled without a warning, and held against ours, the processor and captures."""

from __future__ import annotations

import os
import re
import shutil
import struct
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pytest
import random_areas
from random_areas import Answer, Case

import xsaveschema as xs
from xsaveschema import export
from xsaveschema.export.exporter import constant, identifier, pascal
from xsaveschema.model import StateComponent

MODELS = [*xs.Catalog().models()]
COUNT = int(os.environ.get("XSAVESCHEMA_RANDOM_AREAS", "20000"))
OPS = ("standard", "compacted", "check", "enumerated", "read")
FAULTS = ("", "short", "header", "mask", "lost", "room", "refused")
QUESTION = struct.Struct("<BBBBQQQQQII")
ANSWER = struct.Struct("<BQQI")
DRIVER = """
[package]
name = "driver"
version = "0.0.0"
edition = "2021"
[dependencies]
xsave = {{ path = "{crate}" }}
[profile.dev]
opt-level = 1
[workspace]
"""


class Toolchain(NamedTuple):
    """A cargo, and the environment in which it finds its own compiler."""

    cargo: str
    env: dict[str, str]

    def run(
        self, folder: Path, *words: str, data: bytes | None = None
    ) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [self.cargo, *words, "--offline"],
            cwd=folder,
            env={**os.environ, **self.env, "CARGO_TERM_COLOR": "never"},
            input=data,
            capture_output=True,
            check=False,
        )


def _toolchains() -> dict[str, Toolchain]:
    """Every cargo here, by the version of its compiler: Debian's is the oldest that must do."""
    found: dict[str, Toolchain] = {}
    folders = [*os.environ.get("PATH", "").split(os.pathsep), str(Path.home() / ".cargo/bin")]
    for folder in dict.fromkeys([*folders, "/usr/bin"]):
        cargo, rustc = (shutil.which(name, path=folder) for name in ("cargo", "rustc"))
        if not (cargo and rustc):
            continue
        told = subprocess.run([rustc, "--version"], capture_output=True, text=True, check=False)
        words = told.stdout.split()
        if told.returncode == 0 and words[:1] == ["rustc"]:
            env = {"RUSTC": rustc, "RUSTDOC": str(Path(rustc).with_name("rustdoc"))}
            found.setdefault(words[1], Toolchain(cargo, env))
    return found


TOOLCHAINS = _toolchains()
needs_cargo = pytest.mark.skipif(not TOOLCHAINS, reason="there is no cargo with a rustc")


def write(folder: Path, files: dict[str, str]) -> Path:
    """Files in a folder."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


@pytest.fixture(scope="module")
def crate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("rust") / "crate", export.render("rust", "all"))


@pytest.fixture(scope="module")
def driver(crate: Path) -> Path:
    """The program that answers by the crate."""
    folder = crate.parent / "driver"
    source = (Path(__file__).parent / "rust_driver.rs").read_text()
    write(
        folder,
        {
            "Cargo.toml": DRIVER.format(crate=crate),
            "src/main.rs": source,
            "src/places.rs": places(),
        },
    )
    done = next(iter(TOOLCHAINS.values())).run(folder, "build")
    assert done.returncode == 0, done.stderr.decode()
    assert b"warning" not in done.stderr, done.stderr.decode()
    return folder / "target/debug/driver"


def ask(driver: Path, cases: Sequence[tuple[int, Case]]) -> list[tuple[int, int, int, bytes]]:
    """What the driver answers: fault, two numbers, bytes."""
    questions = []
    for op, case in cases:
        numbers = (case.mask, case.drop, 0, 0, 0)
        if case.op == "check":
            numbers = (case.rfbm, case.xfd, case.address, case.xcr0, case.xss)
        head = (op, case.model, case.keep, random_areas.TARGETS.index(case.target))
        questions += [QUESTION.pack(*head, *numbers, case.room, len(case.data)), case.data]
    done = subprocess.run([driver], input=b"".join(questions), capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    found, at = [], 0
    while at < len(done.stdout):
        fault, first, second, size = ANSWER.unpack_from(done.stdout, at)
        at += ANSWER.size + size
        found.append((fault, first, second, done.stdout[at - size : at]))
    assert len(found) == len(cases)
    return found


def hold(driver: Path, cases: Sequence[Case]) -> list[Answer]:
    """Have the crate answer as this package does, byte by byte and fault by fault."""
    answers = []
    found = ask(driver, [(OPS.index(case.op), case) for case in cases])
    for case, (fault, number, _, data) in zip(cases, found, strict=True):
        ours = random_areas.answer(case, MODELS)
        theirs = Answer(FAULTS[fault], number, data)
        if theirs != ours:
            differ = (at for at, byte in enumerate(data) if ours.data[at : at + 1] != bytes([byte]))
            at = next(differ, len(data))
            pytest.fail(
                f"{MODELS[case.model].name} {case._replace(data=case.data[512:576])}: "
                f"{theirs[:2]}, not {ours[:2]}; byte {at}: {data[at : at + 16]!r}, "
                f"not {ours.data[at : at + 16]!r}"
            )
        answers.append(ours)
    return answers


# --- it compiles --------------------------------------------------------------------------------


@needs_cargo
@pytest.mark.parametrize("version", TOOLCHAINS)
def test_it_compiles_without_a_warning_and_its_examples_run(version: str, crate: Path) -> None:
    tools = TOOLCHAINS[version]
    target = str(crate.parent / f"target-{version}")
    env = {"CARGO_TARGET_DIR": target, "RUSTFLAGS": "-D warnings", "RUSTDOCFLAGS": "-D warnings"}
    tools = tools._replace(env=tools.env | env)
    done = tools.run(crate, "test")
    assert done.returncode == 0, done.stderr.decode()
    assert b"test src/lib.rs" in done.stdout
    assert b"1 passed" in done.stdout
    assert b"warning" not in done.stderr, done.stderr.decode()


def test_the_floor_is_debians() -> None:
    files = export.render("rust", "zen4")
    assert 'rust-version = "1.63"' in files["Cargo.toml"]
    assert files["Cargo.toml"].endswith("[dependencies]\n")
    for word in ("#![no_std]", "#![forbid(unsafe_code)]"):
        assert word in files["src/lib.rs"]


@needs_cargo
@pytest.mark.parametrize("cpus", [["all"], ["penryn"], ["zen2", "sapphire-rapids"]], ids=str)
def test_clippy_and_rustfmt_have_nothing_to_say(cpus: list[str], tmp_path: Path) -> None:
    for tools in TOOLCHAINS.values():
        asked = ([tools.cargo, word, "--version"] for word in ("fmt", "clippy"))
        if not any(subprocess.run(words, capture_output=True).returncode for words in asked):
            break
    else:
        pytest.skip(f"no clippy or no rustfmt beside {', '.join(TOOLCHAINS)}")
    folder = write(tmp_path, export.render("rust", cpus))
    shown = subprocess.run(
        [tools.cargo, "fmt", "--check"], cwd=folder, capture_output=True, check=False
    )
    assert (shown.returncode, shown.stdout.decode(), shown.stderr.decode()) == (0, "", "")
    flags = tools._replace(env=tools.env | {"RUSTFLAGS": "-D warnings"})
    done = flags.run(folder, "clippy", "--all-targets")
    assert done.returncode == 0, done.stderr.decode()


# --- places of fields ---------------------------------------------------------------------------


def places() -> str:
    """A module of the driver that holds structures and constants to what the components say."""
    lines = [
        "use xsave::components;",
        "macro_rules! stands {",
        "    ($structure:ty, $($member:ident)? , $offset:expr) => {{",
        "        let it = std::mem::MaybeUninit::<$structure>::uninit();",
        "        let start = it.as_ptr();",
        "        // SAFETY: the address alone is taken.",
        "        let at = unsafe { std::ptr::addr_of!((*start)$(.$member)?) } as usize;",
        '        assert_eq!(at - start as usize, $offset, "{}", stringify!($structure));',
        "    }};",
        "}",
        "pub fn hold() {",
    ]
    seen: dict[str, StateComponent] = {}
    for model in MODELS:
        for component in model.components.values():
            least = seen.setdefault(component.name, component)
            seen[component.name] = min(least, component, key=lambda each: each.size)
    for name, component in seen.items():
        module = f"components::{identifier(name)}"
        lines.append(f"    assert_eq!({module}::NUMBER, {component.number});")
        structure = "xsave::LegacyRegion" if component.legacy else f"{module}::{pascal(name)}"
        for field in component.fields:
            member = identifier(field.name)
            lines.append(f"    stands!({structure}, {member}, {field.offset});")
        for leaf in component.leaves:
            path = constant(re.sub(r"\[\d+\]", "", leaf.path))
            element = re.search(r"\[(\d+)\]", leaf.path)
            at = f".element({element[1]}).unwrap()" if element else ""
            lines.append(f"    let field = {module}::{path}{at};")
            lines.append("    assert_eq!((field.offset, field.end() - field.offset), ")
            lines[-1] += f"({leaf.offset}, {leaf.size}));"
    return "\n".join((*lines, "}", ""))


# --- answers ------------------------------------------------------------------------------------


@needs_cargo
def test_random_areas(driver: Path) -> None:
    seed = int(os.environ.get("XSAVESCHEMA_RANDOM_SEED", "1"))
    cases = [*random_areas.cases(MODELS, COUNT, seed)]
    answers = hold(driver, cases)
    told = {
        (answer.fault, answer.data if answer.fault in ("header", "refused") else b"")
        for answer in answers
    }
    assert {fault for fault, _ in told} == set(FAULTS)
    assert len(told) > 25
