import { z } from 'zod';
import { durationField, wholeSecondsField } from './duration-field.js';
import { fieldNotes } from './field-notes.js';

const mostConnections = 2_147_483_647;

function countField(example: string) {
  return z
    .int('must be a whole number')
    .min(1, 'must be at least 1')
    .max(mostConnections, `must be at most ${mostConnections}`)
    .register(fieldNotes, { example, openApi: { type: 'integer', minimum: 1, maximum: mostConnections } });
}

const mostProbes = 127;

const tcpKeepalive = z
  .strictObject({
    time: wholeSecondsField('60s')
      .exactOptional()
      .describe('How long nothing is received until the endpoint is asked. Without it 7200s, as the kernel has it.'),
    interval: wholeSecondsField('10s')
      .exactOptional()
      .describe('How long it is waited for an answer until it is asked again. Without it 75s.'),
    probes: z
      .int('must be a whole number')
      .min(1, 'must be at least 1')
      .max(mostProbes, `must be at most ${mostProbes}`)
      .exactOptional()
      .describe('This many questions without an answer end the connection (`KEEPALIVE_TIMEOUT`). Without it 9.')
      .register(fieldNotes, { example: '3', openApi: { type: 'integer', minimum: 1, maximum: mostProbes } }),
  })
  .register(fieldNotes, { example: '{ time: 60s, interval: 10s, probes: 3 }' });

const tcp = z
  .strictObject({
    maxConnections: countField('100')
      .exactOptional()
      .describe(
        'How many connections an agent may have to the destination at once, open ones and those that are being opened. More are refused (`CIRCUIT_OPEN`).',
      ),
    maxPendingConnections: countField('20')
      .exactOptional()
      .describe(
        'How many of them may be in opening at once, so that a destination that does not answer does not gather dials. Only of `culvert.dev/v1`: Istio has no such field for TCP.',
      ),
    connectTimeout: durationField('2s', 1)
      .exactOptional()
      .describe(
        'How long connecting to one endpoint may take before the next one is tried. `connectTimeout` of the agents counts where it is shorter.',
      ),
    idleTimeout: durationField('1h', 0)
      .exactOptional()
      .describe(
        'How long a connection may be without a byte, in place of `idleTimeout` of the agent of the client. `0s`: without limit.',
      ),
    maxConnectionDuration: durationField('24h', 1)
      .exactOptional()
      .describe('How long a connection may last, in place of `maxConnectionDuration` of the agent of the client.'),
    tcpKeepalive: tcpKeepalive
      .exactOptional()
      .describe(
        'After which silence the host of an endpoint counts as gone, which ends the connection, also where the application has no keepalive.',
      ),
  })
  .register(fieldNotes, { example: '{ maxConnections: 100, connectTimeout: 2s }' });

/** Istio's `connectionPool`, limited to TCP. */
export const connectionPoolField = z
  .strictObject({ tcp: tcp.exactOptional().describe('Of TCP connections.') })
  .register(fieldNotes, {
    example: '{ tcp: { maxConnections: 100, connectTimeout: 2s } }',
    refusedFields: {
      http: 'it is about HTTP requests, and Culvert carries TCP without reading it: write tcp (maxConnections, and maxPendingConnections with apiVersion culvert.dev/v1)',
    },
  });
