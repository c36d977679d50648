import { PolicyScope, type ScopeKind } from './policy-scope.js';

/** By namespace. */
export type ScopesOfRevision<S> = ReadonlyMap<
  string,
  { readonly about: (labels: Readonly<Record<string, string>>) => S }
>;

/** The policies of one kind by namespace. A namespace whose policies do not change keeps its cached answers. */
export class PolicyScopes<P extends { readonly policy: { readonly namespace: string } }, S> {
  readonly #kind: ScopeKind<P, S>;
  #newest: ReadonlyMap<string, PolicyScope<P, S>> = new Map();

  constructor({ kind }: { readonly kind: ScopeKind<P, S> }) {
    this.#kind = kind;
  }

  /** The scopes of one revision, which never change. Call it with one revision after another. */
  of(policies: readonly P[]): ScopesOfRevision<S> {
    const groups = new Map<string, P[]>();
    for (const policy of policies) {
      const { namespace } = policy.policy;
      const group = groups.get(namespace);
      if (group === undefined) groups.set(namespace, [policy]);
      else group.push(policy);
    }
    const scopes = new Map<string, PolicyScope<P, S>>();
    for (const [namespace, group] of groups) {
      const before = this.#newest.get(namespace);
      const isSame = before !== undefined && isEqual(before.policies, group);
      scopes.set(namespace, isSame ? before : new PolicyScope({ policies: group, kind: this.#kind }));
    }
    this.#newest = scopes;
    return scopes;
  }
}

function isEqual<T>(a: readonly T[], b: readonly T[]): boolean {
  return a.length === b.length && a.every((item, index) => item === b[index]);
}
