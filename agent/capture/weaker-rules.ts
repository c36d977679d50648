import { describeError } from '../../shared/errors.js';
import { cannotNameCgroup, lacksExtension } from './firewall/command-runner.js';

/** What the rules of a workload have where iptables and the kernel have the matches for it. */
export type RuleStrength = {
  /** Other sockets on the agent's ports get no connection (`-m socket`). */
  readonly isGuarded: boolean;
  /** Only sockets that were made in this cgroup count as the agent's (`-m cgroup`); null: every one with its mark. */
  readonly ownCgroup: string | null;
};

/**
 * One load of rules, weakened in each address family for which kernel or iptables lack what they need. After any other
 * failure something would be missing for no good reason: that is an error, and is tried again soon.
 */
export class WeakerRules {
  readonly #full: RuleStrength;
  readonly #tries = new Map<4 | 6, RuleStrength[]>();
  readonly #taken = new Map<4 | 6, { readonly strength: RuleStrength; readonly why: string }>();

  constructor(full: RuleStrength) {
    this.#full = full;
  }

  /** What to load in place of what failed; null: the failure stands. */
  next(family: 4 | 6, error: unknown): RuleStrength | null {
    const tries = this.#tries.get(family) ?? weakerThan(this.#full, error);
    const strength = tries.shift();
    this.#tries.set(family, tries);
    if (strength === undefined) return null;
    this.#taken.set(family, { strength, why: this.#taken.get(family)?.why ?? describeError(error) });
    return strength;
  }

  /** In which families the guard is missing, and why; null: in none. */
  get withoutGuard(): string | null {
    return this.#where(({ isGuarded }) => isGuarded !== this.#full.isGuarded);
  }

  /** In which families the mark alone exempts a socket, and why; null: in none. */
  get withoutCgroup(): string | null {
    return this.#where(({ ownCgroup }) => ownCgroup !== this.#full.ownCgroup);
  }

  #where(isWeak: (strength: RuleStrength) => boolean): string | null {
    const weak = [...this.#taken].filter(([, { strength }]) => isWeak(strength)).toSorted(([a], [b]) => a - b);
    const [first] = weak;
    if (first === undefined) return null;
    return `${weak.map(([family]) => `IPv${family}`).join(' and ')}: ${first[1].why}`;
  }
}

/** Strongest first. Not every version says which match it lacks. */
function weakerThan({ isGuarded, ownCgroup }: RuleStrength, error: unknown): RuleStrength[] {
  const isUnnamed = cannotNameCgroup(error);
  if (!lacksExtension(error) && !isUnnamed) return [];
  const text = describeError(error);
  const noGuard = { isGuarded: false, ownCgroup };
  const noCgroup = { isGuarded, ownCgroup: null };
  const neither = { isGuarded: false, ownCgroup: null };
  if (ownCgroup === null) return lacksExtension(error) ? [noGuard] : [];
  if (isUnnamed) return [noCgroup];
  if (/\bcgroup\b/.test(text)) return [noCgroup, neither];
  return /\bsocket\b/.test(text) ? [noGuard, neither] : [noGuard, noCgroup, neither];
}
