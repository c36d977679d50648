import http from 'node:http';
import https from 'node:https';
import tls from 'node:tls';
import { CulvertError } from '../../shared/errors.js';
import type { LabNode } from './lab-node.js';

export type LabResponse = { readonly status: number; readonly body: string };

export type LabRequest = {
  /** The node that sends the request. */
  readonly from: LabNode;
  readonly ip: string;
  readonly port: number;
  readonly path: string;
  readonly method?: string;
  /** HTTPS without verifying the certificate: only to ask whether a server is up. */
  readonly isTls?: boolean;
  readonly timeoutMs?: number;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string;
};

/** Sends an HTTP request of this process from inside a namespace of the lab. Rejects without an answer in time. */
export async function labHttp(request: LabRequest): Promise<LabResponse> {
  const { from, ip, port, path, method = 'GET', timeoutMs = 20_000, headers = {} } = request;
  const raw = await from.connect({ ip, port, timeoutMs });
  const socket = request.isTls === true ? tls.connect({ socket: raw, rejectUnauthorized: false }) : raw;
  try {
    return await new Promise((resolve, reject) => {
      const client = request.isTls === true ? https : http;
      // An agent (`agent: false` creates one too) would ignore this connection and dial from the machine's own namespace.
      const sent = client.request({ host: ip, port, path, method, headers, createConnection: () => socket });
      sent.setTimeout(timeoutMs, () =>
        sent.destroy(new CulvertError({ code: 'LAB_HTTP_DEADLINE', message: `${path} was not answered in time.` })),
      );
      sent.on('error', reject);
      sent.on('response', (response) => {
        const chunks: Buffer[] = [];
        response.on('data', (chunk: Buffer) => chunks.push(chunk));
        response.on('error', reject);
        response.on('end', () =>
          resolve({ status: response.statusCode ?? 0, body: Buffer.concat(chunks).toString('utf8') }),
        );
      });
      sent.end(request.body);
    });
  } finally {
    raw.destroy();
  }
}
