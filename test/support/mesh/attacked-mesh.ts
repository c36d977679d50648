import { after, before } from 'node:test';
import { AttackLab } from '../../bench/attack-lab.js';
import { requireProportion } from '../../bench/attack-rounds.js';
import { type AttackId, attackOf } from '../../bench/attack-table.js';
import type { AttackedNeighbour } from '../../bench/attacked-neighbour.js';

/** A mesh with attackers and a neighbour of what they attack, for all tests of a file. */
export function attackedMesh(): {
  /** Both are there while tests run. */
  readonly lab: AttackLab;
  readonly neighbour: AttackedNeighbour;
  /** What the neighbour meets during an attack, and what the attacker did; see {@link requireProportion}. */
  readonly during: (id: AttackId) => ReturnType<typeof requireProportion>;
} {
  let lab: AttackLab;
  let neighbour: AttackedNeighbour;
  before(async () => {
    lab = await AttackLab.start();
    neighbour = await lab.neighbour('echo');
  });
  after(async () => {
    await lab[Symbol.asyncDispose]();
  });
  return {
    get lab() {
      return lab;
    },
    get neighbour() {
      return neighbour;
    },
    during: (id) => requireProportion({ lab, neighbour, attack: attackOf(id) }),
  };
}
