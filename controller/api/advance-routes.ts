import { z } from 'zod';
import type { AgentRegistry } from '../fleet/agent-registry.js';
import { maxAdvance, positionOf, proposedAdvance, type MeshPosition } from '../fleet/agents-ahead.js';
import type { ResourceStore } from '../store/resource-store.js';
import { badRequest } from './api-error.js';
import type { AdvanceAnswer } from './api-types.js';
import { changeMessage } from './change-answer.js';
import { readJson } from './request-values.js';
import type { ApiAnswer, ApiRequest, Route } from './router.js';

const number = z.int().min(1).exactOptional();
const advanceSchema = z.strictObject({
  revision: number,
  sequence: number,
  dryRun: z.boolean().default(false),
  message: changeMessage,
});

/** For administrators, after an older backup was restored: makes the restored state count. */
export function advanceRoutes(init: { readonly store: ResourceStore; readonly agents: AgentRegistry }): Route[] {
  const { store, agents } = init;
  const advance = async ({ body, subject, begin, note }: ApiRequest): Promise<ApiAnswer> => {
    const { dryRun, message, ...asked } = readJson(advanceSchema, body);
    const before = positionOf(store);
    const listed = agents.list(before);
    const proposal = proposedAdvance(before, listed);
    const isRefused = listed.some(
      ({ heartbeat }) => heartbeat?.rulesAlarm !== undefined || heartbeat?.registryAlarm !== undefined,
    );
    if (proposal.ahead.length === 0 && !isRefused && asked.revision === undefined && asked.sequence === undefined) {
      const ignored = proposal.unbelievable.map(({ node }) => node).join(', ');
      throw badRequest(
        ignored === '' ? 'no agent holds more than this controller has' : `only ${ignored} claims more, beyond belief`,
        'nothing has to be advanced; agents that are down now may still hold more: see operations.md, "Backup and restore"',
      );
    }
    const { revision, sequence } = { ...proposal, ...asked };
    assertAllowed('revision', revision, before.revision);
    assertAllowed('sequence', sequence, before.sequence);
    const { ahead, unbelievable } = proposal;
    note({
      target: String(revision),
      detail: { sequence, fromRevision: before.revision, fromSequence: before.sequence },
    });
    if (!dryRun) {
      const text = message === '' ? `advanced from revision ${before.revision}: see culvert advance` : message;
      await store.advance({ revision, sequence, by: subject, message: text, begin });
    }
    return { status: 200, body: { revision, sequence, before, dryRun, ahead, unbelievable } satisfies AdvanceAnswer };
  };
  return [
    {
      method: 'POST',
      path: '/v1/advance',
      access: 'admin',
      audit: { action: 'advance', beginsLate: true },
      maxBodyBytes: 16_384,
      handle: advance,
    },
  ];
}

function assertAllowed(what: keyof MeshPosition, wanted: number, present: number): void {
  if (wanted > present && wanted - present <= maxAdvance) return;
  throw badRequest(
    `the ${what} is ${present} and cannot become ${wanted}`,
    `give one from ${present + 1} to ${present + maxAdvance}`,
  );
}
