import { statfs } from 'node:fs/promises';
import type { Log } from '../../shared/log.js';
import type { ControllerSettings } from '../config/settings.js';
import { AuditLog } from './audit-log.js';
import { AuditTrail } from './audit-trail.js';
import { auditDirectory, LocalRequests } from './local-requests.js';

export type OpenedAuditLog = {
  readonly auditLog: AuditLog;
  readonly trail: AuditTrail;
  /** Call it now and then. */
  readonly maintain: () => Promise<void>;
  readonly close: () => Promise<void>;
};

/** Opens the audit log of a state directory, and takes into it what commands did while no controller ran. */
export async function openAuditLog(init: {
  readonly settings: Pick<ControllerSettings, 'stateDir' | 'auditLogRetention' | 'auditLogMaxBytes'>;
  readonly nowMs: () => number;
  readonly log: Log;
  /** Size of the disk that has the directory, in bytes; 0: it has none. */
  readonly diskBytes?: (directory: string) => Promise<number>;
}): Promise<OpenedAuditLog> {
  const { settings, nowMs, log } = init;
  const directory = auditDirectory(settings.stateDir);
  const limits = { retentionMs: settings.auditLogRetention, maxBytes: await bytesOf(init) };
  const auditLog = await AuditLog.open({ directory, limits, nowMs, log });
  const local = new LocalRequests({ directory });
  const trail = new AuditTrail({ auditLog, nowMs, log });
  const maintain = async (): Promise<void> => {
    trail.flush();
    await local.takeInto(auditLog, log);
    await auditLog.shorten();
  };
  await maintain().catch((error: unknown) => {
    log.warn({ err: error }, 'the audit log cannot be written: privileged requests are refused until it can be');
  });
  const close = async (): Promise<void> => {
    trail.flush();
    await auditLog.close();
  };
  return { auditLog, trail, maintain, close };
}

/** A quarter of a small disk at most, as flow records: else it would fill before the oldest lines go. */
async function bytesOf({ settings, log, diskBytes = sizeOfDisk }: Parameters<typeof openAuditLog>[0]): Promise<number> {
  const { auditLogMaxBytes } = settings;
  const mostBytes = Math.floor((await diskBytes(settings.stateDir)) / 4);
  if (mostBytes === 0 || auditLogMaxBytes <= mostBytes) return auditLogMaxBytes;
  const what = 'the disk is small: the audit log gets a quarter of it, not --audit-log-max-bytes';
  log.warn({ auditLogMaxBytes, mostBytes }, what);
  return mostBytes;
}

async function sizeOfDisk(directory: string): Promise<number> {
  const { blocks, bsize } = await statfs(directory);
  return blocks * bsize;
}
