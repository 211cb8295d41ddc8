/* Compares the instructions that the Rust code of this program was compiled to use with those of the processor, before main.
 *
 * C, since Rust can't say it: with -C target-cpu=native every function may use the new instructions, the one that looks for them
 * too (AVX is in any copy of 16 bytes), and is_x86_feature_detected! answers "yes" to what was compiled in without looking.
 * build.rs has this file compiled for any x86-64, or any ARM of 64 bits. */

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#if defined __AVX__ || defined __ARM_FEATURE_ATOMICS
#error "compiled for the very instructions that it is to look for: take -march out of CFLAGS"
#endif

/* "Found, and can't be run", as shells have it. */
#define CANT_RUN 126

#ifdef __x86_64__

#include <cpuid.h>

enum reg { EAX, EBX, ECX, EDX };

/* What else the operating system must save when it switches threads: nothing, registers of 256 bits, those of 512. */
enum state { NONE = 0, YMM = 0x06, ZMM = 0xe6 };

struct feature {
    const char *name; /* rustc's */
    uint32_t leaf, subleaf;
    enum reg reg;
    int bit;
    enum state state;
    int level; /* of x86-64-v2 to v4, the first that has it; 0 if none has */
};

/* From the manuals of Intel and AMD. fxsr and xsave* are left out: they are for operating systems, and virtual machines on one
 * kind of processor differ in them. */
static const struct feature FEATURES[] = {
    {"sse", 1, 0, EDX, 25, NONE, 0},
    {"sse2", 1, 0, EDX, 26, NONE, 0},
    {"sse3", 1, 0, ECX, 0, NONE, 2},
    {"pclmulqdq", 1, 0, ECX, 1, NONE, 0},
    {"ssse3", 1, 0, ECX, 9, NONE, 2},
    {"fma", 1, 0, ECX, 12, YMM, 3},
    {"cmpxchg16b", 1, 0, ECX, 13, NONE, 2},
    {"sse4.1", 1, 0, ECX, 19, NONE, 2},
    {"sse4.2", 1, 0, ECX, 20, NONE, 2},
    {"movbe", 1, 0, ECX, 22, NONE, 3},
    {"popcnt", 1, 0, ECX, 23, NONE, 2},
    {"aes", 1, 0, ECX, 25, NONE, 0},
    {"avx", 1, 0, ECX, 28, YMM, 3},
    {"f16c", 1, 0, ECX, 29, YMM, 3},
    {"rdrand", 1, 0, ECX, 30, NONE, 0},
    {"bmi1", 7, 0, EBX, 3, NONE, 3},
    {"avx2", 7, 0, EBX, 5, YMM, 3},
    {"bmi2", 7, 0, EBX, 8, NONE, 3},
    {"rtm", 7, 0, EBX, 11, NONE, 0},
    {"avx512f", 7, 0, EBX, 16, ZMM, 4},
    {"avx512dq", 7, 0, EBX, 17, ZMM, 4},
    {"rdseed", 7, 0, EBX, 18, NONE, 0},
    {"adx", 7, 0, EBX, 19, NONE, 0},
    {"avx512ifma", 7, 0, EBX, 21, ZMM, 0},
    {"avx512cd", 7, 0, EBX, 28, ZMM, 4},
    {"sha", 7, 0, EBX, 29, NONE, 0},
    {"avx512bw", 7, 0, EBX, 30, ZMM, 4},
    {"avx512vl", 7, 0, EBX, 31, ZMM, 4},
    {"avx512vbmi", 7, 0, ECX, 1, ZMM, 0},
    {"avx512vbmi2", 7, 0, ECX, 6, ZMM, 0},
    {"gfni", 7, 0, ECX, 8, NONE, 0},
    {"vaes", 7, 0, ECX, 9, YMM, 0},
    {"vpclmulqdq", 7, 0, ECX, 10, YMM, 0},
    {"avx512vnni", 7, 0, ECX, 11, ZMM, 0},
    {"avx512bitalg", 7, 0, ECX, 12, ZMM, 0},
    {"avx512vpopcntdq", 7, 0, ECX, 14, ZMM, 0},
    {"kl", 7, 0, ECX, 23, NONE, 0},
    {"avx512vp2intersect", 7, 0, EDX, 8, ZMM, 0},
    {"avx512fp16", 7, 0, EDX, 23, ZMM, 0},
    {"sha512", 7, 1, EAX, 0, YMM, 0},
    {"sm3", 7, 1, EAX, 1, YMM, 0},
    {"sm4", 7, 1, EAX, 2, YMM, 0},
    {"avxvnni", 7, 1, EAX, 4, YMM, 0},
    {"avx512bf16", 7, 1, EAX, 5, ZMM, 0},
    {"avxifma", 7, 1, EAX, 23, YMM, 0},
    {"avxvnniint8", 7, 1, EDX, 4, YMM, 0},
    {"avxneconvert", 7, 1, EDX, 5, YMM, 0},
    {"avxvnniint16", 7, 1, EDX, 10, YMM, 0},
    {"widekl", 0x19, 0, EBX, 2, NONE, 0},
    {"lzcnt", 0x80000001, 0, ECX, 5, NONE, 3},
    {"sse4a", 0x80000001, 0, ECX, 6, NONE, 0},
    {"tbm", 0x80000001, 0, ECX, 21, NONE, 0},
};

/* Which registers the operating system saves. */
static uint64_t saved(void) {
    unsigned eax, ebx, ecx, edx;
    if (!__get_cpuid(1, &eax, &ebx, &ecx, &edx) || !(ecx & (1u << 27))) /* OSXSAVE */
        return 0;
    uint32_t low, high;
    __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (uint64_t)high << 32 | low;
}

static int has(const struct feature *feature) {
    unsigned regs[4] = {0, 0, 0, 0};
    if (!__get_cpuid_count(feature->leaf, feature->subleaf, &regs[EAX], &regs[EBX], &regs[ECX], &regs[EDX]))
        return 0;
    return (regs[feature->reg] >> feature->bit & 1) && (saved() & feature->state) == feature->state;
}

#else /* ARM on Linux */

#include <sys/auxv.h>

struct feature {
    const char *name; /* rustc's */
    unsigned long word; /* of getauxval */
    uint64_t bits;
};

#define BIT(n) (1ull << (n))

/* From the kernel's asm/hwcap.h. What operating systems and debuggers use is left out, and what protects control flow and memory: no
 * compiler uses it unless told to, and kernels may keep it to themselves. */
static const struct feature FEATURES[] = {
    {"neon", AT_HWCAP, BIT(1)},
    {"aes", AT_HWCAP, BIT(3) | BIT(4)},
    {"sha2", AT_HWCAP, BIT(5) | BIT(6)},
    {"crc", AT_HWCAP, BIT(7)},
    {"lse", AT_HWCAP, BIT(8)},
    {"fp16", AT_HWCAP, BIT(9) | BIT(10)},
    {"rdm", AT_HWCAP, BIT(12)},
    {"jsconv", AT_HWCAP, BIT(13)},
    {"fcma", AT_HWCAP, BIT(14)},
    {"rcpc", AT_HWCAP, BIT(15)},
    {"dpb", AT_HWCAP, BIT(16)},
    {"sha3", AT_HWCAP, BIT(17) | BIT(21)},
    {"sm4", AT_HWCAP, BIT(18) | BIT(19)},
    {"dotprod", AT_HWCAP, BIT(20)},
    {"sve", AT_HWCAP, BIT(22)},
    {"fhm", AT_HWCAP, BIT(23)},
    {"rcpc2", AT_HWCAP, BIT(26)},
    {"flagm", AT_HWCAP, BIT(27)},
    {"dpb2", AT_HWCAP2, BIT(0)},
    {"sve2", AT_HWCAP2, BIT(1)},
    {"frintts", AT_HWCAP2, BIT(8)},
    {"f32mm", AT_HWCAP2, BIT(10)},
    {"f64mm", AT_HWCAP2, BIT(11)},
    {"i8mm", AT_HWCAP2, BIT(13)},
    {"bf16", AT_HWCAP2, BIT(14)},
    {"rand", AT_HWCAP2, BIT(16)},
};

static int has(const struct feature *feature) {
    return (getauxval(feature->word) & feature->bits) == feature->bits;
}

#endif

#define COUNT (sizeof FEATURES / sizeof *FEATURES)

/* Whether the list `names`, with commas between, has `name`. */
static int lists(const char *names, const char *name) {
    size_t length = strlen(name);
    for (const char *at = names; *at;) {
        size_t span = strcspn(at, ",");
        if (span == length && strncmp(at, name, length) == 0)
            return 1;
        at += span + (at[span] == ',');
    }
    return 0;
}

#ifdef __x86_64__
/* The largest N for which the processor is an x86-64-vN. */
static int level(void) {
    int found = 4;
    for (size_t i = 0; i < COUNT; i++)
        if (FEATURES[i].level && FEATURES[i].level <= found && !has(&FEATURES[i]))
            found = FEATURES[i].level - 1;
    return found;
}
#endif

/* Whether the table has `name`. For the tests. */
int steermap_cpu_knows(const char *name) {
    for (size_t i = 0; i < COUNT; i++)
        if (strcmp(FEATURES[i].name, name) == 0)
            return 1;
    return 0;
}

/* Writes into `message` what is to be said of a program that needs `required`, and gives its length; 0 if nothing is missing. */
size_t steermap_cpu_refusal(const char *program, const char *required, char *message, size_t size) {
    char missing[1024] = "";
    for (size_t i = 0; i < COUNT; i++)
        if (lists(required, FEATURES[i].name) && !has(&FEATURES[i])) {
            size_t used = strlen(missing);
            snprintf(missing + used, sizeof missing - used, "%s%s", used ? ", " : "", FEATURES[i].name);
        }
    if (!*missing)
        return 0;
#ifdef __x86_64__
    char cpu[16] = "x86-64";
    if (level() > 1)
        snprintf(cpu, sizeof cpu, "x86-64-v%d", level());
#else
    const char *cpu = "generic";
#endif
    int length = snprintf(
        message, size,
        "error: %s was built for another processor than this one, which lacks %s\n"
        "Build it here, or for all processors of this level: `cargo xtask dist --target-cpu %s`, or cargo with\n"
        "RUSTFLAGS=\"-C target-cpu=%s\".\n",
        program, missing, cpu, cpu);
    return length < 0 ? 0 : (size_t)length < size ? (size_t)length : size - 1;
}

static const char *program(void) {
#ifdef __linux__
    extern char *program_invocation_name;
    return program_invocation_name;
#else
    return "this program";
#endif
}

/* Ends the process if the processor lacks what this program was compiled to use. Called before main, before the constructors that
 * state no priority: 101 is the first that a program may have. */
__attribute__((constructor(101))) void steermap_cpu_check(void) {
    char message[2048];
    size_t length = steermap_cpu_refusal(program(), REQUIRED, message, sizeof message);
    if (!length)
        return;
    for (size_t done = 0; done < length;) {
        ssize_t wrote = write(STDERR_FILENO, message + done, length - done);
        if (wrote < 0 && errno != EINTR)
            break;
        done += wrote < 0 ? 0 : (size_t)wrote;
    }
    _exit(CANT_RUN);
}
