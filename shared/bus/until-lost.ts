import { busError } from './bus-error.js';

/**
 * Resolves like `answer`, or rejects with BUS_DISCONNECTED as soon as the connection is lost: the answer can no longer
 * arrive, and waiting for the timeout would only delay a retry. It is then unknown whether the server executed the
 * request. `what` names the failed operation, as in "cannot write the key x".
 */
export async function untilLost<T>(input: {
  readonly what: string;
  readonly answer: Promise<T>;
  readonly onDisconnect: (listener: () => void) => () => void;
}): Promise<T> {
  const { what, answer, onDisconnect } = input;
  let stopListening: () => void = () => undefined;
  const lost = new Promise<never>((_, reject) => {
    stopListening = onDisconnect(() =>
      reject(busError('BUS_DISCONNECTED', `${what}: the connection to NATS was lost before the answer arrived`)),
    );
  });
  // After a loss the client still rejects it at its timeout, which must not count as unhandled.
  answer.catch(() => undefined);
  try {
    return await Promise.race([answer, lost]);
  } finally {
    stopListening();
  }
}
