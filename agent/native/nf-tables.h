/* Changes of nftables, in the calling thread's namespace (linux/netfilter/nf_tables.h). */
#pragma once

#include <stdbool.h>

#include "tcp-life.h"

/*
 * Deletes a table that holds nothing: no chain, set or object. The kernel decides that and deletes in one step. `family`:
 * NFPROTO_IPV4 or NFPROTO_IPV6. `is_gone` false: there is something in it, and it stays. A table that does not exist is gone.
 */
failure delete_empty_table(int family, const char *name, bool *is_gone);

typedef enum { NO_TABLES, IPTABLES_TABLES, OTHER_TABLES } tables_found;

/* Whether there are tables, and whether some have a family or a name that iptables does not use. */
failure find_tables(tables_found *found);
