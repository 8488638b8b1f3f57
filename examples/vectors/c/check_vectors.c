/*
 * Test an implementation of XSAVE areas by the vectors of `xsaveschema export vectors`: a loop over
 * the lines of vectors.txt, whose words the README beside that file explains.
 *
 *     xsaveschema export vectors all -o vectors
 *     xsaveschema export c all -o .
 *     cc -std=c11 -O2 -I. examples/vectors/c/check_vectors.c -o check_vectors
 *     ./check_vectors vectors/vectors.txt
 *
 * The implementation here is the generated xsave.h, which knows the CPU from its leaf 0xD alone. Put
 * your own in place of the five functions that follow.
 *
 * SPDX-License-Identifier: MIT-0
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "xsave.h"

/* ---- the implementation under test -------------------------------------------------------------- */

static struct xsave_leaf cpu;

static void leaf_0xd(void *context, uint32_t subleaf, uint32_t registers[4])
{
    memcpy(registers, (const uint32_t(*)[4])context + subleaf, 4 * sizeof *registers);
}

/* A CPU by CPUID leaf 0xD, 63 sub-leaves, and its MXCSR_MASK; false: it is refused. */
static bool use_cpu(uint32_t (*leaf)[4], uint32_t mxcsr_mask)
{
    return xsave_leaf_from_cpuid(&cpu, leaf_0xd, leaf, mxcsr_mask) == XSAVE_OK;
}

static int64_t size_of(uint64_t mask, bool compacted)
{
    return xsave_size(&cpu, mask, compacted);
}

static int64_t offset_of(uint64_t xcomp_bv, unsigned component)
{
    return xsave_offset(&cpu, xcomp_bv, component);
}

/* The size of the result; negative: it is refused, because `lost` has no place or for another reason. */
static int64_t convert(const uint8_t *area, size_t size, uint64_t mask, bool compacted, uint8_t *out,
                       size_t room, uint64_t *lost)
{
    return compacted ? xsave_to_compacted(&cpu, area, size, out, room, mask, 0, 0, lost)
                     : xsave_to_standard(&cpu, area, size, out, room, mask, 0, 0, lost);
}

/* The rule that is raised first, "-" if none is; `target` is xrstor, xrstors or ptrace. */
static const char *refusal(const char *target, const uint8_t *area, size_t size)
{
    const enum xsave_target which = !strcmp(target, "xrstor")    ? XSAVE_XRSTOR
                                    : !strcmp(target, "xrstors") ? XSAVE_XRSTORS
                                                                 : XSAVE_PTRACE;
    const int64_t fault = xsave_check(&cpu, which, area, size, UINT64_MAX, 0, 0);
    return fault ? xsave_error_name(fault) : "-";
}

/* ---- the loop ----------------------------------------------------------------------------------- */

enum { ROOM = 1 << 16, LONGEST = 1 << 18 };

static uint8_t area[ROOM], wanted[ROOM], out[ROOM];
static size_t area_size;
static char line[LONGEST], cpu_name[64], area_name[64];
static uint32_t leaf[63][4], mxcsr_mask;
static bool leaf_read;
static unsigned long number, cpus, areas, checks, wrong;

static void expect(bool right, const char *what)
{
    checks++;
    if (!right) {
        wrong++;
        printf("line %lu: %s %s: %s is wrong\n", number, cpu_name, area_name, what);
    }
}

static const char *word(void)
{
    const char *found = strtok(NULL, " \n");
    return found ? found : "";
}

static uint64_t mask(const char *text)
{
    return strtoull(text, NULL, 16);
}

static unsigned nibble(char digit)
{
    return (unsigned)(digit <= '9' ? digit - '0' : digit - 'a' + 10);
}

/* SIZE OFFSET:HEX... */
static size_t image(uint8_t *to)
{
    const size_t size = strtoul(word(), NULL, 10);
    const char *run;
    if (size > ROOM) {
        fprintf(stderr, "line %lu: an image of %zu bytes\n", number, size);
        exit(2);
    }
    memset(to, 0, size);
    while (*(run = word())) {
        char *hex;
        size_t at = strtoul(run, &hex, 10);
        for (hex++; hex[0] && hex[1] && at < size; hex += 2)
            to[at++] = (uint8_t)(nibble(hex[0]) << 4 | nibble(hex[1]));
    }
    return size;
}

static void walk(void)
{
    const uint64_t xcomp_bv = mask(word());
    const char *place;
    expect(size_of(xcomp_bv, true) == strtoll(word(), NULL, 10), "the size of a compacted area");
    while (*(place = word())) {
        char *offset;
        const unsigned component = (unsigned)strtoul(place, &offset, 10);
        expect(offset_of(xcomp_bv, component) == strtoll(offset + 1, NULL, 10), "an offset");
    }
}

static void to(bool compacted, bool loss)
{
    const uint64_t target = mask(word());
    uint64_t lost, numbers = 0;
    const int64_t found = convert(area, area_size, target, compacted, out, ROOM, &lost);
    if (loss) {
        const char *list = word();
        while (*list >= '0' && *list <= '9') {
            char *next;
            numbers |= UINT64_C(1) << strtoul(list, &next, 10);
            list = next + (*next == ',');
        }
        expect(found < 0 && lost == numbers, "what a conversion would lose");
    } else {
        const size_t size = image(wanted);
        expect(found == (int64_t)size && !memcmp(out, wanted, size), "a converted area");
    }
}

int main(int argc, char **argv)
{
    FILE *file = argc == 2 ? fopen(argv[1], "r") : NULL;
    if (!file) {
        fprintf(stderr, "usage: check_vectors vectors.txt\n");
        return 2;
    }
    while (fgets(line, sizeof line, file)) {
        const char *what = strtok(line, " \n");
        number++;
        if (!what || *what == '#')
            continue;
        if (leaf_read && strcmp(what, "leaf")) {
            expect(use_cpu(leaf, mxcsr_mask), "leaf 0xD");
            leaf_read = false;
        }
        if (!strcmp(what, "cpu")) {
            cpus++;
            snprintf(cpu_name, sizeof cpu_name, "%s", word());
            area_name[0] = '\0';
            word(); /* XCR0 and IA32_XSS are what leaf 0xD has */
            word();
            mxcsr_mask = (uint32_t)mask(word());
            memset(leaf, 0, sizeof leaf);
        } else if (!strcmp(what, "leaf")) {
            const unsigned long subleaf = strtoul(word(), NULL, 10);
            for (int i = 0; i < 4 && subleaf < 63; i++)
                leaf[subleaf][i] = (uint32_t)mask(word());
            leaf_read = true;
        } else if (!strcmp(what, "walk")) {
            walk();
        } else if (!strcmp(what, "area")) {
            areas++;
            snprintf(area_name, sizeof area_name, "%s", word());
            area_size = image(area);
        } else if (!strcmp(what, "check")) {
            const char *target = word(), *rule = refusal(target, area, area_size);
            const char *said = word();
            expect(!strncmp(said, rule, strlen(rule)) && strchr("@", said[strlen(rule)]),
                   "what a restore refuses");
        } else if (!strcmp(what, "to") || !strcmp(what, "lost")) {
            const bool loss = *what == 'l';
            to(!strcmp(word(), "compacted"), loss);
        }
    }
    fclose(file);
    printf("%lu CPUs, %lu areas, %lu checks: ", cpus, areas, checks);
    if (wrong)
        printf("%lu wrong\n", wrong);
    else
        puts("all as the vectors say");
    return wrong != 0;
}
