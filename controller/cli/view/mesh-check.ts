/**
 * `warn`: works now, but will stop working or probably not as intended. `fail`: does not work. `unchecked`: cannot be seen from
 * where this is asked, so nothing is said of it; with `--strict` too it is no failure.
 */
type CheckState = 'ok' | 'warn' | 'fail' | 'unchecked';

export type MeshCheck = {
  /** What was checked: `controller`, `agents`, `rules`… Stable, for programs. */
  readonly check: string;
  readonly state: CheckState;
  readonly message: string;
  /** What to do; empty for `ok`. */
  readonly hint: string;
};

/** One thing that is not as it should be. */
export type Finding = Omit<MeshCheck, 'check'>;

export function fail(message: string, hint: string): Finding {
  return { state: 'fail', message, hint };
}

export function warn(message: string, hint: string): Finding {
  return { state: 'warn', message, hint };
}
