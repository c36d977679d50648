/** Answers that were refused, as the label `kind` of the metric `culvert_control_answer_alarms_total`. */
export type AnswerAlarm =
  /** No pinned key signed it as the answer to just this request: somebody else answers on NATS. */
  | 'unsigned'
  /** The controller signed it, but its certificates or keys are not what was asked for. */
  | 'unfit';
