let turn = 0;
let isCounting = false;

function end(): void {
  isCounting = false;
  turn += 1;
}

/**
 * A number that stays the same until the callbacks of `setImmediate` run, so for all that one turn of the event loop reads.
 * For limits of a turn.
 */
export function loopTurn(): number {
  if (!isCounting) {
    isCounting = true;
    setImmediate(end);
  }
  return turn;
}
