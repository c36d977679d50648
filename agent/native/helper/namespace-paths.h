/* Which files an agent may have opened as network namespaces. */
#pragma once

#include <stdbool.h>

/*
 * Whether a path is where namespaces are: a process, a directory in which only root makes names, or a place where one is
 * mounted, also as another process sees it. No file system is asked but /proc.
 */
bool is_namespace_path(const char *path);
