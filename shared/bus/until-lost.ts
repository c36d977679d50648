import { busError } from './bus-error.js';

/**
 * The outcome of what was asked over the present connection, or BUS_DISCONNECTED as soon as that connection is lost:
 * no answer comes any more, and waiting for the timeout would only hold up whoever tries again. Whether the server did
 * what was asked is then unknown; `what` says what that was, as in "cannot write the key x".
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
      reject(busError('BUS_DISCONNECTED', `${what}: the connection to NATS was lost before the answer came`)),
    );
  });
  // The client rejects it at its timeout, when nobody listens any more.
  answer.catch(() => undefined);
  try {
    return await Promise.race([answer, lost]);
  } finally {
    stopListening();
  }
}
