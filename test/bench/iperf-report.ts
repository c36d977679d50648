import { z } from 'zod';

/** What the receiver of one `iperf3` run measured. */
export type IperfReport = { readonly bytes: number; readonly seconds: number };

const schema = z.object({
  end: z.object({ sum_received: z.object({ bytes: z.number().positive(), seconds: z.number().positive() }) }),
});

/**
 * Whether a run ended before it began, because the server has not finished with the last client: it says so, or it closes its
 * listener to open it again, and resets who waits in the queue.
 */
export function isServerBusy(text: string): boolean {
  const { error, start } = JSON.parse(text) as { error?: string; start?: { connected?: readonly unknown[] } };
  if (error === undefined || (start?.connected ?? []).length > 0) return false;
  return error.includes('the server is busy') || error.includes('Connection reset by peer');
}

/** Reads the output of `iperf3 --json`. Throws when it failed or carried nothing. */
export function parseIperfReport(text: string): IperfReport {
  const document: unknown = JSON.parse(text);
  const failure = (document as { error?: unknown }).error;
  if (failure !== undefined) throw new Error(`iperf3 failed: ${JSON.stringify(failure)}`);
  const parsed = schema.safeParse(document);
  if (!parsed.success) throw new Error(`iperf3 wrote no sum of what was received: ${parsed.error.message}`);
  return parsed.data.end.sum_received;
}
