/* How the addon gets done what needs capabilities: by the privileged helper where there is one, otherwise by itself. */
#pragma once

#include "node-values.h"
#include "request.h"

/* `netns_fd` -1: in the own namespace. `reply` may be NULL where nothing is expected; what it made is closed where `made` is. */
failure ask_in(const act_request *what, int netns_fd, const int *fds, size_t count, act_reply *reply, made_fds *made);
failure ask_about(const act_request *what, const int *fds, size_t count, act_reply *reply);
/* EPROTO where none was made. */
failure ask_for_fds(const act_request *what, int netns_fd, made_fds *made);
napi_value ask_for_fd(napi_env env, act_request *what, int netns_fd);
/* For a function of the addon that opens something in a namespace, which is its one argument: netnsFd | -1. */
napi_value open_in_namespace(napi_env env, napi_callback_info info, act which);
/* For a question about a connected socket. */
failure read_ends(int fd, act_request *what);

/* For the end of a thread: of a visit to another namespace something stays open until then. */
void close_own_netns(void *unused);

/* An IP literal; false for anything else. */
bool parse_address(const char *host, uint16_t port, struct sockaddr_storage *out);
bool read_request_text(napi_env env, napi_value value, act_request *out);

