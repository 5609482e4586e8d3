/* switchback.h - driving models over the air, for vehicles.
 *
 * The library does two things in one process. On threads of its own it carries a driving model from the server into the vehicle:
 * it verifies, downloads, installs, tests and activates it, and rolls it back when it does worse. On the caller's thread it answers
 * every camera frame with the active model: trajectory, control, confidence, and whether the driver must take over. A new model takes
 * over between two frames; no frame is lost.
 *
 * A FIRST PROGRAM
 *
 *   swb_vehicle_config config = {.struct_size = sizeof config, .abi_version = SWB_ABI_VERSION, .store_dir = "/var/lib/models", ...};
 *   swb_vehicle *vehicle;
 *   if (swb_vehicle_open(&config, &vehicle) != SWB_OK) { char why[512]; swb_last_error(why, sizeof why); ... }
 *   for each frame, 20 times a second {
 *     swb_camera_frame front = {.struct_size = sizeof front, .camera_id = 0, .format = SWB_PIXEL_FORMAT_NV12, ...};
 *     swb_ego_state ego = {.struct_size = sizeof ego, .time_ns = now, .speed_mps = ...};
 *     swb_drive_input input = {.struct_size = sizeof input, .sequence = n++, .time_ns = now, .cameras = &front, .cameras_len = 1,
 *                              .ego = &ego, .requested_mode = SWB_MODE_ENGAGED};
 *     swb_drive_output output = {.struct_size = sizeof output};
 *     swb_vehicle_step(vehicle, &input, &output);
 *     if (output.control_valid) apply output.curvature_1pm and output.acceleration_mps2, never later than output.valid_until_ns;
 *     else follow output.takeover_level and output.minimal_risk;
 *   }
 *   swb_vehicle_free(vehicle);
 *
 * Build it with: cc program.c $(pkg-config --cflags --libs switchback). examples/c-vehicle is a complete program.
 *
 * UNITS AND AXES. SI units; the unit ends each field's name. Axes follow ISO 8855: x forward, y left, z up, origin at the middle of the
 * rear axle on the ground. Positive curvature, yaw rate, steering and heading turn left. Times in ns are those of one monotonic clock that
 * the caller chooses (CLOCK_MONOTONIC), the same for frames, ego state and steps; times in s since 1970 are UTC.
 *
 * RESULTS. Functions that can fail return an int32_t: SWB_OK (0) or the number of what went wrong. Numbers are stable and never reused.
 * swb_result_name gives the name, swb_last_error the reason in words for the calling thread. Numbers from 100 on are those of the parts
 * of the SDK, in ranges SWB_ERROR_TRUST and following; the fleet's reports use the same numbers.
 *
 * STRUCTS that the caller fills begin with struct_size; set it to sizeof the struct, and zero what you do not fill. That is how structs
 * can grow at their end: an older program keeps working with a newer library and the reverse. In arrays of such structs all elements are of
 * one size. Fields named reserved are zero.
 *
 * OWNERSHIP. A swb_vehicle belongs to whoever opened it, until swb_vehicle_free. What the caller passes stays the caller's and is not kept
 * after the call, except a config's userdata and callbacks. Texts that the library returns are its own and live as long as it is loaded.
 *
 * THREADS. The library starts none before swb_vehicle_open; the process must not fork after it.
 *
 *   function                                        | which thread              | waits
 *   ------------------------------------------------+---------------------------+------------------------------------------
 *   swb_abi_version, swb_version_string,            | any                       | never
 *   swb_result_name, swb_event_name, swb_last_error |                           |
 *   swb_vehicle_open                                | any                       | while the installed model is loaded
 *   swb_vehicle_step                                | any, one at a time; a     | while the model computes; never for an
 *                                                   | second gets SWB_ERROR_BUSY| update
 *   swb_vehicle_status, swb_vehicle_next_event,     | any, several at a time    | not for updates, not for steps
 *   swb_vehicle_check_now, swb_vehicle_activate     |                           |
 *   swb_vehicle_install_offline                     | any                       | for the disk that the file is on
 *   swb_vehicle_wait_event                          | any but a callback's      | for an event, as long as it is told
 *   swb_vehicle_free                                | any; no other call on the | until the library's threads have ended
 *                                                   | handle runs or follows    |
 *   callbacks: log                                  | any, several at a time    | the library waits for it
 *   callbacks: clock, consent, vehicle_state        | the update thread         | the update waits for it, no step does
 *
 * Callbacks must return soon, must not throw or longjmp, and must not call the library.
 *
 * WHAT IS NOT DONE HERE. The library asks for a takeover or a minimal risk manoeuvre (UN R157, ISO 23793-1); the vehicle carries it out. It
 * never touches an actuator. A defect in the library is caught, answered with SWB_ERROR_PANIC and disables that handle; the step still
 * writes an output then. */


#ifndef SWITCHBACK_H
#define SWITCHBACK_H

/* Generated from sdk/ffi by `make header`; do not edit. */

#include <stddef.h>
#include <stdint.h>

/** Major number of the ABI that this header describes. A library with another major number cannot be used with this header. */
#define SWB_ABI_MAJOR 1
/** Minor number of the ABI that this header describes. It rises when functions, fields at the end of a struct or numbers are added. */
#define SWB_ABI_MINOR 0
/** Both in one figure: `(major << 16) | minor`. */
#define SWB_ABI_VERSION 65536

/** Result: done. */
#define SWB_OK 0

/** Result: a pointer that must not be NULL is NULL. */
#define SWB_ERROR_NULL 1
/** Result: the `struct_size` of a struct is missing, too small for any version of this ABI, or absurdly large. */
#define SWB_ERROR_STRUCT_SIZE 2
/** Result: a number is none of those that the header lists, a count is above its limit, or a text is not UTF-8. */
#define SWB_ERROR_VALUE 3
/** Result: another thread is inside the same function of the same vehicle. */
#define SWB_ERROR_BUSY 4
/** Result: a defect of the library was caught. The handle answers SWB_ERROR_POISONED from now on; free it and open another. */
#define SWB_ERROR_PANIC 5
/** Result: an earlier call on this handle ended in SWB_ERROR_PANIC. */
#define SWB_ERROR_POISONED 6
/** Result: the program was compiled with the header of an ABI that this library does not have. */
#define SWB_ERROR_ABI 7
/** Result: a file that the config names cannot be read. */
#define SWB_ERROR_FILE 8
/** Result: the call came from within a callback, which must not call the library. Nothing was done. */
#define SWB_ERROR_IN_CALLBACK 9
/** Result of a step: there is no model to ask. The output says what the driver must do. */
#define SWB_ERROR_NO_MODEL 20
/** Result of a step: an input is missing, stale or not plausible; `faults` in the output says which. */
#define SWB_ERROR_INPUT 21
/** Result of a step: the model failed and no other could answer; `faults` in the output says how. */
#define SWB_ERROR_MODEL 22
/** Result of a step: the answer came too late to be used. */
#define SWB_ERROR_DEADLINE 23
/** First of the numbers about trust: metadata, signatures, versions. */
#define SWB_ERROR_TRUST 100
/** First of the numbers about the bundle, its chunk index and its manifest. */
#define SWB_ERROR_BUNDLE 200
/** First of the numbers about the vehicle's disk. */
#define SWB_ERROR_STORE 300
/** First of the numbers about the network and the server. */
#define SWB_ERROR_FETCH 400
/** First of the numbers about decisions on an update: denied, superseded, withdrawn, given up. */
#define SWB_ERROR_UPDATE 500
/** First of the numbers about opening a vehicle: its configuration, its key. */
#define SWB_ERROR_VEHICLE 600
/** First of the numbers about ONNX Runtime and the model's file. */
#define SWB_ERROR_RUNTIME 4000
/** First of the numbers about the engine: loading, self-test, shadow, trial. */
#define SWB_ERROR_ENGINE 4100

/** Most cameras that one step takes. */
#define SWB_CAMERAS_MAX 16

/** Most named signals that one step takes. */
#define SWB_SIGNALS_MAX 64

/** Pixel format: three bytes a pixel, red, green, blue. */
#define SWB_PIXEL_FORMAT_RGB8 1
/** Pixel format: a plane of luma, then interleaved chroma (U, V) at half resolution; ITU-R BT.709, limited range. Width and height are even. */
#define SWB_PIXEL_FORMAT_NV12 2

/** Mode: nobody acts on the output; the model runs so that it is ready. */
#define SWB_MODE_STANDBY 0
/** Mode: the vehicle acts on the output. */
#define SWB_MODE_ENGAGED 1

/** Route command: follow the lane. */
#define SWB_ROUTE_FOLLOW 0
/** Route command: turn or bear left. */
#define SWB_ROUTE_LEFT 1
/** Route command: turn or bear right. */
#define SWB_ROUTE_RIGHT 2
/** Route command: straight on at a junction. */
#define SWB_ROUTE_STRAIGHT 3
/** Route command: stop at the destination. */
#define SWB_ROUTE_STOP 4

/** Answer to a yes-or-no question: not known. Zero, so that a zeroed struct claims nothing. */
#define SWB_UNKNOWN 0

/** Answer to a yes-or-no question: yes. */
#define SWB_YES 1

/** Answer to a yes-or-no question: no. */
#define SWB_NO 2

/** Length of `swb_drive_output.trajectory`. */
#define SWB_TRAJECTORY_POINTS_MAX 64

/** Length of `swb_drive_output.actions`. */
#define SWB_ACTIONS_MAX 32

/** Length of the texts in `swb_model_identity`, the closing zero included. */
#define SWB_IDENTITY_TEXT_BYTES 32

/** Fault: there is no model. */
#define SWB_FAULT_NO_MODEL 1
/** Fault: a camera that the contract asks for was not supplied, or its description does not fit its data (stride, `data_len`, odd NV12). */
#define SWB_FAULT_CAMERA_MISSING 2
/** Fault: a camera image is older than allowed, or from the future. */
#define SWB_FAULT_CAMERA_STALE 4
/** Fault: a camera delivered the same frame again. */
#define SWB_FAULT_CAMERA_REPEATED 8
/** Fault: the ego state is not finite or not plausible. */
#define SWB_FAULT_EGO_INVALID 16
/** Fault: a signal that the contract requires was not supplied or is not finite. */
#define SWB_FAULT_SIGNAL_MISSING 32
/** Fault: the sequence number did not rise. */
#define SWB_FAULT_SEQUENCE 64
/** Fault: ONNX Runtime reported an error. */
#define SWB_FAULT_RUN_FAILED 128
/** Fault: the model's output is not finite. */
#define SWB_FAULT_NOT_FINITE 256
/** Fault: the model's control or trajectory is outside the envelope that its contract states; `swb_last_error` says which limit and where. */
#define SWB_FAULT_ENVELOPE 512
/** Fault: the answer came after the deadline. */
#define SWB_FAULT_DEADLINE_MISSED 1024
/** Fault: the model's confidence is below the contract's minimum. */
#define SWB_FAULT_LOW_CONFIDENCE 2048
/** Fault: the images of two cameras lie too far apart in time. */
#define SWB_FAULT_CAMERA_SKEW 4096
/** Fault: the ego state was measured too long ago. */
#define SWB_FAULT_EGO_STALE 8192
/** Fault: the route is not finite. */
#define SWB_FAULT_ROUTE_INVALID 16384
/** Fault: the call itself was refused (NULL, size, value, another thread inside); no model was asked. The result and `swb_last_error` say why. */
#define SWB_FAULT_CALL 4294967296

/** Intent: the model states none. */
#define SWB_INTENT_UNKNOWN 0
/** Intent: keep the lane at the desired speed. */
#define SWB_INTENT_KEEP_LANE 1
/** Intent: follow a vehicle ahead. */
#define SWB_INTENT_FOLLOW 2
/** Intent: slow down or stop for somebody or something on the road. */
#define SWB_INTENT_YIELD 3
/** Intent: stop because a person signals so. */
#define SWB_INTENT_GESTURE_STOP 4
/** Intent: change to the left lane or turn left. */
#define SWB_INTENT_LEFT 5
/** Intent: change to the right lane or turn right. */
#define SWB_INTENT_RIGHT 6
/** Intent: standing still. */
#define SWB_INTENT_STANDSTILL 7

/** Takeover level: nothing is asked. */
#define SWB_TAKEOVER_NONE 0
/** Takeover level: the driver should get ready. */
#define SWB_TAKEOVER_PREPARE 1
/** Takeover level: the driver must take over within the budget. */
#define SWB_TAKEOVER_REQUEST 2
/** Takeover level: the driver must take over now. */
#define SWB_TAKEOVER_IMMEDIATE 3
/** Takeover reason: nothing is asked. */
#define SWB_TAKEOVER_REASON_NONE 0
/** Takeover reason: the model's confidence is below the contract's minimum. */
#define SWB_TAKEOVER_REASON_LOW_CONFIDENCE 1
/** Takeover reason: an input was missing, stale or not plausible. */
#define SWB_TAKEOVER_REASON_INPUT 2
/** Takeover reason: the model failed. */
#define SWB_TAKEOVER_REASON_MODEL 3
/** Takeover reason: the answer came too late. */
#define SWB_TAKEOVER_REASON_DEADLINE 4
/** Takeover reason: there is no model. */
#define SWB_TAKEOVER_REASON_NO_MODEL 5
/** Takeover reason: the library could not be asked (see `SWB_FAULT_CALL`). */
#define SWB_TAKEOVER_REASON_CALL 100

/** Minimal risk manoeuvre: nothing is asked. */
#define SWB_MINIMAL_RISK_NONE 0
/** Minimal risk manoeuvre: type 1 of ISO 23793-1, stop straight ahead. */
#define SWB_MINIMAL_RISK_STRAIGHT_STOP 1
/** Minimal risk manoeuvre: type 2 of ISO 23793-1, stop within the lane. */
#define SWB_MINIMAL_RISK_IN_LANE_STOP 2

/** Log level: something failed. */
#define SWB_LOG_ERROR 1
/** Log level: something is not as it should be, and was dealt with. */
#define SWB_LOG_WARN 2
/** Log level: what happened. */
#define SWB_LOG_INFO 3
/** Log level: for whoever looks for a defect. */
#define SWB_LOG_DEBUG 4

/** Consent: ask again later. Zero, so that an empty answer installs nothing. */
#define SWB_CONSENT_LATER 0
/** Consent: yes, download and install. */
#define SWB_CONSENT_GRANTED 1
/** Consent: no, not this release. */
#define SWB_CONSENT_REFUSED 2

/** Network: nothing large may be downloaded for now. Zero, so that an empty answer costs nothing. */
#define SWB_NETWORK_NONE 0
/** Network: whatever is to be downloaded may be. */
#define SWB_NETWORK_UNMETERED 1
/** Network: this release may cost so many bytes as the callback has written. */
#define SWB_NETWORK_METERED 2

/** Activation: as soon as the driving function is not engaged, never while it is. The default. */
#define SWB_ACTIVATE_NEXT_DISENGAGED 0
/** Activation: as soon as the vehicle stands still and the driving function is not engaged. */
#define SWB_ACTIVATE_NEXT_STANDSTILL 1
/** Activation: at the next frame at which both models' plans agree, also while the driving function is engaged. */
#define SWB_ACTIVATE_NOW 2
/** Activation: when `swb_vehicle_activate` is called, and then also while the driving function is engaged. */
#define SWB_ACTIVATE_MANUALLY 3

/** Most mirrors of a vehicle. */
#define SWB_MIRRORS_MAX 16

/** Length of `text` in `swb_status` and `swb_event`, the closing zero included. */
#define SWB_TEXT_BYTES 320

/** Length of `reason` in `swb_status` and `swb_event`, the closing zero included. */
#define SWB_REASON_BYTES 48

/** Update: nothing is on its way. */
#define SWB_UPDATE_IDLE 0
/** Update: a verified release is offered; waits for consent. */
#define SWB_UPDATE_OFFERED 1
/** Update: the program agreed; the download begins. */
#define SWB_UPDATE_CONSENTED 2
/** Update: downloading and installing into the free slot. */
#define SWB_UPDATE_DOWNLOADING 3
/** Update: complete on disk and read back; not run yet. */
#define SWB_UPDATE_STAGED 4
/** Update: loaded, and answered the release's own test inputs as it must. */
#define SWB_UPDATE_SELF_TESTED 5
/** Update: runs beside the active model on live frames; its answers are compared and not used. */
#define SWB_UPDATE_SHADOW 6
/** Update: ready; waits until it may take over. */
#define SWB_UPDATE_ARMED 7
/** Update: answers frames, on trial, the previous model kept warm to fall back to. Healthy frames of every mode count, engaged or not. */
#define SWB_UPDATE_TRIAL 8
/** Update: passed its trial; the vehicle never goes below it again. */
#define SWB_UPDATE_CONFIRMED 9
/** Update: given up after it had taken over or was about to; the previous model drives. */
#define SWB_UPDATE_ROLLED_BACK 10
/** Update: refused before it came near driving. */
#define SWB_UPDATE_REFUSED 11

/** Event: there is none. */
#define SWB_EVENT_NONE 0
/** Event: the update is in the state that `swb_event.update` names. */
#define SWB_EVENT_UPDATE 1
/** Event: the server was asked, and answered. */
#define SWB_EVENT_CHECKED 2
/** Event: the server could not be asked; the vehicle tries again by itself. */
#define SWB_EVENT_CHECK_FAILED 3
/** Event: the download was interrupted and goes on by itself. */
#define SWB_EVENT_DOWNLOAD_PAUSED 4
/** Event: metadata was not believed while an update was on its way, which goes on. */
#define SWB_EVENT_NOT_BELIEVED 5
/** Event: the server knows the vehicle now. */
#define SWB_EVENT_ENROLLED 6
/** Event: the server refuses to enroll the vehicle. */
#define SWB_EVENT_ENROLLMENT_FAILED 7
/** Event: the start found the disk other than it was left, and put it right; `text` says how. */
#define SWB_EVENT_RECOVERED 8
/** Event: the confirmed model cannot be used; nothing drives until there is another one. */
#define SWB_EVENT_MODEL_LOST 9
/** Event: the confirmed model could be used after all, and drives. */
#define SWB_EVENT_MODEL_RESTORED 10
/** Event: the vehicle's clock is behind a time that the vehicle has seen, by `swb_status.clock_behind_s`. Told once until it is right again. */
#define SWB_EVENT_CLOCK_BEHIND 11
/** Event: the server named a delta and it is not used, or not any more; the release comes with more bytes instead. */
#define SWB_EVENT_DELTA_NOT_USED 12
/** Event: of a kind that this header does not know yet. */
#define SWB_EVENT_OTHER 1000

/** A vehicle: its update side, which works on threads of its own, and its driving side, which works in `swb_vehicle_step`. */
typedef struct swb_vehicle swb_vehicle;

/**
 * Receives one line of log. `text` is UTF-8, `text_len` bytes, also closed by a zero byte, valid during the call only; it holds no secret.
 *
 * Called from any thread, from several at a time, also from within a call of the program. Must not call the library and must not throw.
 */
typedef void (*swb_log_fn)(void *userdata, uint32_t level, const char *text, size_t text_len);

/**
 * Returns the time now, seconds since 1970-01-01 UTC, as far as the program trusts it. The expiry of metadata is judged by it.
 *
 * Called from the update thread. Must not call the library and must not throw.
 */
typedef int64_t (*swb_clock_fn)(void *userdata);

/** A release that the server offers and that was verified against all metadata. Written by the library for `swb_consent_fn`. */
typedef struct {
  /** Size of the struct as the library knows it. Read no field that lies beyond. */
  size_t struct_size;
  /** Name of the model, UTF-8. Valid during the callback only. */
  const char *model;
  /** Version of the model, UTF-8. Valid during the callback only. */
  const char *version;
  /** Release counter of the model. */
  uint64_t release_counter;
  /** Bytes to download, compressed, when nothing can be reused. */
  uint64_t download_bytes;
} swb_offer;

/**
 * Decides whether a release may be downloaded and installed: `SWB_CONSENT_...`. Any other number counts as `SWB_CONSENT_LATER`.
 *
 * Called from the update thread, which waits; return at once and answer `SWB_CONSENT_LATER` while the driver is being asked. Must not
 * call the library and must not throw.
 */
typedef uint32_t (*swb_consent_fn)(void *userdata, const swb_offer *offer);

/** The state of the vehicle. Filled by the program in `swb_vehicle_state_fn`. */
typedef struct {
  /** Size of the struct as the library knows it, set by the library. Write no field that lies beyond. */
  size_t struct_size;
  /** Longitudinal speed, m/s; NaN, as it is set by the library, when not known. */
  float speed_mps;
  /** Whether the driving function is engaged: `SWB_YES` or `SWB_NO`. `SWB_UNKNOWN` counts as engaged. */
  uint8_t driving_function_engaged;
  /** Whether the vehicle is parked: `SWB_YES` or `SWB_NO`. `SWB_UNKNOWN` counts as not parked. */
  uint8_t parked;
  /** Whether power suffices for an update: `SWB_YES` or `SWB_NO`. `SWB_UNKNOWN` counts as yes. */
  uint8_t power_suffices;
  /** Zero. */
  uint8_t reserved;
} swb_vehicle_state;

/**
 * Tells the state of the vehicle, so that a model is only exchanged when it is allowed.
 *
 * Called from the update thread. Must not call the library and must not throw.
 */
typedef void (*swb_vehicle_state_fn)(void *userdata, swb_vehicle_state *state);

/** A download about which the program is asked. Written by the library for `swb_network_fn`. */
typedef struct {
  /** Size of the struct as the library knows it. Read no field that lies beyond. */
  size_t struct_size;
  /** Name of the model, UTF-8. Valid during the callback only. */
  const char *model;
  /** Version of the model, UTF-8. Valid during the callback only. */
  const char *version;
  /** Release counter of the model. */
  uint64_t release_counter;
  /** Bytes that are still to be downloaded at most: what is on the disk already is left out as soon as that is known. */
  uint64_t missing_bytes;
  /** Bytes that came while the network was metered, since the vehicle was opened or another release was begun. */
  uint64_t metered_bytes;
} swb_transfer;

/**
 * Says what the network that the vehicle is on may be used for: `SWB_NETWORK_...`. Any other number counts as `SWB_NETWORK_NONE`. With
 * `SWB_NETWORK_METERED` write into `bytes_max`, which holds 0, how many bytes the release may cost; counted are those of
 * `swb_transfer.metered_bytes`. Metadata and reports, some kilobytes, come and go in any case.
 *
 * Called from the update thread, which waits, before a download begins and before each of its chunks, and every half minute while nothing
 * is allowed; return at once. Must not call the library and must not throw.
 */
typedef uint32_t (*swb_network_fn)(void *userdata, const swb_transfer *transfer, uint64_t *bytes_max);

/**
 * What a vehicle is opened with. Set `struct_size` and `abi_version`; a field of zero or NULL stands for its default.
 *
 * Everything that it points to is copied by `swb_vehicle_open` and stays the caller's, except `userdata`, which is only handed back.
 */
typedef struct {
  /** `sizeof(swb_vehicle_config)`. */
  size_t struct_size;
  /** `SWB_ABI_VERSION`. */
  uint32_t abi_version;
  /** When a new model that passed its tests takes over: `SWB_ACTIVATE_...`. */
  uint32_t activation;
  /** Directory of the vehicle's models and state, UTF-8. Made when missing. One process at a time. Not NULL. */
  const char *store_dir;
  /** Address of the server, such as `https://ota.example`. Not NULL. */
  const char *server_url;
  /** Address of the Image repository, when a CDN serves it; NULL: the server. */
  const char *image_url;
  /** File with the Director's root metadata as provisioned. Not NULL. */
  const char *director_root;
  /** File with the Image repository's root metadata as provisioned. Not NULL. */
  const char *image_root;
  /** One-time token of the first enrollment; NULL when the vehicle has enrolled before. Not used again once it did. */
  const char *enrollment_token;
  /** Pseudonym of the vehicle; not its VIN. Not NULL. */
  const char *vehicle_id;
  /** Serial number of the ECU that runs this library. Not NULL. */
  const char *ecu_serial;
  /** Hardware id of that ECU. Not NULL. */
  const char *hardware_id;
  /** Product level, such as "ultra". Not NULL. */
  const char *tier;
  /** Region in which the vehicle is approved, such as "eu". Not NULL. */
  const char *region;
  /** The ONNX Runtime library; NULL: the file that the environment variable ORT_DYLIB_PATH names, then the loader's search path. */
  const char *runtime_path;
  /** PEM file with the authorities that the server's certificate may come from; NULL: those that the system trusts. */
  const char *tls_roots;
  /** Seconds between two questions to the server as long as it names no other time; 0: 300. */
  uint32_t poll_interval_s;
  /** Threads that one run of a model uses, the caller's included; 0: 1, the caller's alone. */
  uint32_t intra_threads;
  /** Memory that all loaded models together may need by their contracts, MiB; 0: 2048. Two must fit for a swap without a gap. */
  uint32_t memory_budget_mib;
  /** A candidate in shadow looks at every n-th frame; 0: 1. */
  uint32_t shadow_every;
  /** Age of a camera image, exposure to step, from which on it is stale, ms; 0: 150. */
  uint32_t frame_age_max_ms;
  /** Age of the ego state from which on it is stale, ms; 0: 150. */
  uint32_t ego_age_max_ms;
  /** Time between the exposures of two cameras from which on they count as apart, ms; 0: 20. */
  uint32_t camera_skew_max_ms;
  /** The most detailed lines that `log` receives: `SWB_LOG_...`; 0: `SWB_LOG_INFO`. */
  uint32_t log_level;
  /** First argument of every callback. Never looked at by the library; must stay valid until `swb_vehicle_free` returns. */
  void *userdata;
  /** Receives the log; NULL: no log. With several vehicles in a process, each log receives the lines of all. */
  swb_log_fn log;
  /** Tells the time; NULL: the system's clock. */
  swb_clock_fn clock;
  /** Decides about updates; NULL: every verified update is welcome. */
  swb_consent_fn consent;
  /** Tells the state of the vehicle; NULL: known only from the modes and speeds of the steps. */
  swb_vehicle_state_fn vehicle_state;
  /**
   * 1: also addresses without encryption are taken that lead out of this computer. Only for a network that nobody else is on, such as a
   * test bench: whoever is on it reads the enrollment token and can enroll in the vehicle's place. 0: such an address is refused.
   */
  uint32_t allow_plain_http;
  /** The Director is asked with a nonce, which nothing recorded can answer, when its Timestamp was signed longer ago than this, seconds; 0: 14400. */
  uint32_t timestamp_age_max_s;
  /** File that says which repositories must sign for which images (Uptane repository map, TAP 4); NULL: both for all. */
  const char *repository_map;
  /**
   * Folder with metadata as it was when the vehicle left the factory, which its first check may not fall behind: director/NAME and image/NAME,
   * where NAME is timestamp.json, snapshot.json, targets.json or a delegated role's, without version; no roots. NULL: none.
   */
  const char *provisioned_dir;
  /** When the vehicle left the factory, seconds since 1970-01-01 UTC: no clock counts that shows an earlier time. 0: not stated. */
  uint64_t provisioned_time_s;
  /**
   * Addresses of mirrors of the Image repository, `mirrors_len` texts: asked for bundles in this order and before it; where one fails, the
   * next goes on. They are believed nothing and told nothing but which bytes are wanted. NULL: none.
   */
  const char *const *mirrors;
  /** Number of mirrors, at most `SWB_MIRRORS_MAX`. */
  size_t mirrors_len;
  /** Most bytes per second that downloads of releases take of the link, all together; 0: as many as come. */
  uint64_t download_bytes_per_s_max;
  /**
   * Most bytes that are downloaded between two checkpoints, and so the most that a power cut costs again, with the chunk that was on its
   * way. Each costs a sync: a small number is for links whose bytes cost more than the disk's time. 0: 64 MiB.
   */
  uint64_t checkpoint_bytes;
  /** Says what the network that the vehicle is on may be used for; NULL: whatever is to be downloaded. */
  swb_network_fn network;
} swb_vehicle_config;

/** One camera image, of any size: it is scaled to what the model reads. */
typedef struct {
  /** `sizeof(swb_camera_frame)`; the same in every element of an array. */
  size_t struct_size;
  /** Camera id as the model's contract numbers them. */
  uint32_t camera_id;
  /** How `data` is laid out: `SWB_PIXEL_FORMAT_...`. */
  uint32_t format;
  /** Width, pixels. */
  uint32_t width;
  /** Height, pixels. */
  uint32_t height;
  /** Bytes from one row to the next; of the luma plane for NV12, whose chroma plane has the same stride. */
  uint32_t stride_bytes;
  /** Zero. */
  uint32_t reserved;
  /** Number of the frame as the camera counts them; a repeated number means that the camera hangs. */
  uint64_t frame_id;
  /** Middle of the exposure, ns of the caller's monotonic clock. */
  int64_t exposure_ns;
  /** The pixels: at least `stride_bytes * height` bytes, half as much again for NV12. Read during the step only. */
  const uint8_t *data;
  /** Bytes at `data`. */
  size_t data_len;
} swb_camera_frame;

/** The vehicle's own motion at the time of the step. Every value must be finite. */
typedef struct {
  /** `sizeof(swb_ego_state)`. */
  size_t struct_size;
  /** Time of measurement, ns of the caller's monotonic clock. */
  int64_t time_ns;
  /** Longitudinal speed, m/s. */
  float speed_mps;
  /** Longitudinal acceleration, m/s2. */
  float acceleration_mps2;
  /** Lateral acceleration, m/s2, left positive. */
  float lateral_acceleration_mps2;
  /** Yaw rate, rad/s, left positive. */
  float yaw_rate_radps;
  /** Road-wheel angle, rad, left positive. */
  float steering_rad;
  /** Zero. */
  uint32_t reserved;
} swb_ego_state;

/** The navigation command and its surroundings. All zero: follow the lane, speed limit unknown. */
typedef struct {
  /** `sizeof(swb_route)`. */
  size_t struct_size;
  /** What navigation asks for: `SWB_ROUTE_...`. */
  uint32_t command;
  /** Distance to where the command applies, m. */
  float distance_m;
  /** Speed limit, m/s; 0 when unknown. */
  float speed_limit_mps;
  /** Zero. */
  uint32_t reserved;
} swb_route;

/** What is known of the driver (names after COVESA VSS). All zero: nothing is known. */
typedef struct {
  /** `sizeof(swb_driver_state)`. */
  size_t struct_size;
  /** Whether hands are on the wheel: `SWB_UNKNOWN`, `SWB_YES` or `SWB_NO`. */
  uint8_t hands_on_wheel;
  /** Whether eyes are on the road: `SWB_UNKNOWN`, `SWB_YES` or `SWB_NO`. */
  uint8_t eyes_on_road;
  /** 1: the driver steers, brakes or accelerates against the function. */
  uint8_t overrides;
  /** 1: `attentive_probability` is measured. */
  uint8_t attentive_known;
  /** Probability that the driver attends, 0 to 1. */
  float attentive_probability;
} swb_driver_state;

/** A float by name, for what a model's contract asks for beyond the other fields. */
typedef struct {
  /** `sizeof(swb_signal)`; the same in every element of an array. */
  size_t struct_size;
  /** Name as in the contract, UTF-8. Read during the step only. */
  const char *name;
  /** Value in the unit that the contract's author states. */
  float value;
  /** Zero. */
  uint32_t reserved;
} swb_signal;

/** Everything that one driving step looks at. All that it points to is read during the step only and stays the caller's. */
typedef struct {
  /** `sizeof(swb_drive_input)`. */
  size_t struct_size;
  /** Number of the step, rising by one; a repeated or falling number is a fault. */
  uint64_t sequence;
  /** The caller's monotonic time now, ns. */
  int64_t time_ns;
  /** The newest frame of each camera: an array of `cameras_len` elements; NULL when there are none. */
  const swb_camera_frame *cameras;
  /** Number of cameras, at most `SWB_CAMERAS_MAX`. */
  uint32_t cameras_len;
  /** What the driver or the vehicle asks the driving function to do: `SWB_MODE_...`. */
  uint32_t requested_mode;
  /** The vehicle's own motion. Not NULL. */
  const swb_ego_state *ego;
  /** The navigation command; NULL when there is no navigation: follow the lane, speed limit unknown. */
  const swb_route *route;
  /** What is known of the driver; NULL: nothing. */
  const swb_driver_state *driver;
  /** Named signals: an array of `signals_len` elements; NULL when there are none. */
  const swb_signal *signals;
  /** Number of signals, at most `SWB_SIGNALS_MAX`. */
  uint32_t signals_len;
  /** Zero. */
  uint32_t reserved;
} swb_drive_input;

/** One point of the planned path, in the vehicle's axes at the time of the frame. */
typedef struct {
  /** Time after the frame, s. */
  float time_s;
  /** Forward, m. */
  float x_m;
  /** Left, m. */
  float y_m;
  /** Heading relative to the vehicle at the time of the frame, rad, left positive. */
  float heading_rad;
  /** Speed, m/s. */
  float speed_mps;
  /** Standard deviation of `x_m`, m; 0 when the model states none. */
  float x_std_m;
  /** Standard deviation of `y_m`, m; 0 when the model states none. */
  float y_std_m;
} swb_trajectory_point;

/** Exactly which model it is. */
typedef struct {
  /** Name, UTF-8, closed by a zero byte; cut when longer. */
  char name[SWB_IDENTITY_TEXT_BYTES];
  /** Version, UTF-8, closed by a zero byte; cut when longer. */
  char version[SWB_IDENTITY_TEXT_BYTES];
  /** SHA-256 of the bundle's chunk index, the file that was signed. */
  uint8_t sha256[32];
  /** Release counter: rises with every release of the model; a vehicle never goes below the one that it confirmed. */
  uint64_t release_counter;
  /** Rises with every model that this vehicle loads, also with the same one after a restart. 0: no model. */
  uint64_t generation;
} swb_model_identity;

/**
 * The answer of one driving step. Set `struct_size` once; the step writes everything else, every time.
 *
 * When `control_valid` is 0, nothing in it may move the vehicle except `takeover_level` and `minimal_risk`, which are requests to the vehicle's
 * own software.
 */
typedef struct {
  /** `sizeof(swb_drive_output)`, set by the caller. */
  size_t struct_size;
  /** Sequence number of the input that it answers; 0 when the input could not be read. */
  uint64_t sequence;
  /** Frame id of the front camera's image, also of one that could not be used; 0 when there was none. */
  uint64_t frame_id;
  /** Exposure of the oldest image that was used, ns of the caller's monotonic clock. */
  int64_t exposure_ns;
  /** End of validity, ns of the caller's monotonic clock. Never act on the output later than this. 0 when `control_valid` is 0. */
  int64_t valid_until_ns;
  /** What went wrong in this step: bits `SWB_FAULT_...`. Bits can be set while `control_valid` is 1. */
  uint64_t faults;
  /** Time inside the model, ns. */
  uint64_t run_ns;
  /** Time of the whole step, ns. */
  uint64_t total_ns;
  /** Path curvature to drive now, 1/m, left positive. Only meaningful when `control_valid` is 1. */
  float curvature_1pm;
  /** Longitudinal acceleration to apply now, m/s2. Only meaningful when `control_valid` is 1. */
  float acceleration_mps2;
  /** The model's own confidence, 0 to 1. */
  float confidence;
  /** Probability of `intent`, 0 to 1. */
  float intent_probability;
  /** What the model intends to do: `SWB_INTENT_...`. */
  uint32_t intent;
  /** How urgently the driver must take over: `SWB_TAKEOVER_...`. */
  uint32_t takeover_level;
  /** Why: `SWB_TAKEOVER_REASON_...`. */
  uint32_t takeover_reason;
  /** Time that the driver has, ms; 0 when nothing is asked. */
  uint32_t takeover_budget_ms;
  /**
   * The minimal risk manoeuvre that the vehicle should carry out: `SWB_MINIMAL_RISK_...`. The library asks, the vehicle acts.
   * It asks once the last valid output has run out, not in the first step without one. Once asked for, a manoeuvre stays asked for, also
   * in steps whose `control_valid` is 1 again and at standstill, until the driver overrides (`swb_driver_state.overrides`) or the requested mode is
   * `SWB_MODE_STANDBY` (UN R157: it ends with the driver).
   */
  uint32_t minimal_risk;
  /** Mode that this output is meant for: `SWB_MODE_...`. */
  uint32_t mode;
  /**
   * 1: curvature, acceleration and trajectory come from a model, are finite and keep the contract's envelope: the control as it stands, the
   * trajectory in the speeds, accelerations and curvatures that its points imply from the vehicle's present motion on. 0: do not use them.
   */
  uint8_t control_valid;
  /** 1: the first output of a model that was just swapped in. */
  uint8_t swapped;
  /** 1: the new model failed in this very step and the previous one answered. */
  uint8_t fell_back;
  /** Zero. */
  uint8_t reserved;
  /** Number of valid points in `trajectory`. */
  uint32_t trajectory_len;
  /** The planned path, in order of time. It keeps the envelope over windows of half a second and of one second; neighboring points scatter. */
  swb_trajectory_point trajectory[SWB_TRAJECTORY_POINTS_MAX];
  /** Named actions of a platform that is no road vehicle, in the contract's order. */
  float actions[SWB_ACTIONS_MAX];
  /** Number of valid values in `actions`. */
  uint32_t actions_len;
  /** Zero. */
  uint32_t reserved2;
  /** The model that answered; its `generation` is 0 when none did. */
  swb_model_identity model;
} swb_drive_output;

/** The state of a vehicle. Set `struct_size`; `swb_vehicle_status` writes the rest. */
typedef struct {
  /** `sizeof(swb_status)`. */
  size_t struct_size;
  /** Where the update stands: `SWB_UPDATE_...`. */
  uint32_t update;
  /** Progress of the download, thousandths. */
  uint32_t progress_permille;
  /** Completed questions to the server since the start. */
  uint64_t checks;
  /** 1: the server knows the vehicle: it enrolled, or the server answered it since the start. */
  uint8_t enrolled;
  /** 1: the update side works. It stops only by a defect; steps go on then. */
  uint8_t running;
  /** 1: the model that answers steps has not passed its trial yet. */
  uint8_t on_trial;
  /** Zero. */
  uint8_t reserved;
  /** Why the server could not be asked, as a stable number; 0 when the last try succeeded. */
  int32_t check_result;
  /** The model that answers steps; its `generation` is 0 when there is none. */
  swb_model_identity active;
  /** Name of the model that the update is about, UTF-8, closed by a zero byte; empty when it is the active one or there is none. */
  char candidate_model[SWB_IDENTITY_TEXT_BYTES];
  /** Its version, likewise. */
  char candidate_version[SWB_IDENTITY_TEXT_BYTES];
  /** Why the last update was refused or rolled back, as a stable number; else 0. */
  int32_t result;
  /** Zero. */
  uint32_t reserved2;
  /** The same as a stable name for logs, such as "self_test_failed", closed by a zero byte. */
  char reason[SWB_REASON_BYTES];
  /** The same in words, UTF-8, closed by a zero byte. */
  char text[SWB_TEXT_BYTES];
  /**
   * Seconds by which the vehicle's clock is behind the latest time at which metadata was verified; 0 when it is not. While it is behind,
   * expiry is judged by that time.
   */
  uint64_t clock_behind_s;
  /** Bytes that were downloaded for the last release since its download began in this run, those of a delta included. */
  uint64_t downloaded_bytes;
  /** Bytes of its bundle that did not have to be, because the installed release has them or a delta restored them. */
  uint64_t reused_bytes;
} swb_status;

/** Something that happened. Set `struct_size`; `swb_vehicle_next_event` writes the rest. */
typedef struct {
  /** `sizeof(swb_event)`. */
  size_t struct_size;
  /** What happened: `SWB_EVENT_...`; `SWB_EVENT_NONE` when there is nothing new. */
  uint32_t kind;
  /** The update's new state, `SWB_UPDATE_...`, when `kind` is `SWB_EVENT_UPDATE`; else 0. */
  uint32_t update;
  /** When, seconds since 1970-01-01 UTC by the vehicle's clock. */
  int64_t time_s;
  /** Why, as a stable number, when it is a failure; else 0. */
  int32_t result;
  /** Zero. */
  uint32_t reserved;
  /** The same as a stable name for logs, such as "self_test_failed", closed by a zero byte. */
  char reason[SWB_REASON_BYTES];
  /** Name of the model that it is about, UTF-8, closed by a zero byte; may be empty. */
  char model[SWB_IDENTITY_TEXT_BYTES];
  /** Version of the model that it is about, UTF-8, closed by a zero byte; may be empty. */
  char version[SWB_IDENTITY_TEXT_BYTES];
  /** Why in words, UTF-8, one line, closed by a zero byte; may be empty. Holds no secret. */
  char text[SWB_TEXT_BYTES];
} swb_event;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/**
 * The ABI of the loaded library: `(major << 16) | minor`.
 *
 * Compare it with `SWB_ABI_VERSION`, the same figure for the header that you compiled with: the major numbers must be equal and the library's
 * minor number at least the header's. `swb_vehicle_open` compares the major number itself.
 *
 * Any thread. Never blocks, never fails.
 */
uint32_t swb_abi_version(void);

/**
 * The version of the product, such as "0.1.0", for logs. Decide by `swb_abi_version`, not by this.
 *
 * The text is the library's and lives as long as the library is loaded; do not free it. Any thread. Never blocks, never fails.
 */
const char *swb_version_string(void);

/**
 * The name of a result number as this header spells it, such as "SWB_ERROR_NULL"; for a number of the SDK the part that it belongs to.
 *
 * The text is the library's and lives as long as the library is loaded; do not free it. Never NULL. Any thread. Never blocks, never fails.
 */
const char *swb_result_name(int32_t result);

/**
 * Copies the text of the calling thread's last failed call into `buffer`.
 *
 * Returns the length of the whole text in bytes, without the closing zero; 0 when no call of this thread has failed yet. At most `capacity` bytes
 * are written, the closing zero included, so a result that is not less than `capacity` means that the text was cut. `buffer` may be NULL
 * when `capacity` is 0, to ask for the length. The text is UTF-8, one line, at most 512 bytes, and holds no secret. A call that succeeds
 * leaves it as it is.
 *
 * Any thread; each has a text of its own. Never blocks.
 *
 * The caller promises:
 * `buffer` points to `capacity` writable bytes, or is NULL.
 */
size_t swb_last_error(char *buffer, size_t capacity);

/**
 * The name of what an event says, in one word for logs: of the update's new state, such as "rolled-back", or of another event, such as
 * "check-failed".
 *
 * The text is the library's and lives as long as the library is loaded; do not free it. Never NULL: "unknown" for numbers that the
 * library does not know. Any thread. Never blocks, never fails.
 */
const char *swb_event_name(uint32_t kind, uint32_t update);

/**
 * Opens a vehicle: reads its store, loads the model that it last confirmed, and starts the threads that look for updates.
 *
 * On success `*out` is a handle that belongs to the caller, who ends it with `swb_vehicle_free`; on failure `*out` is NULL. A vehicle
 * without a model opens too; its steps answer `SWB_ERROR_NO_MODEL` until one is installed. The server need not be reachable.
 *
 * Any thread. Blocks while the model is loaded and tested, typically for less than a second. Do not fork afterwards: threads run.
 *
 * - `SWB_ERROR_NULL`: `config`, `out` or a text that must not be NULL is NULL.
 * - `SWB_ERROR_STRUCT_SIZE`, `SWB_ERROR_VALUE`: as said there.
 * - `SWB_ERROR_IN_CALLBACK`: as said there.
 * - `SWB_ERROR_ABI`: `abi_version` has another major number than the library.
 * - a number of the SDK: the store cannot be used or is in use by another process, a root file cannot be read, ONNX Runtime is missing.
 *
 * The caller promises:
 * `config` is NULL or points to a struct as its `struct_size` says; its texts end with a zero byte; its callbacks may be called from any
 * thread with its `userdata`. `out` is NULL or points to a pointer.
 */
int32_t swb_vehicle_open(const swb_vehicle_config *config, swb_vehicle **out);

/**
 * Ends a vehicle: stops its threads, waits for them and releases everything. NULL is allowed and does nothing.
 *
 * An update that is under way goes on where it was when the vehicle is opened again. No other call on this handle may be running or
 * follow. From within a callback it does nothing but set the text of `swb_last_error`. Blocks until the threads have ended, at most for a few seconds.
 *
 * The caller promises:
 * `vehicle` is NULL or comes from `swb_vehicle_open` and has not been freed.
 */
void swb_vehicle_free(swb_vehicle *vehicle);

/**
 * Answers one frame: what to do now, how sure the model is, and whether the driver must take over.
 *
 * `output` is written on every call, also when the result is an error: then `control_valid` is 0 and `takeover_level` and `minimal_risk`
 * say what must happen. The one exception is an `output` that cannot be written (NULL, wrong `struct_size`).
 *
 * One thread at a time; it may be another one for every call. Runs on the caller's thread, takes no lock that an update can hold,
 * and blocks only for as long as the model computes. A new model takes over between two steps.
 *
 * - `SWB_OK`: `control_valid` is 1. `faults` may still name what was not perfect.
 * - `SWB_ERROR_NO_MODEL`, `SWB_ERROR_INPUT`, `SWB_ERROR_MODEL`, `SWB_ERROR_DEADLINE`: the step was done, its answer must not be used.
 *   `swb_last_error` names what was wrong first: which camera, signal or field and why, or which limit at which point.
 * - `SWB_ERROR_NULL`, `SWB_ERROR_STRUCT_SIZE`, `SWB_ERROR_VALUE`, `SWB_ERROR_BUSY`, `SWB_ERROR_PANIC`, `SWB_ERROR_POISONED`,
 *   `SWB_ERROR_IN_CALLBACK`: the model was not asked; `SWB_FAULT_CALL` is set.
 *
 * The caller promises:
 * `vehicle` is NULL or a live handle. `input` and `output` are NULL or point to structs as their `struct_size` says; everything that the
 * input points to stays as it is during the call.
 */
int32_t swb_vehicle_step(swb_vehicle *vehicle, const swb_drive_input *input, swb_drive_output *output);

/**
 * Tells where the vehicle stands.
 *
 * Any thread, at any time. Does not wait for an update or a step. `status` is written on success only.
 *
 * - `SWB_ERROR_NULL`, `SWB_ERROR_STRUCT_SIZE`, `SWB_ERROR_POISONED`, `SWB_ERROR_IN_CALLBACK`: as said there.
 *
 * The caller promises:
 * `vehicle` is NULL or a live handle. `status` is NULL or points to a struct as its `struct_size` says.
 */
int32_t swb_vehicle_status(const swb_vehicle *vehicle, swb_status *status);

/**
 * Takes the oldest event that has not been taken yet; `kind` is `SWB_EVENT_NONE` when there is none.
 *
 * Any thread, at any time; each event is given once. Never waits. The library keeps the newest events when nobody asks for long.
 * `event` is written on success only.
 *
 * - `SWB_ERROR_NULL`, `SWB_ERROR_STRUCT_SIZE`, `SWB_ERROR_POISONED`, `SWB_ERROR_IN_CALLBACK`: as said there.
 *
 * The caller promises:
 * `vehicle` is NULL or a live handle. `event` is NULL or points to a struct as its `struct_size` says.
 */
int32_t swb_vehicle_next_event(const swb_vehicle *vehicle, swb_event *event);

/**
 * As `swb_vehicle_next_event`, waiting up to `timeout_ms` for an event; `kind` is `SWB_EVENT_NONE` when none came. For a thread that follows
 * updates; not for the driving thread.
 *
 * Any thread but that of a callback. Blocks for up to `timeout_ms`; end it before `swb_vehicle_free`.
 *
 * - `SWB_ERROR_NULL`, `SWB_ERROR_STRUCT_SIZE`, `SWB_ERROR_POISONED`, `SWB_ERROR_IN_CALLBACK`: as said there.
 *
 * The caller promises:
 * `vehicle` is NULL or a live handle. `event` is NULL or points to a struct as its `struct_size` says.
 */
int32_t swb_vehicle_wait_event(const swb_vehicle *vehicle, uint32_t timeout_ms, swb_event *event);

/**
 * Asks the server now instead of at the next interval.
 *
 * Any thread, at any time. Returns at once; events tell what comes of it.
 *
 * - `SWB_ERROR_NULL`, `SWB_ERROR_POISONED`, `SWB_ERROR_IN_CALLBACK`: as said there.
 *
 * The caller promises:
 * `vehicle` is NULL or a live handle.
 */
int32_t swb_vehicle_check_now(swb_vehicle *vehicle);

/**
 * Lets the model that is armed take over at the next frame at which both models' plans agree, also while the driving function is engaged.
 * Meant for `SWB_ACTIVATE_MANUALLY`; with the other policies it hurries them. The order stands until the swap, or until the release is no longer assigned.
 *
 * Any thread, at any time. Returns at once; `SWB_EVENT_UPDATE` with `SWB_UPDATE_TRIAL` follows when it is done.
 *
 * - `SWB_ERROR_NULL`, `SWB_ERROR_POISONED`, `SWB_ERROR_IN_CALLBACK`: as said there.
 *
 * The caller promises:
 * `vehicle` is NULL or a live handle.
 */
int32_t swb_vehicle_activate(swb_vehicle *vehicle);

/**
 * Installs an offline update: a file that `switchback offline create` made, from a workshop's computer or a USB stick. It is verified as if
 * the server had sent it, asks for consent, and drives after the same tests and the same trial.
 *
 * Returns when the file was opened and looked through; events tell the rest. The file stays open until the release is in its slot
 * (`SWB_UPDATE_STAGED`). When it is taken out before, or the vehicle is switched off, give it again: what was read is not read again. An
 * offline update goes on whatever the server assigns, unless that is newer; after a restart give it again, or the server's next answer decides.
 *
 * `path` is the file's path, UTF-8, closed by a zero byte; it may go away after the call. Any thread. Waits for the disk that the file is on.
 *
 * Answers SWB_OK; SWB_ERROR_NULL; SWB_ERROR_VALUE for a path that is not UTF-8; a number from SWB_ERROR_FETCH on when the file cannot be read
 * or is no whole offline update (swb_last_error says where it breaks off).
 *
 * The caller promises:
 * `vehicle` is NULL or a live handle; `path` is NULL or closed by a zero byte.
 */
int32_t swb_vehicle_install_offline(swb_vehicle *vehicle, const char *path);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* SWITCHBACK_H */
