/*
 * A second opinion on layouts and conversions, in plain C: one pass over the component numbers,
 * byte by byte, with no plan and no merging. It shares nothing with the package but the rules:
 * Intel SDM vol. 1, 13.4 (formats), 13.6 (initial values), 13.8 (MXCSR), and that XSAVEC has SSE in
 * use where MXCSR is not 0x1F80. Little-endian or not: masks are put together from bytes.
 */
#include <stdint.h>

struct part {
    uint32_t size, offset; /* bytes; size 0: the CPU has no such component */
    uint32_t supervisor, align64;
};

enum { NO_PLACE = -1 };
enum { MASK = -1, HEADER = -2, SHORT = -3, LOSS = -4 };

#define BIT63 ((uint64_t)1 << 63)
#define HAS(mask, n) (((mask) >> (n)) & 1)

static uint64_t get64(const uint8_t *p)
{
    uint64_t value = 0;
    for (int i = 7; i >= 0; i--)
        value = value << 8 | p[i];
    return value;
}

static void put64(uint8_t *p, uint64_t value)
{
    for (int i = 0; i < 8; i++, value >>= 8)
        p[i] = (uint8_t)value;
}

/* Offsets of components 0..62 and the size of the area; -1 for a mask that has no such layout. */
int64_t walk(const struct part *cpu, uint64_t mask, int compacted, int64_t *offsets)
{
    int64_t end = 576, largest = 576;
    for (int n = 0; n < 63; n++) {
        offsets[n] = NO_PLACE;
        if (!HAS(mask, n))
            continue;
        if (!cpu[n].size || (!compacted && cpu[n].supervisor))
            return MASK;
        if (n < 2 || !compacted) {
            offsets[n] = cpu[n].offset;
        } else {
            while (cpu[n].align64 && end % 64)
                end++;
            offsets[n] = end;
            end += cpu[n].size;
        }
        if (offsets[n] + cpu[n].size > largest)
            largest = offsets[n] + cpu[n].size;
    }
    return mask >> 63 ? MASK : largest;
}

/* Where the state of an area is: offsets for what has a place, or why the header says nothing. */
static int64_t read_header(const uint8_t *area, int64_t length, const struct part *cpu,
                           int64_t *offsets)
{
    uint64_t xstate_bv = get64(area + 512), xcomp_bv = get64(area + 520);
    int64_t size;
    if (xcomp_bv & BIT63) {
        if (xstate_bv & ~(xcomp_bv & ~BIT63))
            return HEADER;
        size = walk(cpu, xcomp_bv & ~BIT63, 1, offsets);
    } else {
        if (xcomp_bv)
            return HEADER;
        size = walk(cpu, xstate_bv, 0, offsets);
        for (int a = 0; a < 63; a++)
            for (int b = 0; b < a; b++)
                if (offsets[a] >= 0 && offsets[b] >= 0 &&
                    offsets[a] < offsets[b] + (int64_t)cpu[b].size &&
                    offsets[b] < offsets[a] + (int64_t)cpu[a].size)
                    return HEADER;
    }
    if (size < 0)
        return HEADER;
    return size > length ? SHORT : size;
}

/*
 * Convert an area of `from`'s layout to `to`'s, into `out` (large enough). `lost` are the live
 * components without a place; LOSS if there are any beyond `drop`. Both CPUs must give what is
 * moved the same size. Returns the result's size.
 */
int64_t convert(const uint8_t *area, int64_t length, const struct part *from,
                const struct part *to, uint64_t mask, int compacted, uint64_t drop, uint8_t *out,
                uint64_t *lost)
{
    int64_t source[63], target[63], size, ok;
    uint64_t live, kept;
    int mxcsr_live;
    *lost = 0;
    if (length < 576)
        return SHORT;
    if ((size = walk(to, mask, compacted, target)) < 0)
        return MASK;
    if ((ok = read_header(area, length, from, source)) < 0)
        return ok;

    live = get64(area + 512);
    /* A standard area holds MXCSR even while SSE is initial; a compacted one does not. */
    mxcsr_live = !HAS(live, 1) && !(get64(area + 520) & BIT63) &&
                 (area[24] != 0x80 || area[25] != 0x1f || area[26] || area[27]);
    kept = live & mask;
    *lost = live & ~mask;
    if (compacted && mxcsr_live) {
        *lost |= 2 & ~mask;
        kept |= 2 & mask;
    }
    if (*lost & ~drop)
        return LOSS;

    for (int64_t i = 0; i < size; i++)
        out[i] = 0;
    for (int n = 0; n < 63; n++) {
        if (!HAS(live & kept, n))
            continue;
        for (int64_t i = 0; i < to[n].size; i++)
            if (n != 0 || i < 24 || i >= 32)
                out[target[n] + i] = area[source[n] + i];
    }
    if (!compacted && HAS(mask, 0) && !HAS(live, 0)) {
        out[0] = 0x7f;
        out[1] = 0x03;
    }
    if (compacted) {
        for (int i = 24; i < 32 && HAS(kept, 1); i++)
            out[i] = area[i];
    } else {
        for (int i = 24; i < 32; i++)
            out[i] = area[i];
        if (get64(area + 520) & BIT63 && !HAS(live, 1)) {
            out[24] = 0x80;
            out[25] = 0x1f;
            out[26] = out[27] = 0;
        }
    }
    for (int i = 416; i < 512; i++)
        out[i] = area[i];
    put64(out + 512, kept);
    put64(out + 520, compacted ? mask | BIT63 : 0);
    return size;
}
