import assert from 'node:assert/strict';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { setTimeout as delay } from 'node:timers/promises';
import { after, before, test } from 'node:test';
import type { ProblemsAnswer } from '../../../controller/api/api-types.js';
import type { RunningController } from '../../../controller/app.js';
import { machineFactor } from '../../support/machine-factor.js';
import {
  apply,
  callApi,
  startedController,
  temporaryDirectory,
  workloadDocument,
} from '../../support/controller/controller-fixture.js';

const resolutionMs = 5;

/** 99th percentile and maximum of how late the event loop of this process, in which the controller runs, was meanwhile. */
async function lateness(work: () => Promise<unknown>): Promise<{ readonly p99Ms: number; readonly maxMs: number }> {
  const histogram = monitorEventLoopDelay({ resolution: resolutionMs });
  histogram.enable();
  await work();
  histogram.disable();
  return { p99Ms: histogram.percentile(99) / 1e6, maxMs: histogram.max / 1e6 };
}

function times(count: number, line: (index: number) => string): string {
  return Array.from({ length: count }, (_, index) => line(index)).join('');
}

const head = 'apiVersion: culvert.dev/v1\nkind: Segment\nmetadata: { name: all }\nspec:\n';
const attacks: Readonly<Record<string, { readonly text: string; readonly problem: RegExp }>> = {
  'a mapping of tens of thousands of fields': {
    text: times(50_000, (at) => `a${at}: 1\n`),
    problem: /kind: is missing/,
  },
  'more fields than that': { text: 'a:\n'.repeat(110_000), problem: /has more than 100000 fields/ },
  'a list in flow style': { text: `[${times(50_000, (at) => `a${at}, `)}]`, problem: /must be a mapping/ },
  'a segment of tens of thousands of wrong members': {
    text: `${head}  members:\n${times(10_000, (at) => `    - { namespce: n${at} }\n`)}`,
    problem: /namespce: is not a field here/,
  },
  'thousands of workloads of one address': {
    text: times(3000, (at) => `${workloadDocument('shop', `w${at}`, { ip: '198.18.1.1' })}\n---\n`),
    problem: /198\.18\.1\.1 is claimed by more than 16 documents/,
  },
  'several large documents': {
    text: times(6, () => `---\n${times(20_000, (at) => `- b${at}\n`)}`),
    problem: /must be a mapping/,
  },
};

let directory: Awaited<ReturnType<typeof temporaryDirectory>>;
/** None of the attacks changes anything, so they all meet the same controller. */
let controller: RunningController;

before(async () => {
  directory = await temporaryDirectory();
  controller = await startedController(directory.path);
  // The first of all starts the thread.
  assert.equal((await apply(controller, `# ${'x'.repeat(100_000)}`)).status, 422);
});
after(async () => {
  await controller[Symbol.asyncDispose]();
  await directory[Symbol.asyncDispose]();
});

for (const [what, { text, problem }] of Object.entries(attacks)) {
  test(`other requests are answered while an editor applies ${what}`, async () => {
    const ask = async (): Promise<void> => {
      assert.equal((await callApi(controller, 'GET', '/v1/status')).status, 200);
    };
    await ask();
    const idle = await lateness(async () => {
      for (let at = 0; at < 20; at++) await Promise.all([ask(), delay(25)]);
    });
    const before = await machineFactor();
    const attacked = { isOver: false };
    let asked = 0;
    const loaded = await lateness(async () => {
      const attack = apply(controller, text).finally(() => (attacked.isOver = true));
      while (!attacked.isOver) {
        await Promise.all([ask(), delay(25)]);
        asked++;
      }
      const { status, body } = await attack;
      assert.equal(status, 422, JSON.stringify(body).slice(0, 300));
      assert.match((body as ProblemsAnswer).problems.map((one) => `${one.path}: ${one.message}`).join('\n'), problem);
    });
    // On a busy machine this process waits for its turn, whatever the controller does.
    const factor = Math.max(before, await machineFactor());
    assert.ok(asked > 2, `${asked} requests were answered`);
    const told = `idle maximum ${idle.maxMs} ms, factor ${factor}`;
    assert.ok(loaded.p99Ms < 100 * factor + 5 * idle.maxMs, `p99 ${loaded.p99Ms} ms, ${told}`);
    assert.ok(loaded.maxMs < 250 * factor + 10 * idle.maxMs, `maximum ${loaded.maxMs} ms, ${told}`);
  });
}
