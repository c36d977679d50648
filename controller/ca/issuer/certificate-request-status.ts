import { z } from 'zod';
import { quoted } from './issuer-error.js';

const base64Pem = z.string().max(512 * 1024);

/** A CertificateRequest of cert-manager.io/v1, as far as its outcome is in it. */
export const requestSchema = z.object({
  metadata: z.object({ name: z.string().min(1).max(253) }),
  status: z
    .object({
      conditions: z
        .array(
          z.object({
            type: z.string(),
            status: z.string(),
            reason: z.string().optional(),
            message: z.string().optional(),
          }),
        )
        .max(50)
        .nullish(),
      certificate: base64Pem.nullish(),
      ca: base64Pem.nullish(),
    })
    .nullish(),
});

export type RequestOutcome =
  | { readonly state: 'waiting'; readonly isApproved: boolean }
  | { readonly state: 'signed'; readonly certificatesPem: string }
  /** `message`: for people; empty: it says nothing. */
  | { readonly state: 'denied' | 'invalid' | 'failed'; readonly message: string };

/** What has become of a request. Refusals come first: a denied request is also "not ready". */
export function outcomeOf({ status }: z.infer<typeof requestSchema>): RequestOutcome {
  const conditions = status?.conditions ?? [];
  const inForce = (type: string): { readonly message: string } | null => {
    const found = conditions.find((condition) => condition.type === type && condition.status === 'True');
    return found === undefined ? null : { message: quoted(found.message ?? '') };
  };
  const denied = inForce('Denied');
  if (denied !== null) return { state: 'denied', ...denied };
  const invalid = inForce('InvalidRequest');
  if (invalid !== null) return { state: 'invalid', ...invalid };
  const ready = conditions.find(({ type }) => type === 'Ready');
  if (ready?.status === 'False' && (ready.reason === 'Failed' || ready.reason === 'Denied')) {
    return { state: ready.reason === 'Denied' ? 'denied' : 'failed', message: quoted(ready.message ?? '') };
  }
  const certificate = decoded(status?.certificate);
  if (ready?.status === 'True' && certificate !== '') {
    return { state: 'signed', certificatesPem: `${certificate}\n${decoded(status?.ca)}` };
  }
  return { state: 'waiting', isApproved: inForce('Approved') !== null };
}

function decoded(base64: string | null | undefined): string {
  return Buffer.from(base64 ?? '', 'base64').toString('latin1');
}
