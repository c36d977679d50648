import type { BenchCase } from './bench-case.js';
import type { CaseId } from './case-ids.js';
import { atRestCase } from './cases/at-rest.js';
import { bulkCase } from './cases/bulk.js';
import { httpCase } from './cases/http-requests.js';
import { idleConnectionsCase } from './cases/idle-connections.js';
import { slowReadersCase } from './cases/slow-readers.js';
import { smallMessagesCase } from './cases/small-messages.js';
import { stormCase } from './cases/storm.js';

/** How each case is measured. */
export const benchCases: Readonly<Record<CaseId, BenchCase>> = {
  'bulk-1': bulkCase('bulk-1', 1),
  'bulk-4': bulkCase('bulk-4', 4),
  'bulk-16': bulkCase('bulk-16', 16),
  'keepalive-1': httpCase('keepalive-1', { connections: 1 }),
  'keepalive-32': httpCase('keepalive-32', { connections: 32 }),
  'keepalive-256': httpCase('keepalive-256', { connections: 256 }),
  newconn: httpCase('newconn', { connections: 16, newConnections: true }),
  'small-messages': smallMessagesCase,
  storm: stormCase,
  'slow-readers': slowReadersCase,
  'idle-10k': idleConnectionsCase,
  'at-rest': atRestCase,
};
