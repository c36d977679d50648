const pollMs = 20;

/** Resolves when `isDone` says so or `graceMs` is over. Polled: a drain happens once in a process's life. */
export async function waitForAll(options: { readonly isDone: () => boolean; readonly graceMs: number }): Promise<void> {
  const { isDone, graceMs } = options;
  const deadlineMs = performance.now() + graceMs;
  while (!isDone() && performance.now() < deadlineMs) {
    await new Promise((resolve) => {
      setTimeout(resolve, pollMs);
    });
  }
}
