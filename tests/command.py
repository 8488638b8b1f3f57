"""Running the command line in this process."""

from __future__ import annotations

import json
from typing import Any

from click.testing import CliRunner, Result

from xsaveschema.cli.program import program

# The register image that was loaded before Linux wrote the two samples, not what was read back.
TRUE_REGISTERS = {
    "zmm0": "972a846916419f828b9d2434e465e150bd9c66b3ad3c2d6d1a3d1fa7bc8960a9"
    "23b8c1e9392456de3eb13b9046685257bdd640fb06671ad11c80317fa3b1799d",
    "zmm17": "9b49bd26df57c59a8715a10343dac0432a45c2ab8cbfedb0f264accc79ac1b1e"
    "a8e56e0c20de435d2031d750c40db9b4885f6e66c2b6d2c5fa5d310011b7e948",
    "zmm31": "19985f15ff002d4d902059e4ff9ab5c29f044aed7552332702627f7312922f83"
    "ef8c485bc07a30f2edd4253b50f0fd0a750cab754ccc9bc2a53f8a28abf3e3fc",
    "k1": "8181a8cc369147eb",
    "k7": "702cdd20286218b8",
    "mxcsr": "9fa1",
    "fcw": "37f",
    "fsw": "3d00",
    "st0": "cf7c9c96e9ec4d71c366",
    "st7": "1d8cbbac43b409ef2260",
}


def run(*args: str, data: bytes | None = None, code: int = 0, **env: str) -> Result:
    """Run the command line; no exception but SystemExit may leave it."""
    result = CliRunner().invoke(program, args, input=data, env=env)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.output
    assert "Traceback" not in result.output
    assert result.exit_code == code, result.output
    return result


def fails(*args: str, code: int = 1, data: bytes | None = None) -> str:
    """Run it where it must fail: one message, nothing on standard output."""
    result = run(*args, data=data, code=code)
    assert result.stdout == ""
    assert result.stderr.startswith("xsaveschema: error: ")
    assert result.stderr.count("error:") == 1
    return result.stderr.removeprefix("xsaveschema: error: ")


def tell(*args: str, **more: Any) -> Any:
    return json.loads(run(*args, "--json", **more).stdout)
