import type { Heartbeat } from '../../../shared/wire/requests.js';
import { maxAlarmLength } from '../workloads/reported-workload.js';

/** More are counted, not named: another client may write any number of keys. */
const maxRefusals = 1000;

/** What of the registry in NATS is refused now, by its key. A key that is written again is judged again. */
export class RegistryRefusals {
  readonly #problems = new Map<string, string>();

  note(key: string, problem: string): void {
    if (this.#problems.size < maxRefusals || this.#problems.has(key)) this.#problems.set(key, problem);
  }

  forget(key: string): void {
    this.#problems.delete(key);
  }

  clear(): void {
    this.#problems.clear();
  }

  /** For people; null: nothing is refused. */
  get alarm(): string | null {
    const [first] = this.#problems;
    if (first === undefined) return null;
    const others = this.#problems.size - 1;
    return `${first[0]}: ${first[1]}${others === 0 ? '' : `, and ${others} more`}`;
  }
}

/** Behind the numbers of an alarm about something that is older than what this agent has. */
export const restoredBackup = 'an older backup of the controller may have been restored';

/** `held`: the sequence of what this agent has; undefined: it has nothing. Throws where the other one is older. */
export function assertNotOlder(sequence: number, held: number | undefined): void {
  if (held === undefined || sequence >= held) return;
  throw new Error(`its sequence ${sequence} is older than ${held}, which this agent has: ${restoredBackup}`);
}

/** Why the newest rules, or something of the registry, are refused; null: nothing is. */
export type RefusalAlarms = {
  readonly rulesAlarm: string | null;
  readonly registryAlarm: string | null;
  /** Fields of the rules that this version does not know, and may pass over. */
  readonly passedOver: readonly string[];
};

/** As many as a heartbeat has. */
const maxPassedOver = 64;

/** As heartbeats have them. */
export function reportedAlarms(alarms: RefusalAlarms): Pick<Heartbeat, 'rulesAlarm' | 'registryAlarm' | 'passedOver'> {
  const rulesAlarm = alarms.rulesAlarm?.slice(0, maxAlarmLength);
  const registryAlarm = alarms.registryAlarm?.slice(0, maxAlarmLength);
  return {
    ...(rulesAlarm === undefined ? {} : { rulesAlarm }),
    ...(registryAlarm === undefined ? {} : { registryAlarm }),
    ...(alarms.passedOver.length === 0
      ? {}
      : { passedOver: alarms.passedOver.slice(0, maxPassedOver).map((name) => name.slice(0, 256)) }),
  };
}
