"""What the README shows is what the program prints."""

from __future__ import annotations

import doctest
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from xsaveschema import Catalog

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def runs() -> list[tuple[str, str]]:
    """Each command line of the console blocks, with the output shown below it."""
    found = []
    for block in blocks("console"):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, output = part.partition("\n")
            found.append((command, output))
    return found


@pytest.mark.parametrize(("command", "expected"), runs(), ids=lambda text: text[:60])
def test_commands_print_what_is_shown(command: str, expected: str, tmp_path: Path) -> None:
    words = shlex.split(command)
    assert words[0] == "xsaveschema"
    done = subprocess.run(
        [sys.executable, "-m", *words],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={"COLUMNS": "100", "LANG": "C.UTF-8", "PYTHONUTF8": "1"},
        text=True,
        check=False,
    )
    got = "\n".join(line.rstrip() for line in done.stdout.splitlines())
    pattern = re.escape(expected.strip()).replace(re.escape("..."), ".*")
    assert re.fullmatch(pattern, got.strip(), re.DOTALL), got


def test_python_examples() -> None:
    source = "\n".join(blocks("python"))
    test = doctest.DocTestParser().get_doctest(source, {}, "README.md", "README.md", 0)
    result = doctest.DocTestRunner().run(test)
    assert result.attempted > 15
    assert result.failed == 0


def test_the_model_shown_lints(tmp_path: Path) -> None:
    (tmp_path / "my-cpu.yaml").write_text(blocks("yaml")[0])
    model = Catalog([tmp_path]).model("my-cpu")
    assert model.standard_layout()["pkru"].offset == 2440
