import { z } from 'zod';

/** More than the plugin sends: a path and four names, each bounded (agent/native/cni/invocation.h). */
export const maxRequestBytes = 4096;

const requestSchema = z.strictObject({
  version: z.literal(1),
  command: z.enum(['ADD', 'CHECK']),
  /** How long the plugin waits, in milliseconds. */
  timeoutMs: z.int().min(0).max(120_000),
  containerId: z.string().min(1).max(255),
  netns: z.string().max(255),
  interface: z.string().max(15),
  /** Empty texts for what is no pod of Kubernetes. */
  pod: z.strictObject({ namespace: z.string().max(63), name: z.string().max(255), uid: z.string().max(255) }),
});

/** What the CNI plugin of this node asks the agent for one container (`agent/native/cni/agent.c` writes it). */
export type CniRequest = Readonly<z.infer<typeof requestSchema>>;

/**
 * `captured`: the kernel has the rules. `unknown`: whether the pod is enrolled is not known yet, and the plugin decides as if no
 * agent were there.
 */
export type CniOutcome =
  | { readonly outcome: 'captured' | 'notEnrolled' | 'unknown' }
  | { readonly outcome: 'failed'; readonly problem: string };

/** `line`: without its end. Null: it is no request. */
export function parseCniRequest(line: string): CniRequest | null {
  try {
    return requestSchema.parse(JSON.parse(line));
  } catch {
    return null;
  }
}
