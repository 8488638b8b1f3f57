/*
 * The functions of a generated xsave.h as symbols of a shared object, with CPU models by their index.
 * LEAVES is the list of the tables' addresses.
 */
#include "xsave.h"

static const struct xsave_leaf *const leaves[] = {LEAVES};

const struct xsave_leaf *call_leaf(unsigned index)
{
    return index < sizeof leaves / sizeof *leaves ? leaves[index] : NULL;
}

int64_t call_finish(struct xsave_leaf *leaf)
{
    return xsave_leaf_finish(leaf);
}

static void rows(void *context, uint32_t subleaf, uint32_t registers[4])
{
    const uint32_t *row = (const uint32_t *)context + 4 * subleaf;
    for (unsigned i = 0; i < 4; i++)
        registers[i] = row[i];
}

int64_t call_from_cpuid(uint32_t *registers, uint32_t mxcsr_mask, struct xsave_leaf *leaf)
{
    return xsave_leaf_from_cpuid(leaf, rows, registers, mxcsr_mask);
}

int64_t call_size(const struct xsave_leaf *leaf, uint64_t mask, int compacted)
{
    return xsave_size(leaf, mask, compacted);
}

int64_t call_offset(const struct xsave_leaf *leaf, uint64_t xcomp_bv, unsigned component)
{
    return xsave_offset(leaf, xcomp_bv, component);
}

int64_t call_relayout(const struct xsave_leaf *source, const struct xsave_leaf *target, const void *in,
                      size_t in_length, void *out, size_t out_length, uint64_t mask, int compacted,
                      uint64_t drop, unsigned flags, uint64_t *lost)
{
    if (source != target)
        return xsave_relayout(source, target, in, in_length, out, out_length, mask, compacted, drop,
                              flags, lost);
    if (compacted)
        return xsave_to_compacted(source, in, in_length, out, out_length, mask, drop, flags, lost);
    return xsave_to_standard(source, in, in_length, out, out_length, mask, drop, flags, lost);
}

int64_t call_check(const struct xsave_leaf *leaf, int target, const void *area, size_t length,
                   uint64_t rfbm, uint64_t xfd, uint64_t address)
{
    return xsave_check(leaf, (enum xsave_target)target, area, length, rfbm, xfd, address);
}

void call_initial(unsigned component, uint8_t *out, size_t size)
{
    xsave_initial(component, out, size);
}

const char *call_name(int64_t error)
{
    return xsave_error_name(error);
}

const char *call_strerror(int64_t error)
{
    return xsave_strerror(error);
}
