#pragma once

#include "json.h"

/* A configuration with its prevResult. A runtime's has some thousand bytes. */
#define MAX_STDIN (1024 * 1024)
#define MAX_PATH_BYTES 256
#define MAX_ID_BYTES 256
#define MAX_VERSION_BYTES 32
#define MOST_TIMEOUT_MS 120000

/* An error object of CNI (spec: "Error"). Codes below 100 are the specification's. */
typedef enum {
  CNI_INCOMPATIBLE_VERSION = 1,
  CNI_BAD_ENVIRONMENT = 4,
  CNI_IO = 5,
  CNI_BAD_JSON = 6,
  CNI_BAD_CONFIG = 7,
  CNI_TRY_LATER = 11,
} cni_code;

/* NULL in `message`: no error. Texts are constants, or `text`. */
typedef struct {
  cni_code code;
  const char *message, *details;
} cni_error;

extern const cni_error no_error;

/* What a runtime says of one container. All texts are there, and may be empty. */
typedef struct {
  /* "0.4.0" before the configuration says another one. */
  char version[MAX_VERSION_BYTES];
  char container[MAX_ID_BYTES], netns[MAX_PATH_BYTES], interface[16];
  /* Of a pod of Kubernetes; empty for other containers. */
  char pod_namespace[64], pod_name[MAX_ID_BYTES], pod_uid[MAX_ID_BYTES];
  /* Of the configuration. */
  char socket[MAX_PATH_BYTES], enrolled_file[MAX_PATH_BYTES], own_namespace[64];
  unsigned long timeout_ms;
  /* Of the text on standard input. `at` NULL: there is none. */
  json_span previous;
} invocation;

/* Reads the configuration. The text must stay while `out` is used. */
cni_error read_configuration(json_span text, invocation *out);

/* Reads CNI_CONTAINERID, CNI_NETNS, CNI_IFNAME and CNI_ARGS. */
cni_error read_environment(invocation *out);

/* The versions of CNI that this plugin answers in, as elements of an array of JSON. */
extern const char supported_versions[];
