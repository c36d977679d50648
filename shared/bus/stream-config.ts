import type { JetStreamManager, StreamConfig } from 'nats';
import { toStoreError } from './bus-error.js';

const streamNotFound = 10059;
/** Another client created the stream first. */
const streamNameInUse = 10058;

/** Creates the stream, or updates an existing one; fails for settings that cannot change on an existing stream. */
export async function applyStreamConfig(
  manager: JetStreamManager,
  config: Partial<StreamConfig> & { name: string },
): Promise<void> {
  try {
    await manager.streams.update(config.name, config);
  } catch (error) {
    if (apiErrorCode(error) !== streamNotFound) throw toStoreError(`cannot set up the stream ${config.name}`, error);
    await createStream(manager, config);
  }
}

async function createStream(
  manager: JetStreamManager,
  config: Partial<StreamConfig> & { name: string },
): Promise<void> {
  try {
    await manager.streams.add(config);
  } catch (error) {
    if (apiErrorCode(error) === streamNameInUse) return;
    throw toStoreError(`cannot create the stream ${config.name}`, error);
  }
}

function apiErrorCode(error: unknown): number | undefined {
  return (error as { api_error?: { err_code?: number } } | null)?.api_error?.err_code;
}
