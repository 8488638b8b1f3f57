# SPDX-License-Identifier: MIT
"""Tables of layouts for other people's builds: one exporter a target, and what they have in common.

What is generated is deterministic, says where it is from, and may be taken into any project
(MIT-0). An exporter of another package is named by an entry point ``xsaveschema.exporters``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from importlib import import_module
from inspect import signature
from pathlib import PurePosixPath
from typing import Any, Final

from xsaveschema.catalog import Catalog, default_catalog, require_catalog
from xsaveschema.errors import WrongTypeError, XsaveError, described, items, meant
from xsaveschema.export.exporter import ALL, Exporter, banner, identifier
from xsaveschema.identify.named import load_model
from xsaveschema.model import CpuModel
from xsaveschema.plugins import Plugin, loaded, pass_on, tell
from xsaveschema.plugins import described as described_error

__all__ = ["GROUP", "Exporter", "banner", "render", "targets"]

GROUP: Final = "xsaveschema.exporters"
"""The entry points by which a package adds exporters; each loads an :class:`Exporter`."""

_OWN: Final = ("vectors", "c", "rust", "go", "kaitai", "gdb", "html")
"""A module each."""
_NEEDS: Final = ("target", "title", "suffix", "render")


def targets() -> list[Exporter]:
    """Every exporter: the package's own, then those of other packages."""
    return [*_exporters().values()]


def render(
    target: str,
    cpus: str | CpuModel | Iterable[str | CpuModel],
    *,
    catalog: Catalog | None = None,
    **options: Any,
) -> dict[str, str]:
    """The files of a target for some CPUs: {relative path: text}, in order of path.

    ``cpus`` are models, or what :func:`xsaveschema.load_model` takes; ``"all"`` is every model of
    the catalogue. ``options`` are the target's own. XsaveError for a target that there is not, for
    no CPU at all, and for CPUs that a language could not tell apart.
    """
    require_catalog(catalog)
    exporter = _exporter(target)
    takes = signature(exporter.render).parameters
    wrong = [name for name in options if name not in takes]
    if wrong and all(each.kind is not each.VAR_KEYWORD for each in takes.values()):
        raise XsaveError(f"{target} has no option {wrong[0]!r}")
    models = _models(cpus, catalog or default_catalog())
    return dict(sorted(exporter.render(models, **options).items()))


def _exporter(target: str) -> Exporter:
    known = _exporters()
    if not isinstance(target, str) or target not in known:
        hint = meant(target, known, 1) if isinstance(target, str) else ""
        there = f"targets: {', '.join(known)}"
        raise XsaveError(f"there is no target {target!r:.60}; {hint or there}")
    return known[target]


def _models(cpus: str | CpuModel | Iterable[str | CpuModel], catalog: Catalog) -> list[CpuModel]:
    given = [cpus] if isinstance(cpus, str | CpuModel) else items(cpus, "cpus: pass CPU models")
    found: list[CpuModel] = []
    for cpu in given:
        if cpu == ALL and ALL not in catalog:
            found += catalog.models()
        elif isinstance(cpu, str):
            found.append(load_model(cpu, catalog))
        elif isinstance(cpu, CpuModel):
            found.append(cpu)
        else:
            raise WrongTypeError(f"cpus: pass CPU models or their names, not {described(cpu)}")
    if not found:
        raise XsaveError(f"no CPU is named: pass models, their names, or {ALL!r}")
    named: dict[str, CpuModel] = {}
    for model in found:
        other = named.setdefault(identifier(model.label), model)
        if other != model:
            raise XsaveError(
                f"{other.label} and {model.label} have one name in what is generated, "
                f"{identifier(model.label)}, and are not the same: leave one out"
            )
    return [*named.values()]


@cache
def _exporters() -> dict[str, Exporter]:
    found = {name: import_module(f"{__name__}.{name}").EXPORTER for name in _OWN}
    for plugin in loaded(GROUP, _NEEDS):
        exporter = _PluggedIn(plugin)
        if exporter.target in found:
            tell(f"the plug-in {plugin.title} is left out: there is a target {exporter.target!r}")
        found.setdefault(exporter.target, exporter)
    return found


class _PluggedIn:
    """An exporter of another package: whatever it raises or gives is an XsaveError."""

    def __init__(self, plugin: Plugin):
        self._plugin = plugin
        self.target, self.title, self.suffix = (
            str(getattr(plugin.made, name)) for name in ("target", "title", "suffix")
        )

    def render(self, cpus: Sequence[CpuModel], **options: Any) -> dict[str, str]:
        """What the exporter renders, if these are files within the folder."""
        fault = f"the plug-in {self._plugin.title} fails"
        try:
            files = dict(self._plugin.made.render(cpus, **options))
            _check_files(files)
        except XsaveError:
            raise
        except (Exception, SystemExit) as error:
            pass_on(error)
            raise XsaveError(f"{fault}: {described_error(error)}") from error
        return files


def _check_files(files: Mapping[Any, Any]) -> None:
    """ValueError for what cannot be written as files below a folder."""
    if not files:
        raise ValueError("it gives no file")
    paths = {PurePosixPath(name) for name in files}
    for name, text in files.items():
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or "\0" in name or not path.name:
            raise ValueError(f"{name!r} is no path within a folder")
        if above := paths.intersection(path.parents):
            raise ValueError(f"{name!r} is below {str(*above)!r}, which is a file")
        if not isinstance(text, str):
            raise TypeError(f"it gives {name!r:.60} as {described(text)}")
        text.encode()
