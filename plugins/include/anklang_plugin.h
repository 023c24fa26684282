/*
 * The contract between Anklang (the host) and a channel plugin: ABI major 1.
 *
 * A channel plugin is a shared library that exports the two functions at the end of this
 * file. Everything else goes through two tables of function pointers. Payloads are
 * protobuf messages of the package anklang.plugin.v1 (proto/anklang/plugin/v1/plugin.proto),
 * so a plugin may be written in any language that can export C functions.
 *
 * Sequence: the host checks the file's SHA-256, loads it, reads the manifest, checks the
 * configuration against the manifest's JSON Schema, then calls
 *     init -> open -> call* -> drain -> close.
 * A library is never unloaded. One library may be opened many times.
 *
 * Growth: every struct starts with its `size` in bytes and is only ever appended to. Each
 * side reads and writes no more than the smaller of its own size and the given one. New
 * features are new opcodes or new protobuf fields.
 *
 * This file is frozen for major version 1, but for appended members.
 */
#ifndef ANKLANG_PLUGIN_H
#define ANKLANG_PLUGIN_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define ANK_MAGIC UINT64_C(0x31474E414C4B4E41) /* "ANKLANG1", little-endian */
#define ANK_ABI_MAJOR 1u
#define ANK_ABI_MINOR 0u

/*
 * Bytes borrowed for the duration of the call, in BOTH directions; the callee copies what it
 * keeps. No allocation ever changes owner, so there is no free function. `ptr` may be NULL
 * when `len` is 0.
 */
typedef struct {
  const uint8_t *ptr;
  size_t len;
} ank_bytes;

/* One opened configuration of a plugin: owned by the plugin, opaque to the host. */
typedef struct ank_inst ank_inst;

typedef int32_t ank_status;
enum {
  ANK_OK = 0,          /* from a call: accepted, exactly one completion follows */
  ANK_BUSY = 1,        /* nothing was taken, try again later */
  ANK_CLOSED = 2,      /* nothing was taken, the instance drains or is closed */
  ANK_INVALID = 3,     /* nothing was taken, the argument is malformed */
  ANK_UNSUPPORTED = 4, /* nothing was taken, no such operation here */
  ANK_INTERNAL = 5     /* the plugin failed, a caught panic included; what it did is unknown */
};

/* Operations of ank_plugin.call, with their request and their reply. */
enum {
  ANK_OP_SEND = 1,      /* SendRequest     -> SendReply */
  ANK_OP_LOOKUP = 2,    /* LookupRequest   -> LookupReply */
  ANK_OP_CANCEL = 3,    /* CancelRequest   -> empty; the cancelled call completes ANK_INTERNAL */
  ANK_OP_CALLBACK = 4,  /* CallbackRequest -> CallbackReply */
  ANK_OP_HEALTH = 5,    /* empty           -> HealthReply */
  ANK_OP_ACK_EVENTS = 6 /* AckEvents       -> empty */
};

/* Kinds of ank_host.event, with their message. */
enum {
  ANK_EV_DELIVERY = 1, /* DeliveryEvent: must not be lost, repeat it while the host is busy */
  ANK_EV_INBOUND = 2,  /* InboundEvent:  must not be lost, repeat it while the host is busy */
  ANK_EV_LOG = 3,      /* LogEvent:      may be dropped */
  ANK_EV_SPAN = 4,     /* SpanEvent:     may be dropped */
  ANK_EV_METRIC = 5    /* MetricEvent:   may be dropped */
};

/* What a plugin says of itself: static data, readable before any side effect. */
typedef struct {
  uint32_t size;               /* sizeof(ank_manifest) of the plugin */
  uint16_t abi_major;          /* must equal the host's */
  uint16_t abi_minor_required; /* must not exceed the host's */
  uint64_t magic;              /* ANK_MAGIC */
  ank_bytes manifest;          /* anklang.plugin.v1.Manifest; valid for ever */
} ank_manifest;

/*
 * What the host offers. Both functions may be called from any thread, never block and never
 * call back into the plugin. The table and `ctx` are valid until the process ends.
 */
typedef struct {
  uint32_t size; /* sizeof(ank_host) of the host */
  uint16_t abi_major;
  uint16_t abi_minor;
  void *ctx; /* to be handed back as the first argument */
  /*
   * Completes a call that returned ANK_OK: exactly once, from any thread, possibly before
   * the call has returned. With ANK_OK the reply is the operation's message, else a reason
   * in UTF-8 for people. Unknown and repeated ids are counted and dropped.
   */
  void (*complete)(void *ctx, uint64_t call_id, ank_status st, ank_bytes reply);
  /* Reports an event: ANK_OK, or ANK_BUSY, ANK_CLOSED, ANK_INVALID, ANK_UNSUPPORTED. */
  ank_status (*event)(void *ctx, uint64_t inst_id, uint32_t kind, ank_bytes msg);
} ank_host;

/* What the plugin offers. Called from any host thread; every function returns promptly. */
typedef struct {
  uint32_t size; /* in: sizeof(ank_plugin) of the host; out: bytes that were filled in */
  uint16_t abi_major;
  uint16_t abi_minor;
  /*
   * Opens an instance for a configuration (JSON, UTF-8). `*out` is set before the function
   * returns ANK_OK, and is an instance once the completion of `call_id` says ANK_OK. With
   * any other completion there is no instance and `*out` is not used. `inst_id` is the
   * host's name for the instance in events.
   */
  ank_status (*open)(const ank_host *, uint64_t inst_id, uint64_t call_id, ank_bytes config,
                     ank_inst **out);
  /*
   * Starts an operation. `call_id` is unique within the host process. The calls in flight
   * are bounded per instance: beyond the bound it is ANK_BUSY.
   */
  ank_status (*call)(ank_inst *, uint32_t op, uint64_t call_id, ank_bytes request);
  /*
   * Takes no more calls (ANK_CLOSED), waits for those in flight for at most `deadline_ms`
   * milliseconds from now, completes those that are left with ANK_INTERNAL, and then
   * completes `call_id`.
   */
  ank_status (*drain)(ank_inst *, uint64_t call_id, uint64_t deadline_ms);
  /* Frees the instance. Called once, after the drain completed, as its last call. */
  void (*close)(ank_inst *);
} ank_plugin;

/* The two exported functions. */
const ank_manifest *anklang_plugin_manifest(void);
ank_status anklang_plugin_init_v1(const ank_host *host, ank_plugin *out /* size set */);

#ifdef __cplusplus
}
#endif

#endif /* ANKLANG_PLUGIN_H */
