import { startController, type ControllerOptions } from './app.js';

/** Runs until SIGTERM or SIGINT, then closes everything in order; a second signal does not wait for that. */
export async function runController(options: ControllerOptions): Promise<void> {
  const { log } = options;
  const stopped = new Promise<NodeJS.Signals>((resolve) => {
    for (const name of ['SIGTERM', 'SIGINT'] as const) process.once(name, resolve);
  });
  const controller = await startController(options);
  const signal = await stopped;
  log.info({ signal }, 'stopping');
  await controller[Symbol.asyncDispose]();
}
