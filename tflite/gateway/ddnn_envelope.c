#include "ddnn_envelope.h"

#include <string.h>

#define HEADER 16u
#define TAG 16u
#define BLOCK 64u
#define DIGEST 32u
#define LARGEST 65535u

enum { HELLO = 1, WELCOME = 2, FRAME = 3, REQUEST = 4 };

typedef struct {
    uint32_t state[8];
    uint64_t bytes;
    uint8_t block[BLOCK];
} sha256;

typedef struct {
    sha256 inner;
    uint8_t outer_key[BLOCK];
} hmac;

/* FIPS 180-4: the first 32 bits of the fractional parts of the cube roots of the first 64 primes. */
static const uint32_t round_constants[64] = {
    0x428a2f98u, 0x71374491u, 0xb5c0fbcfu, 0xe9b5dba5u, 0x3956c25bu, 0x59f111f1u, 0x923f82a4u, 0xab1c5ed5u,
    0xd807aa98u, 0x12835b01u, 0x243185beu, 0x550c7dc3u, 0x72be5d74u, 0x80deb1feu, 0x9bdc06a7u, 0xc19bf174u,
    0xe49b69c1u, 0xefbe4786u, 0x0fc19dc6u, 0x240ca1ccu, 0x2de92c6fu, 0x4a7484aau, 0x5cb0a9dcu, 0x76f988dau,
    0x983e5152u, 0xa831c66du, 0xb00327c8u, 0xbf597fc7u, 0xc6e00bf3u, 0xd5a79147u, 0x06ca6351u, 0x14292967u,
    0x27b70a85u, 0x2e1b2138u, 0x4d2c6dfcu, 0x53380d13u, 0x650a7354u, 0x766a0abbu, 0x81c2c92eu, 0x92722c85u,
    0xa2bfe8a1u, 0xa81a664bu, 0xc24b8b70u, 0xc76c51a3u, 0xd192e819u, 0xd6990624u, 0xf40e3585u, 0x106aa070u,
    0x19a4c116u, 0x1e376c08u, 0x2748774cu, 0x34b0bcb5u, 0x391c0cb3u, 0x4ed8aa4au, 0x5b9cca4fu, 0x682e6ff3u,
    0x748f82eeu, 0x78a5636fu, 0x84c87814u, 0x8cc70208u, 0x90befffau, 0xa4506cebu, 0xbef9a3f7u, 0xc67178f2u,
};

static uint32_t rotate(uint32_t value, unsigned bits)
{
    return value >> bits | value << (32u - bits);
}

static void sha256_block(uint32_t state[8], const uint8_t *block)
{
    uint32_t w[64], s[8];
    for (unsigned i = 0; i < 16; i++)
        w[i] = (uint32_t)block[4 * i] << 24 | (uint32_t)block[4 * i + 1] << 16 |
               (uint32_t)block[4 * i + 2] << 8 | block[4 * i + 3];
    for (unsigned i = 16; i < 64; i++) {
        uint32_t a = rotate(w[i - 15], 7) ^ rotate(w[i - 15], 18) ^ w[i - 15] >> 3;
        uint32_t b = rotate(w[i - 2], 17) ^ rotate(w[i - 2], 19) ^ w[i - 2] >> 10;
        w[i] = w[i - 16] + a + w[i - 7] + b;
    }
    memcpy(s, state, sizeof s);
    for (unsigned i = 0; i < 64; i++) {
        uint32_t a = rotate(s[4], 6) ^ rotate(s[4], 11) ^ rotate(s[4], 25);
        uint32_t first = s[7] + a + ((s[4] & s[5]) ^ (~s[4] & s[6])) + round_constants[i] + w[i];
        uint32_t b = rotate(s[0], 2) ^ rotate(s[0], 13) ^ rotate(s[0], 22);
        uint32_t second = b + ((s[0] & s[1]) ^ (s[0] & s[2]) ^ (s[1] & s[2]));
        memmove(s + 1, s, 7 * sizeof *s);
        s[4] += first;
        s[0] = first + second;
    }
    for (unsigned i = 0; i < 8; i++)
        state[i] += s[i];
}

static void sha256_start(sha256 *hash)
{
    static const uint32_t first[8] = {
        0x6a09e667u, 0xbb67ae85u, 0x3c6ef372u, 0xa54ff53au, 0x510e527fu, 0x9b05688cu, 0x1f83d9abu, 0x5be0cd19u,
    };
    memcpy(hash->state, first, sizeof first);
    hash->bytes = 0;
}

static void sha256_add(sha256 *hash, const void *data, uint32_t length)
{
    const uint8_t *at = data;
    while (length) {
        uint32_t used = (uint32_t)(hash->bytes % BLOCK);
        uint32_t part = BLOCK - used < length ? BLOCK - used : length;
        memcpy(hash->block + used, at, part);
        hash->bytes += part;
        at += part;
        length -= part;
        if (used + part == BLOCK)
            sha256_block(hash->state, hash->block);
    }
}

static void sha256_end(sha256 *hash, uint8_t digest[DIGEST])
{
    static const uint8_t padding[BLOCK] = {0x80};
    uint64_t bits = hash->bytes * 8u;
    uint8_t count[8];
    uint32_t used = (uint32_t)(hash->bytes % BLOCK);
    for (unsigned i = 0; i < 8; i++)
        count[i] = (uint8_t)(bits >> (56u - 8u * i));
    sha256_add(hash, padding, used < 56u ? 56u - used : 120u - used);
    sha256_add(hash, count, sizeof count);
    for (unsigned i = 0; i < DIGEST; i++)
        digest[i] = (uint8_t)(hash->state[i / 4u] >> (24u - 8u * (i % 4u)));
}

static void hmac_start(hmac *code, const uint8_t key[DIGEST])
{
    uint8_t inner_key[BLOCK];
    for (unsigned i = 0; i < BLOCK; i++) {
        uint8_t byte = i < DIGEST ? key[i] : 0;
        inner_key[i] = byte ^ 0x36u;
        code->outer_key[i] = byte ^ 0x5cu;
    }
    sha256_start(&code->inner);
    sha256_add(&code->inner, inner_key, BLOCK);
}

static void hmac_end(hmac *code, uint8_t digest[DIGEST])
{
    uint8_t inner[DIGEST];
    sha256 outer;
    sha256_end(&code->inner, inner);
    sha256_start(&outer);
    sha256_add(&outer, code->outer_key, BLOCK);
    sha256_add(&outer, inner, DIGEST);
    sha256_end(&outer, digest);
}

static void hmac_of(const uint8_t key[DIGEST], const void *data, uint32_t length, uint8_t digest[DIGEST])
{
    hmac code;
    hmac_start(&code, key);
    sha256_add(&code.inner, data, length);
    hmac_end(&code, digest);
}

static void put(uint8_t *at, uint64_t value, unsigned bytes)
{
    for (unsigned i = 0; i < bytes; i++)
        at[i] = (uint8_t)(value >> 8u * i);
}

static uint64_t get(const uint8_t *at, unsigned bytes)
{
    uint64_t value = 0;
    for (unsigned i = 0; i < bytes; i++)
        value |= (uint64_t)at[i] << 8u * i;
    return value;
}

static int is_genuine(const uint8_t key[DIGEST], const uint8_t *envelope, uint32_t length)
{
    uint8_t digest[DIGEST], differs = 0;
    hmac_of(key, envelope, length - TAG, digest);
    /* Always all bytes, so that the time tells nothing. */
    for (unsigned i = 0; i < TAG; i++)
        differs |= (uint8_t)(digest[i] ^ envelope[length - TAG + i]);
    return !differs;
}

/* The body, if any, stands in its place already or is copied there. */
static uint32_t seal(const ddnn_envelope_session *session, const uint8_t key[DIGEST], uint8_t kind,
                     uint64_t counter, const uint8_t *body, uint32_t length, uint8_t *envelope,
                     uint32_t capacity)
{
    uint8_t digest[DIGEST];
    if (length > LARGEST || capacity < length + DDNN_ENVELOPE_OVERHEAD)
        return 0;
    if (length)
        memmove(envelope + HEADER, body, length);
    envelope[0] = 'D';
    envelope[1] = 'G';
    envelope[2] = 1;
    envelope[3] = kind;
    put(envelope + 4, session->device, 2);
    put(envelope + 6, length, 2);
    put(envelope + 8, counter, 8);
    hmac_of(key, envelope, HEADER + length, digest);
    memcpy(envelope + HEADER + length, digest, TAG);
    return length + DDNN_ENVELOPE_OVERHEAD;
}

void ddnn_envelope_start(ddnn_envelope_session *session, uint16_t device, const uint8_t key[32])
{
    memset(session, 0, sizeof *session);
    memcpy(session->key, key, sizeof session->key);
    session->device = device;
}

uint32_t ddnn_envelope_hello(ddnn_envelope_session *session, const uint8_t nonce[16], uint8_t *envelope,
                             uint32_t capacity)
{
    memcpy(session->nonce, nonce, sizeof session->nonce);
    session->is_open = 0;
    return seal(session, session->key, HELLO, 0, nonce, DDNN_ENVELOPE_NONCE_BYTES, envelope, capacity);
}

static void open_session(ddnn_envelope_session *session, const uint8_t *nonces)
{
    static const char label[] = "ddnn envelope 1";
    uint8_t shared[DIGEST];
    hmac code;
    hmac_start(&code, session->key);
    sha256_add(&code.inner, label, sizeof label - 1);
    sha256_add(&code.inner, nonces, 2 * DDNN_ENVELOPE_NONCE_BYTES);
    hmac_end(&code, shared);
    hmac_of(shared, "up", 2, session->up);
    hmac_of(shared, "down", 4, session->down);
    session->sent = session->received = 0;
    session->is_open = 1;
}

ddnn_envelope_event ddnn_envelope_receive(ddnn_envelope_session *session, const uint8_t *envelope,
                                          uint32_t length, ddnn_envelope_request *request)
{
    const uint8_t *body = envelope + HEADER;
    uint64_t counter;
    if (length < DDNN_ENVELOPE_OVERHEAD || length != ddnn_envelope_length(envelope) ||
        get(envelope + 4, 2) != session->device)
        return DDNN_ENVELOPE_BAD;
    counter = get(envelope + 8, 8);
    if (envelope[3] == WELCOME) {
        if (session->is_open || length != DDNN_ENVELOPE_OVERHEAD + 2 * DDNN_ENVELOPE_NONCE_BYTES ||
            memcmp(body, session->nonce, sizeof session->nonce) != 0 ||
            !is_genuine(session->key, envelope, length))
            return DDNN_ENVELOPE_BAD;
        open_session(session, body);
        return DDNN_ENVELOPE_WELCOME;
    }
    if (envelope[3] != REQUEST || !session->is_open || length != DDNN_ENVELOPE_OVERHEAD + 12u ||
        counter <= session->received || !is_genuine(session->down, envelope, length))
        return DDNN_ENVELOPE_BAD;
    session->received = counter;
    request->number = (uint32_t)get(body + 4, 4);
    request->sample = (uint32_t)get(body + 8, 4);
    switch (body[0]) {
    case 1:
        return DDNN_ENVELOPE_SENSE;
    case 2:
        return DDNN_ENVELOPE_FEATURES;
    case 3:
        return DDNN_ENVELOPE_ALIVE;
    default:
        return DDNN_ENVELOPE_BAD;
    }
}

uint32_t ddnn_envelope_frame(ddnn_envelope_session *session, const uint8_t *frame, uint32_t length,
                             uint8_t *envelope, uint32_t capacity)
{
    uint32_t bytes;
    if (!session->is_open)
        return 0;
    bytes = seal(session, session->up, FRAME, session->sent + 1, frame, length, envelope, capacity);
    if (bytes)
        session->sent++;
    return bytes;
}

uint32_t ddnn_envelope_length(const uint8_t start[16])
{
    if (start[0] != 'D' || start[1] != 'G' || start[2] != 1)
        return 0;
    return (uint32_t)get(start + 6, 2) + DDNN_ENVELOPE_OVERHEAD;
}
