/* A device on a POSIX system that speaks to the gateway over UDP or TCP, as a microcontroller would.
 *
 *     posix_device udp|tcp HOST PORT DEVICE < key-and-images
 *
 * Standard input holds the key (32 bytes), then images of DDNN_DEVICE_INPUT_BYTES; sample n is the n-th.
 * It says hello until it is welcomed, shows that it is there until it hears of the gateway again, and
 * answers. When the gateway has been silent for long, or is out of reach, it begins anew (over TCP it ends).
 */
#define _POSIX_C_SOURCE 200809L

#include "ddnn_device.h"
#include "ddnn_envelope.h"

#include <netdb.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <unistd.h>

#define LONGEST_FRAME (DDNN_DEVICE_FEATURES_FRAME_BYTES + DDNN_DEVICE_CLASS_VECTOR_FRAME_BYTES)
#define REMEMBERED 1024u
#define HELLO_MS 500
#define SILENCE_MS 30000

static uint8_t *images;
static uint32_t image_count;
static ddnn_device_scratch scratch;
/* What was sensed last, by number, for the features that may be asked for afterwards. */
static ddnn_device_output outputs[REMEMBERED];
static ddnn_envelope_request asked[REMEMBERED];
static uint8_t known[REMEMBERED];

static void fail(const char *what)
{
    fprintf(stderr, "posix_device: %s\n", what);
    exit(2);
}

static void read_input(uint8_t key[32])
{
    size_t room = 0, have = 0, got;
    if (fread(key, 1, 32, stdin) != 32)
        fail("standard input holds no key");
    do {
        if (have == room) {
            room = room ? 2 * room : 1u << 20;
            images = realloc(images, room);
            if (!images)
                fail("no memory for the images");
        }
        got = fread(images + have, 1, room - have, stdin);
        have += got;
    } while (got);
    image_count = (uint32_t)(have / DDNN_DEVICE_INPUT_BYTES);
    if (!image_count || have % DDNN_DEVICE_INPUT_BYTES)
        fail("standard input holds no whole images");
}

static void draw_nonce(uint8_t nonce[16])
{
    FILE *random = fopen("/dev/urandom", "rb");
    if (!random || fread(nonce, 1, 16, random) != 16)
        fail("no random numbers");
    fclose(random);
}

static int connected(const char *kind, const char *host, const char *port)
{
    struct addrinfo wanted, *found, *at;
    int handle = -1;
    memset(&wanted, 0, sizeof wanted);
    wanted.ai_socktype = strcmp(kind, "tcp") == 0 ? SOCK_STREAM : SOCK_DGRAM;
    if (getaddrinfo(host, port, &wanted, &found))
        fail("no such host");
    for (at = found; at && handle < 0; at = at->ai_next) {
        handle = socket(at->ai_family, at->ai_socktype, at->ai_protocol);
        if (handle >= 0 && connect(handle, at->ai_addr, at->ai_addrlen)) {
            close(handle);
            handle = -1;
        }
    }
    freeaddrinfo(found);
    if (handle < 0)
        fail("the gateway cannot be reached");
    return handle;
}

static int read_all(int handle, uint8_t *at, size_t length)
{
    while (length) {
        ssize_t got = read(handle, at, length);
        if (got <= 0)
            return 0;
        at += got;
        length -= (size_t)got;
    }
    return 1;
}

/* One envelope, or nothing; over TCP, the end of the stream ends the program. */
static uint32_t received(int handle, int is_stream, uint8_t *envelope)
{
    uint32_t length;
    if (!is_stream) {
        ssize_t got = recv(handle, envelope, DDNN_ENVELOPE_LONGEST, 0);
        return got > 0 ? (uint32_t)got : 0;
    }
    if (!read_all(handle, envelope, 16))
        exit(0);
    length = ddnn_envelope_length(envelope);
    if (length < 16 || length > DDNN_ENVELOPE_LONGEST || !read_all(handle, envelope + 16, length - 16))
        fail("the gateway sent no envelope");
    return length;
}

static uint32_t framed(ddnn_envelope_event event, const ddnn_envelope_request *request, uint16_t device,
                       uint8_t *frame)
{
    uint32_t slot = request->number % REMEMBERED;
    if (event == DDNN_ENVELOPE_ALIVE || request->sample >= image_count)
        return 0;
    if (!known[slot] || asked[slot].number != request->number || asked[slot].sample != request->sample) {
        ddnn_device_run(images + (size_t)request->sample * DDNN_DEVICE_INPUT_BYTES, &scratch, &outputs[slot]);
        asked[slot] = *request;
        known[slot] = 1;
    }
    if (event == DDNN_ENVELOPE_SENSE)
        return ddnn_device_frame_class_vector(&outputs[slot], device, request->number, frame, LONGEST_FRAME);
    return ddnn_device_frame_features(&outputs[slot], device, request->number, frame, LONGEST_FRAME);
}

int main(int count, char **arguments)
{
    static uint8_t frame[LONGEST_FRAME], out[LONGEST_FRAME + DDNN_ENVELOPE_OVERHEAD];
    uint8_t key[32], nonce[16], in[DDNN_ENVELOPE_LONGEST];
    ddnn_envelope_session session;
    ddnn_envelope_request request = {0, 0};
    struct pollfd waiting;
    uint32_t length;
    int is_stream;
    if (count != 5 || (strcmp(arguments[1], "udp") && strcmp(arguments[1], "tcp")))
        fail("expected: udp|tcp HOST PORT DEVICE");
    is_stream = strcmp(arguments[1], "tcp") == 0;
    read_input(key);
    waiting.fd = connected(arguments[1], arguments[2], arguments[3]);
    waiting.events = POLLIN;
    ddnn_envelope_start(&session, (uint16_t)atoi(arguments[4]), key);
    for (;;) {
        /* A session: the same hello again and again until the welcome, then anew after a silence. */
        ddnn_envelope_event event = DDNN_ENVELOPE_BAD;
        int wait = HELLO_MS, heard = 0;
        memset(known, 0, sizeof known);
        draw_nonce(nonce);
        length = ddnn_envelope_hello(&session, nonce, out, sizeof out);
        for (;;) {
            if (length && write(waiting.fd, out, length) < 0) {
                if (is_stream)
                    return 0;
                poll(NULL, 0, HELLO_MS); /* nobody listens there now */
                if (heard)
                    break;
            }
            do {
                event = DDNN_ENVELOPE_BAD;
                if (poll(&waiting, 1, wait) <= 0)
                    break;
                uint32_t arrived = received(waiting.fd, is_stream, in);
                if (arrived)
                    event = ddnn_envelope_receive(&session, in, arrived, &request);
                else if (!is_stream)
                    break;
            } while (event == DDNN_ENVELOPE_BAD);
            if (event == DDNN_ENVELOPE_BAD) {
                if (heard)
                    break;
                /* Not heard yet: the hello once more, or that it is there, under a new counter. */
                if (session.is_open)
                    length = ddnn_envelope_frame(&session, frame, 0, out, sizeof out);
                continue;
            }
            if (event != DDNN_ENVELOPE_WELCOME) {
                heard = 1;
                wait = SILENCE_MS;
            }
            length = event == DDNN_ENVELOPE_WELCOME ? 0 : framed(event, &request, session.device, frame);
            length = ddnn_envelope_frame(&session, frame, length, out, sizeof out);
        }
    }
}
