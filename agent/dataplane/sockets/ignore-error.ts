/** Keeps an `error` event from being fatal. Whatever reads and writes the socket or stream handles the error itself. */
export function ignoreError(): void {}
