/** A command's access to the outside, injected so that tests can run commands in their own process. */
export type CliIo = {
  /** Prints a result. The text has no newline at the end. */
  readonly print: (text: string) => void;
  /** Prints a warning, an error or progress. The text has no newline at the end. */
  readonly printError: (text: string) => void;
  /** The whole standard input; null when it has more bytes than that. */
  readonly readStdin: (maxBytes: number) => Promise<Uint8Array | null>;
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Milliseconds since the epoch. */
  readonly nowMs: () => number;
};
