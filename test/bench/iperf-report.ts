import { z } from 'zod';

/** What the receiver of one `iperf3` run measured. */
export type IperfReport = { readonly bytes: number; readonly seconds: number };

const schema = z.object({
  end: z.object({ sum_received: z.object({ bytes: z.number().positive(), seconds: z.number().positive() }) }),
});

/** Reads the output of `iperf3 --json`. Throws when it failed or carried nothing. */
export function parseIperfReport(text: string): IperfReport {
  const document: unknown = JSON.parse(text);
  const failure = (document as { error?: unknown }).error;
  if (failure !== undefined) throw new Error(`iperf3 failed: ${JSON.stringify(failure)}`);
  const parsed = schema.safeParse(document);
  if (!parsed.success) throw new Error(`iperf3 wrote no sum of what was received: ${parsed.error.message}`);
  return parsed.data.end.sum_received;
}
