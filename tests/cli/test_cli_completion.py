"""What a shell offers: asked as shells ask, and by the shells that are there."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from xsaveschema.cli import completion
from xsaveschema.cli.program import COMMANDS

STREAM = str(Path(__file__).parents[1] / "data" / "artefacts" / "qemu-7.2-tcg.stream.gz")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A folder with the program, as a shell finds it, and with nothing else in it."""
    program = tmp_path / "bin" / "xsaveschema"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m xsaveschema "$@"\n')
    program.chmod(0o755)
    return tmp_path


def environment(home: Path, **more: str) -> dict[str, str]:
    path = f"{home / 'bin'}{os.pathsep}{os.environ['PATH']}"
    root = str(Path(completion.__file__).parents[2])
    return {**os.environ, "PATH": path, "PYTHONPATH": root, "HOME": str(home), **more}


def asked(home: Path, line: str) -> list[str]:
    """What is offered for the last word of a line."""
    env = environment(home, COMP_WORDS=line, _XSAVESCHEMA_COMPLETE="bash_complete")
    command = [sys.executable, "-m", "xsaveschema"]
    result = subprocess.run(command, env=env, cwd=home, capture_output=True, text=True, check=False)
    assert result.stderr == ""
    return [each for each in result.stdout.splitlines() if each]


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("la", ["plain,layout"]),
        ("layout sp", ["plain,spr"]),
        ("layout sapp", ["plain,sapphire-rapids"]),
        ("compare zen4 mila", ["plain,milan"]),
        ("check x --cpu ho", ["plain,host"]),
        ("check x --cpu ./du", ["file,"]),
        ("new x ice-lake-se", ["plain,ice-lake-server"]),
        ("layout zen4 --xcr0 x87,ss", ["plain,x87,sse"]),
        ("models --vendor hy", ["plain,hygon"]),
        ("models --with pkru,ti", ["plain,pkru,tilecfg", "plain,pkru,tiledata"]),
        ("convert x --drop lw", ["plain,lwp"]),
        ("decode sample:ti", ["plain,sample:tiger-lake-xsave", "plain,sample:tiger-lake-xsaves"]),
        ("decode x --registers k1,mxc", ["plain,k1,mxcsr"]),
        ("decode x --model haswell --registers zm", []),
        ("decode ", ["file,"]),
        ("decode x", ["file,"]),
        ("lint a b", ["file,"]),
        (f"check {STREAM} --area vC", ["plain,vCPU 0", "plain,vCPU 1"]),
        (f"check {STREAM} --area 'vCPU 1", ["plain,vCPU 1"]),
        (f"diff sample:zen4-xsave {STREAM} --area-b 'vCPU 0", ["plain,vCPU 0"]),
        ("check pid:1 --area ", []),
        ("check /no/such/file --area ", []),
        ("--schemas /no/such/folder layout ze", []),
        ("no-command ze", []),
    ],
)
def test_offers(home: Path, line: str, offered: list[str]) -> None:
    assert asked(home, f"xsaveschema {line}") == offered


def test_names_alone_until_something_is_written(home: Path) -> None:
    offered = asked(home, "xsaveschema layout ")
    assert "plain,zen3" in offered
    assert "plain,milan" not in offered
    assert asked(home, "xsaveschema ") == [f"plain,{name}" for name in COMMANDS]


def test_a_file_whose_name_begins_like_a_samples_is_offered(home: Path) -> None:
    assert "plain,sample:zen4-xsave" in asked(home, "xsaveschema decode sam")
    (home / "samples.bin").touch()
    assert asked(home, "xsaveschema decode sam") == ["file,"]


def test_models_of_the_user(home: Path) -> None:
    (home / "mine.yaml").write_text(
        "model: mine\ntitle: t\nvendor: GenuineIntel\nconfirmed: false\nsource: s\n"
    )
    line = f"xsaveschema --schemas {home / 'mine.yaml'} layout min"
    assert asked(home, line) == ["plain,mine"]


def shell(name: str) -> str:
    return shutil.which(name) or pytest.skip(f"{name} is not installed here")


@pytest.mark.parametrize(
    ("line", "reply"),
    [
        ("layout sapp", ["sapphire-rapids"]),
        # bash takes what stands before a colon for a word of its own.
        ("decode sample:zen4-s", ["zen4-sigframe"]),
        (f"check {STREAM} --area vC", [r"vCPU\ 0", r"vCPU\ 1"]),
        (f"check {STREAM} --area 'vCPU 1", ["vCPU 1"]),
    ],
)
def test_bash(home: Path, line: str, reply: list[str]) -> None:
    """The function that bash calls, with the words as bash breaks them."""
    line = f"xsaveschema {line}"
    last = line.rpartition(":")[2] if "sample:" in line else line.split(" ", 1)[1].split()[-1]
    if "'" in line:
        last = line[line.index("'") :]
    script = f"""
        eval "$(_XSAVESCHEMA_COMPLETE=bash_source xsaveschema)"
        compopt() {{ :; }}
        COMP_LINE={quoted(line)}; COMP_POINT=${{#COMP_LINE}}
        COMP_WORDS=(x {quoted(last)}); COMP_CWORD=1
        _xsaveschema_completion xsaveschema
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    bash = [shell("bash"), "--norc", "-c", script]
    result = subprocess.run(
        bash, env=environment(home), cwd=home, capture_output=True, text=True, check=True
    )
    assert (result.stdout.splitlines(), result.stderr) == (reply, "")


def quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


def test_fish(home: Path) -> None:
    line = f"xsaveschema check {STREAM} --area vC"
    script = (
        "_XSAVESCHEMA_COMPLETE=fish_source xsaveschema | source; "
        f"complete -C {quoted('xsaveschema layout sapp')}; complete -C {quoted(line)}; "
        f"complete -C {quoted('xsaveschema decode sample:zen4-s')}"
    )
    result = subprocess.run(
        [shell("fish"), "-N", "-c", script],
        env=environment(home),
        cwd=home,
        capture_output=True,
        text=True,
        check=True,
    )
    assert [each.split("\t")[0] for each in result.stdout.splitlines()] == [
        *("sapphire-rapids", "vCPU 0", "vCPU 1", "sample:zen4-sigframe")
    ]


def test_zsh(home: Path) -> None:
    """The function that zsh calls; what it hands on is looked at instead of shown."""
    script = """
        autoload -U compinit; compinit -u -D
        eval "$(_XSAVESCHEMA_COMPLETE=zsh_source xsaveschema)"
        compadd() { print -l -- "${completions[@]}" }
        _describe() { print -l -- "${completions_with_descriptions[@]}" }
        words=(xsaveschema layout sapp) CURRENT=3
        _xsaveschema_completion
        words=(xsaveschema decode sample:zen4-s) CURRENT=3
        _xsaveschema_completion
    """
    result = subprocess.run(
        [shell("zsh"), "-f", "-c", script],
        env=environment(home),
        cwd=home,
        capture_output=True,
        text=True,
        check=True,
    )
    first, second = result.stdout.splitlines()
    assert first.startswith("sapphire-rapids:Intel Sapphire Rapids")
    assert second == "sample:zen4-sigframe"
