/*
 * Many areas by the xsave.h that `xsaveschema export c` makes, for the CPU whose table is called LEAF:
 * lengths, headers and losses are judged for each.
 */
#include "xsave.h"

/* Convert `count` areas of `length` bytes to `size` bytes each; how many were converted. */
size_t convert(const uint8_t *areas, size_t count, size_t length, uint64_t mask, int compacted,
               uint8_t *out, size_t size)
{
    for (size_t done = 0; done < count; done++, areas += length, out += size) {
        const int64_t got =
            compacted ? xsave_to_compacted(&LEAF, areas, length, out, size, mask, 0, 0, NULL)
                      : xsave_to_standard(&LEAF, areas, length, out, size, mask, 0, 0, NULL);
        if (got != (int64_t)size)
            return done;
    }
    return count;
}
