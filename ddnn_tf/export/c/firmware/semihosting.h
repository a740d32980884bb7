/* Files and text of the machine that debugs or emulates the board, by Arm's semihosting. */
#ifndef SEMIHOSTING_H_
#define SEMIHOSTING_H_

#include <stdint.h>

enum { FOR_READING = 1, FOR_WRITING = 5 }; /* the modes "rb" and "wb" */

/* A handle, or a negative number. */
int open_file(const char *name, int mode);

/* 1 if all bytes were read, or written, else 0. */
int read_file(int file, void *to, uint32_t bytes);
int write_file(int file, const void *from, uint32_t bytes);

void close_file(int file);

void print(const char *text);

/* Ends the program. */
void leave(int code);

#endif
