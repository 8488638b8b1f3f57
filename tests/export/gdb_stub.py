"""A remote stub for GDB (target remote | python gdb_stub.py FILE): a process that stands still.

FILE has the registers as a ``g`` packet has them: in the description's order, as hex. Python's
standard library only.
"""

import sys
from pathlib import Path


def main() -> None:
    registers = Path(sys.argv[1]).read_text()
    source, sink = sys.stdin.buffer, sys.stdout.buffer
    while byte := source.read(1):
        if byte != b"$":
            continue  # acknowledgements
        packet = b""
        while (byte := source.read(1)) != b"#":
            packet += byte
        source.read(2)  # its checksum
        text = answer(packet.decode(), registers)
        sink.write(b"+$" + text.encode() + f"#{sum(text.encode()) & 0xFF:02x}".encode())
        sink.flush()
        if packet[:1] in (b"k", b"D"):
            return


def answer(packet: str, registers: str) -> str:
    if packet.startswith("qSupported"):
        return "PacketSize=20000"
    if packet == "?":
        return "S05"
    if packet == "g":
        return registers
    if packet.startswith("m"):
        return "E01"
    if packet.startswith(("H", "D", "qAttached")):
        return "1" if packet == "qAttached" else "OK"
    return ""


if __name__ == "__main__":
    main()
