# SPDX-License-Identifier: MIT
"""Schema files by what they define, read on demand and checked once.

Shipped files are indexed by their names alone, so that one model is loaded without reading the
others; a user's files are indexed by what they say. They come in layers: a name of a later layer
replaces the same name of an earlier one, and ``overrides`` says so; within a layer a name that
stands twice is a fault.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property, update_wrapper
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

from msgspec import UNSET, Struct, field

from xsaveschema.errors import SchemaError, SchemaFault, XsaveError, meant, plain
from xsaveschema.language.component_fields import build_fields
from xsaveschema.language.component_rules import build_rules, check_companions
from xsaveschema.language.cpu_models import Resolved, resolve
from xsaveschema.language.document import Document, quoted
from xsaveschema.language.files import COMPONENT_FILE, shipped_directory
from xsaveschema.language.grammar import ComponentDoc, ModelDoc, RegistersDoc, given
from xsaveschema.language.signatures import Cpu, claim
from xsaveschema.language.source import read
from xsaveschema.language.validate import kind_of, typed
from xsaveschema.language.whole_registers import build_registers, check_registers, register_names
from xsaveschema.model import LEGACY, MXCSR_MASK, CpuModel, Field, Register
from xsaveschema.rules import Rules

T = TypeVar("T")


class ComponentFile(Struct, frozen=True):
    """A component's file, and its number as the file's name or its text says; None: it does not."""

    path: Path
    number: int | None


class _Layer(Struct):
    """The names that one layer defines, with the documents where they stand."""

    models: dict[str, Document] = field(default_factory=dict)
    components: dict[str, Document] = field(default_factory=dict)
    registers: dict[str, Document] = field(default_factory=dict)


def _once(method: Callable[[Library, Path], T]) -> Callable[[Library, Path], T]:
    """Keep what a method makes of a file in the library."""

    def found(library: Library, path: Path) -> T:
        key = method.__name__, path
        if key not in library._found:
            library._found[key] = method(library, path)
        made: T = library._found[key]
        return made

    return update_wrapper(found, method)


class Library:
    """The schema files of a catalogue.

    Shipped models are not held to the fields of their components before those are used, nor
    shipped registers to theirs: that would read all component files. Files in ``deep`` are.
    """

    def __init__(self) -> None:
        self.deep: frozenset[Path] = frozenset()
        self.models: dict[str, Path] = {}
        self.components: dict[str, ComponentFile] = {}
        self.register_files: list[Path] = []
        self.given: list[Path] = []
        self.overrides: tuple[str, ...] = ()
        self.shown: dict[Path, str] = {}
        self._root = shipped_directory()
        self._shipped: dict[str, Path] = {}
        self._shipped_models: tuple[Path, ...] = ()
        self._resolved: dict[Path, Resolved] = {}
        self._found: dict[tuple[str, Path], Any] = {}
        # Stems of files that could not be indexed: whoever extends such a model is not to blame.
        self._nameless: set[str] = set()

    def add_shipped(self, *, models: bool = True) -> None:
        """Index the files that come with the package, with or without the models."""
        for file in sorted((self._root / "components").glob("*.yaml")):
            if match := COMPONENT_FILE.match(file.name):
                self.components[match[2]] = ComponentFile(file, int(match[1]))
        files = sorted((self._root / "models").rglob("*.yaml"))
        if not files:
            raise XsaveError(f"the schema files of xsaveschema are missing: {self._root} is empty")
        self.models = {file.stem: file for file in reversed(files)}
        self.register_files = [self._root / "registers.yaml"]
        self._shipped_models = tuple(self.models.values())
        self._shipped = {str(file): file for file in self.files()}
        if not models:
            self.models = {}

    def files(self) -> list[Path]:
        """Every schema file that defines something."""
        components = (entry.path for entry in self.components.values())
        return sorted({*self.models.values(), *components, *self.register_files})

    def shipped(self, file: Path) -> Path | None:
        """The shipped file that a path leads to, as it is indexed; None for a user's file."""
        return self._shipped.get(str(file)) or self._shipped.get(os.path.realpath(file))

    def add(self, files: Iterable[Path]) -> None:
        """Index a layer of a user's files. Their faults are in the documents."""
        layer = _Layer()
        seen = {os.path.realpath(file) for file in self.given}
        for file in files:
            real = os.path.realpath(file)
            if real not in self._shipped and real not in seen:
                seen.add(real)
                self.given.append(file)
                self._index(file, layer, shipped=str(self._root) + os.sep in real)

    def _index(self, file: Path, layer: _Layer, *, shipped: bool) -> None:
        document, (kind, doc) = self.document(file), self._doc(file)
        if kind == "model" and doc is not None and ("model",) not in document.gaps:
            old = self.models.get(doc.model)
            first = layer.models.get(doc.model)
            if shipped and old:  # no name of the package's may replace another of its names
                first = self.document(old)
            if first:
                message = f"model {doc.model} stands in {first.where(('model',))} already"
                document.fault("model-repeated", ("model",), message, "rename one of the two")
                return
            self._override(doc.model, old, document)
            layer.models[doc.model], self.models[doc.model] = document, file
        elif kind == "component" and doc is not None and ("component",) not in document.gaps:
            self._index_component(file, document, doc, layer)
        elif kind == "registers" and doc is not None:
            self._index_registers(file, document, doc, layer)
        else:
            self._nameless.add(file.stem)

    def _index_component(
        self, file: Path, document: Document, doc: ComponentDoc, layer: _Layer
    ) -> None:
        name = doc.component
        if first := layer.components.get(name):
            message = f"component {name} stands in {first.where(('component',))} already"
            document.fault("component-repeated", ("component",), message, "rename one of the two")
            return
        old = self.components.get(name)
        number = None if ("number",) in document.gaps else doc.number
        layer.components[name] = document
        if name in LEGACY and number is not None and number != list(LEGACY).index(name):
            message = f"{name} is component {list(LEGACY).index(name)}, not {number}"
            document.fault("component-number", ("number",), message)
        for other, entry in self.components.items():
            if other != name and number is not None and entry.number == number:
                where = self.document(entry.path).where(("number",))
                message = f"{number} is the number of {other}, in {where}"
                document.fault("component-number", ("number",), message)
                return
        self._override(name, old.path if old else None, document)
        self.components[name] = ComponentFile(file, number)

    def _index_registers(
        self, file: Path, document: Document, doc: RegistersDoc, layer: _Layer
    ) -> None:
        before = {name for path in self.register_files for name in self._registers_of(path)}
        replaced = []
        for index, entry in document.numbered(("registers",), doc.registers):
            for name in register_names(entry):
                first = layer.registers.setdefault(name, document)
                if first is not document:
                    message = f"{name} is defined in {first.file} already"
                    document.fault("register-name", ("registers", index, "name"), message)
                    break
                if name in before:
                    replaced.append(name)
        if replaced:
            which = ", ".join(dict.fromkeys((replaced[0], replaced[-1])))
            self.overrides += (f"{document.file} defines {len(replaced)} registers anew: {which}",)
        self.register_files.append(file)

    def _override(self, name: str, old: Path | None, document: Document) -> None:
        if old is not None:
            which = "the shipped one" if self.shipped(old) else plain(str(old))
            self.overrides += (f"{name}: {document.file} replaces {which}",)

    # Documents, read and typed once.

    @_once
    def document(self, path: Path) -> Document:
        """The file's document, read when first asked for."""
        return read(path, self.shown.get(path))

    @_once
    def _doc(self, path: Path) -> tuple[str | None, Any]:
        """The kind of the file's document and the document typed, as far as it has no fault."""
        document = self.document(path)
        kind = kind_of(document)
        doc = typed(document, kind) if kind else None
        if doc is not None:
            self._check_name(path, document, doc)
        return kind, doc

    def _check_name(self, path: Path, document: Document, doc: Any) -> None:
        """Record a fault where a file's name says something else than the file."""
        shipped = str(path).startswith(f"{self._root}{os.sep}")
        if isinstance(doc, ModelDoc):
            if shipped and ("model",) not in document.gaps and doc.model != path.stem:
                message = f"the file is called {path.stem}"
                document.fault("model-file", ("model",), message, f"call it {doc.model}.yaml")
        elif isinstance(doc, ComponentDoc) and not {("component",), ("number",)} & document.gaps:
            right = f"{doc.number:02}-{doc.component}.yaml"
            match = COMPONENT_FILE.match(path.name)
            if (match or shipped) and path.stem != right.removesuffix(".yaml"):
                message = f"the file is called {path.name}"
                document.fault("component-file", ("component",), message, f"call it {right}")

    # What the builders ask for.

    def component_names(self) -> Mapping[str, int | None]:
        """Every component that has a file, with its number; None where the file does not say."""
        return {name: entry.number for name, entry in self.components.items()}

    def component_titles(self) -> dict[str, str]:
        """Every component that has a file without a fault, with its title."""
        docs = {name: self._doc(entry.path)[1] for name, entry in self.components.items()}
        return {name: doc.title for name, doc in docs.items() if isinstance(doc, ComponentDoc)}

    def component_fields(self, name: str) -> tuple[Field, ...]:
        """The fields of a component that has a file; SchemaError if the file has faults."""
        return self._sound_parts(name)[0]

    def component_rules(self, name: str) -> Rules:
        """The rules of a component, none without a file; SchemaError if the file has faults."""
        return self._sound_parts(name)[1] if name in self.components else Rules()

    def _sound_parts(self, name: str) -> tuple[tuple[Field, ...], Rules]:
        path = self.components[name].path
        parts = self._parts_of(path)
        if faults := self.document(path).faults:
            raise SchemaError(faults)
        return parts

    @_once
    def _parts_of(self, path: Path) -> tuple[tuple[Field, ...], Rules]:
        document, doc = self.document(path), self._of_kind(path, "component")
        if doc is None:
            return (), Rules()
        fields = build_fields(document, doc)
        rules = build_rules(document, doc, fields)
        if self._is_deep(path):
            check_companions(document, doc, self.components)
        return fields, rules

    def registers(self) -> Mapping[str, Register]:
        """Every whole register by name; SchemaError if a file has faults."""
        found: dict[str, Register] = {}
        for path in self.register_files:
            found |= self._registers_of(path)
            if faults := self.document(path).faults:
                raise SchemaError(faults)
        return MappingProxyType(found)

    @_once
    def _registers_of(self, path: Path) -> dict[str, Register]:
        document, doc = self.document(path), self._of_kind(path, "registers")
        if doc is None:
            return {}
        made = build_registers(document, doc)
        if self._is_deep(path):
            check_registers(self, document, doc)
        return made

    def sizes_seen(self, name: str) -> set[int]:
        """The sizes that a component has in the shipped models."""
        entries = (doc.components.get(name) for _, doc in self._model_docs(self._shipped_models))
        return {entry.size for entry in entries if entry}

    @cached_property
    def mxcsr_masks(self) -> Mapping[str, list[int]]:
        """The MXCSR_MASKs that models do not inherit, by vendor; shipped ones are always there.

        A model that inherits its vendor and gives a mask stands under "".
        """
        masks: dict[str, list[int]] = {}
        for _, doc in self._model_docs(sorted({*self._shipped_models, *self.models.values()})):
            if doc.mxcsr_mask is not UNSET or not doc.extends:
                masks.setdefault(doc.vendor, []).append(given(doc.mxcsr_mask, MXCSR_MASK))
        return masks

    def _model_docs(self, paths: Iterable[Path]) -> Iterator[tuple[Path, ModelDoc]]:
        """The models in these files, as far as they have no fault."""
        for path in paths:
            kind, doc = self._doc(path)
            if kind == "model" and doc is not None:
                yield path, doc

    def _is_deep(self, path: Path) -> bool:
        return path in self.deep or self.shipped(path) is None

    def _of_kind(self, path: Path, wanted: str) -> Any | None:
        """The file's document typed; None, with a fault, where it is of another kind."""
        document, (kind, doc) = self.document(path), self._doc(path)
        if kind not in (None, wanted) and not document.faults:
            document.fault("kind", (), f"is no {wanted} file: it says {kind}:")
        return doc if kind == wanted else None

    # Models, and every fault.

    def resolved(self, path: Path) -> Resolved:
        """A model with all that it extends, checked once."""
        pending: dict[Path, ModelDoc | None] = {}
        base = self._resolved.get(path)
        while base is None:
            pending[path] = self._of_kind(path, "model")
            after = self._extended(path, pending)
            if after is None:
                break
            path = after
            base = self._resolved.get(path)
        for path, doc in reversed(pending.items()):
            document = self.document(path)
            deep = self._is_deep(path)
            base = self._resolved[path] = resolve(self, document, doc, base, deep=deep)
        assert base is not None  # noqa: S101 - the loop ends with one or has a pending path
        return base

    def model(self, path: Path) -> CpuModel:
        """The model that a file defines; SchemaError with the faults of all that it extends."""
        made = self.resolved(path)
        if made.model is None:
            raise SchemaError(made.faults)
        return made.model

    def _extended(self, path: Path, pending: Mapping[Path, ModelDoc | None]) -> Path | None:
        """The file of the model that the last of ``pending`` extends; None where there is none."""
        document, doc = self.document(path), pending[path]
        if doc is None or not doc.extends:
            return None
        after = self.models.get(doc.extends)
        if after is None:
            if doc.extends not in self._nameless:
                self._unknown_base(document, doc.extends)
            return None
        if after in pending:
            names = [other.model for other in pending.values() if other]
            loop = " -> ".join([*names[list(pending).index(after) :], doc.extends])
            message = f"models extend each other: {loop}"
            hint = "give the model a name of its own" if after == path else ""
            document.fault("extends-cycle", ("extends",), message, hint)
            return None
        return after

    def _unknown_base(self, document: Document, name: str) -> None:
        known = [model for alias, model, _ in self._aliases(self.models.values()) if alias == name]
        hint = f"that is {known[0]}" if known else meant(name, self.models, 1)
        hint = hint or "see `xsaveschema models`"
        document.fault("extends-unknown", ("extends",), f"there is no model {quoted(name)}", hint)

    def faults(self, paths: Iterable[Path]) -> list[SchemaFault]:
        """Every fault of these files, and of what their models extend."""
        found: list[SchemaFault] = []
        for path in paths:
            kind, doc = self._doc(path)
            if kind == "model":
                made = self.resolved(path)
                found += () if made.model else made.faults
                continue
            if kind == "component":
                self._parts_of(path)
            elif kind == "registers" and doc is not None:
                self._registers_of(path)
            found += self.document(path).faults
        return found

    def warnings(self, paths: Iterable[Path]) -> Iterator[SchemaFault]:
        """What no file is refused for, and is worth telling all the same."""
        for path, doc in self._model_docs(paths):
            document = self.document(path)
            if document.faults:
                continue  # one may be what became of sizes:
            # Without components of its own, a model has the sizes of the one that it extends.
            if doc.sizes is UNSET and (doc.components or not doc.extends):
                message = "no sizes: nothing would show a wrong size or offset"
                hint = "add sizes: from CPUID, D.0.ECX and D.1.EBX with all components enabled"
                yield document.found("sizes-missing", ("model",), message, hint)

    def shared_faults(
        self, paths: Sequence[Path], against: Iterable[Path] = ()
    ) -> list[SchemaFault]:
        """A fault for each signature and alias of the models in ``paths`` that others have, too."""
        against = [path for path in against if path not in set(paths)]
        return [*self._signature_faults(paths, against), *self._alias_faults(paths, against)]

    def aliases(self) -> dict[str, str]:
        """The models' names by their aliases; SchemaError where two models have one.

        What is a model's name leads to that model, and is no alias of another.
        """
        paths = list(self.models.values())
        users = [path for path in paths if not self.shipped(path)]
        if faults := self._alias_faults(users, [path for path in paths if self.shipped(path)]):
            raise SchemaError(faults)
        found = ((alias, model) for alias, model, _ in self._aliases(paths))
        return {alias: model for alias, model in found if alias not in self.models}

    def _aliases(self, paths: Iterable[Path]) -> Iterator[tuple[str, str, tuple[Path, int]]]:
        """Each alias of the models in these files, the model's name, and where the alias stands."""
        indexed = set(self.models.values())
        for path, doc in self._model_docs(path for path in paths if path in indexed):
            for index, alias in self.document(path).numbered(("aliases",), doc.aliases):
                yield alias, doc.model, (path, index)

    def _alias_faults(self, paths: Sequence[Path], against: Sequence[Path]) -> list[SchemaFault]:
        owners: dict[str, tuple[Path, int]] = {}
        there = {*paths, *against}
        for alias, _, place in self._aliases(against):
            owners.setdefault(alias, place)
        found = []
        for alias, _, (path, index) in self._aliases(paths):
            at = ("aliases", index)
            named = self.models.get(alias)
            if named in there:
                where = self.document(named).where(("model",))
                message = f"{alias} is a model's name, in {where}, and leads there"
                found.append(self.document(path).found("alias-taken", at, message, "remove it"))
                continue
            other, first = owners.setdefault(alias, (path, index))
            if other != path:
                where = self.document(other).where(("aliases", first))
                message = f"{alias} is {self._doc(other)[1].model}'s already, in {where}"
                found.append(self.document(path).found("alias-taken", at, message))
        return found

    def _signature_faults(
        self, paths: Sequence[Path], against: Iterable[Path]
    ) -> list[SchemaFault]:
        """A fault for each signature of the models in ``paths`` that another model has as well."""
        taken: dict[Cpu, tuple[Path, int]] = {}
        found = []
        judged, indexed = set(paths), set(self.models.values())
        for path in (path for path in [*against, *paths] if path in indexed):
            made = self.resolved(path)
            for number, signature in made.signatures:
                clash = claim(taken, signature, (path, number))
                if clash is None or path not in judged or clash[0][0] == path:
                    continue
                (other, place), cpu = clash
                where = self.document(other).where(("signatures", place))
                name = self._doc(other)[1].model
                message = f"{cpu} is {name}'s already, in {where}"
                hint = f"to replace that model call this one {name}, else give steppings:"
                at = ("signatures", number)
                found.append(made.document.found("signature-taken", at, message, hint))
        return found
