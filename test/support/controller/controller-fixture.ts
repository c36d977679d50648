import { mkdtemp, rm } from 'node:fs/promises';
import { request } from 'node:https';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { pino } from 'pino';
import { startController, type RunningController } from '../../../controller/app.js';
import { controllerSettings, type ControllerSettings } from '../../../controller/config/settings.js';
import type { Log } from '../../../shared/log.js';
import { PatientTimer, patientMs } from '../../lab/patience.js';
import { ownPort } from '../own-port.js';

export const silentLog: Log = pino({ level: 'silent' });

/** A directory of the test's own; removed with everything in it. */
export async function temporaryDirectory(): Promise<AsyncDisposable & { readonly path: string }> {
  const directory = await mkdtemp(path.join(tmpdir(), 'culvert-controller-'));
  return {
    path: directory,
    [Symbol.asyncDispose]: () => rm(directory, { recursive: true, force: true }),
  };
}

/** The defaults, on ports of loopback that stay this process's own. */
async function settingsFor(stateDir: string, changes: Partial<ControllerSettings> = {}): Promise<ControllerSettings> {
  const defaults = Object.fromEntries(Object.entries(controllerSettings).map(([name, spec]) => [name, spec.default]));
  return {
    ...(defaults as unknown as ControllerSettings),
    stateDir,
    listen: `127.0.0.1:${await ownPort()}`,
    natsListen: `127.0.0.1:${await ownPort()}`,
    advertise: ['127.0.0.1'],
    ...changes,
  };
}

export async function startedController(
  stateDir: string,
  options: { readonly changes?: Partial<ControllerSettings>; readonly nowMs?: () => number; readonly log?: Log } = {},
): Promise<RunningController> {
  const controller = await startController({
    settings: await settingsFor(stateDir, options.changes),
    log: options.log ?? silentLog,
    ...(options.nowMs === undefined ? {} : { nowMs: options.nowMs }),
  });
  await withDeadline(controller.ready, 'the controller is ready');
  return controller;
}

export type Answer = { readonly status: number; readonly body: unknown; readonly text: string };

/** One request to the API of a controller, with its administrator's token unless another is given (null: none). */
export function callApi(
  controller: Pick<RunningController, 'url' | 'caPem' | 'adminToken'>,
  method: string,
  pathname: string,
  options: { readonly body?: unknown; readonly token?: string | null; readonly rawBody?: string } = {},
): Promise<Answer> {
  const token = options.token === undefined ? controller.adminToken : options.token;
  const payload = options.rawBody ?? (options.body === undefined ? undefined : JSON.stringify(options.body));
  return new Promise((resolve, reject) => {
    const outgoing = request(
      new URL(pathname, controller.url),
      {
        method,
        ca: controller.caPem,
        agent: false,
        headers: token === null ? {} : { authorization: `Bearer ${token}` },
        timeout: patientMs(10_000),
      },
      (response) => {
        const chunks: Buffer[] = [];
        response.on('data', (chunk: Buffer) => chunks.push(chunk));
        response.on('error', reject);
        response.on('end', () => {
          const text = Buffer.concat(chunks).toString('utf8');
          resolve({ status: response.statusCode ?? 0, body: parseJson(text), text });
        });
      },
    );
    outgoing.on('error', reject);
    outgoing.end(payload);
  });
}

export async function apply(controller: RunningController, documents: string, dryRun = false): Promise<Answer> {
  return callApi(controller, 'POST', '/v1/apply', { body: { documents, dryRun } });
}

/** Rejects when the promise has not settled in time. */
export async function withDeadline<T>(promise: Promise<T>, what: string, ms = 45_000): Promise<T> {
  let timer: PatientTimer | undefined;
  const deadline = new Promise<never>((_, reject) => {
    timer = new PatientTimer(ms, () => reject(new Error(`not within ${ms} ms: ${what}`)));
  });
  try {
    return await Promise.race([promise, deadline]);
  } finally {
    timer?.clear();
  }
}

/** Asks again and again until the answer is not undefined. */
export async function eventually<T>(what: string, ask: () => Promise<T | undefined>, ms = 45_000): Promise<T> {
  const startedAtMs = performance.now();
  for (;;) {
    const answer = await ask();
    if (answer !== undefined) return answer;
    if (performance.now() - startedAtMs > patientMs(ms)) throw new Error(`not within ${ms} ms: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 25));
  }
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** A SegmentationRule as `apply` takes it. */
export function ruleDocument(name: string, spec: object): string {
  return JSON.stringify({ apiVersion: 'culvert.dev/v1', kind: 'SegmentationRule', metadata: { name }, spec });
}

export function workloadDocument(
  namespace: string,
  name: string,
  options: {
    readonly ip: string;
    readonly node?: string;
    readonly serviceAccount?: string;
    readonly labels?: Readonly<Record<string, string>>;
  },
): string {
  return JSON.stringify({
    apiVersion: 'culvert.dev/v1',
    kind: 'Workload',
    metadata: { namespace, name, ...(options.labels === undefined ? {} : { labels: options.labels }) },
    spec: {
      serviceAccount: options.serviceAccount ?? name,
      addresses: [options.ip],
      ...(options.node === undefined ? {} : { node: options.node, netns: name }),
    },
  });
}

/** Several documents as one input. */
export function documents(...texts: readonly string[]): string {
  return texts.join('\n---\n');
}
