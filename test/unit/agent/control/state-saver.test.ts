import assert from 'node:assert/strict';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { test } from 'node:test';
import { longestPauseMs, StateSaver } from '../../../../agent/control/state/state-saver.js';
import { createLog } from '../../../../shared/log.js';
import { FakeScheduler } from '../../../support/agent/fake-scheduler.js';

/** A saver whose writes take as long as a test says, on a clock that moves only so. */
class SlowDisk {
  readonly scheduler = new FakeScheduler();
  writes = 0;
  tookMs = 0;
  mayWrite: Promise<void> = Promise.resolve();
  writing: Promise<void> = Promise.resolve();
  readonly saver: StateSaver;

  constructor(longestMs = longestPauseMs.rules) {
    this.saver = new StateSaver({
      write: async () => {
        this.writes++;
        this.pass(this.tookMs);
        await this.writing;
      },
      mayWrite: () => this.mayWrite,
      longestPauseMs: longestMs,
      log: createLog({ name: 'test', level: 'error', stream: { write: () => undefined } }),
      onFailure: () => undefined,
      scheduler: this.scheduler,
    });
  }

  /** The clock moves on; no other timer may be due before. */
  pass(ms: number): void {
    this.scheduler.after(ms, () => undefined);
    this.scheduler.runNext();
  }

  /** How long after a change the saver wrote it. */
  async changed(): Promise<number> {
    const changedAt = this.scheduler.elapsedMs();
    this.saver.schedule();
    this.scheduler.runNext();
    const waitedMs = this.scheduler.elapsedMs() - changedAt;
    await nextTurn();
    return waitedMs;
  }
}

test('a change that comes long after a slow write is on disk as soon as any other', async () => {
  const disk = new SlowDisk(longestPauseMs.registry);
  disk.tookMs = 900;
  assert.equal(await disk.changed(), 200);
  disk.pass(10_000);
  assert.equal(await disk.changed(), 200);
  assert.equal(disk.writes, 2);
});

test('rules pause one second at most after a slow write, the registry two', async () => {
  for (const [longestMs, expectedMs] of [
    [longestPauseMs.rules, 1000],
    [longestPauseMs.registry, 2000],
  ] as const) {
    const disk = new SlowDisk(longestMs);
    disk.tookMs = 300;
    await disk.changed();
    assert.equal(await disk.changed(), expectedMs);
  }
});

test('the time for which another process still writes is not a slow write', async () => {
  const disk = new SlowDisk(longestPauseMs.registry);
  let take: () => void = () => undefined;
  disk.mayWrite = new Promise((resolve) => (take = resolve));
  await disk.changed();
  assert.equal(disk.writes, 0);
  disk.pass(5000);
  take();
  await nextTurn();
  assert.equal(disk.writes, 1);
  assert.equal(await disk.changed(), 200);
});

test('a change during a write is written after it', async () => {
  const disk = new SlowDisk();
  let end: () => void = () => undefined;
  disk.writing = new Promise((resolve) => (end = resolve));
  await disk.changed();
  assert.equal(disk.writes, 1);
  disk.saver.schedule();
  assert.equal(disk.scheduler.nextInMs, null, 'two writes never run at once');
  end();
  await nextTurn();
  assert.equal(disk.scheduler.nextInMs, 200);
  disk.scheduler.runNext();
  await nextTurn();
  assert.equal(disk.writes, 2);
  assert.equal(disk.scheduler.nextInMs, null);
});

test('one that was abandoned before it may write writes nothing', async () => {
  const disk = new SlowDisk();
  let take: () => void = () => undefined;
  disk.mayWrite = new Promise((resolve) => (take = resolve));
  await disk.changed();
  const abandoned = disk.saver.abandon();
  take();
  await abandoned;
  assert.equal(disk.writes, 0);
});

test('a full disk is told once, counted each time, and forgotten when there is room again', async () => {
  const lines: string[] = [];
  const log = createLog({ name: 'test', level: 'info', stream: { write: (line: string) => void lines.push(line) } });
  let isFull = true;
  let failures = 0;
  const saver = new StateSaver({
    write: async () => {
      if (isFull) throw new Error('no space left');
    },
    longestPauseMs: longestPauseMs.rules,
    log,
    onFailure: () => failures++,
  });
  saver.schedule();
  await saver.close();
  assert.equal(saver.problem, 'no space left');
  assert.equal(failures, 1);
  isFull = false;
  await saver.close();
  assert.equal(saver.problem, null);
  assert.deepEqual(
    lines.map((line) => (JSON.parse(line) as { level: string }).level),
    ['error', 'info'],
  );
});

test('closing waits for a write that is under way', async () => {
  let begun: () => void = () => undefined;
  const hasBegun = new Promise<void>((resolve) => (begun = resolve));
  let isWritten = false;
  const saver = new StateSaver({
    write: async () => {
      begun();
      await new Promise((resolve) => setTimeout(resolve, 50));
      isWritten = true;
    },
    longestPauseMs: longestPauseMs.rules,
    log: createLog({ name: 'test', level: 'error', stream: { write: () => undefined } }),
    onFailure: () => undefined,
  });
  saver.schedule();
  await hasBegun;
  await saver.close();
  assert.ok(isWritten);
});
