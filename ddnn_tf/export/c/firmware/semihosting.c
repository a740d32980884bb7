#include "semihosting.h"

#include <string.h>

enum {
    SYS_OPEN = 0x01,
    SYS_CLOSE = 0x02,
    SYS_WRITE0 = 0x04,
    SYS_WRITE = 0x05,
    SYS_READ = 0x06,
    SYS_EXIT_EXTENDED = 0x20,
    APPLICATION_EXIT = 0x20026
};

static int call(int operation, const void *argument)
{
    register int r0 __asm("r0") = operation;
    register const void *r1 __asm("r1") = argument;
    __asm volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
    return r0;
}

int open_file(const char *name, int mode)
{
    const uint32_t block[3] = {(uint32_t)name, (uint32_t)mode, (uint32_t)strlen(name)};
    return call(SYS_OPEN, block);
}

int read_file(int file, void *to, uint32_t bytes)
{
    const uint32_t block[3] = {(uint32_t)file, (uint32_t)to, bytes};
    return call(SYS_READ, block) == 0;
}

int write_file(int file, const void *from, uint32_t bytes)
{
    const uint32_t block[3] = {(uint32_t)file, (uint32_t)from, bytes};
    return call(SYS_WRITE, block) == 0;
}

void close_file(int file)
{
    const uint32_t block[1] = {(uint32_t)file};
    call(SYS_CLOSE, block);
}

void print(const char *text)
{
    call(SYS_WRITE0, text);
}

void leave(int code)
{
    const uint32_t block[2] = {APPLICATION_EXIT, (uint32_t)code};
    for (;;)
        call(SYS_EXIT_EXTENDED, block);
}
