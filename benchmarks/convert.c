/*
 * Conversion the way hypervisors' helpers do it, as a baseline in C: one area after the other, walk
 * the components of XSTATE_BV by a table of size, offset and align64, memcpy each, write the header.
 * The rules are Intel SDM vol. 1, 13.4 (formats), 13.6 (initial values) and 13.8 (MXCSR). Nothing is
 * checked: the input is the benchmark's own. For little-endian machines.
 */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct part {
    uint32_t size, offset, align64; /* bytes; size 0: the CPU has no such component */
};

enum { COMPONENTS = 63, X87 = 1, SSE = 2 };
enum { MXCSR = 24, MXCSR_MASK = 28, ST = 32, XMM = 160, SOFTWARE = 416, HEADER = 512, EXTENDED = 576 };

#define COMPACTED ((uint64_t)1 << 63)

static void place(const struct part *cpu, uint64_t xcomp_bv, uint32_t *at)
{
    uint32_t end = EXTENDED;
    for (int n = 2; n < COMPONENTS; n++) {
        if (!(xcomp_bv & COMPACTED)) {
            at[n] = cpu[n].offset;
        } else if (xcomp_bv >> n & 1) {
            at[n] = cpu[n].align64 ? (end + 63) & ~63u : end;
            end = at[n] + cpu[n].size;
        }
    }
}

static void legacy(const uint8_t *area, uint8_t *out, uint64_t in_use, int from_compacted,
                   int to_compacted)
{
    static const uint8_t fcw[2] = {0x7f, 0x03}, mxcsr[4] = {0x80, 0x1f, 0, 0};
    if (in_use & X87) {
        memcpy(out, area, MXCSR);
        memcpy(out + ST, area + ST, XMM - ST);
    } else if (!to_compacted) {
        memcpy(out, fcw, sizeof fcw);
    }
    if (in_use & SSE)
        memcpy(out + XMM, area + XMM, SOFTWARE - XMM);
    if (in_use & SSE || !to_compacted)
        memcpy(out + MXCSR, area + MXCSR, ST - MXCSR);
    if (!(in_use & SSE) && !to_compacted && from_compacted)
        memcpy(out + MXCSR, mxcsr, sizeof mxcsr);
    memcpy(out + SOFTWARE, area + SOFTWARE, HEADER - SOFTWARE);
}

/* Convert `count` areas of `length` bytes to `size` bytes each; `xcomp_bv` 0: the standard format. */
void convert(const uint8_t *areas, size_t count, size_t length, const struct part *cpu,
             uint64_t xcomp_bv, uint8_t *out, size_t size)
{
    uint32_t from[COMPONENTS], to[COMPONENTS];
    place(cpu, xcomp_bv, to);
    for (const uint8_t *area = areas; count--; area += length, out += size) {
        uint64_t header[2];
        memcpy(header, area + HEADER, sizeof header);
        place(cpu, header[1], from);
        memset(out, 0, size);
        legacy(area, out, header[0], header[1] >> 63, xcomp_bv >> 63);
        for (uint64_t rest = header[0] & ~(uint64_t)3; rest; rest &= rest - 1) {
            int n = __builtin_ctzll(rest);
            memcpy(out + to[n], area + from[n], cpu[n].size);
        }
        header[1] = xcomp_bv;
        memcpy(out + HEADER, header, sizeof header);
    }
}
