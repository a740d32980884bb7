/* A device's side of the envelopes that the gateway of ddnn_tf takes (`ddnn serve gateway`).
 *
 * Authenticated with HMAC-SHA256, each message good once; ddnn_tf/runtime/envelope.py describes the
 * bytes. C99, no heap, no recursion, all memory the caller's; needs stdint.h and string.h.
 *
 *     ddnn_envelope_start(&session, device, key);
 *     send(ddnn_envelope_hello(&session, nonce, out, sizeof out));      nonce: 16 random bytes, never twice
 *     ... on each envelope that arrives:
 *     switch (ddnn_envelope_receive(&session, in, length, &request)) {
 *     case DDNN_ENVELOPE_SENSE:     run the network, frame the class vector with request.number, and
 *                                   send(ddnn_envelope_frame(&session, frame, length, out, sizeof out));
 *     case DDNN_ENVELOPE_FEATURES:  the same with the feature map
 *     }
 */
#ifndef DDNN_ENVELOPE_H_
#define DDNN_ENVELOPE_H_

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define DDNN_ENVELOPE_KEY_BYTES 32u
#define DDNN_ENVELOPE_NONCE_BYTES 16u
/* Bytes of an envelope beside the frame in it; and of the longest that a gateway sends. */
#define DDNN_ENVELOPE_OVERHEAD 32u
#define DDNN_ENVELOPE_LONGEST 64u

typedef enum {
    DDNN_ENVELOPE_BAD,      /* not for this device, forged, damaged or a replay: to be dropped */
    DDNN_ENVELOPE_WELCOME,  /* the session is open */
    DDNN_ENVELOPE_SENSE,    /* the class vector is asked for */
    DDNN_ENVELOPE_FEATURES, /* the feature map is asked for */
    DDNN_ENVELOPE_ALIVE     /* a sign of life: answer with an empty frame */
} ddnn_envelope_event;

typedef struct {
    uint32_t number; /* to be written into the frame as its sample */
    uint32_t sample; /* as the client counts them */
} ddnn_envelope_request;

typedef struct {
    uint8_t key[32], up[32], down[32], nonce[16];
    uint64_t sent, received;
    uint16_t device;
    uint8_t is_open;
} ddnn_envelope_session;

/* Sets up a device with its number and the key that it shares with the gateway. */
void ddnn_envelope_start(ddnn_envelope_session *session, uint16_t device, const uint8_t key[32]);

/* Writes the envelope that begins a session; returns its bytes, or 0 if `capacity` is too small. */
uint32_t ddnn_envelope_hello(ddnn_envelope_session *session, const uint8_t nonce[16], uint8_t *envelope,
                             uint32_t capacity);

/* Takes one whole envelope of the gateway. Over UDP those that come out of their order are dropped. */
ddnn_envelope_event ddnn_envelope_receive(ddnn_envelope_session *session, const uint8_t *envelope,
                                          uint32_t length, ddnn_envelope_request *request);

/* Writes the envelope of a frame; returns its bytes, or 0 if there is no session, or `capacity` or the
 * envelope's limit of 65,535 bytes is too small. */
uint32_t ddnn_envelope_frame(ddnn_envelope_session *session, const uint8_t *frame, uint32_t length,
                             uint8_t *envelope, uint32_t capacity);

/* Bytes of the envelope that begins with these 16; 0 if none does. For streams, such as TCP. */
uint32_t ddnn_envelope_length(const uint8_t start[16]);

#ifdef __cplusplus
}
#endif

#endif
