import assert from 'node:assert/strict';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { Registry } from 'prom-client';
import { FlowAggregator } from '../../../agent/telemetry/flows/flow-aggregator.js';
import { FlowMetrics } from '../../../agent/telemetry/flows/flow-metrics.js';
import { FlowPublisher } from '../../../agent/telemetry/flows/flow-publisher.js';
import { endedProcess } from '../../support/agent/ended-process.js';
import { FlowTally } from '../../../agent/telemetry/flows/flow-tally.js';
import { decodeFlowBatch } from '../../../shared/wire/flow-batch.js';
import { patientMs } from '../../lab/patience.js';
import { eventually, silentLog, temporaryDirectory } from '../../support/controller/controller-fixture.js';
import { workloadNamed } from '../../support/routing/names.js';

test(
  'an agent that stops stores its last window, and has lost nothing, while the controller hangs',
  { timeout: patientMs(30_000) },
  async () => {
    await using directory = await temporaryDirectory();
    const path = join(directory.path, 'flows.tally');
    const stored: number[] = [];
    let isReporting = false;
    const aggregator = new FlowAggregator({ nameExternal: () => null });
    const publisher = new FlowPublisher({
      aggregator,
      store: async (bytes) => {
        stored.push(...decodeFlowBatch(bytes).flows.map(({ connections }) => connections));
      },
      sendRecent: () => {
        isReporting = true;
        return new Promise(() => undefined);
      },
      tally: new FlowTally({ path, log: silentLog, hasPredecessor: false, owner: endedProcess }),
      metrics: new FlowMetrics({ registry: new Registry() }),
      log: silentLog,
      nowMs: Date.now,
      windowMs: 3_600_000,
    });
    const open = {
      direction: 'outbound',
      source: { workload: workloadNamed('shop/web'), identity: null, ip: null },
      destination: { workload: workloadNamed('shop/db'), identity: null, ip: null },
      port: 5432,
      rule: null,
      audited: [],
      revision: 1,
      connections: 3,
      bytesSent: 1,
      bytesReceived: 2,
      firstSeenMs: 1000,
      lastSeenMs: 2000,
    } as const;
    aggregator.addOpen(open);
    await eventually('a report is under way', async () => (isReporting ? true : undefined));
    await publisher.close();
    assert.deepEqual(stored, [3]);
    assert.equal(new FlowTally({ path, log: silentLog, hasPredecessor: false }).lostBefore, 0);
    assert.equal((await readdir(directory.path)).length, 1, 'the file of the one that stopped is gone');
  },
);
