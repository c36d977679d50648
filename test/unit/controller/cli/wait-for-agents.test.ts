import assert from 'node:assert/strict';
import { describe, it, test } from 'node:test';
import type { RolloutAnswer, UncapturedWorkload } from '../../../../controller/api/api-types.js';
import type { ApiClient } from '../../../../controller/cli/client/api-client.js';
import { agentsBehind, waitForAgents } from '../../../../controller/cli/client/wait-for-agents.js';
import { nodeNamed, workloadNamed } from '../../../support/routing/names.js';

const missing = (name: string, isExpected = true): UncapturedWorkload => ({
  workload: workloadNamed(name),
  node: nodeNamed('a'),
  problem: 'it has no certificate yet',
  isExpected,
});

function answer(...uncaptured: readonly UncapturedWorkload[]): RolloutAnswer {
  return answerOf(uncaptured, uncaptured.length);
}

function answerOf(uncaptured: readonly UncapturedWorkload[], total: number): RolloutAnswer {
  const agents = [{ node: nodeNamed('a'), appliedRevision: 7, state: 'done', problem: null }] as const;
  return {
    revision: 7,
    sequence: 3,
    isComplete: true,
    isCompleteButSilent: true,
    agents,
    uncaptured: { workloads: uncaptured, total },
    acceptedEarly: { workloads: [], total: 0 },
  };
}

/** Waits for billing/api; the controller gives these answers, one after another, and then the last one again. */
async function wait(answers: readonly RolloutAnswer[], waitMs: number, isLate = false, ignoreSilentWorkloads = false) {
  const [out, err]: [string[], string[]] = [[], []];
  let asked = 0;
  const client = {
    call: () => Promise.resolve(answers[Math.min(asked++, answers.length - 1)]),
  } as unknown as ApiClient;
  const io = {
    print: (text: string) => void out.push(text),
    printError: (text: string) => void err.push(text),
    readStdin: () => Promise.resolve(new Uint8Array()),
    env: {},
    nowMs: () => asked * 200,
  };
  const workloads = new Set(['billing/api']);
  const asking = { client, io, revision: 7, sequence: 3, workloads, isLate, ignoreSilentWorkloads };
  await waitForAgents({ ...asking, waitMs, output: 'table' });
  return { asked, out, err };
}

describe('the wait after an apply', () => {
  it('goes on until the new workloads are captured', async () => {
    const { asked, out, err } = await wait([answer(missing('billing/api')), answer()], 10_000);
    assert.deepEqual([asked, out, err], [2, ['enforced by 1 agent'], []]);
  });

  it('fails with the workloads that are not captured when the time is over, and does not say enforced', async () => {
    await assert.rejects(wait([answer(missing('billing/api'))], 400), {
      code: 'WORKLOADS_NOT_CAPTURED',
      message:
        /^after .* these workloads are not captured and served by an agent that runs: billing\/api on a \(it has no certificate yet\)$/,
    });
  });

  it('goes on while the list has no room for all, and the new workloads may be among the others', async () => {
    const { asked, out } = await wait([answerOf([missing('shop/old')], 2), answer(missing('shop/old'))], 10_000);
    assert.deepEqual([asked, out], [2, ['enforced by 1 agent']]);
    await assert.rejects(wait([answerOf([missing('shop/old')], 2)], 400), { code: 'WORKLOADS_NOT_CAPTURED' });
  });

  it('goes on until connects are accepted late, if the change asks for it, and else names the workloads', async () => {
    const early: RolloutAnswer = { ...answer(), acceptedEarly: { workloads: [missing('shop/old')], total: 1 } };
    const { asked, out } = await wait([early, early, answer()], 10_000, true);
    assert.deepEqual([asked, out], [3, ['enforced by 1 agent']]);
    await assert.rejects(wait([early], 400, true), {
      code: 'CONNECTS_ACCEPTED_EARLY',
      message: /^after .* earlyAccept: false has no effect for these workloads: shop\/old on a \(.*\)$/,
    });
    assert.equal((await wait([early], 10_000)).asked, 1, 'a change of rules does not wait for that');
  });

  it('does not wait for workloads of others: it lists them', async () => {
    const { asked, out, err } = await wait([answer(missing('shop/old'))], 10_000);
    assert.deepEqual([asked, out], [1, ['enforced by 1 agent']]);
    assert.match(err.join('\n'), /^not captured and served by an agent that runs: shop\/old on a/);
  });

  it('fails for workloads in the files whose agent is silent or missing, unless these are ignored', async () => {
    const silent = answer(missing('billing/api', false), missing('shop/old'));
    await assert.rejects(wait([silent], 400), {
      code: 'WORKLOADS_NOT_CAPTURED',
      message: /: billing\/api on a \([^)]*\)$/,
      hint: /--ignore-silent/,
    });
    assert.equal((await wait([silent, answer()], 10_000)).asked, 2, 'the agent came back');
    const { asked, out, err } = await wait([silent], 10_000, false, true);
    assert.deepEqual([asked, out], [1, ['enforced by 1 agent']]);
    assert.match(
      err.join('\n'),
      /^not captured and served by an agent that runs: billing\/api on a .*, shop\/old on a/,
    );
  });
});

test('the advice for agents that are silent is not to wait for them', () => {
  const of = (...states: readonly ('stale' | 'behind')[]) => {
    const [first] = answer().agents;
    const agents = states.map((state) => ({ ...first, state }));
    const rollout = { ...answer(), agents } as RolloutAnswer;
    return agentsBehind(rollout, { waitMs: 0, ignoreSilent: false }).hint;
  };
  assert.match(of('stale') ?? '', /^start culvert-agent there, pass --ignore-silent, .*culvert node remove NODE$/);
  assert.equal(of('stale', 'behind'), 'wait for them with --wait 30s');
});
