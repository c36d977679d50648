/** What a command touches outside itself, so that tests can run it inside their own process. */
export type CliIo = {
  /** Results. Text without a newline at the end. */
  readonly print: (text: string) => void;
  /** Warnings, errors and progress. Text without a newline at the end. */
  readonly printError: (text: string) => void;
  readonly readStdin: () => Promise<Uint8Array>;
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Milliseconds since the epoch. */
  readonly nowMs: () => number;
};
