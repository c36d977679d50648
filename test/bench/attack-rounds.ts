import assert from 'node:assert/strict';
import { type AttackerReport, reportOf } from '../support/mesh/attacker-report.js';
import type { AttackLab } from './attack-lab.js';
import type { Attack } from './attack-table.js';
import { type AttackedNeighbour, medianUs, type Met } from './attacked-neighbour.js';

/** Nothing, the attack, and the same load on something that is not Culvert. */
export const phases = ['quiet', 'attack', 'control'] as const;
export type Phase = (typeof phases)[number];

/**
 * What a neighbour meets in each phase, one entry for each round. The phases take turns, in this order and then in the opposite
 * one, so that the rest of the machine's load is the same for all of them.
 */
export async function inTurns<P extends Phase>(init: {
  readonly lab: AttackLab;
  readonly attack: Attack;
  readonly neighbour: AttackedNeighbour;
  readonly phases: readonly P[];
  readonly rounds: number;
  /** Of the neighbour, in each phase. */
  readonly exchanges: number;
}): Promise<{
  readonly met: Readonly<Record<P, readonly Met[]>>;
  readonly done: Readonly<Record<Phase, AttackerReport>>;
}> {
  const { lab, attack, neighbour, rounds, exchanges } = init;
  const met = Object.fromEntries(init.phases.map((phase) => [phase, []])) as unknown as Record<P, Met[]>;
  const none = { connections: 0, answered: 0, bytes: 0 };
  const done: Record<Phase, AttackerReport> = { quiet: none, attack: none, control: none };
  for (let round = 0; round < rounds; round++) {
    for (const phase of round % 2 === 0 ? init.phases : init.phases.toReversed()) {
      if (phase === 'quiet') {
        met[phase].push(await neighbour.meet(exchanges));
        continue;
      }
      const attacker = await lab.begin(attack, phase === 'attack' ? 'culvert' : 'something else');
      try {
        met[phase].push(await neighbour.meet(exchanges));
        done[phase] = sum(done[phase], reportOf(attacker));
      } finally {
        await attacker.stop('SIGKILL');
      }
    }
  }
  return { met, done };
}

/** A gate does not measure; it finds what is out of all proportion, such as a thread that is held. */
const mostTimes = 10;
/** What holds a thread does so each time; what else runs on the machine may hit one of two phases alone. */
const mostTries = 3;

/**
 * For tests, on a machine of any load: the medians of what the neighbour meets during the attack are of the size of those
 * during the same load on something else, in one of three tries. Returns what the attacker did, and what was compared.
 */
export async function requireProportion(init: {
  readonly lab: AttackLab;
  readonly attack: Attack;
  readonly neighbour: AttackedNeighbour;
}): Promise<{ readonly done: AttackerReport; readonly compared: string }> {
  const tries: string[] = [];
  while (tries.length < mostTries) {
    const { met, done } = await inTurns({ ...init, phases: ['attack', 'control'], rounds: 2, exchanges: 20 });
    const compared = (['exchangesUs', 'opensUs'] as const).map((what) => {
      const [attackedUs, otherUs] = [medianUs(met.attack, what), medianUs(met.control, what)];
      const text = `${what} ${attackedUs}, with the same load elsewhere ${otherUs}`;
      return { text, isWithin: attackedUs <= mostTimes * otherUs };
    });
    tries.push(compared.map(({ text }) => text).join('; '));
    if (compared.every(({ isWithin }) => isWithin)) return { done: done.attack, compared: tries.join(' | ') };
  }
  throw new assert.AssertionError({ message: `more than ${mostTimes} times, each time: ${tries.join(' | ')}` });
}

function sum(a: AttackerReport, b: AttackerReport): AttackerReport {
  return { connections: a.connections + b.connections, answered: a.answered + b.answered, bytes: a.bytes + b.bytes };
}
