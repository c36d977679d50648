import { isDeepStrictEqual } from 'node:util';
import { z } from 'zod';

/** One condition, as Kubernetes writes them (meta/v1 Condition), without its time. */
export type Condition = {
  readonly type: 'Accepted' | 'InForce' | 'Warned';
  readonly status: 'True' | 'False' | 'Unknown';
  /** One word in CamelCase. */
  readonly reason: string;
  readonly message: string;
};

/** What the controller says of an object. */
export type ObjectStatus = {
  readonly observedGeneration: number;
  /** The revision that has it as it is now; null: none has. */
  readonly revision: number | null;
  /** `3/3`; empty: it is not in force. */
  readonly agents: string;
  readonly conditions: readonly Condition[];
};

const conditionSchema = z.object({
  type: z.string(),
  status: z.string(),
  reason: z.string().default(''),
  message: z.string().default(''),
  lastTransitionTime: z.string().default(''),
});
const statusSchema = z.object({
  observedGeneration: z.number().nullish(),
  revision: z.number().nullish(),
  agents: z.string().nullish(),
  conditions: z.array(conditionSchema).nullish(),
});
/** What an object has for a status now. */
export type WrittenStatus = z.infer<typeof statusSchema>;

/** An object has the status that someone wrote: one that cannot be read is written again. */
export function writtenStatus(status: unknown): WrittenStatus {
  return statusSchema.safeParse(status).data ?? {};
}

const maxMessage = 1024;

/** Where what an object says stands: what decides its conditions. */
export type Standing = {
  readonly generation: number;
  readonly accepted: Pick<Condition, 'status' | 'reason' | 'message'>;
  /** The revision that has the object as it is; null: none has. */
  readonly revision: number | null;
  /** The revision of its last good version, when that is in force in place of it; null: it is not, or there is none. */
  readonly earlierRevision: number | null;
  /** Agents that enforce the revision, of all. */
  readonly agents: { readonly enforcing: number; readonly all: number };
  readonly warnings: readonly string[];
};

export function statusOf(standing: Standing): ObjectStatus {
  const { generation, accepted, revision, agents, warnings } = standing;
  return {
    observedGeneration: generation,
    revision,
    agents: revision === null ? '' : `${agents.enforcing}/${agents.all}`,
    conditions: [
      { type: 'Accepted', ...accepted, message: cut(accepted.message) },
      inForce(standing),
      {
        type: 'Warned',
        status: warnings.length > 0 ? 'True' : 'False',
        reason: warnings.length > 0 ? 'Findings' : 'NoFindings',
        message: warnings.length > 0 ? cut(warnings.join('; ')) : 'nothing is suspicious',
      },
    ],
  };
}

function inForce({ revision, earlierRevision, agents: { enforcing, all } }: Standing): Condition {
  const say = (status: Condition['status'], reason: string, message: string): Condition => ({
    type: 'InForce',
    status,
    reason,
    message,
  });
  if (revision === null) {
    return earlierRevision === null
      ? say('False', 'NotAccepted', 'it is not among the rules')
      : say('False', 'EarlierVersion', `its last good version is in force, as of revision ${earlierRevision}`);
  }
  if (all === 0) return say('False', 'NoAgents', 'no agent has joined the mesh');
  if (enforcing === all) return say('True', 'Enforced', `on ${enforcing} of ${all} agents`);
  return say('False', 'Pending', `on ${enforcing} of ${all} agents`);
}

function cut(message: string): string {
  return message.length <= maxMessage ? message : `${message.slice(0, maxMessage - 1)}…`;
}

/** Whether what is written differs, and whether it does in more than the number of agents. */
export function differenceOf(wanted: ObjectStatus, written: WrittenStatus): 'none' | 'numbers' | 'meaning' {
  const { conditions: present } = written;
  const meaning = (condition: Pick<Condition, 'status' | 'reason'> | undefined) =>
    condition === undefined ? null : [condition.status, condition.reason];
  for (const condition of wanted.conditions) {
    const known = present?.find(({ type }) => type === condition.type);
    if (!isDeepStrictEqual(meaning(condition), meaning(known as Condition | undefined))) return 'meaning';
    if (condition.type !== 'InForce' && condition.message !== known?.message) return 'meaning';
  }
  if (wanted.observedGeneration !== written.observedGeneration) return 'meaning';
  if (wanted.revision !== (written.revision ?? null)) return 'meaning';
  const messageOf = (list: readonly { readonly type: string; readonly message: string }[] | null | undefined) =>
    list?.find(({ type }) => type === 'InForce')?.message;
  const isSame = wanted.agents === (written.agents ?? '') && messageOf(wanted.conditions) === messageOf(present);
  return isSame && present?.length === wanted.conditions.length ? 'none' : 'numbers';
}

/** The body of a merge patch. A condition keeps its time as long as its status stays. `now`: RFC 3339, in whole seconds. */
export function statusPatch(wanted: ObjectStatus, written: WrittenStatus, now: string): object {
  const conditions = wanted.conditions.map((condition) => {
    const known = written.conditions?.find(({ type }) => type === condition.type);
    const isSame = known?.status === condition.status && known.lastTransitionTime !== '';
    const lastTransitionTime = isSame ? known.lastTransitionTime : now;
    return { ...condition, lastTransitionTime, observedGeneration: wanted.observedGeneration };
  });
  return { status: { ...wanted, conditions } };
}
