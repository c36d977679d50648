import { setTimeout as delay } from 'node:timers/promises';
import { parseListenAddress } from '../shared/config/listen-address.js';
import { CulvertError } from '../shared/errors.js';
import { startController, type ControllerOptions } from './app.js';
import type { ControllerSettings } from './config/settings.js';
import { awaitTurn, type Turn } from './stand-by.js';

/** For a start that a signal stops: a crash at any point is mended by the next one. */
const startGraceMs = 10_000;

/** Ends the process at once, without closing anything. */
export type Cut = (error: unknown) => never;

/**
 * Runs until SIGTERM, SIGINT or SIGHUP, then closes everything in order. A second signal ends the process at once. With a
 * lease it stands by until its turn. `cut` ends it when the turn is over before its time, or the lock of its state lost.
 */
export async function runController(options: ControllerOptions, cut: Cut): Promise<void> {
  const { settings, log } = options;
  const stopped = new Promise<NodeJS.Signals>((resolve) => {
    for (const name of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const) process.once(name, resolve);
  });
  const { kubernetesLease: lease } = settings;
  if (lease === null) return await serve({ ...options, onStateLost: cut }, stopped);
  const stop = new AbortController();
  void stopped.then(() => stop.abort());
  const turn = await awaitTurn({ settings, lease, signal: stop.signal, log });
  if (turn === null) return log.info({ signal: await stopped }, 'stopping');
  void turn.lost.then(cut);
  log.info({ lease }, 'this controller has the lease, and serves');
  try {
    await serve({ ...options, onStateLost: cut }, stopped, turn);
  } finally {
    await turn[Symbol.asyncDispose]();
  }
}

async function serve(options: ControllerOptions, stopped: Promise<NodeJS.Signals>, turn?: Turn): Promise<void> {
  const { settings, log } = options;
  const starting = startController({ ...options, ...(turn === undefined ? {} : { replicas: turn.replicas }) });
  const tooLate = stopped.then(async (signal) => {
    await delay(startGraceMs, undefined, { ref: false });
    throw new CulvertError({
      code: 'START_CUT',
      message: `stopped by ${signal} while it started, which did not end within ${startGraceMs / 1000} s`,
      hint: 'see in its log what the start waited for',
    });
  });
  // It may come when the controller runs, and then says nothing.
  tooLate.catch(() => undefined);
  const controller = await Promise.race([starting, tooLate]);
  const ports = { https: controller.port, ...natsPortOf(settings) };
  void controller.ready.then(() => turn?.serve(ports)).catch(() => undefined);
  const signal = await stopped;
  log.info({ signal }, 'stopping');
  await controller[Symbol.asyncDispose]();
}

/** Of the embedded server; others have addresses of their own. */
function natsPortOf({ nats, natsListen }: ControllerSettings): Readonly<Record<string, number>> {
  return nats === 'embedded' ? { nats: parseListenAddress(natsListen, '--nats-listen').port } : {};
}
