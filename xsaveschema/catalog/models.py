"""A model document, with those it extends, becomes a CpuModel; the cross-field rules stand here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import partial
from types import MappingProxyType
from typing import Final, Protocol

from msgspec import UNSET

from xsaveschema.catalog.documents import EntryDoc, ModelDoc
from xsaveschema.catalog.hints import single_change
from xsaveschema.catalog.signatures import SignatureIndex, describe, signatures_of
from xsaveschema.catalog.source import Document, Place, quoted
from xsaveschema.errors import MaskError, SchemaError, SchemaFault, hex_mask
from xsaveschema.layout import Slot, check_xcr0, compacted, overlap, standard
from xsaveschema.model import (
    EXTENDED_OFFSET,
    CpuModel,
    Field,
    Register,
    Signature,
    StateComponent,
)

# The legacy region is the same on every CPU (SDM 13.4.1): offset and size in bytes.
LEGACY: Final = {"x87": (0, 160), "sse": (160, 256)}


class Library(Protocol):
    """What building a model needs of the catalogue."""

    def component_names(self) -> Mapping[str, int | None]:
        """Every component that has a file, with its number; None where the file does not say."""

    def component_fields(self, name: str) -> tuple[Field, ...]:
        """The fields of a component that has a file; SchemaError if the file has faults."""

    def registers(self) -> Mapping[str, Register]:
        """Every whole register."""

    def sizes_seen(self, name: str) -> set[int]:
        """The sizes that a component has in the shipped models."""


@dataclass(slots=True)
class Resolved:
    """A model document with everything that it inherits.

    ``components`` are those beside the legacy ones whose entries have no fault, ``places`` where
    the entries stand. ``sound`` says that nothing is missing, so that the whole can be judged;
    ``related`` are the documents from which it is made, its own first. ``model`` is None where
    there are faults.
    """

    document: Document
    vendor: str = ""
    instructions: tuple[str, ...] = ()
    mxcsr_mask: int = 0xFFFF
    components: dict[str, StateComponent] = field(default_factory=dict)
    places: dict[str, tuple[Document, Place]] = field(default_factory=dict)
    signatures: tuple[tuple[int, Signature], ...] = ()
    sound: bool = True
    related: tuple[Document, ...] = ()
    elsewhere: tuple[SchemaFault, ...] = ()
    model: CpuModel | None = None

    @property
    def faults(self) -> list[SchemaFault]:
        """Every fault that stands between the document and a model."""
        return [*(f for document in self.related for f in document.faults), *self.elsewhere]


def resolve(
    library: Library,
    document: Document,
    doc: ModelDoc | None,
    base: Resolved | None,
    *,
    deep: bool,
) -> Resolved:
    """The model that a document describes, on top of the one that it extends.

    Faults go into ``document``. ``deep`` also reads the component files and checks their fields
    against the sizes; else that happens when the fields are first used.
    """
    made = Resolved(document, related=(document,))
    if doc is None:
        made.sound = False
        return made
    if base is not None:
        made.related += base.related
        made.elsewhere = base.elsewhere
        made.vendor, made.instructions = base.vendor, base.instructions
        made.mxcsr_mask, made.sound = base.mxcsr_mask, base.sound
        made.components, made.places = dict(base.components), dict(base.places)
    elif doc.extends is not UNSET:
        made.sound = False  # there is a fault with extends:
    inner = {gap[1] for gap in document.gaps if len(gap) == 2 and gap[0] == "components"}
    known = made.sound and not any(len(gap) == 1 for gap in document.gaps)
    made.sound = known and not inner
    if doc.vendor is not UNSET:
        made.vendor = doc.vendor
    if doc.instructions is not UNSET:
        made.instructions = tuple(doc.instructions)
    if doc.mxcsr_mask is not UNSET:
        made.mxcsr_mask = doc.mxcsr_mask
    if not made.vendor and known:
        document.fault("missing-key", (), "vendor is missing", "add vendor: GenuineIntel")
    for name in inner:
        made.components.pop(str(name), None)
    _own_components(library, made, doc, known=known, deep=deep)
    _check_repeats(document, doc)
    _check_provenance(document, doc, known=known)
    made.signatures = signatures_of(document, doc, made.vendor)
    _check_signatures(document, made.signatures)
    _check_overlap(made)
    made.sound = made.sound and not made.faults
    if made.sound:
        model = _model(library, document, doc, made)
        _check_mask(document, model)
        _check_sizes(library, document, doc, model)
        made.sound = not made.faults
        made.model = model if made.sound else None
    return made


def _model(library: Library, document: Document, doc: ModelDoc, made: Resolved) -> CpuModel:
    components = legacy_components(library.component_fields)
    components |= sorted(made.components.items(), key=lambda item: item[1].number)
    return CpuModel(
        name=doc.model,
        title=doc.title,
        vendor=made.vendor,
        signatures=tuple(signature for _, signature in made.signatures),
        instructions=frozenset(made.instructions),
        components=MappingProxyType(components),
        xcr0=3 | _default(components.values(), supervisor=False),
        xss=_default(components.values(), supervisor=True),
        mxcsr_mask=made.mxcsr_mask,
        confirmed_by=() if doc.confirmed_by is UNSET else tuple(doc.confirmed_by),
        source="" if doc.source is UNSET else doc.source,
        file=document.file,
        load_registers=partial(registers_of, library.registers, frozenset(components)),
    )


def legacy_components(
    fields: Callable[[str], tuple[Field, ...]],
) -> dict[str, StateComponent]:
    """x87 and sse, which every model has; ``fields`` reads those of a component by its name."""
    return {
        name: StateComponent(
            number=number,
            name=name,
            size=size,
            offset=offset,
            supervisor=False,
            align64=False,
            xfd=False,
            optional=None,
            load_fields=partial(fields, name),
        )
        for number, (name, (offset, size)) in enumerate(LEGACY.items())
    }


def registers_of(
    registers: Callable[[], Mapping[str, Register]], names: frozenset[str]
) -> Mapping[str, Register]:
    """The whole registers that a model with these components has."""
    return MappingProxyType(
        {
            name: register
            for name, register in registers().items()
            if all(piece.component in names for piece in register.pieces)
        }
    )


def _own_components(
    library: Library, made: Resolved, doc: ModelDoc, *, known: bool, deep: bool
) -> None:
    document = made.document
    entries: dict[str, EntryDoc] = {}
    for name, entry in ({} if doc.components is UNSET else doc.components).items():
        place: Place = ("components", name)
        if name in LEGACY:
            message = f"{name} is in every model and has no entry"
            document.fault("component-legacy", place, message, "remove it", key=True)
        elif entry is not None:
            made.components.pop(name, None)
            entries[name] = entry
        elif made.components.pop(name, None) is None and known:
            near = get_close_matches(name, made.components, n=1)
            hint = f"did you mean {near[0]}?" if near else ""
            message = f"there is no {name} to remove"
            document.fault("component-removed", place, message, hint, key=True)
    taken = {component.number: name for name, component in made.components.items()}
    for name, entry in entries.items():
        number = _number(library, document, name, entry)
        if number is None:
            made.sound = False
            continue
        if number < len(LEGACY) or number in taken:
            other = list(LEGACY)[number] if number < len(LEGACY) else taken[number]
            message = f"number {number} is {other}'s already"
            document.fault("component-number", ("components", name, "number"), message)
            continue
        component = _component(library, made, name, number, entry, deep=deep)
        if component is None:
            made.sound = False
            continue
        taken[number] = name
        made.components[name] = component
        made.places[name] = (document, ("components", name))


def _number(library: Library, document: Document, name: str, entry: EntryDoc) -> int | None:
    names = library.component_names()
    place: Place = ("components", name, "number")
    given = None if entry.number is UNSET else entry.number
    if name in names:
        known = names[name]
        if given not in (None, known) and known is not None:
            message = f"{name} is component {known}, not {given}"
            document.fault("component-number", place, message, "leave number: out")
            return None
        return known
    if given is None:
        near = get_close_matches(name, names, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        hint += "give number: to have it as opaque bytes, or write a component file"
        message = f"no component file defines {name}"
        document.fault("component-unknown", place[:2], message, hint, key=True)
        return None
    for other, number in names.items():
        if number == given:
            message = f"component {given} is called {other}"
            document.fault("component-number", place, message, f"write {other}:")
            return None
    return given


def _component(
    library: Library, made: Resolved, name: str, number: int, entry: EntryDoc, *, deep: bool
) -> StateComponent | None:
    document, place = made.document, ("components", name)
    offset = None if entry.offset is UNSET else entry.offset
    if entry.supervisor and offset is not None:
        message = "a supervisor component has no offset in the standard format"
        document.fault("component-supervisor", (*place, "offset"), message, "remove offset:")
        return None
    if not entry.supervisor and offset is None:
        hint = "add offset:, or supervisor: true"
        document.fault("component-offset", place, f"{name} has no offset", hint, key=True)
        return None
    if offset is not None and offset < EXTENDED_OFFSET:
        message = f"offset {offset} lies in the legacy region or the header"
        hint = f"the extended region starts at {EXTENDED_OFFSET}"
        document.fault("component-offset", (*place, "offset"), message, hint)
        return None
    load: Callable[[], tuple[Field, ...]] = tuple
    if name in library.component_names():
        load = partial(_fitting_fields, library, document, name, entry.size)
        if deep:
            try:
                load()
            except SchemaError as error:
                made.elsewhere += tuple(f for f in error.faults if f.file != document.file)
                document.faults += (f for f in error.faults if f.file == document.file)
                return None
    return StateComponent(
        number=number,
        name=name,
        size=entry.size,
        offset=offset,
        supervisor=entry.supervisor,
        align64=entry.align64,
        xfd=entry.xfd,
        optional=None if entry.optional is UNSET else entry.optional,
        load_fields=load,
    )


def _fitting_fields(
    library: Library, document: Document, name: str, size: int
) -> tuple[Field, ...]:
    fields = library.component_fields(name)
    # A repeated field may have fewer elements on this CPU (LBR depth); its first must fit.
    end = max((f.offset + f.size for f in fields), default=0)
    if size < end:
        message = f"{size} bytes are too few for the fields of {name}, which end at {end}"
        place: Place = ("components", name, "size")
        raise SchemaError([document.found("component-size", place, message)])
    return fields


def _check_repeats(document: Document, doc: ModelDoc) -> None:
    """Record a fault for each value that stands twice in a list of different values."""
    lists: list[tuple[Place, Sequence[str | int]]] = []
    if doc.instructions is not UNSET:
        lists.append((("instructions",), doc.instructions))
    if doc.confirmed_by is not UNSET:
        lists.append((("confirmed_by",), doc.confirmed_by))
    signatures = [] if doc.signatures is UNSET else doc.signatures
    for index, signature in document.numbered(("signatures",), signatures):
        lists.append((("signatures", index, "models"), signature.models))
        if signature.steppings is not UNSET:
            lists.append((("signatures", index, "steppings"), signature.steppings))
    for place, items in lists:
        seen: set[str | int] = set()
        for index, item in document.numbered(place, items):
            if item in seen:
                shown = hex_mask(item) if isinstance(item, int) else quoted(item)
                document.fault("repeated", (*place, index), f"{shown} stands twice", "remove one")
            seen.add(item)


def _check_provenance(document: Document, doc: ModelDoc, *, known: bool) -> None:
    if doc.confirmed_by is not UNSET:
        if doc.confirmed is False:
            message = "confirmed: false contradicts confirmed_by:"
            document.fault("provenance", ("confirmed",), message, "keep one of the two")
    elif not known:
        return
    elif doc.confirmed is not False:
        document.fault(
            "provenance",
            ("confirmed",),
            "nothing says where this layout is from",
            "add confirmed_by: with the CPUID dumps that show it, or confirmed: false with source:",
        )
    elif doc.source is UNSET:
        message = "an unconfirmed model names no source"
        document.fault("provenance", ("confirmed",), message, "add source:")


def _check_signatures(document: Document, signatures: Iterable[tuple[int, Signature]]) -> None:
    index: SignatureIndex[int] = SignatureIndex()
    for number, signature in signatures:
        clash = index.add(signature, number)
        if clash:
            other, model = clash
            first = document.line(("signatures", other))
            message = f"{describe(signature, model)} is here already, at line {first}"
            document.fault("signature-repeated", ("signatures", number), message, "remove one")


def _default(components: Iterable[StateComponent], *, supervisor: bool) -> int:
    return sum(c.bit for c in components if c.supervisor == supervisor and c.optional != "absent")


def _check_overlap(made: Resolved) -> None:
    """Record a fault where default components share bytes and at least one of them is new here."""
    document = made.document
    slots = [
        Slot(component, component.offset)
        for component in made.components.values()
        if component.offset is not None and component.optional != "absent"
    ]
    slots.sort(key=lambda slot: (slot.offset, slot.number))
    for index, slot in enumerate(slots):
        for other in slots[:index]:
            clash = overlap((other, slot))
            new = [s.name for s in (slot, other) if made.places[s.name][0] is document]
            if clash and new:
                document.fault(
                    "component-overlap",
                    ("components", new[0], "offset"),
                    clash,
                    "components may share bytes only if no CPU enables both: "
                    "mark one optional: absent",
                )
                break


def _check_mask(document: Document, model: CpuModel) -> None:
    try:
        check_xcr0(model, model.xcr0)
    except MaskError as error:
        document.fault("default-mask", ("components",), str(error), key=True)


def _check_sizes(library: Library, document: Document, doc: ModelDoc, model: CpuModel) -> None:
    if doc.sizes is UNSET or document.faults:
        return  # inherited ones were checked where they stand
    sizes = doc.sizes
    wanted = None if sizes.compacted is UNSET else sizes.compacted
    end = standard(model, model.xcr0).size
    mask = model.xcr0 | model.xss
    size = compacted(model, mask).size
    if end == sizes.standard and wanted in (None, size):
        return
    change = single_change(library.sizes_seen, model, sizes.standard, wanted)
    if end != sizes.standard:
        last = max(standard(model, model.xcr0), key=lambda slot: slot.end).name
        what = f"the components of XCR0 {hex_mask(model.xcr0)} end at {end} ({last})"
        hint = change or "CPUID D.0.ECX is max(offset + size): see which entry is off"
        document.fault(
            "sizes-standard", ("sizes", "standard"), f"{what}, not at {sizes.standard}", hint
        )
    if wanted not in (None, size):
        what = f"the compacted layout of {hex_mask(mask)} ends at {size}, not at {wanted}"
        hint = change or "CPUID D.1.EBX with all enabled: see which size or align64 is off"
        document.fault("sizes-compacted", ("sizes", "compacted"), what, hint)
