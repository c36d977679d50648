import assert from 'node:assert/strict';
import { describe, it, mock } from 'node:test';
import { setImmediate } from 'node:timers/promises';
import { CrossingEnds } from '../../../../../agent/dataplane/relay/crossing-ends.js';
import type { RelayCounters, RelayOutcome } from '../../../../../agent/dataplane/relay/relay-outcome.js';
import type { Breakage, RelayPeer } from '../../../../../agent/dataplane/relay/relay-peer.js';

type FakePeer = {
  isPaused: boolean;
  waitingBytes: number;
  hasTakenAll: boolean;
  isGone: boolean;
  breakage: Breakage | null;
  flush: () => void;
};

/** Two silent sides and what the relay says of them. */
class Ends {
  readonly counters: RelayCounters = { bytesSent: 0, bytesReceived: 0, firstByteAtMs: null };
  readonly source = fakePeer();
  readonly destination = fakePeer();
  readonly outcomes: RelayOutcome[] = [];
  readonly ends = new CrossingEnds({
    between: { source: peerOf(this.source), destination: peerOf(this.destination), counters: this.counters },
    onSettled: (outcome) => this.outcomes.push(outcome),
  });

  /** The source has asked and the destination has answered. */
  talked(): this {
    this.counters.bytesSent = 1000;
    return this.answers(5000);
  }

  asks(bytes: number): this {
    this.counters.bytesSent += bytes;
    return this;
  }

  answers(bytes: number): this {
    this.counters.bytesReceived += bytes;
    this.ends.answered();
    return this;
  }

  get reasons(): string[] {
    return this.outcomes.map(({ reason }) => reason);
  }
}

function fakePeer(): FakePeer {
  return { isPaused: false, waitingBytes: 0, hasTakenAll: false, isGone: false, breakage: null, flush: () => {} };
}

function peerOf(fake: FakePeer): RelayPeer {
  return fake as unknown as RelayPeer;
}

/** Of the mocked timers. What a timer leaves to the event loop happens in between. */
async function passTime(ms: number): Promise<void> {
  for (let passedMs = 0; passedMs < ms; passedMs += 1) {
    mock.timers.tick(1);
    await setImmediate();
  }
}

const reset: Breakage = { detail: 'ECONNRESET', isReset: true };
const lost: Breakage = { detail: 'tunnel ended', isReset: false };

/** What happens, and the reason; null: it is not known before the time in which ends cross is over. */
const cases: readonly { readonly what: string; readonly act: (t: Ends) => void; readonly reason: string | null }[] = [
  {
    what: 'the destination is reset after the source has ended and got its answer',
    act: (t) => {
      t.talked().ends.ended('source');
      t.ends.broke('destination', reset);
    },
    reason: 'OK',
  },
  {
    what: 'the destination says its last words before that reset',
    act: (t) => {
      t.talked().ends.ended('source');
      t.answers(31).ends.broke('destination', reset);
    },
    reason: 'OK',
  },
  {
    what: 'the last words wait for a rate when that reset comes',
    act: (t) => {
      t.talked().ends.ended('source');
      t.answers(31).ends.broke('destination', reset, 31);
    },
    reason: 'PEER_RESET',
  },
  {
    what: 'the last words wait for a source that does not read, when that reset comes',
    act: (t) => {
      t.talked().ends.ended('source');
      t.source.waitingBytes = 31;
      t.answers(31).ends.broke('destination', reset);
    },
    reason: 'PEER_RESET',
  },
  {
    what: 'the last words leave at the end of the turn in which that reset comes',
    act: (t) => {
      t.talked().ends.ended('source');
      t.source.waitingBytes = 31;
      t.source.flush = () => (t.source.waitingBytes = 0);
      t.answers(31).ends.broke('destination', reset);
    },
    reason: 'OK',
  },
  {
    what: 'the last words wait for a rate when a reset comes that the end of the source may cross',
    act: (t) => t.talked().ends.broke('destination', reset, 31),
    reason: 'PEER_RESET',
  },
  {
    what: 'the answer is cut off: more than last words came after the source had ended',
    act: (t) => {
      t.talked().ends.ended('source');
      t.answers(10_000).ends.broke('destination', reset);
    },
    reason: 'PEER_RESET',
  },
  {
    what: 'the destination is reset without ever having said anything',
    act: (t) => {
      t.counters.bytesSent = 1000;
      t.ends.ended('source');
      t.ends.broke('destination', reset);
    },
    reason: 'PEER_RESET',
  },
  {
    what: 'the destination greets, and is reset in place of an answer to a source that has asked and ended',
    act: (t) => {
      t.answers(30).asks(5000).ends.ended('source');
      t.ends.broke('destination', reset);
    },
    reason: 'PEER_RESET',
  },
  {
    what: 'the destination has answered, and is reset in place of an answer to the next request of a source that has ended',
    act: (t) => {
      t.talked().asks(5000).ends.ended('source');
      t.ends.broke('destination', reset);
    },
    reason: 'PEER_RESET',
  },
  {
    what: 'the source says goodbye after the answer and ends, and the destination is reset with that unread',
    act: (t) => {
      t.talked().asks(170).ends.ended('source');
      t.ends.broke('destination', reset);
    },
    reason: 'OK',
  },
  {
    what: 'the destination ends after a request without an answer, and is reset after that',
    act: (t) => {
      t.answers(30).asks(5000).ends.ended('destination');
      t.ends.ended('source');
      t.ends.broke('destination', reset);
    },
    reason: 'OK',
  },
  {
    what: 'the end of a source that waits for its answer crosses the reset',
    act: (t) => {
      t.answers(30).asks(5000).ends.broke('destination', reset);
      t.ends.ended('source');
    },
    reason: 'PEER_RESET',
  },
  {
    what: 'the source is reset after the destination has sent an answer and ended: a client owes none',
    act: (t) => {
      t.asks(1000).answers(5000).ends.ended('destination');
      t.ends.broke('source', reset);
    },
    reason: 'OK',
  },
  {
    what: 'the destination is reset before it has taken all bytes of the source',
    act: (t) => {
      t.talked().destination.waitingBytes = 70_000;
      t.ends.ended('source');
      t.ends.broke('destination', reset);
    },
    reason: 'PEER_RESET',
  },
  {
    what: 'the destination took the last bytes of the source later, and is reset then',
    act: (t) => {
      t.talked().destination.waitingBytes = 70_000;
      t.ends.ended('source');
      t.destination.hasTakenAll = true;
      t.ends.broke('destination', reset);
    },
    reason: 'OK',
  },
  {
    what: 'the source is reset after the destination has ended',
    act: (t) => {
      t.talked().ends.ended('destination');
      t.ends.broke('source', reset);
    },
    reason: 'OK',
  },
  {
    what: 'both had ended',
    act: (t) => {
      t.ends.ended('source');
      t.ends.ended('destination');
      t.ends.broke('destination', reset);
    },
    reason: 'OK',
  },
  {
    what: 'the tunnel is lost after both have finished',
    act: (t) => {
      t.talked().ends.ended('source');
      t.ends.broke('destination', lost);
    },
    reason: 'PEER_RESET',
  },
  {
    what: 'the other side is held back: its bytes are lost',
    act: (t) => {
      t.talked().source.isPaused = true;
      t.ends.broke('destination', reset);
    },
    reason: 'PEER_RESET',
  },
  {
    what: 'the destination refuses at once',
    act: (t) => {
      t.counters.bytesSent = 1000;
      t.ends.broke('destination', reset);
    },
    reason: 'PEER_RESET',
  },
  { what: 'an open connection is reset', act: (t) => t.talked().ends.broke('destination', reset), reason: null },
  {
    what: 'the end of the source crosses the reset',
    act: (t) => {
      t.talked().ends.broke('destination', reset);
      t.ends.ended('source');
    },
    reason: 'OK',
  },
  {
    what: 'the source sends on after the reset, and ends',
    act: (t) => {
      t.talked().ends.broke('destination', reset);
      t.counters.bytesSent += 50_000;
      t.ends.ended('source');
    },
    reason: 'PEER_RESET',
  },
  {
    what: 'both are reset after the source had ended: it has closed, and so has the destination',
    act: (t) => {
      t.talked().ends.ended('source');
      t.ends.broke('source', reset);
      t.ends.broke('destination', reset);
    },
    reason: 'OK',
  },
  {
    what: 'the source has ended and is reset while the destination is open: it left',
    act: (t) => {
      t.talked().ends.ended('source');
      t.ends.broke('source', reset);
    },
    reason: null,
  },
  {
    what: 'both are reset: each has closed with the last words of the other unread',
    act: (t) => {
      t.talked().ends.broke('source', reset);
      t.asks(51).answers(24).ends.broke('destination', reset);
    },
    reason: 'OK',
  },
  {
    what: 'both are reset, the destination in place of an answer: the first counts',
    act: (t) => {
      t.talked().asks(5000).ends.broke('source', reset);
      t.ends.broke('destination', reset);
    },
    reason: 'CLIENT_RESET',
  },
  {
    what: 'both are reset, and the destination has never said anything: the first counts',
    act: (t) => {
      t.asks(100).ends.broke('source', reset);
      t.ends.broke('destination', reset);
    },
    reason: 'CLIENT_RESET',
  },
  {
    what: 'both are reset, the source in the middle of an answer: the first counts',
    act: (t) => {
      t.talked().ends.broke('source', reset);
      t.answers(5000).ends.broke('destination', reset);
    },
    reason: 'CLIENT_RESET',
  },
  {
    what: 'the tunnel is lost while a reset waits',
    act: (t) => {
      t.talked().ends.broke('source', reset);
      t.ends.broke('destination', lost);
    },
    reason: 'CLIENT_RESET',
  },
  {
    what: 'something else ends the connection while a reset waits',
    act: (t) => {
      t.talked().ends.broke('source', reset);
      t.ends.giveUp();
    },
    reason: 'CLIENT_RESET',
  },
];

describe('the reason when', () => {
  for (const { what, act, reason } of cases) {
    it(`${what} is ${reason ?? 'known a moment later'}`, async (t) => {
      mock.timers.enable({ apis: ['setTimeout'] });
      t.after(() => mock.timers.reset());
      const ends = new Ends();
      act(ends);
      assert.deepEqual(ends.reasons, reason === null ? [] : [reason]);
      // Once the time is over, what has arrived is read; then the reset stands.
      await passTime(1000);
      assert.equal(ends.reasons.length, 1);
      if (reason === null) assert.match(ends.reasons[0] ?? '', /_RESET$/);
    });
  }

  describe('a reset waits for the end of the other side', () => {
    const waits: readonly {
      readonly what: string;
      readonly end?: 'source';
      readonly act: (t: Ends) => void;
      readonly afterMs: number;
      readonly reason: string;
    }[] = [
      {
        what: 'an open client closes late',
        act: (t) => t.ends.broke('destination', reset),
        end: 'source',
        afterMs: 25,
        reason: 'OK',
      },
      {
        what: 'an open client closes too late',
        end: 'source',
        act: (t) => t.ends.broke('destination', reset),
        afterMs: 100,
        reason: 'PEER_RESET',
      },
      {
        what: 'the server of a client that is gone closes late',
        act: (t) => t.ends.broke('source', reset),
        afterMs: 100,
        reason: 'OK',
      },
      {
        what: 'the server of a client that has closed takes its time to exit',
        act: (t) => {
          t.ends.ended('source');
          t.answers(24).ends.broke('source', reset);
        },
        afterMs: 400,
        reason: 'OK',
      },
      {
        what: 'the server of a client that has closed goes on with its answer',
        act: (t) => {
          t.ends.ended('source');
          t.ends.broke('source', reset);
          t.answers(5000);
        },
        afterMs: 10,
        reason: 'CLIENT_RESET',
      },
    ];
    for (const { what, act, end = 'destination', afterMs, reason } of waits) {
      it(`${what}: ${reason}`, async (t) => {
        mock.timers.enable({ apis: ['setTimeout'] });
        t.after(() => mock.timers.reset());
        const ends = new Ends().talked();
        act(ends);
        await passTime(afterMs);
        if (ends.reasons.length === 0) ends.ends.ended(end);
        assert.deepEqual(ends.reasons, [reason]);
      });
    }
  });

  it('it is an end says which side sent the reset, and which one ended first', () => {
    const t = new Ends().talked();
    t.ends.ended('source');
    t.ends.broke('destination', reset);
    assert.deepEqual(t.outcomes, [
      {
        reason: 'OK',
        endedBy: 'source',
        rule: null,
        detail: 'ECONNRESET from the destination after both had finished',
        broken: { side: 'destination', detail: 'ECONNRESET' },
      },
    ]);
  });
});
