import { createHmac, timingSafeEqual } from 'node:crypto';
import type { Route } from './router.js';

const folder = '/v1/kubernetes/admission';
/** An object has 1.5 MiB at most, and the question has it as it was and as it is to be. */
const maxBodyBytes = 4 * 1024 * 1024;

/**
 * Where an API server asks. It proves itself by nothing else than this address, which is derived from a key of the controller:
 * answers tell names of rules.
 */
export function admissionPath(keyPem: string): string {
  const secret = createHmac('sha256', keyPem).update('kubernetes admission').digest('hex');
  return `${folder}/${secret.slice(0, 32)}`;
}

/** The route by which the API server of a cluster asks about objects before it takes them. */
export function admissionRoutes(init: {
  readonly path: string;
  /** Null: no cluster asks. */
  readonly admit: ((body: Buffer, signal: AbortSignal) => Promise<object>) | null;
}): Route[] {
  const { path, admit } = init;
  if (admit === null) return [];
  return [
    {
      method: 'POST',
      path: `${folder}/:secret`,
      access: 'open',
      isKnown: ({ secret = '' }) => {
        const [given, right] = [Buffer.from(`${folder}/${secret}`), Buffer.from(path)];
        return given.length === right.length && timingSafeEqual(given, right);
      },
      maxBodyBytes,
      handle: async ({ body, signal }) => ({ status: 200, body: await admit(body, signal) }),
    },
  ];
}
