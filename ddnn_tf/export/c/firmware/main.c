/* Runs an exported network on every input in inputs.bin and writes what it gives to outputs.bin.
 *
 * NAME and UPPER are the network's name, CLOCK_HZ the processor's. An output is the network's output
 * structure; for a device section its framed messages follow (FRAME_CLASS_VECTOR, FRAME_FEATURES). Then it
 * prints what one input took: instructions, and bytes of stack.
 *
 * Instructions: the emulator lets each take one nanosecond (-icount shift=0), and SysTick counts the
 * processor's clock; ticks times nanoseconds per tick is their number, to half a tick on the average.
 */
#include "semihosting.h"

#include NETWORK_H

#define JOINED(a, b) a##b
#define JOIN(a, b) JOINED(a, b)
#define INPUT_BYTES JOIN(UPPER, _INPUT_BYTES)

#define SYSTICK ((volatile uint32_t *)0xe000e010u)
#define TICKS_MASK 0xffffffu
#define UNUSED_STACK 0x5a5a5a5au
#define CALIBRATION 100000u
#define DEVICE 7u /* the number in the frames */

extern uint32_t bss_end;

static uint32_t input[(INPUT_BYTES + 3u) / 4u];
static JOIN(NAME, _scratch) scratch;
static JOIN(NAME, _output) output;
#ifdef FRAME_CLASS_VECTOR
static uint8_t class_vector_frame[JOIN(UPPER, _CLASS_VECTOR_FRAME_BYTES)];
#endif
#ifdef FRAME_FEATURES
static uint8_t features_frame[JOIN(UPPER, _FEATURES_FRAME_BYTES)];
#endif

static void print_number(const char *label, uint64_t number)
{
    char digits[24];
    char *at = digits + sizeof digits - 1;
    *at = 0;
    *--at = '\n';
    do {
        *--at = (char)('0' + number % 10u);
        number /= 10u;
    } while (number);
    print(label);
    print(at);
}

static volatile uint32_t wraps;

/* The timer has reached 0, as it does every 2^24 ticks. */
void systick(void);
void systick(void)
{
    wraps++;
}

/* Ticks since the timer was started; it counts downwards. */
static uint64_t ticks(void)
{
    uint32_t before, left;
    do {
        before = wraps;
        left = SYSTICK[2];
    } while (before != wraps);
    return ((uint64_t)before << 24) + ((0u - left) & TICKS_MASK);
}

/* An empty loop of two instructions a turn, to check the count of instructions with. */
static uint64_t ticks_of_loop(void)
{
    uint32_t turns = CALIBRATION;
    const uint64_t start = ticks();
    __asm volatile(".syntax unified\n1:\tsubs %0, #1\n\tbne 1b" : "+l"(turns) : : "cc");
    return ticks() - start;
}

static uint64_t instructions(uint64_t ticks, uint32_t runs)
{
    return (ticks * (1000000000u / 1000u) + runs * (CLOCK_HZ / 2000u)) / (CLOCK_HZ / 1000u) / runs;
}

/* Runs the network with the stack painted before; returns how much of the paint is gone. */
static __attribute__((noinline)) uint32_t run_on_paint(void)
{
    volatile uint32_t here = 0u;
    uint32_t *const top = (uint32_t *)((uintptr_t)&here & ~3u) - 4;
    const uint32_t *at;
    for (uint32_t *paint = &bss_end; paint < top; paint++)
        *(volatile uint32_t *)paint = UNUSED_STACK;
    JOIN(NAME, _run)((const void *)input, &scratch, &output);
    for (at = &bss_end; at < top && *(const volatile uint32_t *)at == UNUSED_STACK; at++) {
    }
    return (uint32_t)(top - at) * 4u;
}

int main(void)
{
    const int inputs = open_file("inputs.bin", FOR_READING), outputs = open_file("outputs.bin", FOR_WRITING);
    uint64_t spent = 0u;
    uint32_t runs = 0u, stack = 0u;
    if (inputs < 0 || outputs < 0) {
        print("inputs.bin or outputs.bin cannot be opened\n");
        return 2;
    }
    SYSTICK[1] = TICKS_MASK;
    SYSTICK[2] = 0u;
    SYSTICK[0] = 7u; /* on, from the processor's clock, with an interrupt when it has run down */
    for (; read_file(inputs, input, INPUT_BYTES); runs++) {
        const uint64_t start = ticks();
        JOIN(NAME, _run)((const void *)input, &scratch, &output);
        spent += ticks() - start;
        if (runs == 0u)
            stack = run_on_paint();
        if (!write_file(outputs, &output, sizeof output))
            return 3;
#ifdef FRAME_CLASS_VECTOR
        if (!JOIN(NAME, _frame_class_vector)(&output, DEVICE, runs, class_vector_frame, sizeof class_vector_frame) ||
            !write_file(outputs, class_vector_frame, sizeof class_vector_frame))
            return 4;
#endif
#ifdef FRAME_FEATURES
        if (!JOIN(NAME, _frame_features)(&output, DEVICE, runs, features_frame, sizeof features_frame) ||
            !write_file(outputs, features_frame, sizeof features_frame))
            return 4;
#endif
    }
    close_file(outputs);
    close_file(inputs);
    print_number("samples ", runs);
    print_number("instructions ", runs ? instructions(spent, runs) : 0u);
    print_number("loop ", instructions(ticks_of_loop(), 1u));
    print_number("stack ", stack);
    print_number("scratch ", sizeof scratch);
    print_number("output ", sizeof output);
    return 0;
}
