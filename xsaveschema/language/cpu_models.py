# SPDX-License-Identifier: MIT
"""A model document, with those it extends, becomes a CpuModel; the cross-field rules stand here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from msgspec import Struct, field

from xsaveschema.errors import SchemaError, SchemaFault, meant, near
from xsaveschema.language.document import Document, KeyPath
from xsaveschema.language.grammar import EntryDoc, ModelDoc, given
from xsaveschema.language.model_checks import (
    check_default_mask,
    check_provenance,
    check_repeats,
)
from xsaveschema.language.signatures import check_signatures, signatures_of
from xsaveschema.language.sizes import check_sizes
from xsaveschema.layout import overlap
from xsaveschema.model import (
    EXTENDED_OFFSET,
    LEGACY,
    MXCSR_MASK,
    CpuModel,
    Field,
    Register,
    Signature,
    StateComponent,
)
from xsaveschema.rules import Rules
from xsaveschema.spans import Slot

if TYPE_CHECKING:
    from xsaveschema.language.library import Library

_KEYS: Final = frozenset(ModelDoc.__struct_fields__)


class Resolved(Struct):
    """A model document with everything that it inherits.

    ``components`` are those beside the legacy ones whose entries have no fault, ``places`` where
    the entries stand. ``sound`` says that all components are there and right, so that what is
    built on them can be judged. ``elsewhere`` are faults of component files. ``model`` is None
    where there are faults, here or in what the model extends.
    """

    document: Document
    base: Resolved | None
    vendor: str = ""
    instructions: tuple[str, ...] = ()
    mxcsr_mask: int = MXCSR_MASK
    components: dict[str, StateComponent] = field(default_factory=dict)
    places: dict[str, tuple[Document, KeyPath]] = field(default_factory=dict)
    signatures: tuple[tuple[int, Signature], ...] = ()
    sound: bool = True
    elsewhere: tuple[SchemaFault, ...] = ()
    model: CpuModel | None = None

    @property
    def faults(self) -> list[SchemaFault]:
        """Every fault that stands between the document and a model."""
        found: list[SchemaFault] = []
        made: Resolved | None = self
        while made is not None:
            found += (*made.document.faults, *made.elsewhere)
            made = made.base
        return found


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
    against the sizes, and judges the default mask; else that happens when they are first used.
    """
    made = Resolved(document, base)
    if doc is None:
        made.sound = False
        return made
    _inherit(made, doc, base)
    top = {_meant(str(gap[0])) for gap in document.gaps if len(gap) == 1}
    alien = not top <= _KEYS
    known = made.sound and not alien and not top & {"extends", "components"}
    if not made.vendor and known and "vendor" not in top:
        document.fault("missing-key", (), "vendor is missing", "add vendor: GenuineIntel")
    made.sound = _own_components(library, made, doc, known=known, deep=deep) and known
    if not alien and not top & {"confirmed", "confirmed_by", "source"}:
        check_provenance(document, doc)
    check_repeats(document, doc)
    made.signatures = signatures_of(document, doc, made.vendor)
    check_signatures(document, made.signatures)
    made.sound = _check_overlap(made) and made.sound
    if made.sound:
        model = _model(library, document, doc, made)
        # The rules of XCR0 stand in the component files.
        made.sound = (not deep or check_default_mask(document, model)) and check_sizes(
            library.sizes_seen, document, doc, model
        )
        if (base is None or base.model) and not document.faults and not made.elsewhere:
            made.model = model
    return made


def _meant(key: str) -> str:
    """The key that an unknown one stands for; itself where it may stand for any."""
    return key if key in _KEYS else next(iter(near(key, _KEYS)), key)


def _inherit(made: Resolved, doc: ModelDoc, base: Resolved | None) -> None:
    if base is not None:
        made.vendor, made.instructions = base.vendor, base.instructions
        made.mxcsr_mask, made.sound = base.mxcsr_mask, base.sound
        made.components, made.places = dict(base.components), dict(base.places)
    elif doc.extends:
        made.sound = False  # there is a fault with extends:
    made.vendor = doc.vendor or made.vendor
    made.instructions = given(doc.instructions, made.instructions)
    made.mxcsr_mask = given(doc.mxcsr_mask, made.mxcsr_mask)


def _model(library: Library, document: Document, doc: ModelDoc, made: Resolved) -> CpuModel:
    components = legacy_components(library.component_fields, library.component_rules)
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
        confirmed_by=doc.confirmed_by,
        source=doc.source,
        file=document.file,
        load_registers=partial(registers_of, library.registers, frozenset(components)),
        aliases=doc.aliases,
        popularity=doc.popularity,
    )


def legacy_components(
    fields: Callable[[str], tuple[Field, ...]], rules: Callable[[str], Rules]
) -> dict[str, StateComponent]:
    """x87 and sse, which every model has, with what reads a component's fields and rules."""
    return {
        name: StateComponent(
            number=number,
            name=name,
            size=size,
            offset=offset,
            load_fields=partial(fields, name),
            load_rules=partial(rules, name),
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
) -> bool:
    """Put the document's own entries into ``made``; whether all of them are right.

    ``known`` says that every inherited component is there.
    """
    document = made.document
    faulty = {str(gap[1]) for gap in document.gaps if len(gap) == 2 and gap[0] == "components"}
    for name in faulty:
        made.components.pop(name, None)
    before = len(document.faults) + len(made.elsewhere)
    entries: dict[str, EntryDoc] = {}
    for name, entry in doc.components.items():
        place: KeyPath = ("components", name)
        if name in LEGACY:
            message = f"{name} is in every model and has no entry"
            document.fault("component-legacy", place, message, "remove it", key=True)
        elif entry is not None:
            made.components.pop(name, None)
            entries[name] = entry
        elif made.components.pop(name, None) is None and known:
            message, hint = f"there is no {name} to remove", meant(name, made.components, 1)
            document.fault("component-removed", place, message, hint, key=True)
    whole = not faulty
    taken = {component.number: name for name, component in made.components.items()}
    for name, entry in entries.items():
        number = _number(library, document, name, entry)
        if number is None:
            whole = False  # with a fault here, or in the component's file
            continue
        if number < len(LEGACY) or number in taken:
            other = list(LEGACY)[number] if number < len(LEGACY) else taken[number]
            message = f"number {number} is {other}'s already"
            document.fault("component-number", ("components", name, "number"), message)
            continue
        component = _component(library, made, name, number, entry, deep=deep)
        if component is not None:
            taken[number] = name
            made.components[name] = component
            made.places[name] = (document, ("components", name))
    return whole and len(document.faults) + len(made.elsewhere) == before


def _number(library: Library, document: Document, name: str, entry: EntryDoc) -> int | None:
    names = library.component_names()
    place: KeyPath = ("components", name, "number")
    said = given(entry.number, None)
    if name in names:
        known = names[name]
        if said not in (None, known) and known is not None:
            message = f"{name} is component {known}, not {said}"
            document.fault("component-number", place, message, "leave number: out")
            return None
        return known
    if said is None:
        hint = "give number: to have it as opaque bytes, or write a component file"
        hint = f"{meant(name, names, 1)} {hint}".lstrip()
        message = f"no component file defines {name}"
        document.fault("component-unknown", place[:2], message, hint, key=True)
        return None
    for other, number in names.items():
        if number == said and other not in LEGACY:
            message = f"component {said} is called {other}"
            document.fault("component-number", place, message, f"write {other}:")
            return None
    return said


def _component(
    library: Library, made: Resolved, name: str, number: int, entry: EntryDoc, *, deep: bool
) -> StateComponent | None:
    document, place = made.document, ("components", name)
    offset = given(entry.offset, None)
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
            rules = library.component_rules(name)
            if entry.supervisor and (rules.needs or rules.together):
                key = "needs:" if rules.needs else "with:"
                message = f"{key} of {name} says nothing: XCR0 enables no supervisor component"
                hint = f"remove {key} from {name}'s file"
                document.fault("component-companion", (*place, "supervisor"), message, hint)
                return None
    return StateComponent(
        number=number,
        name=name,
        size=entry.size,
        offset=offset,
        supervisor=entry.supervisor,
        align64=entry.align64,
        xfd=entry.xfd,
        optional=given(entry.optional, None),
        load_fields=load,
        load_rules=partial(library.component_rules, name),
    )


def _fitting_fields(
    library: Library, document: Document, name: str, size: int
) -> tuple[Field, ...]:
    fields, rules = library.component_fields(name), library.component_rules(name)
    # A counted field may have fewer elements on this CPU (LBR depth); its first must fit.
    ends = {
        "fields": max((f.offset + f.size if f.counted_by else f.end for f in fields), default=0),
        "reserved bytes": max((end for _, end in rules.reserved_bytes), default=0),
    }
    for what, end in ends.items():
        if size < end:
            message = f"{size} bytes are too few for the {what} of {name}, which end at {end}"
            place: KeyPath = ("components", name, "size")
            raise SchemaError([document.found("component-size", place, message)])
    for f in fields:
        if size < f.end and (size - f.offset) % f.stride not in (0, f.size):
            message = f"{size} bytes cut {name}'s {f.name} amid an element of {f.stride} bytes"
            place = ("components", name, "size")
            raise SchemaError([document.found("component-size", place, message)])
    return fields


def _default(components: Iterable[StateComponent], *, supervisor: bool) -> int:
    return sum(c.bit for c in components if c.supervisor == supervisor and c.optional != "absent")


def _check_overlap(made: Resolved) -> bool:
    """Record a fault where default components share bytes and at least one of them is new here."""
    document, right = made.document, True
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
                place: KeyPath = ("components", new[0], "offset")
                hint = (
                    "components may share bytes if no CPU enables both: mark one optional: absent"
                )
                document.fault("component-overlap", place, clash, hint)
                right = False
                break
    return right
