/** What a socket's errors mean is said by whoever reads and writes it; here they only must not be fatal. */
export function ignoreError(): void {}
