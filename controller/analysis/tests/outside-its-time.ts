import { parseInstant } from '../../resources/kinds/instant.js';
import type { RuleTest } from '../../resources/kinds/rule-test.js';
import type { SegmentationRule } from '../../resources/kinds/segmentation-rule.js';
import type { Clock } from '../../../shared/policy/connection.js';

/**
 * Why a test cannot pass by its rule: the rule is expired, or not yet valid, at the time of the test. Null: the rule is
 * in force. The words follow a failure; the hint says what to do.
 */
export function outsideItsTime(o: {
  readonly rule: SegmentationRule;
  readonly test: RuleTest;
  readonly clock: Clock;
}): { readonly text: string; readonly hint: string } | null {
  const { validFrom, expiresAt } = o.rule.spec;
  const askedMs = (o.test.at === undefined ? undefined : parseInstant(o.test.at)) ?? o.clock.nowMs();
  const pinned = 'write `at`, with a time at which it holds, into the test';
  if (expiresAt !== undefined && (parseInstant(expiresAt) ?? Infinity) <= askedMs) {
    return {
      text: `this rule expired at ${expiresAt} and says nothing any more`,
      hint: `give the rule a later expiresAt, delete it, or ${pinned}`,
    };
  }
  if (validFrom !== undefined && (parseInstant(validFrom) ?? 0) > askedMs) {
    return { text: `this rule holds only from ${validFrom} on`, hint: pinned };
  }
  return null;
}
