/* Which process has a socket, for an alarm that names it. */
#pragma once

/*
 * Looks at processes in a network namespace only, both given by the inode. Prints "PID NAME", "cut" when there was too much to
 * look at all of it, or nothing. The limits are those of agent/dataplane/pool/holder-search.ts.
 */
void find_holder(const char *netns_inode, const char *socket_inode);
