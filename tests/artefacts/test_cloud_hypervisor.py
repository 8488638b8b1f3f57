"""cloud-hypervisor's state.json: every register of every vCPU's kvm_xsave comes out."""

from __future__ import annotations

import json
from typing import Any

import pytest
from writers import cloud_hypervisor as w
from writers.hostile import cuts, mutations, survive
from writers.state import INTEL, SIZES, ZEN4, State

from xsaveschema import artefacts, load_model
from xsaveschema.artefacts.cloud_hypervisor import READER
from xsaveschema.artefacts.reader import ArtefactError, Found, Options
from xsaveschema.errors import EvidenceError, IdentificationError, TooShortError, XsaveError

AMD, GENUINE = "AuthenticAMD", "GenuineIntel"


def table(mask: int, places: dict[int, int], signature: int, vendor: str) -> list[dict[str, int]]:
    """A vCPU's CPUID table whose leaf 0xD has these components."""
    numbers = [number for number in places if mask >> number & 1]
    end = max(576, *(places[number] + SIZES[number] for number in numbers))
    leaf = {0: (mask, end, end, 0), 1: (0xF, end, 0, 0)}
    flags = {17: 2, 18: 6}
    leaf |= {n: (SIZES[n], places[n], flags.get(n, 0), 0) for n in numbers}
    return w.cpuid(leaf, signature, vendor)


def read(data: bytes, options: Options | None = None) -> list[Found]:
    view = memoryview(data)
    assert READER.recognises(view)
    return list(READER.read(view, options or Options()))


@pytest.mark.parametrize("style", ["string", "bytes", "object"])
@pytest.mark.parametrize(
    ("mask", "places", "signature", "vendor", "model"),
    [
        pytest.param(0x2E7, ZEN4, 0xA10F11, AMD, "zen4", id="zen4"),
        pytest.param(0x7, ZEN4, 0xA20F10, AMD, "zen3", id="zen3-limited"),
        pytest.param(0x2FF & ~0x100, INTEL, 0x50654, GENUINE, "skylake-server", id="skylake"),
        pytest.param(0x602E7, INTEL, 0x806F8, GENUINE, "sapphire-rapids", id="amx"),
    ],
)
def test_registers_come_out(
    mask: int, places: dict[int, int], signature: int, vendor: str, model: str, style: str
) -> None:
    states = {"0": State(1), "1": State(2), "11": State(3)}
    cpuid = table(mask, places, signature, vendor)
    vcpus = {k: w.vcpu(s.standard(mask, places), cpuid) for k, s in states.items()}
    for indent in (None, 2):
        found = read(w.snapshot(vcpus, style, indent))
        assert [f.label for f in found] == ["vCPU 0", "vCPU 1", "vCPU 11"]
        for state, f in zip(states.values(), found, strict=True):
            said = state.registers(mask)
            assert f.area.registers.read(said) == said
            assert f.layout_source == f"the vCPU's own CPUID leaf 0xD (model {model})"
            assert f.area.model.xcr0 == mask
            assert f.offset is None


def test_a_leaf_that_no_model_has_is_a_layout_all_the_same() -> None:
    places = {2: 576, 5: 1024, 9: 832}
    cpuid = table(0x227, places, 0x12345, "HypotheticCP")
    (found,) = read(w.snapshot({"vcpu4": w.vcpu(State().standard(0x227, places), cpuid)}))
    assert found.label == "vCPU 4"
    assert found.area.registers["k3"] == State().k[3]
    assert found.area.model.name == "cpuid"


def test_the_vcpus_cpuid_outranks_the_model_that_the_user_names() -> None:
    cpuid = table(0x2E7, INTEL, 0x50654, GENUINE)
    data = w.snapshot({"0": w.vcpu(State().standard(0x2E7, ZEN4), cpuid)})
    with pytest.raises(EvidenceError, match="the vCPU's CPUID leaf 0xD is not zen4's layout"):
        read(data, Options(load_model("zen4")))
    (found,) = read(data, Options(load_model("zen4"), assume=True))
    assert (found.layout_source, found.area.assumed) == ("model zen4, assumed", True)
    assert found.area.registers["zmm20"] == State().zmm[20]
    (found,) = read(data, Options(load_model("ice-lake-server")))
    assert (found.area.model.name, found.area.assumed) == ("ice-lake-server", False)


def test_without_cpuid_the_area_tells_or_a_model_is_asked_for() -> None:
    area = bytearray(State().standard(0x2E7, ZEN4))
    area[464:472] = (0x2E7).to_bytes(8, "little")  # as Linux leaves its XCR0 there
    area[28:32] = (0x2FFFF).to_bytes(4, "little")
    (found,) = read(w.snapshot({"0": w.vcpu(bytes(area))}))
    assert found.layout_source.startswith("identified by XCR0 mask at byte 464")
    assert found.area.registers["pkru"] == State().pkru
    bare = w.snapshot({"0": w.vcpu(State().standard(0x2E7, ZEN4))})
    with pytest.raises(IdentificationError):
        read(bare)
    (found,) = read(bare, Options(load_model("zen4")))
    assert found.area.registers["k7"] == State().k[7]


def test_an_old_version_cuts_amx_off() -> None:
    cpuid = table(0x602E7, INTEL, 0x806F8, GENUINE)
    area = State().standard(0x602E7, INTEL)
    with pytest.raises(TooShortError, match="tiledata"):
        read(w.snapshot({"0": w.vcpu(area, cpuid, extra=False)}))
    initial = State().standard(0x602E7, INTEL, live=0x2E7)
    (found,) = read(w.snapshot({"0": w.vcpu(initial, cpuid, extra=False)}))
    assert found.area.registers["zmm31"] == State().zmm[31]


def test_vcpus_without_a_number_are_counted() -> None:
    cpuid = table(7, INTEL, 0x306C3, GENUINE)
    states = [State(1), State(2)]
    text = [json.loads(w.vcpu(s.standard(7, INTEL), cpuid)) for s in states]
    found = read(json.dumps({"a": {"b": text[0]}, "c": text[1]}).encode())
    assert [f.label for f in found] == ["vCPU 0", "vCPU 1"]
    found = read(json.dumps({"vcpus": [text[1], text[0]]}).encode())
    assert [f.label for f in found] == ["vCPU 0", "vCPU 1"]
    assert found[1].area.registers["xmm2"] == states[0].zmm[2] & (1 << 128) - 1


def test_other_regions_are_passed_by() -> None:
    text = {"region": [{"base": 0}], "mem": {"region": "0x1000"}}
    state = json.loads(w.vcpu(State().standard(7, INTEL), table(7, INTEL, 0x306C3, GENUINE)))
    (found,) = read(json.dumps({"memory": text, "0": state}).encode())
    assert found.area.registers["st4"] == State().st[4]


def one(**changes: Any) -> bytes:
    state = json.loads(w.vcpu(State().standard(7, INTEL)))
    state["Kvm"]["xsave"] |= changes
    return json.dumps(state).encode()


BAD = [
    pytest.param(one(region=[0] * 1023), "1023 words, not 1024", id="short"),
    pytest.param(one(region=[0] * 1025), "1025 words, not 1024", id="long"),
    pytest.param(one(region=[0] * 1023 + [-1]), "no u32: -1", id="negative"),
    pytest.param(one(region=[0] * 1023 + [1 << 32]), "no u32: 4294967296", id="wide"),
    pytest.param(one(region=[0] * 1023 + [1.5]), "no u32: 1.5", id="float"),
    pytest.param(one(region=[0] * 1023 + [True]), "no u32: True", id="bool"),
    pytest.param(one(region=[0] * 1023 + ["x" * 99]), "no u32", id="text"),
    pytest.param(one(extra=[0] * 70_000), "extra words of vCPU 0", id="extra"),
    pytest.param(one(extra={"a": 1}), "extra words of vCPU 0", id="extra-kind"),
    pytest.param(one(region=[]), "0 words, not 1024", id="empty"),
    pytest.param(b'{"region": [' + b"[" * 200_000, "deeply", id="deep"),
    pytest.param(b'{"a":' * 80 + b'{"region": [1]}' + b"}" * 80, "more than 64 deep", id="nested"),
    pytest.param(b"[" * 80 + b'{"region": [1]}' + b"]" * 80, "more than 64 deep", id="lists"),
    pytest.param(b'{"region": [1}', "no JSON", id="broken"),
    pytest.param(b'{"region": [' + b"9" * 5000 + b"]}", "could be read", id="digits"),
    pytest.param(b'{"region": [], "a": "\xff"}', "not UTF-8", id="utf8"),
    pytest.param(b'{"a": "{\\"region\\": [1"}', "no JSON", id="inner"),
    pytest.param(b'{"region": ["a"]}', "no object with a region", id="none"),
]


@pytest.mark.parametrize(("data", "message"), BAD)
def test_what_is_wrong_is_said(data: bytes, message: str) -> None:
    with pytest.raises(ArtefactError, match=message):
        list(READER.read(memoryview(data), Options()))


def test_strings_in_strings_have_an_end() -> None:
    text = json.dumps({"region": [1]})
    for _ in range(12):  # each level doubles the backslashes
        text = json.dumps({"a": text})
    with pytest.raises(ArtefactError, match="1 words"):
        read(text.encode())


def test_huge_files_are_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xsaveschema.artefacts.cloud_hypervisor.MAX_SIZE", 5000)
    data = memoryview(one())
    assert not READER.recognises(data)
    with pytest.raises(ArtefactError, match="at most"):
        list(READER.read(data, Options()))


def test_odd_cpuid_tables_do_no_harm() -> None:
    area = bytearray(State().standard(7, INTEL))
    area[464] = 7
    odd: list[Any] = [5, {}, {"function": 13}, {"function": "0xd", "index": 2, "eax": -1}]
    odd += [{"function": "x", "index": None, "eax": 1 << 40}]
    state = json.loads(w.vcpu(bytes(area)))
    state["Kvm"]["cpuid"] = odd
    (found,) = read(json.dumps(state).encode())
    assert found.area.registers["ymm6"] == State().zmm[6] & (1 << 256) - 1
    state["Kvm"]["cpuid"] = table(7, INTEL, 0x306C3, GENUINE)
    for entry in state["Kvm"]["cpuid"]:
        entry.update({key: hex(value) for key, value in entry.items()})
    (found,) = read(json.dumps(state).encode())
    assert "own CPUID" in found.layout_source


def test_a_leaf_without_a_component_is_refused() -> None:
    places = {2: 576, 5: 1024, 9: 832}
    cpuid = [e for e in table(0x227, places, 1, AMD) if (e["function"], e["index"]) != (13, 9)]
    with pytest.raises(XsaveError, match="no sub-leaf for pkru"):
        read(w.snapshot({"0": w.vcpu(State().standard(0x227, places), cpuid)}))


def test_damaged_snapshots_are_refused_or_read() -> None:
    state = State()
    state.zmm = [1] * 32
    cpuid = table(0x7, INTEL, 0x306C3, GENUINE)
    area = state.standard(7, INTEL)
    for style in ("string", "object"):
        data = w.snapshot({"0": w.vcpu(area, cpuid)}, style)
        assert survive(READER, cuts(data, 150)) >= 150
        assert survive(READER, mutations(data, 700)) > 0


def test_json_of_others_is_left_to_them() -> None:
    for data in (b"", b"{}", b"[1, 2]", b'{"regions": [1]}', b"  \n{", b'x{"region": [1]}'):
        assert not READER.recognises(memoryview(data))
    data = w.snapshot({"0": w.vcpu(State().standard(7, INTEL), table(7, INTEL, 0x306C3, GENUINE))})
    (found,) = artefacts.read_bytes(data)
    assert found.label == "vCPU 0"


def test_more_kinds_of_cpu_than_a_machine_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xsaveschema.artefacts.cloud_hypervisor._CPUS_MAX", 2)
    area = State().standard(7, INTEL)
    vcpus = {str(n): w.vcpu(area, table(7, INTEL, 0x50652 + n % 3, GENUINE)) for n in range(6)}
    with pytest.raises(ArtefactError, match="more than 2 different CPUs"):
        read(w.snapshot(vcpus))
    two = {name: text for name, text in vcpus.items() if int(name) % 3}
    assert len(read(w.snapshot(two))) == 4
