import { serviceName } from '../../../shared/routing/names.js';

type Named = { readonly namespace: string; readonly name: string };

/**
 * The connections that one DestinationRule counts together: for its limits, its budget of retries and the endpoints that it
 * ejects. What two rules say of one service is counted apart, so that a namespace's own rule is for its own clients alone.
 */
export type CountedDestination = {
  /** Names what is counted, and nothing else has the same. */
  readonly key: string;
  /** `shop/web:80`, or `subset v2 of shop/web:80`. */
  readonly of: string;
  /** The DestinationRule, `namespace/name`. */
  readonly rule: string;
};

/** `of`: `shop/web`, or `subset v2 of shop/web`. */
export function countedDestination(rule: Named, of: string, dialledPort: number): CountedDestination {
  const name = serviceName(rule);
  const whole = `${of}:${dialledPort}`;
  return { key: `${name} ${whole}`, of: whole, rule: name };
}
