/**
 * What an agent and its supervisor say to each other. The agent reports that it serves the workloads that it served
 * before, that its listening sockets changed, and that another agent took over its host.
 */
export type FromSupervised = { readonly type: 'serving' | 'sockets' | 'succeeded' };

/**
 * `recheck-capture`: check the rules of capture now. `sockets-outlive-you`: the service manager keeps the listening
 * sockets when this agent and its supervisor end.
 */
export type ToSupervised = { readonly type: 'recheck-capture' | 'sockets-outlive-you' };

/** The environment variable with the number of listening sockets that a supervised agent is started with. */
export const inheritedCount = 'CULVERT_SUPERVISED_SOCKETS';
/** Their first descriptor: 3 is the channel to the supervisor. */
export const firstInheritedFd = 4;
