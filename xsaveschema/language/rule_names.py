"""The rules of the YAML language: what each rule identifier of a fault stands for."""

from __future__ import annotations

from typing import Final

RULES: Final[dict[str, str]] = {
    # Reading the text.
    "file": "A schema file is readable UTF-8 text of at most 256 KiB and 5000 keys and values.",
    "yaml": "The text is YAML.",
    "yaml-character": "Text has no control characters.",
    "yaml-empty": "A file says something.",
    "yaml-documents": "A file holds one YAML document.",
    "yaml-depth": "A document is nested at most 32 levels deep.",
    "yaml-alias": "Values are written out: no anchors, no aliases.",
    "yaml-tag": "Values have no tags.",
    "yaml-key": "A key is a plain name: no merge key, no number, no list.",
    "yaml-scalar": "No unquoted value means one thing in YAML 1.1 and another in YAML 1.2.",
    "duplicate-key": "A key stands once in a mapping.",
    # The types of the documents.
    "kind": "A document says model:, component: or registers:, and is used as that.",
    "unknown-key": "Every key is one of the language.",
    "missing-key": "The keys without which a thing has no meaning are there.",
    "type": "A value has the type that its key takes; nothing is coerced.",
    "name": "A name is written as names of its kind are.",
    "choice": "A value is one of the words that its key takes.",
    "range": "A number, text or list is neither too small nor too large.",
    "repeated": "A value stands once in a list of different values.",
    # Components.
    "component-file": "A component's file is called NN-name.yaml, by its number and name.",
    "component-repeated": "A component is defined in one file.",
    "component-bytes": "Reserved bytes lie in order within 1 MiB, and no field has any of them.",
    "component-illegal": "A component with a predicate says what an illegal value does.",
    "component-companion": "needs: and with: of a user component name others, each with a file.",
    "field-kind": "A field has either a type or fields.",
    "field-name": "A name stands once in a list of fields.",
    "field-size": "The size of a field is given for bytes, and no group is larger than it says.",
    "field-stride": "Only a repeated field has a stride, and it is no less than the size.",
    "field-count": "A number of the component counts a repeated field, and none within a group.",
    "field-overlap": "Fields share no bytes.",
    "field-place": "Fields lie in the bytes of x87 or sse, or within 1 MiB, and are not too many.",
    "field-initial": "Only a number has an initial value, and it fits.",
    "field-limits": "Only a number has limits; they fit it, and its initial value keeps to them.",
    "field-bits": "Only a number has bits, each range within it and none shared or reserved.",
    # Whole registers.
    "register-name": "A register is defined once.",
    "register-piece": "A piece is component.field, or a slice of whole bytes of it.",
    "register-field": "A piece names a field that exists and repeats as often as the register.",
    # Models.
    "model-file": "A shipped model's file is called by the model's name.",
    "model-repeated": "A model is defined in one file.",
    "alias-taken": "An alias belongs to one model, and is no model's name.",
    "extends-unknown": "A model extends one that exists.",
    "extends-cycle": "No model extends itself, directly or through others.",
    "component-unknown": "A component has a file, or a number and opaque bytes.",
    "component-number": "A component has one number, and a number one component.",
    "component-legacy": "x87 and sse are the same in every model and have no entry.",
    "component-removed": "Only a component that the extended model has can be removed.",
    "component-supervisor": "A supervisor component has no offset in the standard format.",
    "component-offset": "A user component has an offset, in the extended region.",
    "component-size": "A component is large enough for its fields and its reserved bytes.",
    "component-overlap": "Components of the default mask share no bytes.",
    "default-mask": "The default mask is an XCR0 that the processor takes.",
    "sizes-standard": "The components of the default mask end where CPUID D.0.ECX says.",
    "sizes-compacted": "The compacted layout of the default masks is as long as D.1.EBX says.",
    "provenance": "A model names the dumps that confirm it, or says that none do and its source.",
    "signature-repeated": "A model gives a signature once.",
    "signature-taken": "A signature belongs to one model.",
}
"""One sentence for each rule, by its identifier: what a file without a fault keeps to."""

NO_SIZES: Final = "sizes-missing"
WARNINGS: Final[dict[str, str]] = {
    NO_SIZES: "A model whose components are its own has sizes, by which a wrong digit is seen.",
}
"""The same for what only lint tells, and no file is refused for."""
