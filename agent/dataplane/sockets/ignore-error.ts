/** What the errors of a socket or stream mean is said by whoever reads and writes it; here they only must not be fatal. */
export function ignoreError(): void {}
