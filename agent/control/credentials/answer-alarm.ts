import { CulvertError } from '../../../shared/errors.js';
import type { Log } from '../../../shared/log.js';

/** Why an answer was refused: the label `kind` of the metric `culvert_control_answer_alarms_total`. */
export type AnswerAlarm =
  /** No pinned key signed it as the answer to this request: another party answers on NATS. */
  | 'unsigned'
  /** The controller signed it, but its certificates or keys do not match the request. */
  | 'unfit';

/** Raises the alarm `unfit` and makes the error that ends the attempt. `of`: log fields that say what was requested. */
export function unfitAnswer(o: {
  readonly problem: string;
  readonly of: object;
  readonly log: Log;
  readonly onAnswerRefused: (kind: AnswerAlarm) => void;
}): CulvertError {
  o.onAnswerRefused('unfit');
  o.log.error({ alarm: 'unfit', ...o.of, problem: o.problem }, "the controller's answer was refused; nothing changes");
  return new CulvertError({
    code: 'ANSWER_UNFIT',
    message: `the controller's answer was refused: ${o.problem}`,
    hint: 'look at the log of the controller, and check that its CA files belong together',
  });
}
