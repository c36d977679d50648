#include "invocation.h"

#include <stdlib.h>
#include <string.h>

#define DEFAULT_TIMEOUT_MS 10000
#define MAX_ARGS_BYTES 8192
#define LETTERS_AND_DIGITS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"

const cni_error no_error = {0, NULL, NULL};
/* A chain of 0.3.x hands a result on just so; the configuration that flannel writes is one. */
const char supported_versions[] = "\"0.3.0\",\"0.3.1\",\"0.4.0\",\"1.0.0\",\"1.1.0\"";

static cni_error bad_config(const char *details) {
  return (cni_error){CNI_BAD_CONFIG, "culvert: the configuration of the plugin is wrong", details};
}

static cni_error bad_environment(const char *details) {
  return (cni_error){CNI_BAD_ENVIRONMENT, "culvert: what the runtime says of the container is wrong", details};
}

static bool is_supported(const char *version) {
  const size_t length = strlen(version);
  if (length == 0 || strspn(version, "0123456789.") != length) return false;
  for (const char *at = supported_versions; (at = strstr(at, version)) != NULL; at += length)
    if (at[-1] == '"' && at[length] == '"') return true;
  return false;
}

/* An absolute path. A member that is not there leaves what is in `out`. */
static bool read_path(json_span config, const char *name, char *out) {
  json_span value;
  switch (find_member(config, name, &value)) {
    case JSON_ABSENT:
      return true;
    case JSON_TWICE:
      return false;
    case JSON_FOUND:
      break;
  }
  return read_json_text(value, out, MAX_PATH_BYTES) && out[0] == '/';
}

static bool read_name(json_span config, const char *name, char *out, size_t size) {
  json_span value;
  const json_search found = find_member(config, name, &value);
  return found == JSON_ABSENT || (found == JSON_FOUND && read_json_text(value, out, size));
}

cni_error read_configuration(json_span text, invocation *out) {
  json_span value;
  if (!is_json(text) || *json_trimmed(text).at != '{')
    return (cni_error){CNI_BAD_JSON, "culvert: the configuration is no object of JSON", "it comes on standard input"};
  json_search found = find_member(text, "cniVersion", &value);
  if (found == JSON_FOUND) {
    char version[MAX_VERSION_BYTES];
    if (!read_json_text(value, version, sizeof version) || !is_supported(version))
      return (cni_error){CNI_INCOMPATIBLE_VERSION, "culvert: this version of CNI is not supported",
                         "culvert-cni answers 0.3.0, 0.3.1, 0.4.0, 1.0.0 and 1.1.0: see cniVersion of the configuration"};
    strcpy(out->version, version);
  } else if (found == JSON_TWICE) {
    return bad_config("cniVersion is there twice");
  }
  out->timeout_ms = DEFAULT_TIMEOUT_MS;
  found = find_member(text, "timeoutMs", &value);
  if (found == JSON_TWICE || (found == JSON_FOUND && !read_json_number(value, MOST_TIMEOUT_MS, &out->timeout_ms)))
    return bad_config("timeoutMs must be a number of milliseconds from 0 to 120000");
  if (!read_path(text, "socket", out->socket) || out->socket[0] == '\0')
    return bad_config("socket must be the absolute path of the agent's cni.sock");
  if (!read_path(text, "enrolled", out->enrolled_file) || out->enrolled_file[0] == '\0')
    return bad_config("enrolled must be the absolute path of the agent's list of enrolled namespaces");
  if (!read_name(text, "ownNamespace", out->own_namespace, sizeof out->own_namespace))
    return bad_config("ownNamespace must be a name of at most 63 characters");
  found = find_member(text, "prevResult", &value);
  if (found == JSON_TWICE || (found == JSON_FOUND && *value.at != '{')) return bad_config("prevResult must be one object");
  if (found == JSON_FOUND) out->previous = value;
  return no_error;
}

/* Characters of names in Kubernetes, of container ids and of interfaces: none needs an escape in JSON. */
static bool copy_plain(const char *text, size_t length, char *out, size_t size) {
  if (length >= size || strspn(text, LETTERS_AND_DIGITS "-._:@") < length) return false;
  memcpy(out, text, length);
  out[length] = '\0';
  return true;
}

static bool copy_variable(const char *name, char *out, size_t size) {
  const char *text = getenv(name);
  return text == NULL || copy_plain(text, strlen(text), out, size);
}

/* KEY=VALUE;KEY=VALUE in any order; of other keys any text. */
static const char *read_args(const char *text, invocation *out) {
  const struct {
    const char *key;
    char *to;
    size_t size;
  } wanted[] = {{"K8S_POD_NAMESPACE", out->pod_namespace, sizeof out->pod_namespace},
                {"K8S_POD_NAME", out->pod_name, sizeof out->pod_name},
                {"K8S_POD_UID", out->pod_uid, sizeof out->pod_uid}};
  if (strnlen(text, MAX_ARGS_BYTES + 1) > MAX_ARGS_BYTES) return "CNI_ARGS is longer than 8192 bytes";
  while (*text != '\0') {
    const size_t length = strcspn(text, ";"), key = strcspn(text, "=;");
    for (size_t at = 0; at < sizeof wanted / sizeof wanted[0]; at++) {
      if (strlen(wanted[at].key) != key || strncmp(text, wanted[at].key, key) != 0) continue;
      if (wanted[at].to[0] != '\0') return "CNI_ARGS names a pod twice";
      if (key == length || !copy_plain(text + key + 1, length - key - 1, wanted[at].to, wanted[at].size))
        return "CNI_ARGS has a namespace, name or uid that no pod can have";
    }
    text += length;
    if (*text == ';') text++;
  }
  return NULL;
}

cni_error read_environment(invocation *out) {
  const char *netns = getenv("CNI_NETNS"), *args = getenv("CNI_ARGS");
  if (!copy_variable("CNI_CONTAINERID", out->container, sizeof out->container) || out->container[0] == '\0')
    return bad_environment("CNI_CONTAINERID must be there, with letters, digits, \"-\", \".\" and \"_\"");
  if (!copy_variable("CNI_IFNAME", out->interface, sizeof out->interface))
    return bad_environment("CNI_IFNAME is no name of an interface");
  if (netns == NULL || netns[0] != '/' || strlen(netns) >= sizeof out->netns)
    return bad_environment("CNI_NETNS must be an absolute path of at most 255 bytes");
  if (strspn(netns, LETTERS_AND_DIGITS "-._:@/+") != strlen(netns))
    return bad_environment("CNI_NETNS has a character that no path of a network namespace has");
  strcpy(out->netns, netns);
  const char *problem = args == NULL ? NULL : read_args(args, out);
  return problem == NULL ? no_error : bad_environment(problem);
}
